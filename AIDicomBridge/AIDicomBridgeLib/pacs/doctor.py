"""The connection doctor: tries every service of a PACS that we use, and says in plain words what to change."""

import socket
from urllib.parse import urlsplit

from ..errors import UnreachableError
from ..progress import CancelToken, check_cancel
from .doctor_report import DoctorReport, Examination
from .endpoint import DicomWebEndpoint, DimseEndpoint, Endpoint


def diagnose(
    endpoint: Endpoint,
    *,
    study_uid: str | None = None,
    store_test_object: bool = False,
    cancel: CancelToken | None = None,
) -> DoctorReport:
    """Return which services of a PACS work for us, why the others do not, and what to tell its administrator.

    Nothing is changed at the PACS unless ``store_test_object`` is set. One instance is fetched into a temporary folder,
    compared with the PACS's own list and removed.

    Parameters
    ----------
    study_uid
        Where the instance to fetch is taken from; one that the PACS lists where not given.
    store_test_object
        Also store one tiny secondary capture of the patient ``AIDICOMBRIDGE-TEST``.

    Raises
    ------
    JobCancelled
        ``cancel`` was called.
    """
    examination = Examination()
    host, port = _address(endpoint)
    own_host = examination.try_out(
        "Reachability",
        lambda: _reach(endpoint, host, port),
        f"Please tell us the host and the port on which the DICOM service of the PACS listens: nothing answers us on"
        f" {host}:{port}. If they are right, please start the service and open the firewall for us.",
    )
    if isinstance(endpoint, DimseEndpoint):
        from .dimse_examination import DIMSE_SERVICES, DimseExamination

        if own_host is None:
            examination.skip(*DIMSE_SERVICES, because="the host and port cannot be reached")
        else:
            DimseExamination(endpoint, examination, own_host, cancel).run(study_uid, store_test_object)
        us = _our_node(endpoint, own_host or socket.gethostname())
    else:
        from .dicomweb_examination import WEB_SERVICES, DicomWebExamination

        if own_host is None:
            examination.skip(*WEB_SERVICES, because="the host and port cannot be reached")
        else:
            DicomWebExamination(endpoint, examination, cancel).run(study_uid, store_test_object)
        us = f"We are a DICOMweb client on the host {own_host or socket.gethostname()} and use {endpoint.url}."
    check_cancel(cancel)
    requests = list(dict.fromkeys(line.request for line in examination.lines if line.request))
    return DoctorReport(endpoint.address, endpoint.name, tuple(examination.lines), "\n".join([us, *requests]))


def _address(endpoint: Endpoint) -> tuple[str, int]:
    if isinstance(endpoint, DicomWebEndpoint):
        parts = urlsplit(endpoint.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    return endpoint.host, endpoint.port


def _reach(endpoint: Endpoint, host: str, port: int) -> tuple[str, str]:
    """Open a TCP connection; the result is the address that the peer sees us under."""
    advice = "Check host and port, and that the PACS runs and no firewall is in between."
    try:
        with socket.create_connection((host, port), timeout=endpoint.connect_timeout_s) as connection:
            return f"{host}:{port} takes connections", str(connection.getsockname()[0])
    except ConnectionRefusedError:
        what = f"nothing listens on {host}:{port} (connection refused)"
    except socket.gaierror:
        what = f"the host {host} is unknown"
    except TimeoutError:
        what = f"{host}:{port} did not answer within {endpoint.connect_timeout_s:g} s"
    except (OSError, UnicodeError) as error:
        what = f"there is no connection to {host}:{port} ({getattr(error, 'strerror', None) or error})"
    raise UnreachableError(what, advice=advice)


def _our_node(endpoint: DimseEndpoint, own_host: str) -> str:
    receiving = f", receiving C-MOVE on port {endpoint.move_port}" if endpoint.move_port else ""
    return (
        f"We are the DICOM node with AE title {endpoint.calling_ae_title}, host {own_host}{receiving}; we call your"
        f" PACS {endpoint.ae_title} at {endpoint.host}:{endpoint.port}."
    )
