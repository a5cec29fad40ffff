"""Web services that drip or fall silent: every operation has its end, and a cancel is heard at once."""

import dataclasses
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from AIDicomBridgeLib.errors import DeadlineError, JobCancelled
from AIDicomBridgeLib.pacs.client import PacsClient, connect
from AIDicomBridgeLib.pacs.credentials import OAuthClient
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint
from AIDicomBridgeLib.progress import CancelToken
from peers.fault_pacs import HttpAnswer, HttpRequest, faulty_web
from peers.web_archive import MULTIPART, body_of, web_pacs
from synthetic import body_phantom, make_series

DRIP_S = 0.05
BLANKS = b" " * 10**6
DRIPPING = HttpAnswer(200, BLANKS, drip_s=DRIP_S)


def outcome_of(action: Callable[[], object]) -> object:
    """Return what an action returns or raises; fails if it has done neither after half a minute."""
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(action())
        except (Exception, JobCancelled) as error:  # noqa: BLE001 - the test looks at it
            outcomes.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert outcomes, "it still waits"
    return outcomes[0]


@contextmanager
def dripping_headers() -> Iterator[DicomWebEndpoint]:
    """Run a server whose headers never end."""
    stopped = threading.Event()

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):
            connection = listening.accept()[0]
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not stopped.wait(DRIP_S):
                    connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=[listening])
        thread.start()
        yield DicomWebEndpoint("", f"http://127.0.0.1:{listening.getsockname()[1]}/dicom-web")
        stopped.set()
    thread.join(10)


OPERATIONS: dict[str, Callable[[PacsClient, CancelToken], object]] = {
    "search": lambda client, cancel: client.find_studies(cancel=cancel),
    "store": lambda client, cancel: client.store(make_series(body_phantom((1, 8, 8))), cancel=cancel),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("part", ["body", "headers"])
def test_an_answer_that_drips_ends_at_the_deadline(operation, part) -> None:
    with dripping_headers() if part == "headers" else faulty_web(lambda _request: DRIPPING) as endpoint:
        client = connect(dataclasses.replace(endpoint, total_timeout_s=0.6))
        outcome = outcome_of(lambda: operation(client, CancelToken()))

    if part == "body" and operation is OPERATIONS["store"]:  # which the peer has taken, as far as anybody knows
        assert [(item.outcome.value, item.reason) for item in outcome.outcomes] == [
            ("unknown", "the transfer took longer than 0.6 s in all")
        ]
    else:
        assert isinstance(outcome, DeadlineError)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_cancel_is_heard_while_a_service_is_silent(operation) -> None:
    cancel, ended = CancelToken(), threading.Event()

    def respond(_request: HttpRequest) -> HttpAnswer:
        cancel.cancel()
        ended.wait(30)
        return HttpAnswer(0)

    with faulty_web(respond) as endpoint:
        client = connect(dataclasses.replace(endpoint, timeout_s=600))
        outcome = outcome_of(lambda: operation(client, cancel))
        ended.set()

    assert isinstance(outcome, JobCancelled)


def test_a_retrieve_that_drips_ends_at_the_deadline_and_keeps_what_came(received) -> None:
    images = make_series(body_phantom((4, 128, 128)))
    body = body_of(images)
    drip = web_pacs(
        images, lambda _request: HttpAnswer(200, body, MULTIPART, drip_s=DRIP_S, drip_from=len(body) * 2 // 3)
    )
    with faulty_web(drip) as endpoint:
        client = connect(dataclasses.replace(endpoint, total_timeout_s=1.5))
        report = outcome_of(lambda: client.retrieve(images[0].StudyInstanceUID, into=received))

    assert len(report.succeeded) == len(received) == 2
    assert {outcome.reason for outcome in report.failed} == {"the transfer took longer than 1.5 s in all"}


def test_the_listing_before_a_retrieve_counts_too(received) -> None:
    with faulty_web(lambda _request: DRIPPING) as endpoint:
        client = connect(dataclasses.replace(endpoint, total_timeout_s=0.6))

        assert isinstance(outcome_of(lambda: client.retrieve("1.2.3", into=received)), DeadlineError)


def test_a_login_that_drips_ends_at_the_deadline() -> None:
    with faulty_web(lambda _request: DRIPPING) as login, faulty_web(lambda _request: HttpAnswer(200)) as endpoint:
        auth = OAuthClient(f"{login.url}/token", "bridge", "canary-secret")
        client = connect(dataclasses.replace(endpoint, auth=auth, total_timeout_s=0.6))

        assert isinstance(outcome_of(client.verify), DeadlineError)


def test_a_connection_is_used_again_after_one_was_broken_off(images) -> None:
    """The watcher of one request never touches the connection of the next."""
    answers = [DRIPPING, HttpAnswer(200, json.dumps([]).encode())]
    with faulty_web(lambda _request: answers.pop(0)) as endpoint:
        client = connect(dataclasses.replace(endpoint, total_timeout_s=0.6))
        assert isinstance(outcome_of(client.find_studies), DeadlineError)
        assert client.find_studies() == []
