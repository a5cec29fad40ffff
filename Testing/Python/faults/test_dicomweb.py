"""Web services that cut off, leave out, redirect and expire: nothing is silently lost, no secret goes astray."""

import dataclasses
import json
import threading

import pytest
from AIDicomBridgeLib.errors import (
    EndpointError,
    QueryError,
    RetrieveError,
    UnreachableError,
)
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.credentials import OAuthClient
from AIDicomBridgeLib.pacs.multipart import MultipartSplitter
from AIDicomBridgeLib.pacs.records import Outcome
from AIDicomBridgeLib.progress import Progress
from peers.fault_pacs import HttpAnswer, HttpRequest, faulty_web
from peers.web_archive import MULTIPART, body_of, web_pacs
from pydicom.uid import generate_uid
from synthetic import body_phantom, make_series, part10


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch) -> None:
    """Repeat at once what is asked for again."""
    monkeypatch.setattr("AIDicomBridgeLib.pacs.retrieval._PAUSE_SECONDS", 0.01)


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


def test_a_series_is_fetched_while_it_is_listed(images, received) -> None:
    fetching, meanwhile = threading.Event(), []

    def retrieve(_request: HttpRequest) -> HttpAnswer:
        fetching.set()
        return HttpAnswer(200, body_of(images), MULTIPART)

    def respond(request: HttpRequest) -> HttpAnswer:
        if request.path.endswith("/instances"):
            meanwhile.append(fetching.wait(10))
        return web_pacs(images, retrieve)(request)

    seen: list[Progress] = []
    with faulty_web(respond) as endpoint:
        report = connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received, progress=seen.append)

    assert meanwhile[0]
    assert [item.outcome for item in report.outcomes] == [Outcome.RECEIVED] * 4
    assert (report.method, len(received)) == ("WADO-RS", 4)
    assert (seen[-1].completed, seen[-1].total) == (4, 4)


def test_what_cannot_be_listed_is_not_waited_for(images, received) -> None:
    def respond(request: HttpRequest) -> HttpAnswer:
        if request.path.endswith("/instances"):
            return HttpAnswer(500)
        endless = HttpAnswer(200, body_of(images), MULTIPART, drip_s=600)
        return web_pacs(images, lambda _request: endless)(request)

    with faulty_web(respond) as endpoint, pytest.raises(QueryError, match="refused"):
        connect(dataclasses.replace(endpoint, timeout_s=600)).retrieve(images[0].StudyInstanceUID, into=received)


def test_what_the_store_holds_is_not_fetched_again(images, received) -> None:
    paths: list[str] = []

    def retrieve(request: HttpRequest) -> HttpAnswer:
        paths.append(request.path)
        chosen = [image for image in images if request.path.endswith(image.SOPInstanceUID)]
        return HttpAnswer(200, body_of(chosen), MULTIPART)

    for image in images[:3]:
        received.add_file(part10(image))
    with faulty_web(web_pacs(images, retrieve)) as endpoint:
        report = connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert [path.rpartition("/")[2] for path in paths] == [images[3].SOPInstanceUID]
    found = {item.sop_instance_uid: item.outcome for item in report.outcomes}
    assert [found[image.SOPInstanceUID] for image in images] == [Outcome.PRESENT] * 3 + [Outcome.RECEIVED]


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


def test_a_limit_counts_what_matches_not_what_the_server_sends() -> None:
    """Several modalities at once are not sent: the server gives everything, and what is wanted comes late."""
    studies = [(generate_uid(), modality) for modality in ["US"] * 5 + ["CT"] * 3]

    def respond(request: HttpRequest) -> HttpAnswer:
        offset = int(request.query.rpartition("offset=")[2])
        page = [
            {"0020000D": {"vr": "UI", "Value": [uid]}, "00080061": {"vr": "CS", "Value": [modality]}}
            for uid, modality in studies[offset : offset + 2]
        ]
        return HttpAnswer(200, json.dumps(page).encode())

    with faulty_web(respond) as endpoint:
        found = connect(endpoint).find_studies(modalities=["CT", "MR"], limit=2)

    assert [study.study_uid for study in found] == [uid for uid, _modality in studies[5:7]]


