"""The connection doctor at a real Orthanc: each fault gives its own right sentence for the PACS administrator."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from AIDicomBridgeLib import DoctorReport, connect, diagnose
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.doctor_report import DoctorLine, Verdict
from AIDicomBridgeLib.pacs.endpoint import DimseEndpoint, TlsFiles
from AIDicomBridgeLib.series.instance_store import InstanceStore
from AIDicomBridgeLib.worker.messages import Codec
from peers.fault_pacs import HttpAnswer, faulty_web
from peers.orthanc import Orthanc, orthanc
from synthetic import body_phantom, make_series


@pytest.fixture(scope="module")
def peer(tmp_path_factory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc") / "peer") as running:
        connect(running.dimse).store(make_series(body_phantom((3, 16, 16))))
        yield running


@pytest.fixture
def endpoint(peer: Orthanc) -> DimseEndpoint:
    return dataclasses.replace(peer.dimse, move_port=peer.move_port)


def lines_of(report: DoctorReport) -> dict[str, DoctorLine]:
    return {line.service: line for line in report.lines}


def outcomes_of(report: DoctorReport) -> dict[str, Verdict]:
    return {line.service: line.outcome for line in report.lines}


def test_everything_works(endpoint) -> None:
    report = diagnose(endpoint, store_test_object=True)

    assert report.healthy
    assert outcomes_of(report) == {
        "TLS": Verdict.NOT_TRIED,
        **dict.fromkeys(("Reachability", "Association", "C-ECHO", "C-STORE", "C-FIND"), Verdict.WORKS),
        **dict.fromkeys(("C-GET", "C-MOVE", "Storage commitment"), Verdict.WORKS),
    }
    assert "AE title AIDICOMBRIDGE, host 127.0.0.1" in report.administrator_text
    with connect(endpoint) as client:
        (study,) = client.find_studies(patient_id="AIDICOMBRIDGE-TEST")
    assert study.study_description == "Connection test, may be deleted"


def test_nothing_is_stored_unless_asked_for(endpoint) -> None:
    with connect(endpoint) as client:
        before = client.find_studies()
        assert outcomes_of(diagnose(endpoint))["C-STORE"] is Verdict.NOT_TRIED
        assert client.find_studies() == before


def test_a_patient_root_is_examined_as_such(tmp_path) -> None:
    """Our archive knows user and passcode as little as Orthanc does."""
    with InstanceStore(tmp_path) as store, Archive(store) as archive:
        connect(archive.endpoint).store(make_series(body_phantom((1, 16, 16))))
        report = diagnose(dataclasses.replace(archive.endpoint, root="patient", auth=("doctor", "passcode")))

    assert report.healthy
    assert outcomes_of(report)["C-GET"] is Verdict.WORKS
    assert "it may not check them" in lines_of(report)["Association"].cause
    assert "passcode" not in str(report.to_dict()).replace("user and passcode", "")


def test_a_wrong_ae_title(endpoint) -> None:
    report = diagnose(dataclasses.replace(endpoint, ae_title="WRONG"))

    assert lines_of(report)["Association"].outcome is Verdict.FAILS
    assert "it does not answer to WRONG" in report.administrator_text
    assert "Please tell us the AE title of the PACS at 127.0.0.1" in report.administrator_text
    assert set(outcomes_of(report).values()) - {Verdict.NOT_TRIED} == {Verdict.WORKS, Verdict.FAILS}


def test_a_pacs_that_does_not_know_where_to_move_to(endpoint) -> None:
    report = diagnose(dataclasses.replace(endpoint, calling_ae_title="STRANGER"))

    outcomes = outcomes_of(report)
    assert (outcomes["C-GET"], outcomes["C-MOVE"]) == (Verdict.WORKS, Verdict.FAILS)
    assert "enter our node as a C-MOVE destination" in report.administrator_text
    assert f"AE title STRANGER, host 127.0.0.1, port {endpoint.move_port}" in report.administrator_text


def test_a_closed_port(endpoint, unused_port) -> None:
    report = diagnose(dataclasses.replace(endpoint, port=unused_port))

    assert "connection refused" in lines_of(report)["Reachability"].cause
    assert f"nothing answers us on 127.0.0.1:{unused_port}" in report.administrator_text
    assert {outcome for service, outcome in outcomes_of(report).items() if service != "Reachability"} == {
        Verdict.NOT_TRIED
    }


def test_tls_on_a_plain_port(endpoint) -> None:
    line = lines_of(diagnose(dataclasses.replace(endpoint, tls=TlsFiles())))["TLS"]

    assert line.outcome is Verdict.FAILS
    assert "Leave the TLS options out" in line.advice


def test_dicomweb(peer) -> None:
    report = diagnose(peer.dicomweb)

    assert report.healthy
    assert [line.service for line in report.lines if line.outcome is Verdict.WORKS] == [
        *("Reachability", "HTTP and credentials", "QIDO-RS", "WADO-RS"),
    ]


def test_dicomweb_that_asks_for_credentials() -> None:
    with faulty_web(lambda _request: HttpAnswer(401)) as endpoint:
        report = diagnose(endpoint)

    assert "give us an account or a token" in report.administrator_text


def test_an_untrusted_certificate_is_named(tmp_path) -> None:
    with orthanc(tmp_path / "peer", https=True) as peer:
        report = diagnose(dataclasses.replace(peer.dicomweb, ca_file=None))

    assert lines_of(report)["TLS"].outcome is Verdict.FAILS
    assert "send us the certificate of the authority" in report.administrator_text


def test_the_report_travels_as_json_and_between_processes(endpoint, tmp_path: Path) -> None:
    report = diagnose(dataclasses.replace(endpoint, ae_title="WRONG"))

    assert json.loads(json.dumps(report.to_dict()))["lines"][0]["outcome"] == "works"
    codec = Codec(tmp_path, "x")
    assert codec.decode(json.loads(json.dumps(codec.encode(report)))) == report
