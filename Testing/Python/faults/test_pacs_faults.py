"""Peers that refuse, stall, truncate and lie, and strangers at our own door: one clear error, nothing silently lost."""

import dataclasses
import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import (
    AssociationError,
    BadDicomError,
    DiskSpaceError,
    EndpointError,
    NotFoundError,
    QueryError,
    RetrieveError,
    UnreachableError,
)
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint, TlsFiles, parse_endpoint
from AIDicomBridgeLib.pacs.multipart import MultipartSplitter
from AIDicomBridgeLib.pacs.records import Outcome
from AIDicomBridgeLib.pacs.scp_guard import ScpLimits
from AIDicomBridgeLib.series.instance_store import InstanceStore
from peers import free_port
from peers.dcmtk import storescp
from peers.fault_pacs import DimseFaults, HttpAnswer, HttpRequest, faulty_pacs, faulty_web
from peers.tls_front import make_certificates
from pydicom import Dataset, dcmwrite
from pydicom.uid import JPEG2000Lossless, generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from synthetic import body_phantom, make_series, save_series


@pytest.fixture
def images() -> list[Dataset]:
    return make_series(body_phantom((4, 16, 16)))


@pytest.fixture
def received(tmp_path: Path) -> Iterator[InstanceStore]:
    with InstanceStore(tmp_path / "received") as store:
        yield store


# No connection


@pytest.mark.parametrize("kind", ["dimse", "http"])
def test_an_unknown_host(kind) -> None:
    host = "no-such-host.invalid"
    if kind == "dimse":
        endpoint = DimseEndpoint("", host, 104, "PACS", connect_timeout_s=5)
    else:
        endpoint = DicomWebEndpoint("", f"http://{host}/dicom-web", connect_timeout_s=5)

    with pytest.raises(UnreachableError, match=r"no-such-host\.invalid is unknown"):
        connect(endpoint).verify()


@pytest.mark.parametrize("kind", ["dimse", "http"])
@pytest.mark.parametrize("call", ["verify", "find_studies", "store"])
def test_a_refused_connection(kind, call, images) -> None:
    port = free_port()
    if kind == "dimse":
        endpoint = DimseEndpoint("", "127.0.0.1", port, "PACS")
    else:
        endpoint = DicomWebEndpoint("", f"http://127.0.0.1:{port}/dicom-web")
    client = connect(endpoint)

    with pytest.raises(UnreachableError, match=f"othing listens on 127.0.0.1:{port}"):
        client.store(images) if call == "store" else getattr(client, call)()


def test_a_peer_that_takes_the_connection_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = DimseEndpoint("", "127.0.0.1", silent.getsockname()[1], "PACS", association_timeout_s=1)

        with pytest.raises(UnreachableError, match="did not answer within 1 s"):
            connect(endpoint).verify()


