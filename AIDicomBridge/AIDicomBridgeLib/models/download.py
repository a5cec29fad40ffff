"""Getting a file from an address: resumed where it was cut off, counted, with the person's own proxy and authority."""

import os
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from ..progress import CancelToken, ProgressCallback, check_cancel, report

TIMEOUT_S = (10, 60)  # to connect, and between two pieces
_PIECE_BYTES = 2**16  # what a broken line loses at most
_ATTEMPTS = 4  # each goes on where the one before was cut off
LARGEST_UNKNOWN = 4 * 2**30  # bytes of a file whose size nobody has said: a server must not fill the disk


def download(
    url: str,
    target: Path,
    size: int,
    *,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> None:
    """Bring the file at an address to ``target``; what a broken or cancelled download left there is continued.

    The proxy is that of the environment (``HTTPS_PROXY``, ``NO_PROXY``), the certificate authority that of
    ``REQUESTS_CA_BUNDLE``, else the system's usual ones; certificates are always verified.

    Parameters
    ----------
    size
        Expected bytes; 0 where they are not known. A longer file is refused while it comes, and an unknown one beyond
        :data:`LARGEST_UNKNOWN`.

    Raises
    ------
    WeightsError
        The server cannot be reached, refuses, or gives something else than the card says; of a file that broke off,
        what came stays for the next try.
    JobCancelled
        ``cancel`` was called; what came stays for the next try.
    """
    import requests

    why = "it gave less than it announced"
    for _ in range(_ATTEMPTS):
        try:
            with requests.Session() as session:
                keep_to(session, url)
                if _take(session, url, target, size, progress, cancel):
                    return
        except requests.RequestException as error:
            why = type(error).__name__
            if isinstance(error, requests.HTTPError) and error.response is not None:
                why = f"HTTP {error.response.status_code}"
                if error.response.status_code < 500:
                    break
    raise WeightsError(
        f"the weights cannot be downloaded from {url.partition('?')[0]}: {why}",
        advice="Try again to go on where it stopped. Check the network, HTTPS_PROXY and REQUESTS_CA_BUNDLE, or fetch "
        "the file elsewhere and give it with --from.",
    )


def keep_to(session: Any, url: str) -> None:
    """Let no redirect of a ``requests`` session lead from an encrypted address to one that is not."""
    if url.startswith("https://"):
        del session.adapters["http://"]


def _take(
    session: Any,
    url: str,
    target: Path,
    size: int,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
) -> bool:
    """Ask once for what is missing, and return whether the file is complete now."""
    have = target.stat().st_size if target.exists() else 0
    if size and have >= size:
        if have == size:
            return True
        target.unlink()
        have = 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with _asked(session, url, headers) as answer:
        if answer.status_code == 416:  # nothing is left of a file whose size we do not know
            return True
        answer.raise_for_status()
        resumed = answer.status_code == 206
        encoded = answer.headers.get("Content-Encoding", "identity") != "identity"  # then that is another length
        announced = "" if encoded else answer.headers.get("Content-Length", "")
        total = int(announced) + (have if resumed else 0) if announced else size
        if answer.headers.get("Content-Type", "").startswith("text/html") or (size and total != size):
            what = (
                f"a file of {total} bytes, and the card names {size}" if size and total != size else "a page, no file"
            )
            raise WeightsError(
                f"{_host(url)} gives {what}",
                advice=f"Look at it in a browser; it may ask who you are: {url.partition('?')[0]}",
            )
        with target.open("ab" if resumed else "wb") as file:
            done = have if resumed else 0
            for piece in answer.iter_content(_PIECE_BYTES):
                check_cancel(cancel)
                file.write(piece)
                done += len(piece)
                if done > (size or LARGEST_UNKNOWN):
                    allowed = f"the {size} bytes that the card names" if size else f"{LARGEST_UNKNOWN} bytes"
                    raise WeightsError(f"{_host(url)} gives more than {allowed}", advice="Do not use it.")
                report(progress, "fetch weights", done, total or None, "bytes", _host(url))
            file.flush()
            os.fsync(file.fileno())
        return done == total or not total


def _asked(session: Any, url: str, headers: dict[str, str]) -> Any:
    """Return the answer; WeightsError if the person's own certificate authority cannot be read."""
    import requests

    try:
        return session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    except requests.RequestException:
        raise
    except OSError as error:
        raise WeightsError(
            f"{_host(url)} cannot be asked: {error}",
            advice="Correct REQUESTS_CA_BUNDLE (or CURL_CA_BUNDLE), or unset it.",
        ) from error


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname or "the address"