@pytest.mark.parametrize("decodes", [True, False])
def test_names_are_found_whether_or_not_the_server_knows_escapes_or_wildcards(decodes) -> None:
    """Some servers know no wildcards; Orthanc's plugin 1.7 knows no escapes."""
    study = {
        "0020000D": {"vr": "UI", "Value": [generate_uid()]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^John Ü"}]},
    }

    def respond(request: HttpRequest) -> HttpAnswer:
        wanted = "PatientName=Doe^John Ü&" if decodes else "PatientName=Doe*John*&"
        found = wanted in f"{request.query}&" and "offset=0" in request.query
        return HttpAnswer(200, json.dumps([study] if found else []).encode())

    with faulty_web(respond) as endpoint:
        assert len(connect(endpoint).find_studies(patient_name="Doe^John Ü")) == 1


def test_a_server_that_lists_fewer_than_it_counts(images, received) -> None:
    answers = web_pacs(images, lambda _request: HttpAnswer(200, body_of(images), MULTIPART))

    def respond(request: HttpRequest) -> HttpAnswer:
        if not request.path.endswith("/series"):
            return answers(request)
        series = {"0020000E": {"vr": "UI", "Value": [images[0].SeriesInstanceUID]}}
        counted = {**series, "00201209": {"vr": "IS", "Value": [6]}}
        return HttpAnswer(200, json.dumps([counted] if "offset=0" in request.query else []).encode())

    with faulty_web(respond) as endpoint:
        report = connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert (len(report.succeeded), report.unlisted) == (4, 2)
    assert not report.complete


def test_a_server_that_ignores_the_offset_does_not_hang() -> None:
    uid = generate_uid()
    page = json.dumps([{"0020000D": {"vr": "UI", "Value": [uid]}}]).encode()
    with faulty_web(lambda _request: HttpAnswer(200, page)) as endpoint:
        assert [study.study_uid for study in connect(endpoint).find_studies()] == [uid]


def study(uid: str, **attributes: str) -> dict:
    named = {"PatientName": ("00100010", "PN"), "PatientID": ("00100020", "LO")}
    items = {named[key][0]: {"vr": named[key][1], "Value": [value]} for key, value in attributes.items()}
    return {"0020000D": {"vr": "UI", "Value": [uid]}, **items}


@pytest.mark.parametrize("name", ["Doe^John", "Müller^Jörg", "山田^太郎", "O'Hara & Sons?"])
def test_a_service_without_wildcards_gets_a_text_as_it_is(name) -> None:
    held = study("1.2.3", PatientName={"Alphabetic": name})

    def respond(request: HttpRequest) -> HttpAnswer:
        found = "offset=0" in request.query and f"PatientName={name}&" in request.query
        return HttpAnswer(200, json.dumps([held] if found else []).encode())

    with faulty_web(respond) as endpoint:
        assert [found.study_uid for found in connect(endpoint).find_studies(patient_name=name)] == ["1.2.3"]


def test_not_everything_that_an_archive_holds_is_looked_through(monkeypatch) -> None:
    monkeypatch.setattr("AIDicomBridgeLib.pacs.dicomweb_search._MOST_LOOKED_THROUGH", 10)

    def respond(request: HttpRequest) -> HttpAnswer:
        first = int(request.query.rpartition("offset=")[2])
        page = [study(f"1.2.{first + n}", PatientName={"Alphabetic": "Other"}) for n in range(1, 5)]
        return HttpAnswer(200, json.dumps([] if "PatientName" in request.query.split("&")[0] else page).encode())

    with faulty_web(respond) as endpoint, pytest.raises(QueryError, match="special characters"):
        connect(endpoint).find_studies(patient_name="山田")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_a_multipart_body_splits_the_same_in_pieces_of_any_size(size) -> None:
    contents = [b"first\r\n--almost", b"", b"\r\n\r\nwith line breaks\r\n", bytes(range(256))]
    headers = [b"\r\nContent-Type: application/dicom\r\nX: y", b"", b"\r\nA: b", b"\r\nA: b"]
    pieces = [b"\r\n--bound" + head + b"\r\n\r\n" + content for head, content in zip(headers, contents, strict=True)]
    body = b"".join(pieces)[2:] + b"\r\n--bound--\r\nignored"
    splitter = MultipartSplitter(b"bound")

    parts, open_part = [], b""
    for start in range(0, len(body), size):
        for piece, ends in splitter.feed(body[start : start + size]):
            open_part += piece
            if ends:
                parts.append(open_part)
                open_part = b""

    assert parts == contents
    assert splitter.closed


def test_an_expired_token_is_renewed_once_and_the_retrieve_goes_on(images, received) -> None:
    tokens: list[str] = []

    def token_server(request: HttpRequest) -> HttpAnswer:
        assert b"grant_type=client_credentials" in request.body
        assert request.headers["Authorization"].startswith("Basic ")
        tokens.append(f"token-{len(tokens)}")
        answer = json.dumps({"access_token": tokens[-1]}).encode()
        return HttpAnswer(200, answer, "application/json", drip_s=0.001)  # in pieces

    served: list[str] = []
    answers = web_pacs(images, lambda _request: HttpAnswer(200, body_of(images), MULTIPART))

    def respond(request: HttpRequest) -> HttpAnswer:
        served.append(request.headers.get("Authorization", ""))
        expired = len(served) > 3 and served[-1] == "Bearer token-0"
        return HttpAnswer(401) if expired else answers(request)

    with faulty_web(token_server) as login, faulty_web(respond) as endpoint:
        client = OAuthClient(f"{login.url}/token", "bridge", "canary-secret")
        with connect(dataclasses.replace(endpoint, auth=client)) as pacs:
            assert pacs.retrieve(images[0].StudyInstanceUID, into=received).complete

    assert tokens == ["token-0", "token-1"]
    assert served[-1] == "Bearer token-1"


def test_a_token_that_is_refused_again_is_an_error() -> None:
    with (
        faulty_web(lambda _request: HttpAnswer(200, b'{"access_token": "x"}', "application/json")) as login,
        faulty_web(lambda _request: HttpAnswer(401)) as endpoint,
    ):
        auth = OAuthClient(f"{login.url}/token", "bridge", "canary-secret")
        with pytest.raises(EndpointError, match="credentials") as caught:
            connect(dataclasses.replace(endpoint, auth=auth)).verify()

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("answer", [HttpAnswer(401, b"{}"), HttpAnswer(200, b"[]"), HttpAnswer(200, b"<html>")])
def test_a_login_that_gives_no_token_is_an_error(answer) -> None:
    with faulty_web(lambda _request: answer) as login, faulty_web(lambda _request: HttpAnswer(200)) as endpoint:
        auth = OAuthClient(f"{login.url}/token", "bridge", "canary-secret")
        with pytest.raises((EndpointError, UnreachableError), match="OAuth") as caught:
            connect(dataclasses.replace(endpoint, auth=auth)).verify()

    assert "canary" not in repr(caught.value)