def test_a_web_service_that_takes_the_connection_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = DicomWebEndpoint("", f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web", timeout_s=0.5)

        with pytest.raises(UnreachableError, match="did not answer in time"):
            connect(endpoint).verify()


def test_a_peer_that_speaks_another_protocol() -> None:
    with faulty_web(lambda _request: HttpAnswer(200)) as web:
        port = int(web.url.rpartition(":")[2].partition("/")[0])

        with pytest.raises((AssociationError, UnreachableError)):
            connect(DimseEndpoint("", "127.0.0.1", port, "PACS", association_timeout_s=2)).verify()


# DIMSE


def test_the_called_ae_title_is_wrong(images) -> None:
    with faulty_pacs(images) as pacs, pytest.raises(AssociationError) as caught:
        connect(dataclasses.replace(pacs.endpoint, ae_title="OTHER")).verify()

    for part in ("called AE title not recogni", "'OTHER'", "'AIDICOMBRIDGE'", "faulty"):
        assert part in str(caught.value)
    assert "Correct the AE title" in caught.value.advice


def test_our_ae_title_is_not_known(images, monkeypatch) -> None:
    monkeypatch.setattr(AE, "require_calling_aet", ["SOMEBODY"])

    with faulty_pacs(images) as pacs, pytest.raises(AssociationError, match="calling AE title not recogni") as caught:
        connect(pacs.endpoint).verify()

    assert "register our AE title 'AIDICOMBRIDGE'" in caught.value.advice


def test_a_refused_query_gives_its_status(images) -> None:
    with faulty_pacs(images, DimseFaults(find_status=0xA700)) as pacs, pytest.raises(QueryError) as caught:
        connect(pacs.endpoint).find_studies()

    assert caught.value.status == 0xA700
    assert "0xA700" in str(caught.value)


def test_a_silent_peer_ends_the_query(images) -> None:
    with faulty_pacs(images, DimseFaults(silent=True)) as pacs, pytest.raises(QueryError, match="did not answer"):
        connect(dataclasses.replace(pacs.endpoint, dimse_timeout_s=1)).find_studies()


def test_a_peer_that_ends_the_association_between_two_queries(images, received, monkeypatch) -> None:
    send, calls = Association.send_c_find, []

    def end_before_the_second(association: Association, *arguments, **keywords):
        calls.append(1)
        if len(calls) == 2:
            association.abort()  # as if the peer's own abort had just been read
        return send(association, *arguments, **keywords)

    monkeypatch.setattr(Association, "send_c_find", end_before_the_second)

    with faulty_pacs(images) as pacs, pytest.raises(QueryError, match="broke the connection off"):
        connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, into=received)
    assert len(calls) == 2


def test_a_peer_that_falls_silent_with_requests_still_to_send(images, received, monkeypatch) -> None:
    monkeypatch.setattr("AIDicomBridgeLib.pacs.dimse_retrieve._UIDS_PER_REQUEST", 1)
    received.add_file(part10(images[0]))  # not the whole series then, but instance by instance
    with faulty_pacs(images, DimseFaults(silent_get=True)) as pacs:
        endpoint = dataclasses.replace(pacs.endpoint, dimse_timeout_s=0.5)
        report = connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert [outcome.outcome for outcome in report.outcomes] == [Outcome.PRESENT] + [Outcome.MISSING] * 3
    assert all("fell silent" in outcome.reason for outcome in report.failed)


def test_a_peer_that_answers_too_much_is_filtered(images) -> None:
    other = make_series(body_phantom((2, 8, 8)), patient_id="SYN-2")
    with faulty_pacs(images + other) as pacs:
        client = connect(pacs.endpoint)
        studies = client.find_studies(patient_id="SYN-1")
        instances = client.find_instances(images[0].StudyInstanceUID, images[0].SeriesInstanceUID)

    assert [study.study_uid for study in studies] == [images[0].StudyInstanceUID]
    assert [record.sop_instance_uid for record in instances] == [dataset.SOPInstanceUID for dataset in images]


def test_no_match_is_an_empty_list_and_nothing_to_retrieve_an_error(received) -> None:
    with faulty_pacs([]) as pacs:
        client = connect(pacs.endpoint)

        assert client.find_studies(patient_id="NOBODY") == []
        with pytest.raises(NotFoundError):
            client.retrieve(generate_uid(), into=received)


def test_c_get_that_claims_success_without_sending_everything(images, received) -> None:
    withheld = {str(dataset.SOPInstanceUID) for dataset in images[1:3]}
    with faulty_pacs(images, DimseFaults(withheld=withheld)) as pacs:
        report = connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert not report.complete
    assert {outcome.sop_instance_uid for outcome in report.failed} == withheld
    assert {outcome.outcome for outcome in report.failed} == {Outcome.MISSING}
    assert len(report.succeeded) == len(received) == 2
    assert pacs.get_requests == 3


def test_what_a_peer_sends_late_is_asked_for_again(images, received) -> None:
    faults = DimseFaults(withheld={str(images[1].SOPInstanceUID)})
    with faulty_pacs(images, faults) as pacs:
        report = connect(pacs.endpoint).retrieve(
            images[0].StudyInstanceUID,
            into=received,
            progress=lambda step: faults.withheld.clear() if step.completed == 3 else None,
        )

    assert report.complete
    assert pacs.get_requests == 2


