"""Nodes find their patient, study and series in Slicer's subject hierarchy, which never says who the patient is."""

import pytest
from AIDicomBridgeLib.errors import ConflictError
from AIDicomBridgeLib.mrml.volume_node import volume_node_from


def patient_of(node) -> int:
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    return hierarchy.GetItemAncestorAtLevel(hierarchy.GetItemByDataNode(node), "Patient")


def of_sex(volume, sex: str):
    for header in volume.source.headers:
        header.PatientSex = sex
    return volume


@pytest.fixture
def patients() -> dict:
    return {}


@pytest.fixture
def hierarchy(core):
    import slicer

    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(core.scene)


def test_patient_study_and_series_items_as_slicers_loader_makes_them(core, volume_of, hierarchy):
    first = volume_of(study_uid="1.2.3", series_uid="1.2.3.1", series_number=1)
    second = volume_of(study_uid="1.2.3", series_uid="1.2.3.2", series_number=2)
    nodes = [volume_node_from(volume, core.scene) for volume in (first, second)]
    study = hierarchy.GetItemByUID("DICOM", "1.2.3")
    patient = hierarchy.GetItemParent(study)
    assert [hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes] == [study, study]
    assert (hierarchy.GetItemLevel(patient), hierarchy.GetItemLevel(study)) == ("Patient", "Study")
    assert hierarchy.GetItemAttribute(study, "DICOM.StudyInstanceUID") == "1.2.3"
    series = hierarchy.GetItemByDataNode(nodes[1])
    assert hierarchy.GetItemUID(series, "DICOM") == "1.2.3.2"
    assert hierarchy.GetItemAttribute(series, "DICOM.Modality") == "CT"


def test_the_scene_does_not_tell_who_the_patient_is_and_when_it_was(core, volume_of, hierarchy, tmp_path):
    for study_uid, patient_id in (("1.2.3", "SECRET-7"), ("1.2.4", "SECRET-8")):
        volume_node_from(
            volume_of(study_uid=study_uid, patient_id=patient_id, patient_name="Secret^Person"), core.scene
        )
    patients = [hierarchy.GetItemParent(hierarchy.GetItemByUID("DICOM", uid)) for uid in ("1.2.3", "1.2.4")]
    assert [hierarchy.GetItemName(patient) for patient in patients] == ["Patient", "Patient_1"]
    core.scene.Commit(str(tmp_path / "scene.mrml"))
    saved = (tmp_path / "scene.mrml").read_text("utf-8")
    assert "1.2.3" in saved
    for secret in ("Secret", "SECRET", "20260102"):
        assert secret not in saved


def test_further_studies_find_their_patient(core, volume_of, patients):
    volumes = (volume_of(study_uid="1.2.3"), volume_of(study_uid="1.2.4"), volume_of(patient_id="OTHER"))
    first, second, other = (patient_of(volume_node_from(volume, core.scene, patients=patients)) for volume in volumes)
    assert first == second != other


@pytest.mark.parametrize(
    ("name", "sex"), [("Synthetic^Sample", "F"), ("Another^Person", "F"), ("Synthetic^Sample", "M")]
)
def test_the_patient_item_of_slicers_loader_is_used_for_its_patient_only(
    core, volume_of, patients, hierarchy, name, sex
):
    volume = of_sex(volume_of(), "F")
    of_slicer = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), f"{name} (SYN-1)")
    hierarchy.SetItemUID(of_slicer, "DICOM", "SYN-1")
    hierarchy.SetItemAttribute(of_slicer, "DICOM.PatientName", name)
    hierarchy.SetItemAttribute(of_slicer, "DICOM.PatientSex", sex)
    hierarchy.SetItemAttribute(
        of_slicer, "DICOM.PatientBirthDate", volume.source.headers[0].get("PatientBirthDate", "")
    )
    patient = patient_of(volume_node_from(volume, core.scene, patients=patients))
    assert (patient == of_slicer) == ((name, sex) == ("Synthetic^Sample", "F"))
    assert hierarchy.GetItemName(of_slicer) == f"{name} (SYN-1)"


