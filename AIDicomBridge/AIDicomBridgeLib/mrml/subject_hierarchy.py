"""Patient, study and series items in Slicer's subject hierarchy, laid out as Slicer's own DICOM loader does."""

from typing import Any

from ..series.source_series import SourceSeries


def place_series(node: Any, source: SourceSeries) -> None:
    """Make the node the series item of its source, below its patient and study.

    Items that exist are reused. The patient item shows name and ID, as everywhere in Slicer; the node itself does not.
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
    # Without a Patient ID the study keeps its patients apart, so that two nameless patients never become one.
    patient_uid = _text(header, "PatientID") or f"study {source.study_uid}"
    slicer.vtkSlicerSubjectHierarchyModuleLogic.InsertDicomSeriesInHierarchy(
        hierarchy, patient_uid, source.study_uid, source.series_uid
    )
    patient = hierarchy.GetItemByUID(uid_kind, patient_uid)
    study = hierarchy.GetItemByUID(uid_kind, source.study_uid)
    patient_texts = {
        names.GetDICOMPatientNameAttributeName(): _text(header, "PatientName"),
        names.GetDICOMPatientIDAttributeName(): _text(header, "PatientID"),
        names.GetDICOMPatientBirthDateAttributeName(): _text(header, "PatientBirthDate"),
        names.GetDICOMPatientSexAttributeName(): _text(header, "PatientSex"),
    }
    study_texts = {
        names.GetDICOMStudyInstanceUIDAttributeName(): source.study_uid,
        names.GetDICOMStudyIDAttributeName(): _text(header, "StudyID"),
        names.GetDICOMStudyDateAttributeName(): _text(header, "StudyDate"),
        names.GetDICOMStudyTimeAttributeName(): _text(header, "StudyTime"),
        names.GetDICOMStudyDescriptionAttributeName(): _text(header, "StudyDescription"),
    }
    for owner, texts in ((patient, patient_texts), (study, study_texts)):
        for attribute, text in texts.items():
            hierarchy.SetItemAttribute(owner, attribute, text)
    hierarchy.SetItemName(patient, _join(_text(header, "PatientName"), _text(header, "PatientID")) or "Patient")
    hierarchy.SetItemName(study, _join(_text(header, "StudyDescription"), _text(header, "StudyDate")) or "Study")


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
