"""Weights from an address: resumed, counted, checked; every way that it can fail has a name."""

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from AIDicomBridgeLib import CancelToken, Catalogue, JobCancelled, ModelCard
from AIDicomBridgeLib.errors import WeightsError
from AIDicomBridgeLib.models import download
from AIDicomBridgeLib.models.card import PackagedFile, WeightsFile
from AIDicomBridgeLib.models.package_download import PackageDownloads
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
        self.headers = {"Content-Type": "application/octet-stream"}
        self.counted = True
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
        if self.server.counted:
            self.send_header("Content-Length", str(len(rest)))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(rest[: self.server.cuts.pop(0)] if self.server.cuts else rest)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True).start()
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
    assert [item.suffix for item in tmp_path.iterdir()] == [".safetensors"]


def test_a_download_that_stays_short_is_refused_and_continued_later(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000] * 4
    folder = WeightsFolder(tmp_path)
    with pytest.raises(WeightsError, match=r"cannot be downloaded from http://127\.0\.0\.1:\d+/w\.safetensors: "):
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
    server.content, server.counted = CONTENT + b"more", False
    with pytest.raises(WeightsError, match="gives more than the"):
        WeightsFolder(tmp_path).fetch(card_at(server))


@pytest.mark.parametrize("counted", [True, False])
def test_a_page_that_asks_to_log_in_is_no_beginning_of_the_weights(
    server: Server, tmp_path: Path, counted: bool
) -> None:
    server.content, server.counted = b"<html>Who are you?", counted
    if not counted:
        server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(
        WeightsError, match=r"gives a (file of 18 bytes, and the card names 5120000|page, no file).*browser"
    ):
        WeightsFolder(tmp_path).fetch(card_at(server))
    server.content, server.counted, server.headers = CONTENT, True, {}
    assert WeightsFolder(tmp_path).fetch(card_at(server)).read_bytes() == CONTENT


def test_a_missing_certificate_authority_is_said_to_be_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    with pytest.raises(WeightsError, match=r"cannot be asked: .*gone\.pem.*Correct REQUESTS_CA_BUNDLE"):
        download.download("https://127.0.0.1:9/w.pth", tmp_path / "w.pth", 1)


def test_a_file_of_unknown_size_may_not_fill_the_disk(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LARGEST_UNKNOWN", 10**6)
    card = card_at(server)
    assert card.weights is not None
    card = dataclasses.replace(card, weights=dataclasses.replace(card.weights, size=0))
    with pytest.raises(WeightsError, match="gives more than 1000000 bytes"):
        WeightsFolder(tmp_path).fetch(card)


def test_files_that_cards_call_alike_do_not_replace_each_other(server: Server, tmp_path: Path) -> None:
    folder, first = WeightsFolder(tmp_path), card_at(server)
    folder.fetch(first)
    server.content = b"another model" * 100
    second = card_at(server, server.content)
    folder.fetch(second)
    assert (folder.verified(first), folder.verified(second)) == (CONTENT, server.content)


def test_a_wrong_file_beside_the_card_does_not_hide_what_was_fetched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"wrong")
    card, folder = dataclasses.replace(card_at(server), folder=tmp_path), WeightsFolder(tmp_path / "weights")
    with pytest.raises(WeightsError, match="is not the one that the card names"):
        folder.verified(card)
    assert folder.fetch(card).read_bytes() == folder.verified(card) == CONTENT


def test_a_redirect_may_not_leave_encryption() -> None:
    with requests.Session() as session:
        download.keep_to(session, "https://example.org/w")
        with pytest.raises(requests.RequestException):
            session.get("http://127.0.0.1:9/w")


def test_cancel_stops_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    (tmp_path / "pip.py").write_text(f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # found before the real one
    cancel = CancelToken()
    downloads = PackageDownloads(lambda _: cancel.cancel() if started.exists() else None, cancel)
    with downloads, pytest.raises(JobCancelled):
        downloads.wheel(PackagedFile("toy==1.0", "toy/w.safetensors", "0" * 64))


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
