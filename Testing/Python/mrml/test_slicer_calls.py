"""Every name of Slicer that the module uses is in slicer-core, or in the table of Testing/README.md with its source.

What is looked up are names such as ``slicer.vtkSegment``, not the methods of the objects that calls return.
"""

import ast
import importlib
import re
from pathlib import Path

import pytest
from AIDicomBridgeLib.mrml.core_scene import has_slicer_core

ROOT = Path(__file__).parents[3]
MODULE = ROOT / "AIDicomBridge"
SOURCES = [
    MODULE / "AIDicomBridge.py",
    MODULE / "Scripts" / "batch.py",
    *sorted((MODULE / "AIDicomBridgeLib" / "mrml").glob("*.py")),
    *sorted((MODULE / "AIDicomBridgeLib" / "panel").glob("*.py")),
]
OF_SLICER = {"slicer", "qt", "ctk", "SampleData"}
# A .ui file names classes without their namespace.
UI_CLASSES = re.compile(r'<widget class="((?:ctk|qMRML|qSlicer)\w+)"')


def dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` of an attribute access; empty if it does not begin with a plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and dotted(node.value):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def names_in(tree: ast.AST) -> set[str]:
    """Return what a file takes from Slicer, with the names that it merely passes through on the way."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names.add(dotted(node))
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and dotted(node.func) == "getattr" and isinstance(node.args[1], ast.Constant):
            names.add(f"{dotted(node.args[0])}.{node.args[1].value}")
    return {name for name in names if name.partition(".")[0] in OF_SLICER and "." in name}


def names_used() -> set[str]:
    python = set().union(*(names_in(ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES))
    classes = {name for path in MODULE.glob("Resources/UI/*.ui") for name in UI_CLASSES.findall(path.read_text())}
    return python | {f"ctk.{name}" if name.startswith("ctk") else f"slicer.{name}" for name in classes}


def in_slicer_core(name: str) -> bool:
    import slicer

    namespace, *rest = name.replace("slicer.mrmlScene.", "slicer.vtkMRMLScene.").split(".")
    if namespace != "slicer":
        return False
    found = slicer
    for number, part in enumerate(rest, 1):
        if not hasattr(found, part):
            try:
                importlib.import_module(".".join([namespace, *rest[:number]]))
            except ImportError:
                return False
        found = getattr(found, part)
    return True


def table() -> dict[str, str]:
    """Return the source by name, from the README's table."""
    text = (ROOT / "Testing" / "README.md").read_text("utf-8").partition("## Their signatures")[0]
    rows = re.findall(r"^\| (`.+`) \| (\S.*) \|$", text, re.MULTILINE)
    return {name: source for names, source in rows for name in re.findall(r"`([^`]+)`", names)}


@pytest.fixture
def missing() -> set[str]:
    """Return the names that the module uses and slicer-core does not have."""
    if not has_slicer_core():
        pytest.skip("slicer-core is not installed")
    return {name for name in names_used() if not in_slicer_core(name)}


def test_the_module_file_needs_no_class_of_a_loadable_module_to_be_read():
    """Slicer reads it before modules of C++ have brought their classes: those of MRML's core are all there is."""
    if not has_slicer_core():
        pytest.skip("slicer-core is not installed")
    import slicer

    tree = ast.parse((MODULE / "AIDicomBridge.py").read_text(encoding="utf-8"))
    names = {name for node in tree.body if isinstance(node, ast.ImportFrom) for name in names_in(node)}
    classes = [getattr(slicer, name.partition(".")[2], None) for name in names if name.startswith("slicer.vtk")]
    assert {cls.__module__.rpartition(".")[2] for cls in classes} == {"MRMLCore"}


def test_names_are_found_in_the_sources():
    assert {
        "slicer.mrmlScene.EndCloseEvent",
        "slicer.vtkSegmentation.SegmentAdded",
        "slicer.util.VTKObservationMixin",
        "slicer.dicomDatabase",
        "slicer.qMRMLNodeComboBox",
        "ctk.ctkCollapsibleButton",
        "qt.Qt.PlainText",
    } <= names_used()


def test_slicer_core_is_asked(missing):
    assert in_slicer_core("slicer.vtkMRMLScene.EndCloseEvent")
    assert not in_slicer_core("slicer.vtkMRMLScene.NoSuchEvent")
    assert "slicer.util.setSliceViewerLayers" not in missing


def test_what_slicer_core_lacks_stands_in_the_table(missing):
    assert sorted(missing - set(table())) == [], "find each in Slicer's sources, then add it to Testing/README.md"


def test_the_table_has_nothing_that_slicer_core_could_show(missing):
    assert sorted(set(table()) - missing) == [], "no longer used, or in slicer-core: remove it from Testing/README.md"
