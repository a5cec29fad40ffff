"""The connection doctor's checks of a DICOMweb service."""

from ..errors import BridgeError, EndpointError, UnreachableError
from ..progress import CancelToken, check_cancel
from .dicomweb_client import DicomWebClient
from .doctor_report import Examination
from .doctor_samples import fetch_one, first_instance, tiny_object
from .endpoint import DicomWebEndpoint
from .records import InstanceRecord

WEB_SERVICES = ("TLS", "HTTP and credentials", "STOW-RS", "QIDO-RS", "WADO-RS")


class DicomWebExamination:
    """Tries one DICOMweb service."""

    def __init__(self, endpoint: DicomWebEndpoint, examination: Examination, cancel: CancelToken | None) -> None:
        self._endpoint = endpoint
        self._examination = examination
        self._cancel = cancel

    def run(self, study_uid: str | None, store_test_object: bool) -> None:
        """Make all checks; one that needs a failed one before it is entered as not tried."""
        examination, endpoint = self._examination, self._endpoint
        with DicomWebClient(endpoint) as client:
            first: list[BridgeError] = []
            try:
                client.verify()
            except BridgeError as error:
                first.append(error)
            encrypted = endpoint.url.startswith("https:")
            if not encrypted:
                examination.skip("TLS", because="the URL begins with http://: nothing is encrypted")
            elif first and isinstance(first[0], UnreachableError) and "TLS" in first[0].what:
                examination.fail(
                    "TLS",
                    first[0].what,
                    first[0].advice or "",
                    f"Please send us the certificate of the authority that signed the certificate of {endpoint.url}.",
                )
                examination.skip(*WEB_SERVICES[1:], because="TLS does not work")
                return
            else:
                examination.try_out("TLS", lambda: ("the certificate is trusted", True))

            def verify() -> tuple[str, bool]:
                if first:
                    raise first[0]
                return "the service answers as DICOMweb", True

            if examination.try_out("HTTP and credentials", verify, self._request) is None:
                examination.skip(*WEB_SERVICES[2:], because="the service does not answer as DICOMweb")
                return
            self._store(client, store_test_object)
            self._retrieve(client, self._find(client, study_uid))

    def _request(self, error: BridgeError) -> str:
        if isinstance(error, EndpointError) and error.status in ("HTTP 401", "HTTP 403"):
            return f"Please give us an account or a token for {self._endpoint.url} that may search, read and store."
        return (
            f"Please tell us the URL of the DICOMweb service (QIDO-RS, WADO-RS, STOW-RS): {self._endpoint.url} is not."
        )

    def _store(self, client: DicomWebClient, wanted: bool) -> None:
        if not wanted:
            because = "only on request, since it leaves a test object in the PACS"
            self._examination.skip("STOW-RS", because=because)
            return

        def store() -> tuple[str, bool]:
            client.store([tiny_object()], cancel=self._cancel).raise_if_incomplete()
            return "a test object of the patient AIDICOMBRIDGE-TEST was stored", True

        self._examination.try_out("STOW-RS", store, f"Please allow us to store (STOW-RS) at {self._endpoint.url}.")
        check_cancel(self._cancel)

    def _find(self, client: DicomWebClient, study_uid: str | None) -> InstanceRecord | None:
        def find() -> tuple[str, list[InstanceRecord]]:
            record = first_instance(client, study_uid)
            seen = "studies, series and instances answered" if record else "answered, but lists no instance to us"
            return seen, [record] if record else []

        found = self._examination.try_out(
            "QIDO-RS", find, f"Please allow us to search (QIDO-RS) at {self._endpoint.url}."
        )
        check_cancel(self._cancel)
        return found[0] if found else None

    def _retrieve(self, client: DicomWebClient, record: InstanceRecord | None) -> None:
        if record is None:
            advice = "Name a study that the PACS holds, or have a test object stored."
            self._examination.skip("WADO-RS", because="there is no instance to try it with", advice=advice)
            return

        def retrieve() -> tuple[str, bool]:
            report = fetch_one(client, record, self._cancel)
            return f"one instance arrived ({report.byte_count} bytes)", True

        self._examination.try_out("WADO-RS", retrieve, f"Please allow us to read (WADO-RS) at {self._endpoint.url}.")
        check_cancel(self._cancel)
