"""Look-alike of the Slicer application, as far as the real module file needs it. For tests only.

It adds to slicer-core, which has the nodes, the logics and ``slicer.util`` of Slicer, what only the application has.

- :func:`open_shell`: the base classes of ``slicer.ScriptedLoadableModule``, ``slicer.parameterNodeWrapper``,
  ``slicer.i18n`` and a scene. Enough to import the module file and to use its Logic on real nodes. No Qt.
- ``shell.window.open_window``: besides, ``qt``, ``ctk``, ``slicer.app``, ``slicer.modules`` and the panel in a window,
  on PySide6 offscreen. In a process of its own.

It shows that the panel's code runs: its widgets, signals, parameters, timers and nodes. It does **not** show that
Slicer finds and loads the module; PythonQt's conversions, overloads and ownership; Qt 5 where it differs from Qt 6; the
look, menus and popups of CTK's and Slicer's own widgets; threads, which starve in Slicer; rendering; the DICOM
database's SQL and its browser; translations; the installation of packages. These need Slicer itself.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from AIDicomBridgeLib.mrml.core_scene import CoreScene, open_core_scene

_ADDITIONS = Path(__file__).with_name("additions")
MODULE_FILE = Path(__file__).resolve().parents[3] / "AIDicomBridge" / "AIDicomBridge.py"


@contextmanager
def open_shell() -> Iterator[CoreScene]:
    """Make ``slicer`` look like the application's, without Qt, and leave it as it was afterwards."""
    import slicer

    core = open_core_scene()
    # Appended after import: a folder named "slicer" on the path would be imported, flattened, by slicer-core itself.
    slicer.__path__.append(str(_ADDITIONS))
    slicer.mrmlScene = core.scene
    try:
        yield core
    finally:
        core.close()
        del slicer.mrmlScene
        slicer.__path__.remove(str(_ADDITIONS))
        for path in _ADDITIONS.glob("*.py"):
            sys.modules.pop(f"slicer.{path.stem}", None)
            if hasattr(slicer, path.stem):
                delattr(slicer, path.stem)


def import_module_file() -> ModuleType:
    """Return ``AIDicomBridge.py`` imported anew, as Slicer's module factory does; inside :func:`open_shell` only."""
    spec = spec_from_file_location("AIDicomBridge", MODULE_FILE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
