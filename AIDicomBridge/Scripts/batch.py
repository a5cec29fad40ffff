"""The command line inside Slicer, without its window.

``Slicer --no-main-window --python-script AIDicomBridge/Scripts/batch.py find dimse://ORTHANC@192.168.1.20:4242 --json``

Slicer ends with the command's exit status: 0 done, 1 failed, 2 wrong usage, 3 partly done. The same arguments after
``python AIDicomBridge/Scripts/batch.py`` do the same in plain Python.
"""

import sys
import traceback
from pathlib import Path
from types import ModuleType

MODULE_FOLDER = Path(__file__).resolve().parents[1]
TORCH_COMMANDS = {"demo", "run", "segment"}


def running_slicer() -> ModuleType | None:
    """Return the ``slicer`` module of the application that runs this script; None in plain Python."""
    slicer = sys.modules.get("slicer")
    return slicer if hasattr(slicer, "app") else None


def ensure_command_line_packages(arguments: list[str]) -> str:
    """Have Slicer install what the command needs and Slicer does not bring; return what is missing still, or nothing.

    With a window Slicer asks the person; without one nobody can be asked, and the answer says how to prepare Slicer.
    """
    from AIDicomBridgeLib.errors import DependencyError
    from AIDicomBridgeLib.mrml.slicer_packages import ensure_packages, ensure_torch

    try:
        ensure_packages("typer", "rich", "pynetdicom", "platformdirs", "safetensors")
        if TORCH_COMMANDS & set(arguments[:1]) and "--help" not in arguments:
            ensure_torch()
    except DependencyError as error:
        return str(error)
    return ""


def run(in_slicer: bool) -> int:
    """Run the command and return its exit status; whatever fails is printed: no window would show it."""
    sys.path.insert(0, str(MODULE_FOLDER))
    try:
        if in_slicer:
            missing = ensure_command_line_packages(sys.argv[1:])
            if missing:
                raise SystemExit(missing)
        from AIDicomBridgeLib.cli.main import main

        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except Exception:  # noqa: BLE001 - Slicer without a window would stay open, and nobody could close it
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    application = running_slicer()
    status = run(in_slicer=application is not None)
    if application is None:
        sys.exit(status)
    application.util.exit(status)
