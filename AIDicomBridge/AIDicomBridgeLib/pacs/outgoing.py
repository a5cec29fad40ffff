"""Instances on their way to a PACS: their identity read and checked, their bytes as they are."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import BadDicomError
from ..series.dicom_file import is_uid, raw_text, read_header
from ..series.part10 import DEFLATED, build_part10_header, parse_part10_header
from .dimse import EXPLICIT_BIG, IMPLICIT_LITTLE

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import DataElement

_HEADER_BYTES = 65536
# Bytes of a word in the values of these VRs, which pydicom takes as mere bytes.
_WORD_BYTES = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}
_PIECE_BYTES = 2**18


@dataclass(frozen=True)
class OutgoingInstance:
    """One instance to send.

    Attributes
    ----------
    source
        The Part 10 file, or its bytes.
    dataset_offset
        Where the data set begins in it, in bytes.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source: Path | bytes = field(repr=False)
    dataset_offset: int = field(repr=False)

    @property
    def byte_count(self) -> int:
        """Bytes of the file; 0 if it has vanished, which sending it will tell."""
        try:
            return self.source.stat().st_size if isinstance(self.source, Path) else len(self.source)
        except OSError:
            return 0

    def encoded_dataset(self, transfer_syntax_uid: str | None = None) -> bytes:
        """Return the data set without file meta information, in its stored transfer syntax.

        Parameters
        ----------
        transfer_syntax_uid
            Little endian, explicit or implicit VR: converts from the other of the two or from big endian, or
            decompresses.

        Raises
        ------
        BadDicomError
            The file cannot be read any more, or its data set cannot be converted.
        """
        try:
            data = self.source.read_bytes() if isinstance(self.source, Path) else self.source
        except OSError as error:
            raise self._unreadable(error) from error
        if transfer_syntax_uid in (None, self.transfer_syntax_uid):
            return data[parse_part10_header(data).dataset_offset :]
        return _converted(data, transfer_syntax_uid == IMPLICIT_LITTLE, self.sop_instance_uid)

    @contextmanager
    def open_dataset(self, transfer_syntax_uid: str) -> Iterator[tuple[BinaryIO, int]]:
        """Give the data set as :meth:`encoded_dataset` does, to be read piece by piece, and how many bytes it has."""
        if transfer_syntax_uid != self.transfer_syntax_uid:
            converted = self.encoded_dataset(transfer_syntax_uid)
            yield BytesIO(converted), len(converted)
            return
        size = self.part10_bytes - len(self._header)
        try:
            file: BinaryIO = self.source.open("rb") if isinstance(self.source, Path) else BytesIO(self.source)
        except OSError as error:
            raise self._unreadable(error) from error
        with file:
            file.seek(self.dataset_offset)
            yield file, size

    def part10_pieces(self) -> Iterator[bytes]:
        """Yield the instance as a Part 10 file with our own file meta information, read as it is taken.

        Raises
        ------
        BadDicomError
            The file cannot be read any more, or ends before it did.
        """
        yield self._header
        left = self.part10_bytes - len(self._header)
        try:
            with self.source.open("rb") if isinstance(self.source, Path) else BytesIO(self.source) as file:
                file.seek(self.dataset_offset)
                while left and (piece := file.read(min(left, _PIECE_BYTES))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise self._unreadable(error) from error
        if left:
            raise BadDicomError("the file became shorter while it was sent", uid=self.sop_instance_uid)

    @cached_property
    def part10_bytes(self) -> int:
        """Length of what :meth:`part10_pieces` gives, known from when it was first asked for; raises BadDicomError."""
        try:
            size = self.source.stat().st_size if isinstance(self.source, Path) else len(self.source)
        except OSError as error:
            raise self._unreadable(error) from error
        return len(self._header) + size - self.dataset_offset

    @cached_property
    def _header(self) -> bytes:
        return build_part10_header(
            sop_class_uid=self.sop_class_uid,
            sop_instance_uid=self.sop_instance_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
        )

    def _unreadable(self, error: OSError) -> BadDicomError:
        return BadDicomError(f"the file cannot be read: {error.strerror}", uid=self.sop_instance_uid)


def read_outgoing(paths_or_datasets: "Iterable[Path | str | Dataset]") -> list[OutgoingInstance]:
    """Return the instances to send, before anything is sent.

    Raises
    ------
    BadDicomError
        A file or data set is no complete DICOM instance, or two have the same SOP Instance UID.
    """
    instances = [
        _from_file(Path(item)) if isinstance(item, Path | str) else _from_dataset(item) for item in paths_or_datasets
    ]
    uids = [instance.sop_instance_uid for instance in instances]
    doubled = {uid for uid in uids if uids.count(uid) > 1} if len(set(uids)) < len(uids) else set()
    if doubled:
        raise BadDicomError("two of the instances to send share one SOP Instance UID", uid=min(doubled))
    return instances


def _converted(data: bytes, implicit_vr: bool, uid: str) -> bytes:
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit_vr, True
    try:
        dataset = dcmread(BytesIO(data))
        if dataset.file_meta.TransferSyntaxUID.is_compressed and "PixelData" in dataset:
            dataset.decompress(generate_instance_uid=False)
        if dataset.file_meta.TransferSyntaxUID == EXPLICIT_BIG:
            dataset.walk(_swap_words)
        write_dataset(buffer, dataset)
    except Exception:  # noqa: BLE001 - parsers and encoders raise nearly anything on damaged input, and quote it
        raise BadDicomError("the data set cannot be converted to a transfer syntax of the peer", uid=uid) from None
    return buffer.getvalue()


def _swap_words(_dataset: "Dataset", element: "DataElement") -> None:
    """Turn the words of a big endian element around; numbers are turned by pydicom itself."""
    import numpy as np

    size = _WORD_BYTES.get(element.VR)
    if size and element.value:
        element.value = np.frombuffer(element.value, dtype=f">u{size}").astype(f"<u{size}").tobytes()


def _from_file(path: Path) -> OutgoingInstance:
    dataset, _end = read_header(path)
    with path.open("rb") as file:
        header = parse_part10_header(file.read(_HEADER_BYTES))
    sop_class_uid, sop_instance_uid = (raw_text(dataset, name) for name in ("SOPClassUID", "SOPInstanceUID"))
    if not is_uid(header.transfer_syntax_uid):
        raise BadDicomError(f"the file {path.name} has no valid TransferSyntaxUID", uid=sop_instance_uid)
    return OutgoingInstance(sop_class_uid, sop_instance_uid, header.transfer_syntax_uid, path, header.dataset_offset)


def _from_dataset(dataset: "Dataset") -> OutgoingInstance:
    from pydicom import dcmwrite

    uids = [str(dataset.get(name, "")) for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")]
    if not all(is_uid(uid) for uid in uids):
        raise BadDicomError("a data set to send lacks a valid SOP Class, SOP Instance or Study Instance UID")
    buffer = BytesIO()
    try:
        dcmwrite(buffer, dataset, enforce_file_format=True)
    except Exception:  # noqa: BLE001 - encoders raise nearly anything on invalid values, and quote them
        raise BadDicomError("a data set to send cannot be encoded", uid=uids[1]) from None
    data = buffer.getvalue()
    header = parse_part10_header(data)
    if header.transfer_syntax_uid == DEFLATED:
        raise BadDicomError("a data set to send uses the Deflated transfer syntax, which is not sent", uid=uids[1])
    return OutgoingInstance(uids[0], uids[1], header.transfer_syntax_uid, data, header.dataset_offset)
