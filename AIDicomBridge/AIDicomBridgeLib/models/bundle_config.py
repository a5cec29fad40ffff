"""The configuration of a MONAI bundle as plain data: nothing that it names is made, and no expression in it is run."""

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile, ZipFile

from ..errors import ModelError

_LARGEST_CONFIGURATION = 4 * 2**20
LARGEST_NETWORK = 4 * 2**30  # the largest of MONAI's own have some 1.5 GB
_MOST_LOOKUPS = 1000
_JOINED_LISTS = re.compile(r"\$\s*@[\w#:]+(\s*\+\s*@[\w#:]+)+\s*")


class BundleFiles:
    """The files of a bundle, a folder or a zip archive, by their path inside; nothing is unpacked to disk.

    Attributes
    ----------
    path
        The folder or the archive.

    Raises
    ------
    ModelError
        It cannot be read, or the archive holds a path that leads outside of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
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
        return (self.path / name).is_file() if self.path.is_dir() else name in self._members

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Return the content of a file; ModelError if there is none, or it is larger than the limit (of a network)."""
        limit = limit or LARGEST_NETWORK
        try:
            if self.path.is_dir():
                size = (self.path / name).stat().st_size
                if size <= limit:
                    return (self.path / name).read_bytes()
            else:
                with ZipFile(self.path) as archive:
                    size = archive.getinfo(self._members[name]).file_size  # never more than that is unpacked
                    if size <= limit:
                        return archive.read(self._members[name])
        except (OSError, KeyError, BadZipFile, zlib.error, RuntimeError) as error:  # NotImplementedError among them
            raise ModelError(f"the bundle {self.path.name} lacks the file {name}, or it is damaged") from error
        raise ModelError(
            f"the file {name} of the bundle {self.path.name} is too large: {size} bytes, and {limit} are allowed"
        )

    def table(self, name: str) -> Mapping[str, Any]:
        """Return a JSON file of the bundle as a table; ModelError if it is none."""
        try:
            content = json.loads(self.read(name, _LARGEST_CONFIGURATION))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"the file {name} of the bundle {self.path.name} is no JSON") from error
        if not isinstance(content, dict):
            raise ModelError(f"the file {name} of the bundle {self.path.name} is no table")
        return content


class Configuration:
    """The inference configuration of a bundle, as data.

    Parameters
    ----------
    values
        What the JSON file holds.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._lookups = 0

    def get(self, key: str) -> Any:
        """Return a value of the configuration as :meth:`plain` does; None if there is none of that name."""
        return self.plain(self._values.get(key), key)

    def plain(self, value: Any, name: str, depth: int = 8) -> Any:
        """Return a value as plain data: ``@name`` is looked up, lists are joined at ``+``, no expression is run.

        Members of tables stay as they are.

        Raises
        ------
        ModelError
            It is, or leads to, an expression or something that is not there.
        """
        if isinstance(value, list):
            return [self.plain(item, name, depth) for item in value]
        if not isinstance(value, str) or not value.startswith(("$", "@", "%")):
            return value
        self._lookups += 1
        if self._lookups > _MOST_LOOKUPS or not depth:
            raise ModelError(f"the bundle's '{name}' leads in circles", advice="Do not use it.")
        if value.startswith("@"):
            return self.plain(self._found(value[1:], name), name, depth - 1)
        if _JOINED_LISTS.fullmatch(value):
            lists = [self.plain(part.strip(), name, depth - 1) for part in value[1:].split("+")]
            if all(isinstance(part, list) for part in lists):
                return [item for part in lists for item in part]
        raise _not_run(name)

    def _found(self, path: str, name: str) -> Any:
        found: Any = self._values
        for part in path.replace("#", "::").split("::"):
            if isinstance(found, Mapping) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            else:
                raise _not_run(name)
        return found


def _not_run(name: str) -> ModelError:
    return ModelError(
        f"the bundle's '{name}' is an expression, which is not run",
        advice="Write a model card for the bundle's network file instead.",
    )