def test_patients_without_an_id_stay_apart(core, volume_of, patients):
    nodes = [
        volume_node_from(volume_of(patient_id="", patient_name=""), core.scene, patients=patients) for _ in range(2)
    ]
    assert patient_of(nodes[0]) != patient_of(nodes[1])


@pytest.mark.parametrize("other", [{"patient_name": "Other^Person"}, {"birth_date": "19500101"}])
def test_two_patients_with_one_id_stay_two(core, volume_of, patients, other):
    birth_date = other.pop("birth_date", "")
    first, second = volume_of(study_uid="1.2.3"), volume_of(study_uid="1.2.4", **other)
    for header in second.source.headers:
        header.PatientBirthDate = birth_date
    items = [patient_of(volume_node_from(volume, core.scene, patients=patients)) for volume in (first, second, first)]
    assert items[0] == items[2] != items[1]


def test_one_name_written_in_two_ways_is_one_patient(core, volume_of, patients):
    names = ("Doe^Jane=Doe^Jane", "DOE^Jane^^=Doe ^Jane^")
    volumes = [volume_of(study_uid=f"1.2.{number}", patient_name=name) for number, name in enumerate(names)]
    first, second = (patient_of(volume_node_from(volume, core.scene, patients=patients)) for volume in volumes)
    assert first == second


def test_sex_tells_patients_apart_only_where_both_say_it(core, volume_of, patients):
    """Modalities leave it empty or say O; what was known of it is not forgotten."""
    volumes = [of_sex(volume_of(study_uid=f"1.2.{number}"), sex) for number, sex in enumerate(["O", "F", "", "F", "M"])]
    items = [patient_of(volume_node_from(volume, core.scene, patients=patients)) for volume in volumes]
    assert len(set(items[:4])) == 1
    assert items[4] != items[0]
    with pytest.raises(ConflictError, match="birth date and sex"):
        volume_node_from(of_sex(volume_of(study_uid="1.2.1"), "M"), core.scene, patients=patients)


@pytest.mark.parametrize(
    "other",
    [{"patient_name": "Other^Person"}, {"patient_id": "OTHER"}, {"patient_id": ""}, {"study_uid": "1.2.4"}],
    ids=["another name", "another ID", "no ID", "another study"],
)
def test_what_the_scene_has_of_another_patient_or_study_is_refused(core, volume_of, patients, other):
    known = {"study_uid": "1.2.3", "series_uid": "1.2.3.1"}
    first = volume_node_from(volume_of(**known), core.scene, patients=patients)
    nodes, patient = core.scene.GetNumberOfNodes(), patient_of(first)
    with pytest.raises(ConflictError, match="the same study of another patient, or the same series in another"):
        volume_node_from(volume_of(**known | other), core.scene, patients=patients)
    assert core.scene.GetNumberOfNodes() == nodes
    assert patient_of(first) == patient


def test_a_scene_that_was_opened_has_the_studies_of_its_nameless_patients(core, volume_of):
    study = {"study_uid": "1.2.3"}
    first = volume_node_from(volume_of(**study), core.scene, patients={})
    later: dict = {}
    second = volume_node_from(volume_of(**study), core.scene, patients=later)
    assert patient_of(first) == patient_of(second)
    with pytest.raises(ConflictError):
        volume_node_from(volume_of(**study, patient_id="OTHER"), core.scene, patients=later)


def test_items_that_exist_keep_the_names_that_they_have(core, volume_of, hierarchy):
    node = volume_node_from(volume_of(study_uid="1.2.3"), core.scene)
    items = [patient_of(node), hierarchy.GetItemByUID("DICOM", "1.2.3")]
    for item in items:
        hierarchy.SetItemName(item, "as the person named it")
    volume_node_from(volume_of(study_uid="1.2.3"), core.scene)
    assert [hierarchy.GetItemName(item) for item in items] == ["as the person named it"] * 2
