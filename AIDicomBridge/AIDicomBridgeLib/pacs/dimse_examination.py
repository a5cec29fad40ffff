"""The connection doctor's checks of a DIMSE peer."""

import socket
import ssl
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..errors import AssociationError, BridgeError, StoreError, UnreachableError
from ..progress import CancelToken, check_cancel
from .association import associate, confirms_identity, rejected_title
from .dimse import (
    COMMON_STORAGE_CLASSES,
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STORAGE_COMMITMENT,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    UNCOMPRESSED,
    VERIFICATION,
    class_name,
)
from .dimse_client import DimseClient
from .doctor_report import Examination
from .doctor_samples import fetch_one, first_instance, tiny_object
from .endpoint import DimseEndpoint, TlsFiles
from .endpoint_rules import is_loopback
from .records import InstanceRecord
from .tls import calling_context

if TYPE_CHECKING:
    from pydicom import Dataset

DIMSE_SERVICES = ("TLS", "Association", "C-ECHO", "C-STORE", "C-FIND", "C-GET", "C-MOVE", "Storage commitment")
_COMMITMENT_SECONDS = 20.0
_QUERY_SERVICES = {
    "study": {"C-FIND": STUDY_ROOT_FIND, "C-GET": STUDY_ROOT_GET, "C-MOVE": STUDY_ROOT_MOVE},
    "patient": {"C-FIND": PATIENT_ROOT_FIND, "C-GET": PATIENT_ROOT_GET, "C-MOVE": PATIENT_ROOT_MOVE},
}