def test_a_peer_without_c_get_sends_by_c_move(images, received) -> None:
    port = free_port()
    with faulty_pacs(images, DimseFaults(offers_get=False, move_port=port)) as pacs:
        endpoint = dataclasses.replace(pacs.endpoint, move_port=port)

        report = connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert report.complete
    assert report.method == "C-MOVE"
    assert len(received) == 4


def test_a_peer_without_c_get_and_no_way_to_move(images, received) -> None:
    with (
        faulty_pacs(images, DimseFaults(offers_get=False)) as pacs,
        pytest.raises(RetrieveError, match="does not offer C-GET") as caught,
    ):
        connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert "move_port" in caught.value.advice


def test_c_move_to_a_place_where_nobody_listens_names_the_causes(images, received) -> None:
    faults = DimseFaults(move_port=free_port())
    with faulty_pacs(images, faults) as pacs:
        endpoint = dataclasses.replace(pacs.endpoint, retrieve="C-MOVE", move_port=free_port())

        with pytest.raises(RetrieveError, match=r"may have another address than 127\.0\.0\.1") as caught:
            connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert "0xA801" in str(caught.value)


def test_a_move_port_that_is_taken(images, received) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, faulty_pacs(images) as pacs:
        endpoint = dataclasses.replace(pacs.endpoint, retrieve="C-MOVE", move_port=taken.getsockname()[1])

        with pytest.raises(EndpointError, match="cannot receive on"):
            connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)


def test_instances_of_another_study_are_not_taken(images, received) -> None:
    foreign = make_series(body_phantom((1, 8, 8)))[0]
    faults = DimseFaults(listed_uid=str(foreign.SOPInstanceUID))
    with faulty_pacs([*images[:2], foreign], faults) as pacs:
        report = connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert foreign.SOPInstanceUID not in received
    assert images[1].SOPInstanceUID in received
    assert not report.complete
    assert "another study" in report.failed[0].reason


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_listed_uid_that_is_none_is_refused(images, received) -> None:
    with (
        faulty_pacs(images, DimseFaults(listed_uid="../../../etc/x")) as pacs,
        pytest.raises(QueryError, match="without a valid SOPInstanceUID"),
    ):
        connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, into=received)


def test_a_full_disk_ends_the_retrieve(images, tmp_path) -> None:
    with InstanceStore(tmp_path / "small", quota_bytes=2500) as store, faulty_pacs(images) as pacs:
        with pytest.raises(DiskSpaceError, match="quota"):
            connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, into=store)

        assert len(store) == 1


def test_every_status_of_a_store_is_looked_at(images) -> None:
    uids = [str(dataset.SOPInstanceUID) for dataset in images]
    with faulty_pacs([], DimseFaults(store_status={uids[1]: 0xA700, uids[2]: 0xB007})) as pacs:
        report = connect(pacs.endpoint).store(images)

    assert [outcome.outcome for outcome in report.outcomes] == [
        *(Outcome.STORED, Outcome.REFUSED, Outcome.WARNED, Outcome.STORED),
    ]
    assert [outcome.status for outcome in report.outcomes] == ["0x0000", "0xA700", "0xB007", "0x0000"]
    assert "Out of Resources" in report.failed[0].reason


def test_a_connection_that_breaks_during_a_store_is_taken_up_again(images) -> None:
    with faulty_pacs([], DimseFaults(abort_at_store=3)) as pacs:
        report = connect(pacs.endpoint).store(images)

    assert report.complete
    assert sorted(pacs.stored) == sorted(str(dataset.SOPInstanceUID) for dataset in images)


def test_a_refused_context_concerns_only_its_instances(images) -> None:
    images[1].SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    images[2].file_meta.TransferSyntaxUID = JPEG2000Lossless
    images[2].PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00" + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    images[2]["PixelData"].is_undefined_length = True
    with faulty_pacs([]) as pacs:
        report = connect(pacs.endpoint).store(images)

    first, segmentation, compressed, last = report.outcomes
    assert (first.outcome, last.outcome) == (Outcome.STORED, Outcome.STORED)
    assert (segmentation.outcome, compressed.outcome) == (Outcome.REFUSED, Outcome.REFUSED)
    assert "no presentation context for Segmentation Storage" in segmentation.reason
    assert "cannot be converted" in compressed.reason


