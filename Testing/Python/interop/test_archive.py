"""The built-in archive, asked by our own client and by DCMTK's programs."""

import dataclasses
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import AssociationError, JobCancelled
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.records import Outcome
from AIDicomBridgeLib.progress import CancelToken, Progress
from AIDicomBridgeLib.series.instance_store import InstanceStore
from peers.dcmtk import run_client
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian, RLELossless
from synthetic import body_phantom, make_series, save_series

LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
RESULT_CLASSES = {
    "segmentation": "1.2.840.10008.5.1.4.1.1.66.4",
    "label map segmentation": LABEL_MAP_SEGMENTATION,
    "basic text SR": "1.2.840.10008.5.1.4.1.1.88.11",
    "enhanced SR": "1.2.840.10008.5.1.4.1.1.88.22",
    "comprehensive SR": "1.2.840.10008.5.1.4.1.1.88.33",
    "comprehensive 3D SR": "1.2.840.10008.5.1.4.1.1.88.34",
    "extensible SR": "1.2.840.10008.5.1.4.1.1.88.35",
    "secondary capture": "1.2.840.10008.5.1.4.1.1.7",
    "parametric map": "1.2.840.10008.5.1.4.1.1.30",
}


def contents(store: InstanceStore) -> dict[str, bytes]:
    return {item.sop_instance_uid: item.path.read_bytes() for item in store.instances()}


def test_the_fast_way_is_the_usual_one(archive, received, images, monkeypatch) -> None:
    """Nothing of a transfer between us and our archive goes through pynetdicom's own storage service."""

    def not_this_way(*_arguments: object, **_keywords: object) -> None:
        raise AssertionError("pynetdicom's own way was taken")

    monkeypatch.setattr("pynetdicom.service_class.StorageServiceClass.SCP", not_this_way)
    monkeypatch.setattr("pynetdicom.association.Association._c_store_scp", not_this_way)
    monkeypatch.setattr("AIDicomBridgeLib.pacs.dimse_store.send_encoded", not_this_way)
    client = connect(archive.endpoint)

    assert client.store(images).complete
    assert client.retrieve(images[0].StudyInstanceUID, into=received).complete
    assert contents(received) == contents(archive.store)


@pytest.mark.usefixtures("dimse_way")
@pytest.mark.parametrize("method", ["C-GET", "C-MOVE"])
def test_a_study_comes_back_byte_for_byte(archive, received, images, method) -> None:
    move_port = archive.move_destinations["AIDICOMBRIDGE"][1]
    endpoint = dataclasses.replace(archive.endpoint, retrieve=method, move_port=move_port)
    steps: list[Progress] = []
    with connect(endpoint) as client:
        stored = client.store(images)

        report = client.retrieve(images[0].StudyInstanceUID, into=received, progress=steps.append)

    assert stored.complete
    assert {outcome.outcome for outcome in stored.outcomes} == {Outcome.STORED}
    assert report.complete
    assert report.method == method
    assert report.byte_count > sum(len(dataset.PixelData) for dataset in images)
    assert contents(received) == contents(archive.store)
    assert {dcmread(item.path).PixelData for item in received} == {dataset.PixelData for dataset in images}
    assert (steps[0].completed, steps[-1].completed, steps[-1].total) == (0, 6, 6)


def test_one_series_of_a_study_is_retrieved(archive, received, images) -> None:
    other = make_series(body_phantom((3, 16, 16)), study_uid=images[0].StudyInstanceUID, modality="MR")
    client = connect(archive.endpoint)
    client.store(images + other)

    report = client.retrieve(images[0].StudyInstanceUID, other[0].SeriesInstanceUID, into=received)

    assert report.complete
    assert {item.sop_instance_uid for item in received} == {dataset.SOPInstanceUID for dataset in other}


