"""Patient, study and series items in Slicer's subject hierarchy: as Slicer's own DICOM loader's, but nameless."""

import secrets
from typing import Any

from ..errors import ConflictError
from ..series.patient_identity import folded_name, told_sex
from ..series.source_series import SourceSeries

# Patient items that we made: in place of the Patient ID their UID is this and random digits.
_PSEUDONYM = "AIDicomBridge-"

# Who the patient items of ours are, by their UID. In memory only, for the time of a session.
Patients = dict[str, tuple[str, ...]]


def place_series(node: Any, source: SourceSeries, patient_uid: str) -> None:
    """Make the node the series item of its source, below its patient and study.

    The items are those that Slicer's own DICOM loader would make, without what tells who the patient is: whatever
    the hierarchy holds is written into saved scenes. So a patient item that is made here is called "Patient", and has a
    random UID. Items that exist, such as those of Slicer's loader, are reused as they are. ``patient_uid`` is that from
    :func:`patient_uid_of`.
    """
    import slicer

    names = slicer.vtkMRMLSubjectHierarchyConstants
    hierarchy = _hierarchy(node.GetScene())
    item = _item_of(hierarchy, node)
    header = source.headers[0]
    uid_kind = names.GetDICOMUIDName()
    hierarchy.SetItemUID(item, uid_kind, source.series_uid)
    hierarchy.SetItemUID(item, names.GetDICOMInstanceUIDName(), " ".join(source.sop_instance_uids))
    hierarchy.SetItemAttribute(item, names.GetDICOMSeriesModalityAttributeName(), source.modality)
    hierarchy.SetItemAttribute(item, names.GetDICOMSeriesNumberAttributeName(), _text(header, "SeriesNumber"))
    is_new_patient = not hierarchy.GetItemByUID(uid_kind, patient_uid)
    is_new_study = not hierarchy.GetItemByUID(uid_kind, source.study_uid)
    slicer.vtkSlicerSubjectHierarchyModuleLogic.InsertDicomSeriesInHierarchy(
        hierarchy, patient_uid, source.study_uid, source.series_uid
    )
    if is_new_patient:
        patient = hierarchy.GetItemByUID(uid_kind, patient_uid)
        hierarchy.SetItemName(patient, hierarchy.GenerateUniqueItemName("Patient"))
    if is_new_study:
        study = hierarchy.GetItemByUID(uid_kind, source.study_uid)
        description = _text(header, "StudyDescription")
        hierarchy.SetItemName(study, description or hierarchy.GenerateUniqueItemName("Study"))
        hierarchy.SetItemAttribute(study, names.GetDICOMStudyInstanceUIDAttributeName(), source.study_uid)
        hierarchy.SetItemAttribute(study, names.GetDICOMStudyDescriptionAttributeName(), description)


def patient_uid_of(source: SourceSeries, scene: Any, patients: Patients) -> str:
    """Return the UID of the patient item that the series belongs below, so that two patients never become one.

    That is an item of the scene for the same patient: equal Patient ID and issuer, name and birth date, and not female
    in one and male in the other. (Slicer's own loader looks at the ID only, its database at ID and name.) Without a
    Patient ID nobody can tell: each study has a patient item of its own. ``patients`` learns whom a new item is for; an
    item of ours that it does not know, of a scene that was opened, is that of its studies only.

    Raises
    ------
    ConflictError
        The scene has the study below another patient, or the series in another study.
    """
    import slicer

    names = slicer.vtkMRMLSubjectHierarchyConstants
    hierarchy, uid_kind = _hierarchy(scene), names.GetDICOMUIDName()
    series = hierarchy.GetItemByUID(uid_kind, source.series_uid)
    study_of_series = hierarchy.GetItemAncestorAtLevel(series, names.GetDICOMLevelStudy()) if series else 0
    study = hierarchy.GetItemByUID(uid_kind, source.study_uid)
    owner = hierarchy.GetItemAncestorAtLevel(study, names.GetDICOMLevelPatient()) if study else 0
    identity = _identity(source.headers[0])
    is_of_opened_scene = owner and _is_unknown(hierarchy.GetItemUID(owner, uid_kind), patients)
    is_of_another = owner and not is_of_opened_scene and not _is_patient(identity, hierarchy, owner, patients)
    if is_of_another or (study_of_series and study_of_series != study):
        raise ConflictError(
            "the scene has the same study of another patient, or the same series in another study",
            uid=source.series_uid,
            advice="Compare name, ID, birth date and sex in both series. To load this one, close the scene first.",
        )
    if owner:
        found = [owner]
    elif identity[0]:
        found = [item for item in _patient_items(hierarchy) if _is_patient(identity, hierarchy, item, patients)]
    else:
        found = []
    patient_uid = hierarchy.GetItemUID(found[0], uid_kind) if found else f"{_PSEUDONYM}{secrets.token_hex(16)}"
    if patient_uid.startswith(_PSEUDONYM):
        known = patients.get(patient_uid, identity)
        patients[patient_uid] = (*identity[:-1], identity[-1] or known[-1])
    return patient_uid


