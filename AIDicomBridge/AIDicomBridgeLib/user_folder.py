"""Where one person's own files lie: weights, outbox, demo data; and apart from them the saved endpoints."""

import os
from pathlib import Path

from .errors import DependencyError


def user_folder() -> Path:
    """Return the person's data folder: ``$AIDICOMBRIDGE_HOME`` if set, else the system's usual place.

    Raises
    ------
    DependencyError
        The variable is not set and the package platformdirs is missing.
    """
    return _folder("user_data_path")


def configuration_folder() -> Path:
    """Return the person's folder for settings, found in the same way; raises what :func:`user_folder` raises."""
    return _folder("user_config_path")


def _folder(kind: str) -> Path:
    if home := os.environ.get("AIDICOMBRIDGE_HOME"):
        return Path(home)
    try:
        import platformdirs
    except ImportError as error:
        raise DependencyError(
            "the package platformdirs is not installed", advice="Install it, or set AIDICOMBRIDGE_HOME to a folder."
        ) from error
    path: Path = getattr(platformdirs, kind)("AIDicomBridge", appauthor=False)
    return path