class DimseExamination:
    """Tries one DIMSE peer.

    Parameters
    ----------
    own_host
        Our address as the peer sees it.
    """

    def __init__(
        self, endpoint: DimseEndpoint, examination: Examination, own_host: str, cancel: CancelToken | None
    ) -> None:
        self._endpoint = endpoint
        self._examination = examination
        self._own_host = own_host
        self._cancel = cancel
        self._us = f"AE title {endpoint.calling_ae_title}, host {own_host}"
        self._services = _QUERY_SERVICES[endpoint.root]
        self._pacs = f"{endpoint.ae_title} at {endpoint.host}:{endpoint.port}"

    def run(self, study_uid: str | None, store_test_object: bool) -> None:
        """Make all checks; one that needs a failed one before it is entered as not tried."""
        examination, endpoint = self._examination, self._endpoint
        rest = list(DIMSE_SERVICES)
        if endpoint.tls is None:
            examination.skip("TLS", because="the endpoint is used without TLS")
        elif examination.try_out("TLS", partial(self._tls, endpoint.tls), self._tls_request) is None:
            examination.skip(*rest[1:], because="TLS does not work")
            return
        accepted = examination.try_out("Association", self._negotiate, self._association_request)
        if accepted is None:
            examination.skip(*rest[2:], because="no association was accepted")
            return
        client = DimseClient(endpoint)
        examination.try_out("C-ECHO", lambda: self._echo(client), f"Please allow C-ECHO for our {self._us}.")
        check_cancel(self._cancel)
        stored = self._store(client, accepted, store_test_object)
        record = self._find(client, study_uid)
        self._retrieve("C-GET", record, accepted, self._get_request())
        if endpoint.move_port:
            self._retrieve("C-MOVE", record, accepted, self._move_request())
        else:
            advice = "Needed only where C-GET does not work: give the endpoint a move_port, and have the PACS enter it."
            examination.skip("C-MOVE", because="no port is set on which we receive", advice=advice)
        if STORAGE_COMMITMENT not in accepted:
            because = "the PACS does not offer it; what we sent is asked for again"
            examination.skip("Storage commitment", because=because)
        elif stored is None:
            examination.skip("Storage commitment", because="the PACS offers it; it is tried with a test object only")
        else:
            us = f"{self._us}, port {endpoint.move_port}" if endpoint.move_port else self._us
            examination.try_out(
                "Storage commitment",
                partial(self._commit, client, stored),
                f"Please send the answers to storage commitment to our {us}.",
            )

    def _tls(self, files: TlsFiles) -> tuple[str, bool]:
        endpoint = self._endpoint
        try:
            with (
                socket.create_connection((endpoint.host, endpoint.port), timeout=endpoint.connect_timeout_s) as plain,
                calling_context(files, endpoint.name).wrap_socket(plain, server_hostname=endpoint.host) as secured,
            ):
                return f"{secured.version()} with a trusted certificate", True
        except ssl.SSLCertVerificationError as error:
            raise UnreachableError(
                f"the certificate of the PACS is not trusted ({error.verify_message})",
                advice="Give the certificate of the hospital's authority as ca_file, and the host name that it is for.",
            ) from error
        except (TimeoutError, OSError) as error:
            raise UnreachableError(
                f"{endpoint.host}:{endpoint.port} does not speak TLS with us",
                advice="Leave the TLS options out if the port is a plain one; if the PACS asks for a certificate of"
                " ours, give certificate_file and key_file.",
            ) from error

    def _tls_request(self, _error: BridgeError) -> str:
        return (
            f"Please tell us on which port of {self._endpoint.host} the PACS speaks DICOM over TLS, and send us the"
            " certificate of the authority that signed its certificate."
        )

    def _negotiate(self) -> tuple[str, set[str]]:
        """Ask for every service that we use; the result is the abstract syntaxes that were accepted."""
        from pynetdicom import build_context

        services = (VERIFICATION, *self._services.values(), STORAGE_COMMITMENT)
        contexts = [build_context(uid, list(UNCOMPRESSED)) for uid in (*services, *COMMON_STORAGE_CLASSES)]
        with associate(self._endpoint, contexts) as association:
            accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
            confirmed = confirms_identity(association)
        storage = [class_name(uid).removesuffix(" Storage") for uid in COMMON_STORAGE_CLASSES if uid in accepted]
        refused = [class_name(uid).removesuffix(" Storage") for uid in COMMON_STORAGE_CLASSES if uid not in accepted]
        offered = [name for name, uid in self._services.items() if uid in accepted]
        seen = f"accepted; offers {', '.join(offered) or 'no retrieval'}; takes {', '.join(storage) or 'nothing'}"
        if refused:
            seen += f"; does not take {', '.join(refused)}"
        if self._endpoint.auth is not None and not confirmed:
            seen += "; does not confirm user and passcode: it may not check them"
        return seen, accepted

    def _association_request(self, error: BridgeError) -> str:
        reason = rejected_title(error)
        if reason == "called":
            return (
                f"Please tell us the AE title of the PACS at {self._endpoint.host}:{self._endpoint.port}: it does not"
                f" answer to {self._endpoint.ae_title}."
            )
        if reason == "calling":
            return f"Please register our DICOM node at the PACS {self._pacs}: {self._us}."
        return f"Please look into the log of the PACS {self._pacs} for why it turned away our {self._us}."

    def _echo(self, client: DimseClient) -> tuple[str, bool]:
        client.verify()
        return "answered with success", True

    def _store(self, client: DimseClient, accepted: set[str], wanted: bool) -> "Dataset | None":
        """Store a test object where that is wanted, and return it if it has arrived."""
        if not wanted:
            takes = [class_name(uid) for uid in COMMON_STORAGE_CLASSES if uid in accepted]
            because = "only on request, since it leaves a test object in the PACS"
            if not takes:
                because += "; but the PACS accepts none of the common storage classes from us"
            self._examination.skip("C-STORE", because=because)
            return None

        def store() -> "tuple[str, Dataset]":
            tiny = tiny_object()
            client.store([tiny], cancel=self._cancel).raise_if_incomplete()
            return "a test object of the patient AIDICOMBRIDGE-TEST was stored", tiny

        stored = self._examination.try_out(
            "C-STORE", store, f"Please allow C-STORE to the PACS {self._pacs} for our {self._us}."
        )
        check_cancel(self._cancel)
        return stored

    def _commit(self, client: DimseClient, stored: "Dataset") -> tuple[str, bool]:
        uids = [(str(stored.SOPClassUID), str(stored.SOPInstanceUID))]
        answer = client.commit(uids, timeout_s=_COMMITMENT_SECONDS, cancel=self._cancel)
        if answer.failed:
            raise StoreError(f"the PACS does not promise to keep the test object: {next(iter(answer.failed.values()))}")
        return "the PACS promises to keep the test object", True

    def _find(self, client: DimseClient, study_uid: str | None) -> InstanceRecord | None:
        def find() -> tuple[str, list[InstanceRecord]]:
            record = first_instance(client, study_uid)
            seen = "study, series and image level answered" if record else "answered, but lists no instance to us"
            return seen, [record] if record else []

        found = self._examination.try_out("C-FIND", find, f"Please allow queries (C-FIND) for our {self._us}.")
        check_cancel(self._cancel)
        return found[0] if found else None

    def _retrieve(
        self,
        method: str,
        record: InstanceRecord | None,
        accepted: set[str],
        request: str,
    ) -> None:
        if record is None:
            advice = "Name a study that the PACS holds, or have a test object stored."
            self._examination.skip(method, because="there is no instance to try it with", advice=advice)
            return

        def retrieve() -> tuple[str, bool]:
            if self._services[method] not in accepted:
                raise AssociationError(f"the PACS does not offer {method} to us")
            report = fetch_one(DimseClient(replace(self._endpoint, retrieve=method)), record, self._cancel)
            return f"one instance arrived ({report.byte_count} bytes)", True

        self._examination.try_out(method, retrieve, request)
        check_cancel(self._cancel)

    def _get_request(self) -> str:
        if self._endpoint.move_port:
            return f"Please allow C-GET for our {self._us}; where that cannot be, C-MOVE serves as well."
        return f"Please allow C-GET for our {self._us}, or tell us that you prefer C-MOVE to a port that we name."

    def _move_request(self) -> str:
        # What the PACS has to call; a receiver on loopback only is our own fault, and named as such beside it.
        anywhere = self._endpoint.move_host in ("", "0.0.0.0", "::") or is_loopback(self._endpoint.move_host)  # noqa: S104
        host = self._own_host if anywhere else self._endpoint.move_host
        return (
            f"Please enter our node as a C-MOVE destination at the PACS {self._pacs}:"
            f" AE title {self._endpoint.calling_ae_title}, host {host}, port {self._endpoint.move_port}; and"
            " allow C-MOVE to it."
        )
