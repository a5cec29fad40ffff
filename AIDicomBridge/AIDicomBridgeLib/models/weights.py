"""Weights on disk: one folder, every file known by its size and SHA-256, fetched only when the person asks."""

import hashlib
import os
import shlex
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import WeightsError
from ..progress import CancelToken, ProgressCallback, report
from ..user_folder import user_folder
from .card import ModelCard, PackagedFile, WeightsFile
from .download import download
from .package_download import PackageDownloads, read_member


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

    def path(self, card: ModelCard, weights: WeightsFile | None = None) -> Path:
        """Return where the card's (or these) weights lie or would lie.

        Weights with a hash lie in this folder, else beside the card; those without one beside the card only, as any
        file of that name would do.
        """
        weights = weights or _weights_of(card)
        places = [card.folder / weights.file] if card.folder else []
        if weights.sha256 or not places:
            places = [self._own_place(weights), self.folder / weights.file, *places]
        return next((place for place in places if place.is_file()), places[0])

    def _own_place(self, weights: WeightsFile) -> Path:
        """Return where fetched weights go: cards that call their files alike do not share a place."""
        if not weights.sha256:
            return self.folder / weights.file
        stem, dot, suffix = weights.file.rpartition(".")
        return self.folder / f"{stem}-{weights.sha256[:8]}{dot}{suffix}"

    def is_present(self, card: ModelCard) -> bool:
        """Return True if the card needs no weights or its files are there (their hashes are checked on use)."""
        return all(self.path(card, weights).is_file() for weights in card.weights_files)

    def verified(self, card: ModelCard, weights: WeightsFile | None = None) -> bytes:
        """Return the content of the card's (or these) weights after checking their size and SHA-256.

        Raises
        ------
        WeightsError
            The file is missing, or not the one that the card names.
        """
        weights = weights or _weights_of(card)
        path = self.path(card, weights)
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            advice = f"Fetch them with: aidicombridge models fetch {shlex.quote(card.command_name)}"
            if not (weights.urls or weights.package or weights.sha256):
                advice = f"Put the file {weights.file} beside the card."
            raise WeightsError(f"the weights of {card.name} are not on this machine", advice=advice) from error
        _check(hashlib.sha256(content).hexdigest(), len(content), weights, path.name)
        return content

    def fetch(
        self,
        card: ModelCard,
        *,
        from_file: Path | None = None,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Path:
        """Bring the card's weights into the folder, checked before they are put there; return the (first) file.

        A download from an address that breaks off is continued by the next call.

        Parameters
        ----------
        from_file
            A copy of the weights file, or of the package that holds it, on this machine: nothing is downloaded.

        Raises
        ------
        WeightsError
            The download failed, or the content is not what the card names. No weights in the folder were changed.
        JobCancelled
            ``cancel`` was called.
        """
        first = _weights_of(card)
        with PackageDownloads(progress, cancel) as packages:
            for weights in card.weights_files:
                self._fetch_one(card, weights, from_file, packages, progress, cancel)
        return self.path(card, first)

    def _fetch_one(
        self,
        card: ModelCard,
        weights: WeightsFile,
        from_file: Path | None,
        packages: PackageDownloads,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> None:
        if from_file is None and not (weights.urls or weights.package) and self.path(card, weights).is_file():
            self.verified(card, weights)  # it was put there
            return
        if not weights.sha256:
            raise WeightsError(
                f"the card {card.name} says neither where its weights are nor what they must be",
                advice=f"Put the file {weights.file} beside the card.",
            )
        path = self._own_place(weights)
        report(progress, "fetch weights", 0, weights.size or None, "bytes", card.name)
        try:
            with self._new_file(weights, from_file, packages, progress, cancel) as new:
                digest = hashlib.sha256()
                with new.open("rb") as file:
                    while piece := file.read(2**20):
                        digest.update(piece)
                try:
                    _check(digest.hexdigest(), new.stat().st_size, weights, weights.file)
                except WeightsError:
                    new.unlink()  # what is wrong as a whole must not be continued
                    raise
                new.replace(path)
            size = path.stat().st_size
        except OSError as error:
            raise WeightsError(f"the weights cannot be written to {self.folder}: {error.strerror}") from error
        report(progress, "fetch weights", size, size, "bytes", card.name)

    def remove(self, card: ModelCard) -> int:
        """Remove the card's weights, and what a broken download of them left; return the bytes that became free.

        Raises
        ------
        WeightsError
            There is nothing to remove, or it cannot be removed.
        """
        _weights_of(card)
        paths = [place for file in card.weights_files for place in (self._own_place(file), self.folder / file.file)]
        found = [candidate for path in paths for candidate in (path, _part(path)) if candidate.is_file()]
        own = [self.path(card, file) for file in card.weights_files]
        if not found and own[0].is_file():
            raise WeightsError(
                f"the weights of {card.name} were not fetched, they lie beside its card",
                advice=f"Remove {own[0]} yourself if it is not needed.",
            )
        if not found:
            raise WeightsError(f"the weights of {card.name} are not on this machine")
        size = sum(candidate.stat().st_size for candidate in found)
        try:
            for candidate in found:
                candidate.unlink()
        except OSError as error:
            raise WeightsError(f"the weights in {self.folder} cannot be removed: {error.strerror}") from error
        return size

    @contextmanager
    def _new_file(
        self,
        weights: WeightsFile,
        from_file: Path | None,
        packages: PackageDownloads,
        progress: ProgressCallback | None,
        cancel: CancelToken | None,
    ) -> Iterator[Path]:
        """Give the new weights as a file beside their place: a download's stays if it breaks off, others go."""
        if from_file is None and weights.urls:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = _part(self._own_place(weights))
            _download_any(weights, part, progress, cancel)
            yield part
            return
        content = None
        if from_file is None or weights.package:
            content = _content(weights, weights.package, from_file, packages)
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".part-") as private:
            new = Path(private) / weights.file
            with new.open("wb") as file:
                if content is not None:
                    file.write(content)
                elif from_file is not None:
                    with _opened(from_file) as source:
                        shutil.copyfileobj(source, file, 2**20)
                file.flush()
                os.fsync(file.fileno())
            yield new


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _weights_of(card: ModelCard) -> WeightsFile:
    if card.weights is None:
        why = "it is a folder" if card.kind != "file" else "it is a set of rules"
        raise WeightsError(f"the model {card.name} has no weights to fetch: {why}")
    return card.weights


def _check(sha256: str, size: int, weights: WeightsFile, name: str) -> None:
    if not sha256.startswith(weights.sha256) or weights.size not in (0, size):
        raise WeightsError(
            f"the weights file {name} is not the one that the card names: {size} bytes with SHA-256 {sha256}, "
            f"expected {f'{weights.size} bytes with ' if weights.size else ''}{weights.sha256}",
            advice="Fetch it again with 'aidicombridge models fetch'; if it stays so, do not use it.",
        )


def _content(
    weights: WeightsFile, package: PackagedFile | None, from_file: Path | None, packages: PackageDownloads
) -> bytes:
    """Return the weights out of their package, downloaded or on this machine, or out of a plain copy."""
    if package is None:
        raise WeightsError(
            f"the card names no address of {weights.file}",
            advice="Get the file from the model's author and give it with --from.",
        )
    if from_file is None:
        return read_member(packages.wheel(package), package)
    if zipfile.is_zipfile(from_file) and from_file.suffix == ".whl":
        return read_member(from_file, package)
    with _opened(from_file) as source:
        content: bytes = source.read()
    return content


def _download_any(
    weights: WeightsFile, part: Path, progress: ProgressCallback | None, cancel: CancelToken | None
) -> None:
    """Download from the first address that answers."""
    for number, url in enumerate(weights.urls, start=1):
        try:
            download(url, part, weights.size, progress=progress, cancel=cancel)
            return
        except WeightsError:
            if number == len(weights.urls):
                raise


@contextmanager
def _opened(path: Path) -> "Iterator":
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise WeightsError(f"the file {path} cannot be read: {error.strerror}") from error
