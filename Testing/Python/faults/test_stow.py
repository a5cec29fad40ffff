"""STOW-RS to services that are busy, choosy or break off: every instance has its own honest outcome."""

import dataclasses
import json
import tracemalloc

import pytest
from AIDicomBridgeLib.errors import JobCancelled, UnreachableError
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.deadline import Deadline
from AIDicomBridgeLib.pacs.multipart import MultipartBody
from AIDicomBridgeLib.pacs.outgoing import read_outgoing
from AIDicomBridgeLib.pacs.records import Outcome
from AIDicomBridgeLib.progress import CancelToken
from peers.fault_pacs import HttpAnswer, HttpRequest, faulty_web
from pydicom import Dataset
from synthetic import body_phantom, make_series, save_series


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """Note the pauses between attempts instead of making them."""
    made: list[float] = []
    monkeypatch.setattr(Deadline, "wait", lambda _self, seconds: made.append(seconds))
    return made


def sent_in(request: HttpRequest, images: list[Dataset]) -> list[Dataset]:
    """Return which of the images a request carries."""
    return [image for image in images if str(image.SOPInstanceUID).encode() in request.body]


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
    lengths: list[str] = []

    def respond(request: HttpRequest) -> HttpAnswer:
        bodies.append(request.body)
        lengths.append(request.headers["Content-Length"])
        return HttpAnswer(503) if len(bodies) == 1 else HttpAnswer(200, stow_answer(images, {}))

    with faulty_web(respond) as endpoint:
        report = connect(endpoint).store(images)

    assert report.complete
    assert len(bodies) == 2
    assert [str(len(body)) for body in bodies] == lengths
    assert bodies[0] == bodies[1]
    assert all(dataset.PixelData in bodies[1] for dataset in images)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, Outcome.REFUSED), (415, Outcome.REFUSED), (500, Outcome.UNKNOWN), (503, Outcome.UNKNOWN)],
)
def test_stow_refused_as_a_whole_and_a_service_that_failed(images, pauses, status, expected) -> None:
    with faulty_web(lambda _request: HttpAnswer(status)) as endpoint:
        report = connect(endpoint).store(images)

    assert {(item.outcome, item.status) for item in report.outcomes} == {(expected, f"HTTP {status}")}


def test_what_is_too_large_for_the_service_is_sent_in_parts(images) -> None:
    def respond(request: HttpRequest) -> HttpAnswer:
        present = sent_in(request, images)
        fits = len(present) == 1 and present[0] is not images[2]
        return HttpAnswer(200, stow_answer(present, {})) if fits else HttpAnswer(413)

    with faulty_web(respond) as endpoint:
        report = connect(endpoint).store(images)

    assert [(item.outcome, item.status) for item in report.outcomes] == [
        *[(Outcome.STORED, "HTTP 200")] * 2,
        (Outcome.REFUSED, "HTTP 413"),  # alone it is too large as well
        (Outcome.STORED, "HTTP 200"),
    ]


def test_a_busy_service_is_given_the_time_that_it_asks_for(images, pauses) -> None:
    answers = [HttpAnswer(503, headers={"Retry-After": "7"}), HttpAnswer(429, headers={"Retry-After": "86400"})]
    answers += [HttpAnswer(200, stow_answer(images, {}))]
    with faulty_web(lambda _request: answers.pop(0)) as endpoint:
        assert connect(endpoint).store(images).complete

    assert pauses == [7, 60]


def test_without_such_a_wish_the_pauses_grow(images, pauses) -> None:
    with faulty_web(lambda _request: HttpAnswer(503)) as endpoint:
        connect(endpoint).store(images)

    assert len(pauses) == 2
    assert 0 < pauses[0] < pauses[1]


def test_a_cancel_is_heard_while_a_busy_service_is_waited_for(images) -> None:
    cancel = CancelToken()

    def respond(_request: HttpRequest) -> HttpAnswer:
        cancel.cancel()
        return HttpAnswer(503, headers={"Retry-After": "60"})

    with faulty_web(respond) as endpoint, pytest.raises(JobCancelled):
        connect(endpoint).store(images, cancel=cancel)


