"""Small JSON files of one person's data folder: read whole, replaced whole."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ..errors import FolderError


def read_kept(path: Path, kind: type, what: str) -> Any:
    """Return what a file holds, of that kind; an empty one where there is no file.

    Raises
    ------
    FolderError
        It cannot be read, or holds something else; ``what`` names it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return kind()
    except (OSError, ValueError, RecursionError) as error:
        raise FolderError(f"{what} in {path} cannot be read", advice="Repair or remove the file.") from error
    if not isinstance(content, kind):
        raise FolderError(f"{path} does not hold {what}", advice="Repair or remove the file.")
    return content


def write_kept(path: Path, content: Any, what: str) -> None:
    """Replace a file, which only the person can read then.

    Raises
    ------
    FolderError
        It cannot be written; ``what`` names it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(path)
    except OSError as error:
        raise FolderError(f"{what} cannot be written to {path.parent}: {error.strerror}") from error
