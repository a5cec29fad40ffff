"""Splitting a ``multipart/related`` body (RFC 2387) while it arrives, a piece in memory at a time."""

from collections.abc import Iterator
from email.message import Message

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
        self._buffer = bytearray(b"\r\n")
        self._in_part = self._in_headers = False
        self._part_bytes = 0
        # The line break that ends the headers stays in the buffer: it may also be the one of the next delimiter.
        self._skip = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Yield pieces of contents, each with whether its part ends with it.

        Raises
        ------
        RetrieveError
            The body is no valid multipart body, or a part is absurdly large.
        """
        self._buffer += data
        while not self.closed:
            if self._in_headers and not self._skip_headers():
                return
            end = self._buffer.find(self._delimiter)
            if end < 0:
                yield from self._flush()
                return
            after = end + len(self._delimiter)
            if len(self._buffer) < after + 2:  # whether it is the closing one is not known yet
                return
            if self._in_part:
                yield bytes(self._buffer[min(self._skip, end) : end]), True
            self.closed = self._buffer[after : after + 2] == b"--"
            self._in_part = self._in_headers = True
            self._part_bytes = self._skip = 0
            # The line break after the delimiter stays: a part without headers begins with an empty line.
            del self._buffer[:after]

    def _skip_headers(self) -> bool:
        """Remove the headers of the part that begins; False if they are not all there."""
        header_end = self._buffer.find(b"\r\n\r\n")
        delimiter = self._buffer.find(self._delimiter)
        if 0 <= delimiter < header_end or (header_end < 0 and len(self._buffer) > _MOST_HEADER_BYTES):
            raise RetrieveError("a part of the answer has no headers")
        if header_end < 0:
            return False
        del self._buffer[: header_end + 2]
        self._in_headers, self._skip = False, 2
        return True

    def _flush(self) -> Iterator[tuple[bytes, bool]]:
        """Give what cannot belong to a delimiter any more."""
        ready = len(self._buffer) - len(self._delimiter) - 1
        if ready <= self._skip:
            return
        if self._in_part:
            piece = bytes(self._buffer[self._skip : ready])
            self._part_bytes += len(piece)
            if self._part_bytes > _MOST_PART_BYTES:
                raise RetrieveError("a part of the answer is larger than 4 GiB")
            yield piece, False
        del self._buffer[:ready]
        self._skip = 0