def test_dcmtk_as_the_strict_receiver(images, tmp_path) -> None:
    images[1].SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"
    with storescp(tmp_path / "dcmtk") as endpoint:
        report = connect(endpoint).store(save_series(images, tmp_path / "images"))

    assert [outcome.outcome for outcome in report.outcomes] == [
        *(Outcome.STORED, Outcome.REFUSED, Outcome.STORED, Outcome.STORED),
    ]
    written = [path for path in (tmp_path / "dcmtk").iterdir() if images[0].SOPInstanceUID in path.name]
    assert len(written) == 1


def test_a_file_that_vanishes_while_others_are_sent_concerns_only_itself(images, tmp_path) -> None:
    paths = save_series(images, tmp_path / "images")
    with faulty_pacs([]) as pacs:
        report = connect(pacs.endpoint).store(paths, progress=lambda _step: paths[2].unlink(missing_ok=True))

    assert [outcome.outcome for outcome in report.outcomes] == [
        *(Outcome.STORED, Outcome.STORED, Outcome.REFUSED, Outcome.STORED),
    ]
    assert "cannot be read" in report.failed[0].reason


def test_a_bad_file_is_refused_before_anything_is_sent(images, tmp_path) -> None:
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"no DICOM")
    with faulty_pacs([]) as pacs, pytest.raises(BadDicomError, match=r"bad\.dcm"):
        connect(pacs.endpoint).store([*images, bad])

    assert pacs.stored == []


# TLS


