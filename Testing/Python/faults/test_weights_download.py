"""Weights from an address: resumed, counted, checked; every way that it can fail has a name."""

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from AIDicomBridgeLib import CancelToken, Catalogue, JobCancelled, ModelCard
from AIDicomBridgeLib.errors import WeightsError
from AIDicomBridgeLib.models.card import WeightsFile
from AIDicomBridgeLib.models.weights import WeightsFolder

CONTENT = bytes(range(256)) * 20000


class Server(ThreadingHTTPServer):
    """Gives CONTENT; ``cuts`` are how many bytes each of the next answers gives before the line breaks."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts: list[int] = []
        self.status = 200
        self.content = CONTENT
        self.ranges: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        rest = self.server.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.cuts.pop(0)] if self.server.cuts else rest)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving
        serving.shutdown()


def card_at(server: Server, content: bytes = CONTENT) -> ModelCard:
    url = f"http://127.0.0.1:{server.server_address[1]}/w.safetensors"
    weights = WeightsFile("w.safetensors", len(content), hashlib.sha256(content).hexdigest(), urls=(url,))
    return dataclasses.replace(Catalogue.load()["mindgrab"], name="far", weights=weights, folder=None)


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 2_000_000]
    seen = []
    path = WeightsFolder(tmp_path).fetch(card_at(server), progress=seen.append)
    assert path.read_bytes() == CONTENT
    assert server.ranges[0] is None
    assert all(asked is not None for asked in server.ranges[1:])
    assert seen[-1].completed == seen[-1].total == len(CONTENT)
    assert [item.name for item in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_download_that_stays_short_is_refused_and_continued_later(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000] * 4
    folder = WeightsFolder(tmp_path)
    with pytest.raises(WeightsError, match=r"safetensors cannot be downloaded from 127\.0\.0\.1"):
        folder.fetch(card_at(server))
    assert not folder.is_present(card_at(server))
    assert folder.fetch(card_at(server)).read_bytes() == CONTENT
    assert folder.remove(card_at(server)) == len(CONTENT)


def test_another_file_of_the_same_size_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(WeightsError, match="is not the one that the card names"):
        WeightsFolder(tmp_path).fetch(card_at(server))
    assert not list(tmp_path.iterdir())


def test_a_longer_file_is_refused_while_it_comes(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT + b"more"
    with pytest.raises(WeightsError, match="gives more than the"):
        WeightsFolder(tmp_path).fetch(card_at(server))


def test_a_refusal_is_said_at_once_and_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(WeightsError, match=r"HTTP 404.*HTTPS_PROXY"):
        WeightsFolder(tmp_path).fetch(card_at(server))
    assert len(server.ranges) == 1


def test_cancel_stops_a_download(server: Server, tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(JobCancelled):
        WeightsFolder(tmp_path).fetch(card_at(server), cancel=cancel)