@pytest.fixture
def one_by_one(monkeypatch, pauses) -> None:
    """Send each image in a request of its own."""
    monkeypatch.setattr("AIDicomBridgeLib.pacs.dicomweb_store._BATCH_BYTES", 1)
    monkeypatch.setattr("AIDicomBridgeLib.pacs.dicomweb_store._LEAST_BATCH_BYTES", 1)


@pytest.mark.parametrize("connections", [1, 4])
def test_a_request_that_breaks_off_is_not_the_end_of_the_others(images, one_by_one, connections) -> None:
    tries: list[str] = []

    def respond(request: HttpRequest) -> HttpAnswer:
        (present,) = sent_in(request, images)
        tries.append(present.SOPInstanceUID)
        often_broken = present is images[1] and tries.count(present.SOPInstanceUID) <= 3
        broken = present is images[3] or often_broken
        return HttpAnswer(0) if broken else HttpAnswer(200, stow_answer([present], {}))

    with faulty_web(respond) as endpoint:
        report = connect(dataclasses.replace(endpoint, connections=connections)).store(images)

    assert [item.outcome for item in report.outcomes] == [Outcome.STORED] * 3 + [Outcome.UNKNOWN]
    assert "broke off" in report.failed[0].reason


@pytest.mark.parametrize("connections", [1, 4])
def test_a_service_that_answers_nothing_is_an_error(images, one_by_one, connections) -> None:
    with faulty_web(lambda _request: HttpAnswer(0)) as endpoint, pytest.raises(UnreachableError):
        connect(dataclasses.replace(endpoint, connections=connections)).store(images)


def test_credentials_that_expire_in_the_middle_are_named(images, one_by_one) -> None:
    answers = [HttpAnswer(200, stow_answer(images[:1], {})), HttpAnswer(401)]
    with faulty_web(lambda _request: answers.pop(0)) as endpoint:
        report = connect(endpoint).store(images)

    assert [item.outcome for item in report.outcomes] == [Outcome.STORED] + [Outcome.UNKNOWN] * 3
    assert all("credentials" in item.reason for item in report.failed)


def test_a_file_that_changes_meanwhile_concerns_itself_only(images, tmp_path) -> None:
    paths = save_series(images, tmp_path)
    asked: list[int] = []

    def respond(request: HttpRequest) -> HttpAnswer:
        asked.append(len(request.body))
        if len(asked) == 1:
            with paths[2].open("r+b") as file:
                file.truncate(1000)
            return HttpAnswer(503, headers={"Retry-After": "0.01"})
        return HttpAnswer(200, stow_answer(sent_in(request, images), {}))

    with faulty_web(respond) as endpoint:
        report = connect(endpoint).store(paths)

    assert len(report.succeeded) == 3
    assert "became shorter" in report.failed[0].reason


def test_a_large_file_is_read_while_it_is_sent(tmp_path) -> None:
    """What is sent has its length in front, and is never in memory as a whole."""
    image = make_series(body_phantom((1, 2048, 2048)))[0]
    (path,) = save_series([image], tmp_path)
    body = MultipartBody(read_outgoing([path]))
    tracemalloc.start()
    try:
        length = sum(len(piece) for piece in body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert length == len(body) > 8 * 2**20
    assert peak < 2**20


def test_stow_in_several_requests_at_once(images, monkeypatch) -> None:
    monkeypatch.setattr("AIDicomBridgeLib.pacs.dicomweb_store._LEAST_BATCH_BYTES", 1)
    bodies: list[bytes] = []

    def respond(request: HttpRequest) -> HttpAnswer:
        bodies.append(request.body)
        return HttpAnswer(200, stow_answer(sent_in(request, images), {}))

    with faulty_web(respond) as endpoint:
        report = connect(dataclasses.replace(endpoint, connections=3)).store(images)

    assert report.complete
    assert len(bodies) > 1