def _patient_items(hierarchy: Any) -> list[int]:
    import slicer
    import vtk

    names = slicer.vtkMRMLSubjectHierarchyConstants
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, False)
    every = [items.GetId(number) for number in range(items.GetNumberOfIds())]
    return [item for item in every if hierarchy.GetItemLevel(item) == names.GetDICOMLevelPatient()]


def _is_unknown(patient_uid: str, patients: Patients) -> bool:
    return patient_uid.startswith(_PSEUDONYM) and patient_uid not in patients


def _is_patient(identity: tuple[str, ...], hierarchy: Any, item: int, patients: Patients) -> bool:
    """Return whether a patient item, of ours or of Slicer's loader, is known to be that of the patient."""
    import slicer

    names = slicer.vtkMRMLSubjectHierarchyConstants
    uid = hierarchy.GetItemUID(item, names.GetDICOMUIDName())
    if uid.startswith(_PSEUDONYM):
        return uid in patients and _are_one(patients[uid], identity)
    name, birth_date, sex = (
        hierarchy.GetItemAttribute(item, attribute)
        for attribute in (
            names.GetDICOMPatientNameAttributeName(),
            names.GetDICOMPatientBirthDateAttributeName(),
            names.GetDICOMPatientSexAttributeName(),
        )
    )
    issuer = identity[3]  # the item does not say
    return _are_one((uid, folded_name(name), birth_date.strip(), issuer, told_sex(sex)), identity)


def _are_one(known: tuple[str, ...], identity: tuple[str, ...]) -> bool:
    sexes = {known[-1], identity[-1]}
    return known[:-1] == identity[:-1] and sexes != {"F", "M"}


def _identity(header: Any) -> tuple[str, ...]:
    """Return Patient ID, name, birth date, the issuer of the ID, and the sex."""
    patient_id, name, birth_date, issuer, sex = (
        _text(header, key)
        for key in ("PatientID", "PatientName", "PatientBirthDate", "IssuerOfPatientID", "PatientSex")
    )
    return patient_id, folded_name(name), birth_date, issuer, told_sex(sex)


def place_in_study(node: Any, source: SourceSeries) -> None:
    """Put the node of a result below its source's study, and note which instances it was computed from.

    Where the source's study has no item yet (no volume node was made), the node stays at the top of the tree.
    """
    import slicer

    names = slicer.vtkMRMLSubjectHierarchyConstants
    hierarchy = _hierarchy(node.GetScene())
    item = _item_of(hierarchy, node)
    referenced = names.GetDICOMReferencedInstanceUIDsAttributeName()
    hierarchy.SetItemAttribute(item, referenced, " ".join(source.sop_instance_uids))
    study = hierarchy.GetItemByUID(names.GetDICOMUIDName(), source.study_uid)
    if study:
        hierarchy.SetItemParent(item, study)


def _hierarchy(scene: Any) -> Any:
    import slicer

    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def _item_of(hierarchy: Any, node: Any) -> int:
    # The application makes an item for every node by itself; slicer-core does not.
    return hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


def _text(header: Any, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value)