def test_what_is_there_already_is_not_fetched_again(archive, received, images, tmp_path) -> None:
    client = connect(archive.endpoint)
    client.store(images)
    for path in save_series(images[:2], tmp_path / "two"):
        received.add_file(path)

    first = client.retrieve(images[0].StudyInstanceUID, into=received)
    second = client.retrieve(images[0].StudyInstanceUID, into=received)

    assert [outcome.outcome for outcome in first.outcomes].count(Outcome.PRESENT) == 2
    assert [outcome.outcome for outcome in first.outcomes].count(Outcome.RECEIVED) == 4
    assert {outcome.outcome for outcome in second.outcomes} == {Outcome.PRESENT}
    assert second.complete
    assert second.byte_count == 0


@pytest.mark.parametrize("syntax", [RLELossless, ImplicitVRLittleEndian])
def test_images_keep_their_transfer_syntax(archive, received, images, syntax) -> None:
    for dataset in images:
        if syntax == RLELossless:
            dataset.compress(RLELossless, generate_instance_uid=False)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
    client = connect(archive.endpoint)
    client.store(images)

    report = client.retrieve(images[0].StudyInstanceUID, into=received)

    assert report.complete
    assert {item.transfer_syntax_uid for item in received} == {syntax}
    assert contents(received) == contents(archive.store)


@pytest.mark.parametrize("sop_class", RESULT_CLASSES.values(), ids=RESULT_CLASSES)
def test_every_kind_of_result_goes_in_and_out(archive, received, images, sop_class) -> None:
    images[0].SOPClassUID = sop_class
    client = connect(archive.endpoint)

    stored = client.store(images[:1])
    report = client.retrieve(images[0].StudyInstanceUID, into=received)

    assert stored.complete
    assert report.complete
    assert received.instances()[0].sop_class_uid == sop_class


def test_more_sop_classes_than_one_association_has_contexts_for(archive, received, images) -> None:
    for dataset, sop_class in zip(images * 2, RESULT_CLASSES.values(), strict=False):
        dataset.SOPClassUID = sop_class
    extra = make_series(body_phantom((len(RESULT_CLASSES), 8, 8)), study_uid=images[0].StudyInstanceUID)
    for dataset, sop_class in zip(extra, RESULT_CLASSES.values(), strict=True):
        dataset.SOPClassUID = sop_class
    client = connect(archive.endpoint)
    client.store(images + extra)

    report = client.retrieve(images[0].StudyInstanceUID, into=received)

    assert report.complete
    assert len(received) == len(images) + len(extra)


@pytest.mark.parametrize("method", ["C-GET", "C-MOVE"])
def test_a_cancel_keeps_what_is_complete(archive, received, images, method) -> None:
    move_port = archive.move_destinations["AIDICOMBRIDGE"][1]
    client = connect(dataclasses.replace(archive.endpoint, retrieve=method, move_port=move_port))
    client.store(images)
    cancel = CancelToken()

    def cancel_after_two(step: Progress) -> None:
        if step.completed >= 2:
            cancel.cancel()

    with pytest.raises(JobCancelled):
        client.retrieve(images[0].StudyInstanceUID, into=received, progress=cancel_after_two, cancel=cancel)

    assert 2 <= len(received) <= 6
    assert contents(received).items() <= contents(archive.store).items()


def test_a_cancelled_store_sends_nothing_more(archive, images) -> None:
    cancel = CancelToken()

    def cancel_after_two(step: Progress) -> None:
        if step.completed >= 2:
            cancel.cancel()

    with pytest.raises(JobCancelled):
        connect(archive.endpoint).store(images, progress=cancel_after_two, cancel=cancel)

    assert len(archive.store) == 2


def test_storing_again_changes_nothing_and_other_content_is_refused(archive, images) -> None:
    client = connect(archive.endpoint)
    client.store(images)
    images[0].WindowCenter = "41"

    report = client.store(images)

    assert not report.complete
    (refused,) = report.failed
    assert (refused.sop_instance_uid, refused.status) == (images[0].SOPInstanceUID, "0x0111")
    assert len(report.succeeded) == 5
    assert len(archive.store) == 6


