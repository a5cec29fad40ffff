"""The smallest look-alike of the Slicer application that the real module file can be imported into.

It adds to slicer-core, which has the nodes and logics of Slicer, what only the application has: the base classes of
``slicer.ScriptedLoadableModule``, ``slicer.i18n``, and a scene as ``slicer.mrmlScene``. It shows that the module file
imports and that its Logic works on real nodes. It does **not** show that Slicer finds the module, nor anything about
Qt, the panel, ``slicer.app``, the DICOM database, translations or reloading: the base classes here do nothing.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from AIDicomBridgeLib.mrml.core_scene import CoreScene, open_core_scene

_ADDITIONS = Path(__file__).with_name("additions")
_MODULE_FILE = Path(__file__).resolve().parents[3] / "AIDicomBridge" / "AIDicomBridge.py"


@contextmanager
def open_shell() -> Iterator[CoreScene]:
    """Make ``slicer`` look like the application's, and leave it as it was afterwards."""
    import slicer

    core = open_core_scene()
    # Appended after import: a folder named "slicer" on the path would be imported, flattened, by slicer-core itself.
    slicer.__path__.append(str(_ADDITIONS))
    slicer.mrmlScene = core.scene
    try:
        yield core
    finally:
        del slicer.mrmlScene
        slicer.__path__.remove(str(_ADDITIONS))
        for path in _ADDITIONS.glob("*.py"):
            sys.modules.pop(f"slicer.{path.stem}", None)
            if hasattr(slicer, path.stem):
                delattr(slicer, path.stem)
        core.close()


def import_module_file() -> ModuleType:
    """Return ``AIDicomBridge.py`` imported anew, as Slicer's module factory does; inside :func:`open_shell` only."""
    spec = spec_from_file_location("AIDicomBridge", _MODULE_FILE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
