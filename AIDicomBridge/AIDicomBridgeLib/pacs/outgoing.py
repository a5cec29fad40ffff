"""Instances on their way to a PACS: their identity read and checked, their bytes as they are."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadDicomError
from ..series.dicom_file import is_uid, read_dicom
from ..series.part10 import DEFLATED, build_part10_header, parse_part10_header

if TYPE_CHECKING:
    from pydicom import Dataset

_HEADER_BYTES = 65536


@dataclass(frozen=True)
class OutgoingInstance:
    """One instance to send.

    Attributes
    ----------
    source
        The Part 10 file, or its bytes.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source: Path | bytes = field(repr=False)

    def encoded_dataset(self) -> bytes:
        """Return the data set in its stored transfer syntax, without file meta information."""
        data = self.source.read_bytes() if isinstance(self.source, Path) else self.source
        return data[parse_part10_header(data).dataset_offset :]

    def part10(self) -> bytes:
        """Return the instance as a Part 10 file with our own file meta information."""
        header = build_part10_header(
            sop_class_uid=self.sop_class_uid,
            sop_instance_uid=self.sop_instance_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
        )
        return header + self.encoded_dataset()

    def dataset(self) -> "Dataset":
        """Return the instance as a pydicom data set."""
        from pydicom import dcmread

        return dcmread(self.source if isinstance(self.source, Path) else BytesIO(self.source))


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


def _from_file(path: Path) -> OutgoingInstance:
    dataset = read_dicom(path, stop_before_pixels=True)
    with path.open("rb") as file:
        header = parse_part10_header(file.read(_HEADER_BYTES))
    return OutgoingInstance(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), header.transfer_syntax_uid, path)


def _from_dataset(dataset: "Dataset") -> OutgoingInstance:
    from pydicom import dcmwrite

    uids = [str(dataset.get(name, "")) for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")]
    if not all(is_uid(uid) for uid in uids):
        raise BadDicomError("a data set to send lacks a valid SOP Class, SOP Instance or Study Instance UID")
    buffer = BytesIO()
    try:
        dcmwrite(buffer, dataset, enforce_file_format=True)
    except Exception as error:  # encoders raise nearly anything on invalid values
        raise BadDicomError("a data set to send cannot be encoded", uid=uids[1]) from error
    data = buffer.getvalue()
    syntax = parse_part10_header(data).transfer_syntax_uid
    if syntax == DEFLATED:
        raise BadDicomError("a data set to send uses the Deflated transfer syntax, which is not sent", uid=uids[1])
    return OutgoingInstance(uids[0], uids[1], syntax, data)
