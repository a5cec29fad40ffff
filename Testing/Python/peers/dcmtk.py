"""DCMTK's programs: its storage server, and its clients as a foreign peer of our archive."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from pathlib import Path

from AIDicomBridgeLib.pacs.endpoint import DimseEndpoint

from . import free_port, listens, require_program, running


@contextmanager
def storescp(folder: Path, *, ae_title: str = "STORESCP") -> Iterator[DimseEndpoint]:
    """Run DCMTK's storage server; what it receives lies in ``folder``, one file per SOP Instance UID."""
    program = require_program("storescp")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [program, "--fork", "+B", "+xa", "-aet", ae_title, "-od", str(folder), str(port)]
    with running(command, log=folder / "storescp.log", ready=lambda: listens(port)):
        yield DimseEndpoint("storescp", "127.0.0.1", port, ae_title)


def run_client(name: str, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of DCMTK's clients (``echoscu``, ``findscu``, ...) and return what it wrote."""
    return subprocess.run(
        [require_program(name), *arguments],
        cwd=folder,
        env={**environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
