"""Splitting a ``multipart/related`` body (RFC 2387) while it arrives, one part in memory at a time."""

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
    """Takes a body piece by piece and gives its parts as they become complete.

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
        self._searched = 0
        self._in_part = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the content of every part that ``data`` completes.

        Raises
        ------
        RetrieveError
            The body is no valid multipart body, or a part is absurdly large.
        """
        self._buffer += data
        while not self.closed:
            end = self._buffer.find(self._delimiter, self._searched)
            if end < 0:
                self._searched = max(0, len(self._buffer) - len(self._delimiter) + 1)
                if len(self._buffer) > _MOST_PART_BYTES:
                    raise RetrieveError("a part of the answer is larger than 4 GiB")
                return
            after = end + len(self._delimiter)
            if len(self._buffer) < after + 2:  # whether it is the closing one is not known yet
                self._searched = end
                return
            if self._in_part:
                yield _content(self._buffer, end)
            self.closed = self._buffer[after : after + 2] == b"--"
            self._in_part = True
            # The line break after the delimiter stays: a part without headers begins with an empty line.
            del self._buffer[:after]
            self._searched = 0


def _content(buffer: bytearray, end: int) -> bytes:
    """Return what follows the headers of the part that ends at ``end``; the buffer begins behind its delimiter."""
    header_end = buffer.find(b"\r\n\r\n", 0, min(end, _MOST_HEADER_BYTES) + 4)
    if header_end < 0 or header_end + 4 > end:
        if header_end >= 0:
            return b""
        raise RetrieveError("a part of the answer has no headers")
    with memoryview(buffer) as view:
        return bytes(view[header_end + 4 : end])
