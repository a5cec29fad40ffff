"""A real Orthanc with its DICOMweb and GDCM plugins."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint

from . import free_port, require_program, running
from .tls_front import tls_front

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
def orthanc(
    folder: Path, *, https: bool = False, unknown_sop_classes: bool = True, tls_folder: Path | None = None
) -> Iterator[Orthanc]:
    """Run an Orthanc in a new folder.

    Parameters
    ----------
    https
        Serve HTTP over TLS through a front, with a certificate of an authority made for it.
    unknown_sop_classes
        Accept SOP Classes that this version does not know, such as label map segmentations, by C-STORE.
    tls_folder
        With this folder of certificates it speaks DICOM over TLS only, in both directions, and asks for ours.
    """
    program = require_program("Orthanc")
    plugins = [_PLUGINS / name for name in ("libOrthancDicomWeb.so", "libOrthancGdcm.so")]
    for plugin in plugins:
        if not plugin.exists():
            pytest.skip(f"the Orthanc plugin {plugin.name} is not installed")
    folder.mkdir(parents=True)
    peer = Orthanc(free_port(), free_port(), free_port(), None)
    configuration = {
        "Name": "peer",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(plugin) for plugin in plugins],
        "HttpPort": peer.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": peer.dicom_port,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "UnknownSopClassAccepted": unknown_sop_classes,
        "DicomModalities": {"bridge": ["AIDICOMBRIDGE", "127.0.0.1", peer.move_port]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
    }
    if tls_folder is not None:
        configuration |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(tls_folder / "server.crt"),
            "DicomTlsPrivateKey": str(tls_folder / "server.key"),
            "DicomTlsTrustedCertificates": str(tls_folder / "ca.pem"),
            "DicomTlsRemoteCertificateRequired": True,
            "DicomModalities": {
                "bridge": {"AET": "AIDICOMBRIDGE", "Host": "127.0.0.1", "Port": peer.move_port, "UseDicomTls": True}
            },
        }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    command = [program, str(folder / "orthanc.json")]
    with running(command, log=folder / "orthanc.log", ready=lambda: _answers(peer.http_port)):
        if not https:
            yield peer
            return
        # Not its own HTTPS: Debian's Orthanc 1.10.1 dies of a segmentation fault at the first TLS connection.
        with tls_front(folder, peer.http_port) as (tls_port, ca_file):
            yield replace(peer, http_port=tls_port, ca_file=ca_file)


def _answers(http_port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/dicom-web/studies?limit=1", timeout=2) as answer:
            return answer.status in (200, 204)
    except OSError:
        return False
