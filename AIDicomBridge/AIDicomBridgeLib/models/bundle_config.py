"""The configuration of a MONAI bundle as plain data: nothing that it names is made, and no expression in it is run."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile, ZipFile

from ..errors import ModelError

_LARGEST_CONFIGURATION = 4 * 2**20


class BundleFiles:
    """The files of a bundle, a folder or a zip archive, by their path inside; nothing is unpacked to disk.

    Raises
    ------
    ModelError
        It cannot be read, or the archive holds a path that leads outside of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._members: dict[str, str] = {}
        if path.is_dir():
            return
        try:
            with ZipFile(path) as archive:
                names = archive.namelist()
        except (OSError, BadZipFile) as error:
            raise ModelError(f"the bundle {path.name} cannot be read") from error
        for name in names:
            inside = PurePosixPath(name.replace("\\", "/"))
            if inside.is_absolute() or ".." in inside.parts or ":" in name:
                raise ModelError(
                    f"the bundle {path.name} holds a file that would lie outside of its folder", advice="Do not use it."
                )
            for depth in (0, 1):  # with or without a folder around everything
                self._members.setdefault("/".join(inside.parts[depth:]), name)

    def has(self, name: str) -> bool:
        """Return True if there is a file of that path."""
        return (self._path / name).is_file() if self._path.is_dir() else name in self._members

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Return the content of a file; ModelError if there is none, or it is larger than the limit."""
        try:
            if self._path.is_dir():
                size, content = (self._path / name).stat().st_size, None
            else:
                with ZipFile(self._path) as archive:
                    size = archive.getinfo(self._members[name]).file_size
                    content = archive.read(self._members[name]) if limit is None or size <= limit else b""
            if limit is not None and size > limit:
                raise ModelError(f"the file {name} of the bundle {self._path.name} is too large: {size} bytes")
            return (self._path / name).read_bytes() if content is None else content
        except (OSError, KeyError, BadZipFile) as error:
            raise ModelError(f"the bundle {self._path.name} lacks the file {name}") from error

    def table(self, name: str) -> Mapping[str, Any]:
        """Return a JSON file of the bundle as a table; ModelError if it is none."""
        try:
            content = json.loads(self.read(name, _LARGEST_CONFIGURATION))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"the file {name} of the bundle {self._path.name} is no JSON") from error
        if not isinstance(content, dict):
            raise ModelError(f"the file {name} of the bundle {self._path.name} is no table")
        return content


def components(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every table of a configuration that names a class by ``_target_``, in the order of the file."""
    if isinstance(value, Mapping):
        if isinstance(value.get("_target_"), str):
            yield value
        for item in value.values():
            yield from components(item)
    elif isinstance(value, list):
        for item in value:
            yield from components(item)


def plain(configuration: Mapping[str, Any], value: Any, name: str, depth: int = 8) -> Any:
    """Return a value as plain data: ``@name`` is looked up, ``$expression`` is refused.

    Raises
    ------
    ModelError
        It is, or leads to, an expression or something that is not there.
    """
    if isinstance(value, list):
        return [plain(configuration, item, name, depth) for item in value]
    if not isinstance(value, str) or not value.startswith(("$", "@", "%")):
        return value
    if value.startswith("@") and depth:
        found: Any = configuration
        for part in value[1:].replace("#", "::").split("::"):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            return plain(configuration, found, name, depth - 1)
    raise ModelError(
        f"the bundle's '{name}' is an expression, which is not run",
        advice="Write a model card for the bundle's network file instead.",
    )
