"""A real Orthanc with its DICOMweb and GDCM plugins."""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint

from . import free_port, require_program, running

_PLUGINS = Path("/usr/share/orthanc/plugins")


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc; ``move_port`` is where it sends what AIDICOMBRIDGE asks for by C-MOVE."""

    dicom_port: int
    http_port: int
    move_port: int
    ca_file: Path | None

    @property
    def dimse(self) -> DimseEndpoint:
        """Its DIMSE endpoint."""
        return DimseEndpoint("orthanc", "127.0.0.1", self.dicom_port, "ORTHANC")

    @property
    def dicomweb(self) -> DicomWebEndpoint:
        """Its DICOMweb endpoint."""
        scheme = "https" if self.ca_file else "http"
        url = f"{scheme}://127.0.0.1:{self.http_port}/dicom-web"
        return DicomWebEndpoint("orthanc-web", url, ca_file=str(self.ca_file) if self.ca_file else None)


@contextmanager
def orthanc(folder: Path, *, https: bool = False, unknown_sop_classes: bool = True) -> Iterator[Orthanc]:
    """Run an Orthanc in a new folder.

    Parameters
    ----------
    https
        Serve HTTP over TLS, with a certificate of an authority made for it.
    unknown_sop_classes
        Accept SOP Classes that this version does not know, such as label map segmentations, by C-STORE.
    """
    program = require_program("Orthanc")
    plugins = [_PLUGINS / name for name in ("libOrthancDicomWeb.so", "libOrthancGdcm.so")]
    for plugin in plugins:
        if not plugin.exists():
            pytest.skip(f"the Orthanc plugin {plugin.name} is not installed")
    folder.mkdir(parents=True)
    peer = Orthanc(free_port(), free_port(), free_port(), _make_certificates(folder) if https else None)
    configuration = {
        "Name": "peer",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(plugin) for plugin in plugins],
        "HttpPort": peer.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "SslEnabled": https,
        "SslCertificate": str(folder / "server.pem"),
        "DicomPort": peer.dicom_port,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "UnknownSopClassAccepted": unknown_sop_classes,
        "DicomModalities": {"bridge": ["AIDICOMBRIDGE", "127.0.0.1", peer.move_port]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False, "Ssl": https},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    command = [program, str(folder / "orthanc.json")]
    with running(command, log=folder / "orthanc.log", ready=lambda: _answers(peer)):
        yield peer


def _answers(peer: Orthanc) -> bool:
    context = ssl.create_default_context(cafile=str(peer.ca_file)) if peer.ca_file else None
    try:
        with urllib.request.urlopen(f"{peer.dicomweb.url}/studies?limit=1", timeout=2, context=context) as answer:  # noqa: S310
            return answer.status in (200, 204)
    except (urllib.error.URLError, OSError):
        return False


def _make_certificates(folder: Path) -> Path:
    """Make an authority and a server certificate for 127.0.0.1, and return the authority's file."""
    openssl = require_program("openssl")
    (folder / "names.txt").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for arguments in (
        ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test authority"],
        ["req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1"],
        [
            *("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", "server.crt", "-days", "2", "-extfile", "names.txt"),
        ],
    ):
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)
    (folder / "server.pem").write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())
    return folder / "ca.pem"
