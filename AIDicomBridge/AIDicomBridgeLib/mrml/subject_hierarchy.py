"""Patient, study and series items in Slicer's subject hierarchy, laid out as Slicer's own DICOM loader does."""

from typing import Any

from ..series.source_series import SourceSeries


def place_series(node: Any, source: SourceSeries) -> None:
    """Make the node the series item of its source, below its patient and study.

    Items that exist are reused as they are. The patient item shows name and ID, as everywhere in Slicer; the node
    itself does not.
    """
    import slicer

    names = slicer.vtkMRMLSubjectHierarchyConstants
    hierarchy = _hierarchy(node)
    item = _item_of(hierarchy, node)
    header = source.headers[0]
    uid_kind = names.GetDICOMUIDName()
    hierarchy.SetItemUID(item, uid_kind, source.series_uid)
    hierarchy.SetItemUID(item, names.GetDICOMInstanceUIDName(), " ".join(source.sop_instance_uids))
    hierarchy.SetItemAttribute(item, names.GetDICOMSeriesModalityAttributeName(), source.modality)
    hierarchy.SetItemAttribute(item, names.GetDICOMSeriesNumberAttributeName(), _text(header, "SeriesNumber"))
    patient_uid = _patient_uid(hierarchy, source)
    is_new_patient = not hierarchy.GetItemByUID(uid_kind, patient_uid)
    is_new_study = not hierarchy.GetItemByUID(uid_kind, source.study_uid)
    slicer.vtkSlicerSubjectHierarchyModuleLogic.InsertDicomSeriesInHierarchy(
        hierarchy, patient_uid, source.study_uid, source.series_uid
    )
    if is_new_patient:
        patient = hierarchy.GetItemByUID(uid_kind, patient_uid)
        hierarchy.SetItemName(patient, _join(_text(header, "PatientName"), _text(header, "PatientID")) or "Patient")
        hierarchy.SetItemAttribute(patient, names.GetDICOMPatientNameAttributeName(), _text(header, "PatientName"))
        hierarchy.SetItemAttribute(patient, names.GetDICOMPatientIDAttributeName(), _text(header, "PatientID"))
        hierarchy.SetItemAttribute(
            patient, names.GetDICOMPatientBirthDateAttributeName(), _text(header, "PatientBirthDate")
        )
        hierarchy.SetItemAttribute(patient, names.GetDICOMPatientSexAttributeName(), _text(header, "PatientSex"))
    if is_new_study:
        study = hierarchy.GetItemByUID(uid_kind, source.study_uid)
        hierarchy.SetItemName(study, _join(_text(header, "StudyDescription"), _text(header, "StudyDate")) or "Study")
        hierarchy.SetItemAttribute(study, names.GetDICOMStudyInstanceUIDAttributeName(), source.study_uid)
        for attribute, keyword in (
            (names.GetDICOMStudyIDAttributeName(), "StudyID"),
            (names.GetDICOMStudyDateAttributeName(), "StudyDate"),
            (names.GetDICOMStudyTimeAttributeName(), "StudyTime"),
            (names.GetDICOMStudyDescriptionAttributeName(), "StudyDescription"),
        ):
            hierarchy.SetItemAttribute(study, attribute, _text(header, keyword))


def _patient_uid(hierarchy: Any, source: SourceSeries) -> str:
    """Return the UID of the patient item that the series belongs below: the Patient ID, where that is one patient's.

    Without a Patient ID, or where the scene has another patient of that ID, the study keeps its patients apart, so
    that two never become one.
    """
    import slicer

    names = slicer.vtkMRMLSubjectHierarchyConstants
    uid_kind = names.GetDICOMUIDName()
    study = hierarchy.GetItemByUID(uid_kind, source.study_uid)
    owner = hierarchy.GetItemAncestorAtLevel(study, names.GetDICOMLevelPatient()) if study else 0
    if owner and hierarchy.GetItemUID(owner, uid_kind):
        return hierarchy.GetItemUID(owner, uid_kind)
    header = source.headers[0]
    patient_uid = _text(header, "PatientID")
    namesake = hierarchy.GetItemByUID(uid_kind, patient_uid) if patient_uid else 0
    identity = (
        (names.GetDICOMPatientNameAttributeName(), "PatientName"),
        (names.GetDICOMPatientBirthDateAttributeName(), "PatientBirthDate"),
    )
    if namesake and any(
        _identity(hierarchy.GetItemAttribute(namesake, attribute)) != _identity(_text(header, keyword))
        for attribute, keyword in identity
    ):
        patient_uid = ""
    return patient_uid or f"study {source.study_uid}"


def _identity(text: str) -> str:
    """Return what of a name or date tells patients apart; Slicer's loader writes an empty name in words."""
    return "" if text == "No name" else text.strip(" ^").casefold()


def place_in_study(node: Any, source: SourceSeries) -> None:
    """Put the node of a result below its source's study, and note which instances it was computed from.

    Where the source's study has no item yet (no volume node was made), the node stays at the top of the tree.
    """
    import slicer

    names = slicer.vtkMRMLSubjectHierarchyConstants
    hierarchy = _hierarchy(node)
    item = _item_of(hierarchy, node)
    referenced = names.GetDICOMReferencedInstanceUIDsAttributeName()
    hierarchy.SetItemAttribute(item, referenced, " ".join(source.sop_instance_uids))
    study = hierarchy.GetItemByUID(names.GetDICOMUIDName(), source.study_uid)
    if study:
        hierarchy.SetItemParent(item, study)


def _hierarchy(node: Any) -> Any:
    import slicer

    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())


def _item_of(hierarchy: Any, node: Any) -> int:
    # The application makes an item for every node by itself; slicer-core does not.
    return hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


def _text(header: Any, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value)


def _join(text: str, detail: str) -> str:
    return f"{text} ({detail})".strip() if detail else text
