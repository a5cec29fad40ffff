"""What the two processes say to each other: JSON lines that hold values of known types only, never pickled.

A value that JSON does not have is written as ``{"@": type, ...}``; the type must be in the tables below. Large arrays
do not travel on the pipe: they are ``.npy`` files in a private folder that both processes know.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .. import errors
from ..errors import BridgeError, DiskSpaceError

LINE_LIMIT = 32 * 2**20  # 10,000 studies are about 6 MB
_INLINE_BYTES = 1024
_KNOWN_TYPES = {
    "progress": ("Progress",),
    "pacs.credentials": ("OAuthClient",),
    "pacs.doctor_report": ("DoctorLine", "DoctorReport", "Verdict"),
    "pacs.endpoint": ("DicomWebEndpoint", "DimseEndpoint", "TlsFiles"),
    "pacs.records": ("InstanceOutcome", "Outcome", "RetrieveReport", "SeriesRecord", "StudyRecord"),
    "series.image_files": ("ImageFiles",),
    "series.offered_stacks": ("OfferedStack",),
    "series.source_series": ("SourceSeries",),
    "series.source_slice": ("SourceSlice",),
    "series.subject": ("Subject",),
    "series.suv": ("SuvFactors",),
    "series.volume": ("ImageVolume",),
    "results.label_layers": ("LabelLayer",),
    "models.card": ("ModelCard", "NetworkRules", "PackagedFile", "WeightsFile"),
    "inference.rules": ("Cleanup", "Decision", "InputRules", "IntensityStep", "WindowRules"),
    "inference.memory_plan": ("MemoryPlan",),
    "results.labels": ("Code", "LabelVolume", "Provenance", "Segment"),
    "delivery.outbox": ("Delivery", "DeliveryState", "Receipt"),
    "delivery.deliver": ("DeliveryReport",),
    "worker.messages": ("ResultFile",),
    "worker.model_run": ("ModelRun",),
}
_HOME_OF = {name: home for home, names in _KNOWN_TYPES.items() for name in names}

# A file, its SOP Instance UID and a frame number or None: the slice's header, a pydicom Dataset.
ReadHeader = Callable[[Path, str, int | None], Any]


class MessageError(ValueError):
    """A line is no message, or a message holds what it must not hold."""


@dataclass(frozen=True)
class ResultFile:
    """One written object of a result: ``seg``, ``sr`` or ``sc``, its SOP Instance UID, its file, and its warnings."""

    kind: str
    sop_instance_uid: str
    path: Path
    warnings: tuple[str, ...] = ()


class Lines:
    """Complete lines out of the pieces in which a pipe delivers them."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Return the lines that a piece completes, without their line ends.

        Raises
        ------
        MessageError
            A line is longer than the limit.
        """
        *complete, rest = piece.split(b"\n")
        for line in complete:
            self._extend(line)
            yield bytes(self._rest)
            self._rest.clear()
        self._extend(rest)

    def _extend(self, piece: bytes) -> None:
        self._rest += piece
        if len(self._rest) > self._limit:
            raise MessageError("a line is too long")


def to_line(message: dict[str, Any]) -> bytes:
    """Return a message of plain values as one line.

    Raises
    ------
    MessageError
        It would be too long for the other side.
    """
    line = json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"
    if len(line) > LINE_LIMIT:
        raise MessageError("the message is too long")
    return line


def from_line(line: bytes) -> dict[str, Any]:
    """Return the message of one line, still of plain values; MessageError if it is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MessageError("a line is no JSON") from error
    if not isinstance(message, dict):
        raise MessageError("a line is no message")
    return message


