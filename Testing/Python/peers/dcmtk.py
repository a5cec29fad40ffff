"""DCMTK's programs: its storage server, and its clients as a foreign peer of our archive."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from pathlib import Path

from AIDicomBridgeLib.pacs.endpoint import DimseEndpoint

from . import free_port, listens, require_program, running


@contextmanager
def storescp(folder: Path, *, ae_title: str = "STORESCP", tls_folder: Path | None = None) -> Iterator[DimseEndpoint]:
    """Run DCMTK's storage server; what it receives lies in ``folder``, one file per SOP Instance UID.

    With a folder of certificates it speaks TLS, and asks its clients for theirs.
    """
    program = require_program("storescp")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    tls = []
    if tls_folder is not None:
        tls = ["+tls", str(tls_folder / "server.key"), str(tls_folder / "server.crt")]
        tls += ["+cf", str(tls_folder / "ca.pem"), "-rc"]
    command = [program, "--fork", *tls, "+B", "+xa", "-aet", ae_title, "-od", str(folder), str(port)]
    with running(command, log=folder / "storescp.log", ready=lambda: listens(port)):
        yield DimseEndpoint("storescp", "127.0.0.1", port, ae_title)


@contextmanager
def dcmqrscp(folder: Path, *options: str) -> Iterator[DimseEndpoint]:
    """Run DCMTK's archive, which takes uncompressed data unless options say otherwise, and moves to AIDICOMBRIDGE."""
    program = require_program("dcmqrscp")
    (folder / "database").mkdir(parents=True)
    port, move_port = free_port(), free_port()
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nbridge = (AIDICOMBRIDGE, 127.0.0.1, {move_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nDCMQRSCP {folder / 'database'} RW (200, 1024mb) ANY\nAETable END\n"
    )
    command = [program, "-c", str(configuration), *options]
    with running(command, log=folder / "dcmqrscp.log", ready=lambda: listens(port)):
        yield DimseEndpoint("dcmqrscp", "127.0.0.1", port, "DCMQRSCP", move_port=move_port)


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
