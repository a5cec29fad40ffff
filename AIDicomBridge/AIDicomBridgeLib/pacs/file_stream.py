"""A DICOM file that arrives piece by piece: its data set goes into the store as it comes."""

from ..errors import BadDicomError
from ..series.arrivals import StoredInstance
from ..series.incoming import IncomingInstance
from ..series.instance_store import InstanceStore
from ..series.part10 import parse_part10_header

_HEAD_BYTES = 65536  # the file meta information is never longer


class FileStream:
    """One Part 10 file on its way; a context manager, which leaves nothing behind unless the file was kept.

    Parameters
    ----------
    store
        Where it goes.
    study_uid
        Refuse an instance of any other study.
    """

    def __init__(self, store: InstanceStore, study_uid: str) -> None:
        self._store = store
        self._study_uid = study_uid
        self._head: bytearray | None = bytearray()
        self._incoming: IncomingInstance | None = None
        self._error: BadDicomError | None = None
        self.byte_count = 0  # of the file that was kept

    def __enter__(self) -> "FileStream":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._incoming is not None:
            self._incoming.discard()

    def write(self, piece: "bytes | memoryview") -> None:
        """Take the next piece; what follows a beginning that is no DICOM is passed over. Raises DiskSpaceError."""
        if self._head is not None:
            self._head += piece
            if len(self._head) >= _HEAD_BYTES:
                self._begin()
        elif self._incoming is not None:
            self._incoming.write(piece)

    def keep(self) -> StoredInstance:
        """Put the whole file into the store; it is durable after the store's next sync.

        Raises
        ------
        BadDicomError, ConflictError, DiskSpaceError
            As :meth:`..series.instance_store.InstanceStore.add_encoded`.
        """
        if self._head is not None:
            self._begin()
        if self._incoming is None:
            raise self._error or BadDicomError("the data is no DICOM file")
        incoming, self._incoming = self._incoming, None
        self.byte_count = incoming.byte_count
        return self._store.keep(incoming, durable=False)

    def _begin(self) -> None:
        head, self._head = self._head or bytearray(), None
        try:
            header = parse_part10_header(head)
            self._incoming = self._store.receiving(
                sop_class_uid=header.sop_class_uid,
                sop_instance_uid=header.sop_instance_uid,
                transfer_syntax_uid=header.transfer_syntax_uid,
                study_uid=self._study_uid,
            )
        except BadDicomError as error:
            self._error = error
            return
        self._incoming.write(memoryview(head)[header.dataset_offset :])
