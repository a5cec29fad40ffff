"""What our DIMSE clients and servers share: the application entity, presentation contexts, status texts."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pynetdicom import AE
    from pynetdicom.events import Event
    from pynetdicom.presentation import PresentationContext

# Advertised to peers; 131072 instead of pynetdicom's 16382 receives 512 KiB images 1.1 to 2 times as fast.
MAXIMUM_PDU_BYTES = 131072
# PS3.8 section 9.3.2.2: presentation context IDs are the odd numbers up to 255.
MAXIMUM_CONTEXTS = 128

PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
UNCOMPRESSED = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
# Deflated (1.2.840.10008.1.2.1.99) is missing on purpose: 1 MB of it can grow to more than 1 GiB.
COMPRESSED = (
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K lossless, RPCL
    "1.2.840.10008.1.2.4.203",  # HTJ2K
)
EXPLICIT_BIG = "1.2.840.10008.1.2.2"  # uncompressed, but never converted to
TRANSFER_SYNTAXES = (*UNCOMPRESSED, *COMPRESSED, EXPLICIT_BIG)
_DICOM_ROOT = "1.2.840.10008."
_CLASS_NAMES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}  # newer than pydicom 3.0's dictionary
# Asked for where a peer does not say which SOP Classes a study holds.
COMMON_STORAGE_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.2.1",  # enhanced CT
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.4.1",  # enhanced MR
    "1.2.840.10008.5.1.4.1.1.128",  # PET
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.66.4",  # segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  # label map segmentation
    "1.2.840.10008.5.1.4.1.1.88.22",  # enhanced SR
    "1.2.840.10008.5.1.4.1.1.88.33",  # comprehensive SR
    "1.2.840.10008.5.1.4.1.1.88.34",  # comprehensive 3D SR
    "1.2.840.10008.5.1.4.1.1.30",  # parametric map
    "1.2.840.10008.5.1.4.1.1.1",  # CR
    "1.2.840.10008.5.1.4.1.1.1.1",  # DX
    "1.2.840.10008.5.1.4.1.1.6.1",  # ultrasound
    "1.2.840.10008.5.1.4.1.1.12.1",  # XA
)


def application_entity(
    ae_title: str, *, association_timeout_s: float, dimse_timeout_s: float, connect_timeout_s: float | None = None
) -> "AE":
    """Return a pynetdicom application entity that has deadlines and writes no patient data into logs."""
    from pynetdicom import AE, _config

    # pynetdicom logs identifiers, with names and birth dates, at the INFO level: there is only a global switch.
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.LOG_HANDLER_LEVEL = "none"  # at DEBUG it would write passcodes, and costs time per PDU at any level
    entity = AE(ae_title=ae_title)
    entity.maximum_pdu_size = MAXIMUM_PDU_BYTES
    entity.acse_timeout = association_timeout_s
    entity.dimse_timeout = dimse_timeout_s
    entity.network_timeout = dimse_timeout_s
    entity.connection_timeout = connect_timeout_s
    return entity


def storage_contexts(
    sop_classes: Iterable[str], transfer_syntaxes: Iterable[str] = TRANSFER_SYNTAXES
) -> "list[PresentationContext]":
    """Return one context per SOP Class and transfer syntax, so that data can come as it is stored."""
    from pynetdicom import build_context

    syntaxes = tuple(transfer_syntaxes)
    return [build_context(sop_class, syntax) for sop_class in sop_classes for syntax in syntaxes]


def offered_syntaxes(*, compressed_first: bool) -> tuple[str, ...]:
    """Return every transfer syntax that we take, in one of two orders: some peers use the first that is accepted."""
    return (*COMPRESSED, *UNCOMPRESSED, EXPLICIT_BIG) if compressed_first else TRANSFER_SYNTAXES


def public_storage_classes() -> list[str]:
    """Return every storage SOP Class that pynetdicom knows; label maps and the newest SR among them."""
    from pynetdicom.presentation import AllStoragePresentationContexts

    return [str(context.abstract_syntax) for context in AllStoragePresentationContexts]


def is_storage_class(uid: str) -> bool:
    """Return True if C-STORE of this SOP Class can be served: all public storage classes, and any private class."""
    from pynetdicom import register_uid
    from pynetdicom.service_class import ServiceClass, StorageServiceClass
    from pynetdicom.sop_class import uid_to_service_class

    found = uid_to_service_class(uid)
    if found is ServiceClass and not uid.startswith(_DICOM_ROOT):
        # pynetdicom would break off the association when an instance of a class comes that it was not told of.
        register_uid(uid, f"PrivateStorage{uid.replace('.', '_')}", StorageServiceClass)
        return True
    return found is StorageServiceClass


def send_without_delay(event: "Event") -> None:
    """Switch Nagle's algorithm off (handler of EVT_CONN_OPEN): it can cost 40 ms per instance."""
    import socket

    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def class_name(sop_class_uid: str) -> str:
    """Return the name of a SOP Class; its UID where pydicom's dictionary has none."""
    from pydicom.uid import UID

    return _CLASS_NAMES.get(sop_class_uid) or str(UID(sop_class_uid).name)


def status_meaning(status: int) -> str:
    """Return what a DIMSE status of storage or query/retrieve means, in the standard's words."""
    from pynetdicom.status import (
        QR_FIND_SERVICE_CLASS_STATUS,
        QR_MOVE_SERVICE_CLASS_STATUS,
        STORAGE_SERVICE_CLASS_STATUS,
    )

    for table in (STORAGE_SERVICE_CLASS_STATUS, QR_MOVE_SERVICE_CLASS_STATUS, QR_FIND_SERVICE_CLASS_STATUS):
        if status in table:
            return str(table[status][1])
    return "unknown status"
