"""What the built-in archive finds: by every key, with odd values, with a limit, and nothing."""

import io
import logging

import pytest
from AIDicomBridgeLib.errors import NotFoundError, QueryError
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from pydicom import Dataset, dcmwrite
from pydicom.config import disable_value_validation
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind
from synthetic import body_phantom, make_series


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({}, "ab"),
        ({"patient_id": "SYN-1"}, "a"),
        ({"patient_id": "SYN-*"}, "ab"),
        ({"patient_id": "SYN-?"}, "ab"),
        ({"patient_id": "SYN"}, ""),
        ({"patient_name": "synthetic*"}, "a"),
        ({"patient_name": "Müller^Jörg"}, "b"),
        ({"accession_number": "SYN0002"}, "b"),
        ({"accession_number": "[a-z]*"}, ""),
        ({"study_date": "20260102"}, "a"),
        ({"study_date": "20260103-"}, "b"),
        ({"study_date": "-20260102"}, "a"),
        ({"study_date": "20260101-20260131"}, "ab"),
        ({"modalities": "MR"}, "b"),
        ({"modalities": ["CT", "PT"]}, "a"),
        ({"modalities": ["CT", "MR"]}, "ab"),
        ({"patient_id": "SYN-1", "modalities": "MR"}, ""),
    ],
)
def test_studies_are_found_by_every_key(archive, keys, found) -> None:
    studies = {
        "a": make_series(body_phantom((2, 8, 8))),
        "b": make_series(
            body_phantom((2, 8, 8)),
            modality="MR",
            patient_id="SYN-2",
            patient_name="Müller^Jörg",
            accession_number="SYN0002",
        ),
    }
    for dataset in studies["b"]:
        dataset.StudyDate = "20260103"
    client = connect(archive.endpoint)
    client.store([dataset for datasets in studies.values() for dataset in datasets])

    records = client.find_studies(**keys)

    names = {datasets[0].StudyInstanceUID: name for name, datasets in studies.items()}
    assert sorted(names[record.study_uid] for record in records) == list(found)


def answers_to(archive: Archive, level: str, **keys: str) -> list[Dataset]:
    """Return what the archive itself answers: our own client would filter it once more."""
    request = Dataset()
    request.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(request, keyword, value)
    entity = AE(ae_title="STRANGER")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = entity.associate(archive.host, archive.port, ae_title=archive.ae_title)
    assert association.is_established
    responses = list(association.send_c_find(request, StudyRootQueryRetrieveInformationModelFind))
    association.release()
    assert responses[-1][0].Status == 0
    return [dataset for status, dataset in responses if status.Status == 0xFF00]


def test_a_study_without_the_attribute_asked_for_does_not_match(archive, images) -> None:
    nameless = make_series(body_phantom((1, 8, 8)))
    for keyword in ("PatientID", "AccessionNumber", "StudyDate", "PatientName"):
        delattr(nameless[0], keyword)
    connect(archive.endpoint).store([*images, *nameless])

    for keys in ({"PatientID": "SYN-1", "AccessionNumber": "SYN0001"}, {"StudyDate": "20260101-"}):
        found = answers_to(archive, "STUDY", StudyInstanceUID="", **keys)
        assert [dataset.StudyInstanceUID for dataset in found] == [images[0].StudyInstanceUID]
    assert answers_to(archive, "SERIES", StudyInstanceUID=nameless[0].StudyInstanceUID, PatientName="?*") == []
    assert len(answers_to(archive, "STUDY", StudyInstanceUID="", PatientID="*")) == 2


def test_invalid_values_are_answered_as_they_are_and_shown_to_nobody(archive, images, recwarn, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    with disable_value_validation():
        for dataset in images:
            dataset.PatientBirthDate, dataset.PatientID, dataset.InstanceNumber = "1970-01-01", "canary" * 20, "777"
            dataset.StudyID, dataset.Modality = "Späth", "CT"
    for dataset in images:
        buffer = io.BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
        archive.store.add_file(
            buffer.getvalue().replace(b"777 ", b"abc ").replace(b"\x60\x00CS\x02\x00CT", b"\x60\x00CS\x02\x00C\xff")
        )
    client = connect(archive.endpoint)
    recwarn.clear()
    caplog.clear()

    (study,) = client.find_studies(patient_id="canary" * 20)
    (series,) = client.find_series(study.study_uid)
    instances = client.find_instances(study.study_uid, series.series_uid)

    assert (study.patient_birth_date, study.patient_id, study.study_id) == ("1970-01-01", "canary" * 20, "Späth")
    assert series.modality == "C?"
    assert {instance.instance_number for instance in instances} == {"abc"}
    assert len(instances) == len(images)
    shown = caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert "1970" not in shown
    assert "canary" not in shown


def test_records_say_what_the_archive_holds(archive, images) -> None:
    client = connect(archive.endpoint)
    client.store(images)
    uid = images[0].StudyInstanceUID

    (study,) = client.find_studies(study_uid=uid)
    (series,) = client.find_series(uid, modality="CT")
    instances = client.find_instances(uid, series.series_uid)

    assert (study.patient_name, study.patient_id, study.study_date) == ("Synthetic^Sample", "SYN-1", "20260102")
    assert (study.modalities, study.series_count, study.instance_count) == (("CT",), 1, 6)
    assert (series.modality, series.series_number, series.instance_count) == ("CT", "1", 6)
    assert series.body_part == "ABDOMEN"
    assert [record.sop_instance_uid for record in instances] == [dataset.SOPInstanceUID for dataset in images]
    assert {record.sop_class_uid for record in instances} == {images[0].SOPClassUID}
    assert client.find_series(uid, modality="MR") == []


def test_a_limit_ends_the_query_early(archive) -> None:
    client = connect(archive.endpoint)
    client.store([make_series(body_phantom((1, 8, 8)))[0] for _ in range(5)])

    assert len(client.find_studies(limit=2)) == 2
    assert len(client.find_studies()) == 5


def test_nothing_found_is_an_empty_list_and_nothing_to_retrieve_an_error(archive, received) -> None:
    client = connect(archive.endpoint)

    assert client.find_studies(patient_id="NOBODY") == []
    assert client.find_series(generate_uid()) == []
    with pytest.raises(NotFoundError):
        client.retrieve(generate_uid(), into=received)


@pytest.mark.parametrize("date", ["2026", "yesterday", "20260101-2026", "2026-01-02"])
def test_a_date_that_is_none_is_refused_before_anything_is_sent(archive, date) -> None:
    with pytest.raises(QueryError, match="YYYYMMDD"):
        connect(archive.endpoint).find_studies(study_date=date)