def test_another_ae_title_is_rejected_with_both_names(archive) -> None:
    endpoint = dataclasses.replace(archive.endpoint, ae_title="SOMEBODY")

    with pytest.raises(AssociationError) as caught:
        connect(endpoint).verify()

    message = str(caught.value)
    assert "called AE title not recogni" in message
    assert "SOMEBODY" in message
    assert "AIDICOMBRIDGE" in message


def test_no_patient_data_is_logged(archive, received, images, caplog) -> None:
    caplog.set_level(logging.INFO)
    client = connect(archive.endpoint)

    client.store(images)
    client.find_studies(patient_name="Synthetic*", patient_id="SYN-1")
    client.retrieve(images[0].StudyInstanceUID, into=received)

    assert "pynetdicom" in {record.name.partition(".")[0] for record in caplog.records}
    for secret in ("Synthetic^Sample", "SYN-1", "19700101", "SYN0001"):
        assert secret not in caplog.text


def test_dcmtk_echoes_and_is_rejected_under_another_name(archive) -> None:
    address = ("127.0.0.1", str(archive.port))

    assert run_client("echoscu", "-aec", archive.ae_title, *address).returncode == 0
    wrong = run_client("echoscu", "-aec", "SOMEBODY", *address)
    assert wrong.returncode != 0
    assert "Called AE Title Not Recognized" in wrong.stdout + wrong.stderr


def test_dcmtk_stores_and_finds(archive, images, tmp_path) -> None:
    paths = save_series(images, tmp_path / "images")
    address = ("-aec", archive.ae_title, "127.0.0.1", str(archive.port))

    sent = run_client("storescu", *address, *(str(path) for path in paths))
    found = run_client(
        *("findscu", "-v", "-S", *address, "-k", "QueryRetrieveLevel=SERIES"),
        *("-k", f"StudyInstanceUID={images[0].StudyInstanceUID}", "-k", "SeriesInstanceUID", "-k", "Modality"),
        *("-k", "NumberOfSeriesRelatedInstances"),
    )

    assert sent.returncode == 0, sent.stderr
    assert len(archive.store) == 6
    answer = found.stdout + found.stderr
    assert images[0].SeriesInstanceUID in answer
    assert "[CT]" in answer
    assert "[6 ]" in answer or "[6]" in answer


@pytest.mark.parametrize("program", ["getscu", "movescu"])
def test_dcmtk_retrieves(archive, images, tmp_path, program) -> None:
    connect(archive.endpoint).store(images)
    folder = tmp_path / "dcmtk"
    folder.mkdir()
    own_port = str(archive.move_destinations["MOVESCU"][1])
    moving = ("-aem", "MOVESCU", "-aet", "MOVESCU", "+P", own_port) if program == "movescu" else ()

    done = run_client(
        *(program, "-S", "-aec", archive.ae_title, *moving, "-od", str(folder)),
        *("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={images[0].StudyInstanceUID}"),
        *("127.0.0.1", str(archive.port)),
        folder=folder,
    )

    assert done.returncode == 0, done.stderr
    files = [path for path in folder.iterdir() if path.is_file()]
    assert {dcmread(path, force=True).PixelData for path in files} == {dataset.PixelData for dataset in images}


def test_the_program_prints_its_port_and_ends_on_sigterm(tmp_path, images) -> None:
    command = [sys.executable, "-m", "AIDicomBridgeLib.pacs.archive", str(tmp_path / "held"), "--ae-title", "HELD"]
    library = Path(__file__).parents[3] / "AIDicomBridge"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=library)
    try:
        port = int(process.stdout.readline())
        with Archive(InstanceStore(tmp_path / "unused")) as unused:
            endpoint = dataclasses.replace(unused.endpoint, name="", port=port, ae_title="HELD")
        report = connect(endpoint).store(images)
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()

    assert report.complete
    assert status == 0
    with InstanceStore(tmp_path / "held") as store:
        assert len(store) == 6
