"""Bodies of ``multipart/related`` (RFC 2387), split while they arrive and joined while they are sent.

Of neither is more than a piece in memory.
"""

import uuid
from collections.abc import Iterator, Sequence
from email.message import Message
from typing import Protocol

from ..errors import RetrieveError

_MOST_HEADER_BYTES = 65536
_MOST_PART_BYTES = 4 * 2**30


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary that a Content-Type names, or None if it is not ``multipart/related``."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    if message.get_content_type() != "multipart/related" or not boundary:
        return None
    return boundary.encode("latin-1", "replace")


class Part10(Protocol):
    """A DICOM file to send."""

    @property
    def part10_bytes(self) -> int:
        """Its length."""

    def part10_pieces(self) -> Iterator[bytes]:
        """Yield its contents."""


class MultipartBody:
    """A request body made of DICOM files that are read while it is sent; it can be sent again.

    Its length is known beforehand: servers refuse what is too long for them at once, and some take no other body.

    Attributes
    ----------
    content_type
        What the request says of it.
    """

    def __init__(self, parts: Sequence[Part10]) -> None:
        boundary = f"aidicombridge-{uuid.uuid4().hex}"
        self.content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
        self._parts = parts
        self._opening = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._closing = f"--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        content = sum(part.part10_bytes + len(self._opening) + 2 for part in self._parts)
        return content + len(self._closing)

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            yield self._opening
            yield from part.part10_pieces()
            yield b"\r\n"
        yield self._closing


class MultipartSplitter:
    """Takes a body piece by piece and gives the contents of its parts as they come, however long a part is.

    Attributes
    ----------
    closed
        True once the closing boundary was seen. A body without it is cut off, whatever the HTTP status says.
    """

    def __init__(self, boundary: bytes) -> None:
        self.closed = False
        self._delimiter = b"\r\n--" + boundary
        # The first delimiter may stand at the very beginning of the body: then its line break is implied.
        self._rest = b"\r\n"  # of what came, not decided yet
        self._in_part = self._in_headers = False
        self._part_bytes = 0
        # The line break that ends the headers stays in the rest: it may also be the one of the next delimiter.
        self._skip = 0

    def feed(self, data: bytes) -> Iterator[tuple[memoryview, bool]]:
        """Yield pieces of contents, as views of what was fed, each with whether its part ends with it.

        Raises
        ------
        RetrieveError
            The body is no valid multipart body, or a part is absurdly large.
        """
        data = self._rest + data
        view, start, size = memoryview(data), 0, len(self._delimiter)
        while not self.closed:
            if self._in_headers:
                header_end = self._header_end(data, start)
                if header_end < 0:
                    break
                start = header_end + 2
                self._in_headers, self._skip = False, 2
            end = data.find(self._delimiter, start)
            known = end if end >= 0 else len(data) - size  # before it nothing belongs to a delimiter
            if end >= 0 and len(data) < end + size + 2:  # whether it is the closing one is not known yet
                break
            if self._in_part and (end >= 0 or known > start + self._skip):
                piece = view[min(start + self._skip, known) : known]
                self._part_bytes += len(piece)
                if self._part_bytes > _MOST_PART_BYTES:
                    raise RetrieveError("a part of the answer is larger than 4 GiB")
                yield piece, end >= 0
                self._skip = 0
            if end < 0:
                start = max(start, known) if not self._skip else start
                break
            # The line break after the delimiter stays: a part without headers begins with an empty line.
            start = end + size
            self.closed = data[start : start + 2] == b"--"
            self._in_part = self._in_headers = True
            self._part_bytes = self._skip = 0
        self._rest = b"" if self.closed else data[start:]

    def _header_end(self, data: bytes, start: int) -> int:
        """Return where the line break before the empty line after a part's headers is; -1 if it has not come yet."""
        header_end = data.find(b"\r\n\r\n", start)
        within = data.find(self._delimiter, start, header_end + len(self._delimiter) - 1) if header_end > start else -1
        if within >= 0 or (header_end < 0 and len(data) - start > _MOST_HEADER_BYTES):
            raise RetrieveError("a part of the answer has no headers")
        return header_end