@pytest.fixture
def server_tls(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """Return a server's context and the file of the authority that vouches for it."""
    (tmp_path / "tls").mkdir()
    ca_file = make_certificates(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls" / "server.crt", tmp_path / "tls" / "server.key")
    return context, str(ca_file)


def test_dimse_over_tls(images, received, server_tls) -> None:
    context, ca_file = server_tls
    with faulty_pacs(images, tls=context) as pacs:
        endpoint = dataclasses.replace(pacs.endpoint, tls=TlsFiles(ca_file))
        client = connect(parse_endpoint(endpoint.address))

        client.verify()
        report = client.retrieve(images[0].StudyInstanceUID, into=received)

    assert report.complete


@pytest.mark.parametrize("tls", [TlsFiles(), None])
def test_tls_that_is_not_trusted_or_not_used(images, server_tls, tls) -> None:
    with faulty_pacs(images, tls=server_tls[0]) as pacs, pytest.raises((UnreachableError, AssociationError)) as caught:
        connect(dataclasses.replace(pacs.endpoint, tls=tls)).verify()

    assert "TLS" in str(caught.value)


# DICOMweb


def part10(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def body_of(datasets: list[Dataset], *, closed: bool = True) -> bytes:
    parts = [b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10(item) + b"\r\n" for item in datasets]
    return b"".join(parts) + (b"--b--\r\n" if closed else b"")


def web_pacs(
    datasets: list[Dataset], retrieve: Callable[[HttpRequest], HttpAnswer]
) -> Callable[[HttpRequest], HttpAnswer]:
    """Return a responder that answers searches as it should, and retrieves as the test says."""

    def respond(request: HttpRequest) -> HttpAnswer:
        wanted = {"/series": ("SeriesInstanceUID",), "/instances": ("SeriesInstanceUID", "SOPInstanceUID")}
        for ending, keywords in wanted.items():
            if request.path.endswith(ending):
                rows = {tuple(str(dataset[name].value) for name in keywords) for dataset in datasets}
                found = [
                    {
                        f"{dataset_tag(name)}": {"vr": "UI", "Value": [value]}
                        for name, value in zip(keywords, row, strict=True)
                    }
                    for row in sorted(rows)
                ]
                return HttpAnswer(200, json.dumps(found if "offset=0" in request.query else []).encode())
        return retrieve(request)

    return respond


def dataset_tag(keyword: str) -> str:
    return {"SeriesInstanceUID": "0020000E", "SOPInstanceUID": "00080018"}[keyword]


MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'


def test_a_body_cut_off_is_noticed_and_the_rest_fetched(images, received) -> None:
    requests: list[str] = []

    def retrieve(request: HttpRequest) -> HttpAnswer:
        requests.append(request.path)
        if len(requests) == 1:
            return HttpAnswer(200, body_of(images[:2], closed=False), MULTIPART)
        chosen = [dataset for dataset in images if request.path.endswith(dataset.SOPInstanceUID)]
        return HttpAnswer(200, body_of(chosen or images), MULTIPART)

    with faulty_web(web_pacs(images, retrieve)) as endpoint:
        report = connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert report.complete
    assert len(received) == 4
    assert len(requests) == 1 + 3  # the cut part never counted as received


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda body: HttpAnswer(200, body[: len(body) // 2], MULTIPART), id="no closing boundary"),
        pytest.param(
            lambda body: HttpAnswer(200, body[: len(body) // 2], MULTIPART, announced_length=len(body)),
            id="shorter than announced",
        ),
        pytest.param(
            lambda body: HttpAnswer(200, body[: len(body) // 2], MULTIPART, announced_length=-1), id="no length"
        ),
    ],
)
def test_a_body_that_is_always_cut_off_leaves_named_gaps(received, answer) -> None:
    images = make_series(body_phantom((4, 256, 256)))
    with faulty_web(web_pacs(images, lambda _request: answer(body_of(images)))) as endpoint:
        report = connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert not report.complete
    assert 1 <= len(report.succeeded) == len(received) < 4
    assert all(outcome.reason for outcome in report.failed)


def test_fewer_parts_than_listed_are_no_success(images, received) -> None:
    with faulty_web(web_pacs(images, lambda _request: HttpAnswer(206, body_of(images[:3]), MULTIPART))) as endpoint:
        report = connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert [outcome.sop_instance_uid for outcome in report.failed] == [images[3].SOPInstanceUID]


def test_a_single_part_answer_is_taken(images, received) -> None:
    with faulty_web(
        web_pacs(images[:1], lambda _request: HttpAnswer(200, part10(images[0]), "application/dicom"))
    ) as endpoint:
        assert connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received).complete


@pytest.mark.parametrize("answer", [HttpAnswer(503), HttpAnswer(204), HttpAnswer(200, b"<html/>", "text/html")])
def test_a_retrieve_that_brings_nothing_is_an_error(images, received, answer) -> None:
    with (
        faulty_web(web_pacs(images, lambda _request: answer)) as endpoint,
        pytest.raises(RetrieveError, match="Nothing arrived"),
    ):
        connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)


@pytest.mark.parametrize("status", [401, 403])
def test_missing_credentials_are_named(status) -> None:
    with (
        faulty_web(lambda _request: HttpAnswer(status)) as endpoint,
        pytest.raises(EndpointError, match="AIDICOMBRIDGE_DICOMWEB_USER") as caught,
    ):
        connect(endpoint).verify()

    assert caught.value.status == f"HTTP {status}"


def test_credentials_are_sent_and_go_nowhere_else() -> None:
    seen: list[tuple[str, str]] = []

    def elsewhere(request: HttpRequest) -> HttpAnswer:
        seen.append(("elsewhere", request.headers.get("Authorization", "")))
        return HttpAnswer(200, b"[]")

    with faulty_web(elsewhere) as other:

        def respond(request: HttpRequest) -> HttpAnswer:
            seen.append(("here", request.headers.get("Authorization", "")))
            return HttpAnswer(302, headers={"Location": f"{other.url}/studies"})

        with faulty_web(respond) as endpoint, pytest.raises(EndpointError, match=r"redirects to http://127\.0\.0\.1"):
            connect(dataclasses.replace(endpoint, auth="canary-token")).verify()

    assert seen == [("here", "Bearer canary-token")]


@pytest.mark.parametrize(
    "answer",
    [
        HttpAnswer(200, b"<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><x>&y;</x>", "application/dicom+xml"),
        HttpAnswer(200, b"[{"),
        HttpAnswer(200, b'{"00100010": 1}'),
        HttpAnswer(200, b"[1, 2]"),
        HttpAnswer(200, b'[{"name": "x"}]'),
        HttpAnswer(200, b"[" * 100_000),
        HttpAnswer(404),
        HttpAnswer(500),
    ],
)
def test_a_search_answer_that_is_no_dicom_json(answer) -> None:
    with faulty_web(lambda _request: answer) as endpoint, pytest.raises(QueryError):
        connect(endpoint).find_studies()


def test_a_search_is_read_page_by_page() -> None:
    uids = [generate_uid() for _ in range(7)]

    def respond(request: HttpRequest) -> HttpAnswer:
        offset = int(request.query.rpartition("offset=")[2])
        page = uids[offset : offset + 3]  # fewer than asked for: a server may cap
        return HttpAnswer(200, json.dumps([{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in page]).encode())

    with faulty_web(respond) as endpoint:
        assert [study.study_uid for study in connect(endpoint).find_studies()] == uids
        assert len(connect(endpoint).find_studies(limit=2)) == 2


def test_a_server_that_ignores_the_offset_does_not_hang() -> None:
    uid = generate_uid()
    page = json.dumps([{"0020000D": {"vr": "UI", "Value": [uid]}}]).encode()
    with faulty_web(lambda _request: HttpAnswer(200, page)) as endpoint:
        assert [study.study_uid for study in connect(endpoint).find_studies()] == [uid]


def stow_answer(stored: list[Dataset], failed: dict[str, int]) -> bytes:
    def item(uid: str, reason: int | None) -> dict:
        extra = {} if reason is None else {"00081197": {"vr": "US", "Value": [reason]}}
        return {"00081155": {"vr": "UI", "Value": [uid]}, **extra}

    return json.dumps(
        {
            "00081199": {"vr": "SQ", "Value": [item(str(dataset.SOPInstanceUID), None) for dataset in stored]},
            "00081198": {"vr": "SQ", "Value": [item(uid, reason) for uid, reason in failed.items()]},
        }
    ).encode()


@pytest.mark.parametrize("status", [200, 202, 409])
def test_stow_gives_every_instance_its_own_outcome(images, status) -> None:
    failed = {str(images[1].SOPInstanceUID): 0xA700}
    answer = HttpAnswer(status, stow_answer([images[0], images[2]], failed))
    with faulty_web(lambda _request: answer) as endpoint:
        report = connect(endpoint).store(images)

    assert [outcome.outcome for outcome in report.outcomes] == [
        *(Outcome.STORED, Outcome.REFUSED, Outcome.STORED, Outcome.UNKNOWN),
    ]
    assert report.outcomes[1].status == "0xA700"
    assert "does not list this instance" in report.outcomes[3].reason


def test_stow_again_after_busy_carries_the_whole_body(images) -> None:
    bodies: list[bytes] = []

    def respond(request: HttpRequest) -> HttpAnswer:
        bodies.append(request.body)
        return HttpAnswer(503) if len(bodies) == 1 else HttpAnswer(200, stow_answer(images, {}))

    with faulty_web(respond) as endpoint:
        report = connect(endpoint).store(images)

    assert report.complete
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    assert all(dataset.PixelData in bodies[1] for dataset in images)


def test_stow_refused_as_a_whole(images) -> None:
    with faulty_web(lambda _request: HttpAnswer(413)) as endpoint:
        report = connect(endpoint).store(images)

    assert {(outcome.outcome, outcome.status) for outcome in report.outcomes} == {(Outcome.REFUSED, "HTTP 413")}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_a_multipart_body_splits_the_same_in_pieces_of_any_size(size) -> None:
    contents = [b"first\r\n--almost", b"", b"\r\n\r\nwith line breaks\r\n", bytes(range(256))]
    headers = [b"\r\nContent-Type: application/dicom\r\nX: y", b"", b"\r\nA: b", b"\r\nA: b"]
    pieces = [b"\r\n--bound" + head + b"\r\n\r\n" + content for head, content in zip(headers, contents, strict=True)]
    body = b"".join(pieces)[2:] + b"\r\n--bound--\r\nignored"
    splitter = MultipartSplitter(b"bound")

    parts = [part for start in range(0, len(body), size) for part in splitter.feed(body[start : start + size])]

    assert parts == contents
    assert splitter.closed


# Strangers at the door of our own archive


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    limits = ScpLimits(pdu_seconds=0.5, message_bytes=4 * 2**20, associations=3, idle_seconds=2)
    with InstanceStore(tmp_path / "archive") as store, Archive(store, limits=limits) as archive:
        yield archive


def closed_by_peer(connection: socket.socket, seconds: float = 20) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def assert_answers_again(archive: Archive, seconds: float = 20) -> None:
    """An honest C-ECHO succeeds; a place may become free a moment after its connection is closed."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return connect(archive.endpoint).verify()
        except AssociationError:
            if time.monotonic() > deadline:
                raise


def test_a_giant_pdu_closes_the_connection(archive) -> None:
    with socket.create_connection(("127.0.0.1", archive.port)) as stranger:
        stranger.sendall(struct.pack(">BBL", 1, 0, 300 * 2**20))

        assert closed_by_peer(stranger)
    assert_answers_again(archive)


def test_slow_sockets_do_not_keep_others_out(archive) -> None:
    strangers = [socket.create_connection(("127.0.0.1", archive.port)) for _ in range(6)]
    try:
        for stranger in strangers:
            stranger.sendall(b"\x01\x00\x00")

        assert all(closed_by_peer(stranger) for stranger in strangers)
    finally:
        for stranger in strangers:
            stranger.close()
    assert_answers_again(archive)


def test_sockets_that_say_nothing_do_not_keep_others_out(archive) -> None:
    strangers = [socket.create_connection(("127.0.0.1", archive.port)) for _ in range(6)]
    try:
        assert all(closed_by_peer(stranger) for stranger in strangers)
    finally:
        for stranger in strangers:
            stranger.close()
    assert_answers_again(archive)


def send_raw(archive: Archive, dataset_bytes: bytes, sop_instance_uid: str) -> int | None:
    """Send a C-STORE whose command and data set the test chooses, and return the status, None if broken off."""
    entity = AE(ae_title="STRANGER")
    entity.dimse_timeout = entity.acse_timeout = 20
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    association = entity.associate("127.0.0.1", archive.port, ae_title=archive.ae_title)
    assert association.is_established
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    request.AffectedSOPInstanceUID = sop_instance_uid
    request.DataSet = BytesIO(dataset_bytes)
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(request, 1)
    _context, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.abort()
    return None if answer is None else answer.Status


def test_an_endless_data_set_closes_the_connection(archive) -> None:
    assert send_raw(archive, bytes(6 * 2**20), generate_uid()) is None
    assert len(archive.store) == 0
    assert_answers_again(archive)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("uid", ["../../../etc/x", "/etc/x", "1.2.3.x", "a" * 64])
def test_a_uid_that_looks_like_a_path_is_refused(archive, images, uid) -> None:
    data = part10(images[0])
    dataset_bytes = data[data.index(b"\x08\x00\x05\x00CS") :]

    assert send_raw(archive, dataset_bytes, uid) == 0x0117
    assert send_raw(archive, dataset_bytes, generate_uid()) == 0xC000
    assert [path for path in (archive.store.folder / "instances").rglob("*") if path.is_file()] == []


def test_a_full_archive_says_so_and_recovers(tmp_path, images) -> None:
    with InstanceStore(tmp_path / "small", quota_bytes=2500) as store, Archive(store) as archive:
        report = connect(archive.endpoint).store(images)

    assert [outcome.outcome for outcome in report.outcomes] == [Outcome.STORED] + [Outcome.REFUSED] * 3
    assert {outcome.status for outcome in report.failed} == {"0xA700"}