class Codec:
    """Turns values into what JSON can hold and back.

    Parameters
    ----------
    folder
        Where large arrays are written and looked for; readable by this user only.
    prefix
        Begins the names of the array files, different on the two sides.
    read_header
        Gives the header of a source's slice, for its file, SOP Instance UID and frame number. Without it no source
        is accepted.
    """

    def __init__(self, folder: Path, prefix: str, read_header: ReadHeader | None = None) -> None:
        self._folder = folder
        self._prefix = prefix
        self._read_header = read_header
        self._array_count = 0
        self._filed: dict[int, tuple[np.ndarray, Path]] = {}  # by id: written already, and not yet in a message

    def encode(self, value: object) -> Any:  # noqa: PLR0911 - one return per kind of value
        """Return the value as JSON can hold it; large arrays are written to the folder.

        Raises
        ------
        TypeError
            The value, or one inside it, is of no known type.
        DiskSpaceError
            An array cannot be written.
        """
        name = type(value).__name__
        if value is None or isinstance(value, bool):
            return value
        for plain in (int, float, str):  # also pydicom's and numpy's kinds of them
            if isinstance(value, plain) and not isinstance(value, Enum):
                return plain(value)
        if isinstance(value, list):
            return [self.encode(item) for item in value]
        if isinstance(value, tuple):
            return {"@": "tuple", "items": [self.encode(item) for item in value]}
        if isinstance(value, Path):
            return {"@": "Path", "path": str(value)}
        if isinstance(value, np.ndarray):
            return self._encode_array(value)
        if isinstance(value, BridgeError) and _error_type(name) is type(value):
            return {"@": name} | {key: getattr(value, key) for key in ("what", "uid", "peer", "status", "advice")}
        if name not in _HOME_OF or type(value) is not _known_type(name):
            raise TypeError(f"a {name} cannot be sent to or from the background process")
        if isinstance(value, Enum):
            return {"@": name, "value": value.value}
        members = {item.name: getattr(value, item.name) for item in fields(value)}  # type: ignore[arg-type]
        if name == "SourceSlice":  # the other side reads the header from the file again
            members["header"] = value.sop_instance_uid  # type: ignore[attr-defined]
        return {"@": name} | {key: self.encode(member) for key, member in members.items()}

    def decode(self, value: Any) -> Any:  # noqa: PLR0911 - one return per kind of value
        """Return the value that was encoded.

        Arrays are mapped from their file copy-on-write, and the file is unlinked: its space is free when the array
        is. Windows cannot remove a file that is mapped; there the array is read and the file removed.

        Raises
        ------
        MessageError
            It names an unknown type or file, or lacks or adds a member.
        BridgeError
            The type's own checks refuse it.
        """
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        members = dict(value)
        name = members.pop("@", None)
        try:
            if name == "tuple":
                return tuple(self.decode(members["items"]))
            if name == "Path":
                return Path(members["path"])
            if name == "ndarray":
                return self._decode_array(**members)
            if error_type := _error_type(name):
                return error_type(members.pop("what"), **members)
            if name not in _HOME_OF:
                raise MessageError("a message names an unknown type")
            members = {key: self.decode(member) for key, member in members.items()}
            if name == "SourceSlice":
                members["header"] = self._header(members["path"], members["header"], members["frame_number"])
            return _known_type(name)(**members)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise MessageError("a message holds a value that cannot be rebuilt") from error

    def file_in_steps(self, array: np.ndarray) -> Iterator[None]:
        """Write an array to the folder, a plane a step; the next message that holds this very array names the file.

        A turned or mirrored view takes hardly longer than what it is a view of, which ``np.save`` takes seconds for.

        Raises
        ------
        DiskSpaceError
            It cannot be written.
        """
        if array.dtype.hasobject:
            raise TypeError("an array of objects cannot be sent to or from the background process")
        if array.nbytes <= _INLINE_BYTES:
            return
        self._array_count += 1
        path = self._folder / f"{self._prefix}{self._array_count}.npy"
        layout = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
        try:
            with path.open("xb") as file:
                np.lib.format.write_array_header_1_0(file, layout)
                for plane in array if array.ndim > 2 else (array,):
                    file.write(np.ascontiguousarray(plane).data)
                    yield
            self._filed[id(array)] = array, path
        except OSError as error:
            raise DiskSpaceError(
                f"a volume cannot be written to {self._folder.parent}: {error.strerror}",
                advice="Free some space there.",
            ) from error
        finally:
            if id(array) not in self._filed:
                path.unlink(missing_ok=True)

    def drop_filed(self) -> None:
        """Remove the arrays that were written, and were not in a message."""
        for _, path in self._filed.values():
            path.unlink(missing_ok=True)
        self._filed.clear()

    def _header(self, path: Path, uid: str, frame_number: int | None) -> Any:
        if self._read_header is None:
            raise MessageError("a source is not accepted here")
        return self._read_header(path, uid, frame_number)

    def _encode_array(self, array: np.ndarray) -> dict[str, Any]:
        if array.nbytes <= _INLINE_BYTES:
            return {
                "@": "ndarray",
                "dtype": array.dtype.str,
                "shape": list(array.shape),
                "values": array.ravel().tolist(),
            }
        if id(array) not in self._filed:
            deque(self.file_in_steps(array), maxlen=0)
        _, path = self._filed.pop(id(array))
        return {"@": "ndarray", "file": path.name}

    def _decode_array(self, file: str | None = None, dtype: str = "", shape: Any = (), values: Any = ()) -> np.ndarray:
        if file is None:
            return np.array(values, dtype).reshape(shape)
        if Path(file).name != file or not file.endswith(".npy"):
            raise MessageError("a message names a file outside of the folder")
        path = self._folder / file
        # Unlike np.load it reads nothing but .npy files, and those without pickled objects.
        array: np.ndarray = np.lib.format.open_memmap(path, mode="c")
        if os.name != "posix":
            array = np.array(array)
        path.unlink()
        return array


def encoded_slices(value: Any) -> Iterator[tuple[Path, str, int | None]]:
    """Return file, SOP Instance UID and frame number of the slices whose headers decoding a value will ask for."""
    if isinstance(value, list):
        for item in value:
            yield from encoded_slices(item)
    elif isinstance(value, dict) and value.get("@") == "SourceSlice":
        try:
            yield Path(value["path"]["path"]), str(value["header"]), value["frame_number"]
        except (KeyError, TypeError) as error:
            raise MessageError("a message holds a value that cannot be rebuilt") from error
    elif isinstance(value, dict):
        for item in value.values():
            yield from encoded_slices(item)


def _known_type(name: str) -> Any:
    found = getattr(import_module(f"..{_HOME_OF[name]}", __package__), name)
    if not (is_dataclass(found) or issubclass(found, Enum)):
        raise TypeError(f"{name} is neither a dataclass nor an enumeration")
    return found


def _error_type(name: object) -> type[BridgeError] | None:
    found = getattr(errors, name, None) if isinstance(name, str) else None
    return found if isinstance(found, type) and issubclass(found, BridgeError) else None
