"""The child process that draws with OpenGL: a missing or broken driver ends it by a signal, and only it.

``python -m AIDicomBridgeLib.mrml.picture_process FOLDER``: reads the subject in FOLDER and writes the pictures there.
"""

import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Draw the pictures of the folder named; return the exit status."""
    from .picture_views import PictureSubject
    from .slicer_pictures import render_with_slicer

    folder = Path(arguments[0])
    render_with_slicer(PictureSubject.load(folder), folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
