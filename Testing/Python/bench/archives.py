"""A PACS for the benchmark, in a process of its own on loopback: Orthanc, or the built-in archive."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from AIDicomBridgeLib import BridgeError, DimseEndpoint, connect

_BUILT_IN = """
import sys
from AIDicomBridgeLib import InstanceStore
from AIDicomBridgeLib.pacs.archive import Archive
with InstanceStore(sys.argv[1]) as store, Archive(store, ae_title="BENCH", port=int(sys.argv[2])):
    sys.stdin.read()  # until the benchmark ends
"""


@contextmanager
def running(kind: str, folder: Path) -> Iterator[DimseEndpoint]:
    """Start ``"orthanc"`` or ``"built-in"`` over an empty folder, yield its endpoint, and stop it in the end."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    if kind == "orthanc":
        command = [shutil.which("Orthanc") or "Orthanc", str(_orthanc_configuration(folder, port))]
    else:
        command = [sys.executable, "-c", _BUILT_IN, str(folder), str(port)]
    # DCMTK, which Orthanc speaks DIMSE with, otherwise waits 40 ms for every acknowledgement.
    environment = os.environ | {"TCP_NODELAY": "1"}
    endpoint = DimseEndpoint(kind, "127.0.0.1", port, "BENCH", calling_ae_title="CLIENT", retrieve="C-GET")
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)
    try:
        _wait_until_it_answers(endpoint, process, deadline=time.monotonic() + 30)
        yield endpoint
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # Orthanc waits for associations that a failed stage left open
            process.kill()
            process.wait()


def _orthanc_configuration(folder: Path, port: int) -> Path:
    path = folder / "orthanc.json"
    path.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "index"),
                "HttpServerEnabled": False,
                "DicomAet": "BENCH",
                "DicomPort": port,
                "DicomAlwaysAllowFind": True,
                "DicomAlwaysAllowGet": True,
            }
        )
    )
    return path


def _wait_until_it_answers(endpoint: DimseEndpoint, process: subprocess.Popen[bytes], deadline: float) -> None:
    while True:
        try:
            with connect(endpoint) as client:
                return client.verify()
        except BridgeError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
