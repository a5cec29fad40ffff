"""A patient's name and a password go through everything, and are found nowhere afterwards."""

import dataclasses
import logging
import os
import sys
import tempfile
import traceback
from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import BridgeError
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.doctor import diagnose
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint, parse_endpoint
from AIDicomBridgeLib.pacs.saved_endpoints import SavedEndpoints
from AIDicomBridgeLib.series.instance_store import InstanceStore
from peers import free_port
from peers.fault_pacs import DimseFaults, HttpAnswer, faulty_pacs, faulty_web
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import Tag
from synthetic import body_phantom, make_series

NAME, PATIENT_ID, PASSWORD = "Canaryname^Xaver", "CANARY-ID-77", "canary-password-99"
CANARIES = (NAME.split("^", maxsplit=1)[0], PATIENT_ID, PASSWORD)


def names_below(folder: Path) -> str:
    return "\n".join(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_no_canary_in_logs_names_settings_or_messages(tmp_path, monkeypatch, caplog, capfd) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("TMPDIR", "AIDICOMBRIDGE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "keyring", None)  # not installed
    images = make_series(body_phantom((2, 16, 16)), patient_name=NAME, patient_id=PATIENT_ID)
    study = images[0].StudyInstanceUID
    texts: list[str] = []

    def attempt(action) -> None:
        """Note what a log or a console would show of a failure; what is found is the person's to see."""
        try:
            action()
        except BridgeError as error:
            texts.extend((traceback.format_exc(), repr(error), repr(error.to_dict())))

    with InstanceStore(tmp_path / "archive") as store, Archive(store) as archive:
        client = connect(dataclasses.replace(archive.endpoint, auth=("doctor", PASSWORD)))
        client.store(images)
        attempt(lambda: client.find_studies(patient_name="Canaryname*", patient_id=PATIENT_ID))
        with InstanceStore(tmp_path / "received") as received:
            attempt(lambda: client.retrieve(study, into=received))
        texts.append(str(diagnose(archive.endpoint, store_test_object=True).to_dict()))
    closed = DimseEndpoint("", "127.0.0.1", free_port(), "GONE", auth=("doctor", PASSWORD))
    attempt(lambda: connect(closed).find_studies(patient_name=NAME))
    closed_web = DicomWebEndpoint("", f"http://127.0.0.1:{free_port()}/dicom-web", auth=("doctor", PASSWORD))
    attempt(lambda: connect(closed_web).find_studies(patient_name=CANARIES[0], patient_id=PATIENT_ID))
    attempt(lambda: dataclasses.replace(closed_web, auth=f"{PASSWORD}\n"))
    broken = make_series(body_phantom((1, 8, 8)), patient_name=NAME, patient_id=PATIENT_ID)
    broken[0].add(DataElement("PatientAge", "AS", NAME, validation_mode=IGNORE))
    broken[0].add(RawDataElement(Tag("Rows"), "US", 3, NAME.encode()[:3], 0, False, True))
    attempt(lambda: connect(closed).store(broken))
    with faulty_pacs(images, DimseFaults(find_status=0xA700)) as pacs:
        attempt(lambda: connect(pacs.endpoint).find_studies(patient_name=NAME))
    for answer in (HttpAnswer(401), HttpAnswer(500), HttpAnswer(200, b"[{", "application/dicom+json")):
        with faulty_web(lambda _request, answer=answer: answer) as web:
            endpoint = dataclasses.replace(web, auth=("doctor", PASSWORD))
            attempt(lambda e=endpoint: connect(e).find_studies(patient_name=CANARIES[0], patient_id=PATIENT_ID))
            texts.append(repr(endpoint) + endpoint.address)
    SavedEndpoints(tmp_path).add("main", parse_endpoint("https://pacs.example/dicom-web"), ("doctor", PASSWORD))

    shown = capfd.readouterr()
    settings = (tmp_path / "endpoints.toml").read_text()
    places = {
        "log": caplog.text,
        "output": shown.out + shown.err,
        "names": names_below(tmp_path),
        "settings": settings,
        "messages": "\n".join(texts),
        "environment": "\n".join(os.environ.values()),
    }
    assert {(place, canary) for place, text in places.items() for canary in CANARIES if canary in text} == set()


@pytest.mark.parametrize("folder", ["archive"])
def test_what_is_received_can_be_read_by_its_owner_only(tmp_path, folder) -> None:
    with InstanceStore(tmp_path / folder) as store, Archive(store) as archive:
        connect(archive.endpoint).store(make_series(body_phantom((1, 8, 8))))

    assert (tmp_path / folder).stat().st_mode & 0o077 == 0
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / folder).rglob("*") if path.is_file()} == {0}
