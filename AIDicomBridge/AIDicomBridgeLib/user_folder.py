"""Where one person's own files lie: weights, outbox, demo data."""

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
    if home := os.environ.get("AIDICOMBRIDGE_HOME"):
        return Path(home)
    try:
        from platformdirs import user_data_path
    except ImportError as error:
        raise DependencyError(
            "the package platformdirs is not installed", advice="Install it, or set AIDICOMBRIDGE_HOME to a folder."
        ) from error
    return user_data_path("AIDicomBridge", appauthor=False)
