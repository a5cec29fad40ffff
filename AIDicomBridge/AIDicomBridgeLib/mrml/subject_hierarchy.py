"""Patient, study and series items in Slicer's subject hierarchy: as Slicer's own DICOM loader's, but nameless."""

import hashlib
import re
import secrets
from typing import Any

from ..errors import ConflictError
from ..series.source_series import SourceSeries

# Patient items that we made: their UID is this, a salt and a digest in hexadecimal digits.
_PSEUDONYM = re.compile(r"AIDicomBridge-([0-9a-f]{32})-([0-9a-f]{64})")


def place_series(node: Any, source: SourceSeries, patient_uid: str) -> None:
    """Make the node the series item of its source, below its patient and study.

    The items are those that Slicer's own DICOM loader would make, without what tells who the patient is: whatever
    the hierarchy holds is written into saved scenes. So a patient item that is made here has a number for its name,
    and in place of the Patient ID, as UID, a salted scrypt digest of what identifies the patient, as passwords are
    kept: further studies find their patient by it. Items that exist, such as those of Slicer's loader, are reused as
    they are. ``patient_uid`` is that from :func:`patient_uid_of`.
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


def patient_uid_of(source: SourceSeries, scene: Any) -> str:
    """Return the UID of the patient item that the series belongs below, so that two patients never become one.

    That is an item of the scene for the same patient: equal Patient ID and issuer, name and birth date. Without a
    Patient ID nobody can tell: each study has a patient item of its own.

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
    if (study_of_series and study_of_series != study) or (owner and not _is_patient_of(source, hierarchy, owner)):
        raise ConflictError(
            "the scene has the same study of another patient, or the same series in another study",
            uid=source.series_uid,
            advice="Compare name, ID and birth date in both series. To load this one, close the scene first.",
        )
    header = source.headers[0]
    for patient in [owner] if owner else _patient_items(hierarchy):
        if _is_patient_of(source, hierarchy, patient):
            return hierarchy.GetItemUID(patient, uid_kind)
    if not _text(header, "PatientID"):
        return f"study {source.study_uid}"
    return _pseudonym(header, secrets.token_bytes(16))


def _patient_items(hierarchy: Any) -> list[int]:
    import slicer
    import vtk

    names = slicer.vtkMRMLSubjectHierarchyConstants
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, False)
    every = [items.GetId(number) for number in range(items.GetNumberOfIds())]
    return [item for item in every if hierarchy.GetItemLevel(item) == names.GetDICOMLevelPatient()]


def _is_patient_of(source: SourceSeries, hierarchy: Any, item: int) -> bool:
    """Return whether a patient item, of ours or of Slicer's loader, is that of the series' patient."""
    import slicer

    names = slicer.vtkMRMLSubjectHierarchyConstants
    header, uid = source.headers[0], hierarchy.GetItemUID(item, names.GetDICOMUIDName())
    pseudonym = _PSEUDONYM.fullmatch(uid)
    if pseudonym:
        return _pseudonym(header, bytes.fromhex(pseudonym[1])) == uid
    if not _text(header, "PatientID"):
        return uid == f"study {source.study_uid}"
    name = hierarchy.GetItemAttribute(item, names.GetDICOMPatientNameAttributeName())
    birth_date = hierarchy.GetItemAttribute(item, names.GetDICOMPatientBirthDateAttributeName())
    return (uid, _folded(name), birth_date.strip()) == (
        _text(header, "PatientID"),
        _folded(_text(header, "PatientName")),
        _text(header, "PatientBirthDate"),
    )


def _pseudonym(header: Any, salt: bytes) -> str:
    """Return the UID of a patient item: by it a patient can be recognised, and not be found out."""
    keys = ("PatientID", "IssuerOfPatientID", "PatientBirthDate")
    identity = "\0".join([_folded(_text(header, "PatientName")), *(_text(header, key) for key in keys)])
    digest = hashlib.scrypt(identity.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)  # 40 ms, against guessing
    return f"AIDicomBridge-{salt.hex()}-{digest.hex()}"


def _folded(text: str) -> str:
    """Return what of a name tells patients apart; Slicer's loader writes an empty one in words."""
    return "" if text == "No name" else text.strip(" ^").casefold()


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
