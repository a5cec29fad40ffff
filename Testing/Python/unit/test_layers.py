"""The layers of the library: which room may import what, read from the source of every file."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[3] / "AIDicomBridge"
LIBRARY = "AIDicomBridgeLib"

ENGINE_ROOMS = {"pacs", "series", "models", "inference", "results", "delivery"}
SLICER = {"slicer", "vtk", "vtkmodules", "qt", "ctk"}
NETWORK = {"socket", "ssl", "http", "urllib", "requests", "pynetdicom", "dicomweb_client"}
MUST_NOT_IMPORT = {
    "engine": SLICER | {f"{LIBRARY}.{room}" for room in ("mrml", "worker", "panel", "cli")},
    "mrml": {"qt", "ctk"} | {f"{LIBRARY}.{room}" for room in ("worker", "panel", "cli")},
    "worker": SLICER | {f"{LIBRARY}.{room}" for room in ("mrml", "panel", "cli")},
    "panel": NETWORK | {"torch", f"{LIBRARY}.cli"},
    "cli": {"qt", "ctk"} | {f"{LIBRARY}.{room}" for room in ("worker", "panel")},
}
# What each layer may import beside the standard library: packages, and other layers' rooms.
ENGINE_PACKAGES = {"numpy", "pydicom", "pynetdicom", "highdicom", "SimpleITK", "torch", "requests", "urllib3"}
ENGINE_PACKAGES |= {"safetensors", "PIL", "platformdirs", "imagecodecs", "rle", "onnxruntime", "monai"}
MAY_IMPORT = {
    "engine": ENGINE_PACKAGES,
    "mrml": {"numpy", "vtk", "slicer", "PIL", "PyTorchUtils"},  # the last is Slicer's PyTorch extension
    "worker": {"numpy"},
    "panel": {"qt", "ctk", "slicer", f"{LIBRARY}.worker", f"{LIBRARY}.mrml"},
    "cli": {"typer", "rich", "numpy", "pydicom", "SimpleITK", f"{LIBRARY}.mrml"},  # the demonstration makes its data
}
HEAVY = {"torch", "highdicom", "pynetdicom", "pydicom", "SimpleITK", "dicomweb_client", "requests", "slicer", "vtk"}
HEAVY |= {"urllib3", "vtkmodules", "safetensors", "imagecodecs", "scipy", "matplotlib", "PIL"}

PYTHON_FILES = sorted((MODULE / LIBRARY).rglob("*.py"))


def layer_of(path: Path) -> str:
    room, *inside = path.relative_to(MODULE / LIBRARY).parts
    return "engine" if room in ENGINE_ROOMS or not inside else room


def imported(node: ast.Import | ast.ImportFrom, path: Path) -> list[str]:
    """Return the full names that one statement imports, relative imports resolved against the file's place."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = path.relative_to(MODULE).with_suffix("").parts[: -node.level]
        base = ".".join([*package, base] if base else package)
    return [f"{base}.{alias.name}" for alias in node.names]


def imports_of(tree: ast.AST, path: Path) -> list[str]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return [name for node in found for name in imported(node, path)]


def run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs when the file is imported: not the bodies of functions, not what only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from run_at_import(node)


def breaches(path: Path, source: str) -> list[str]:
    """Return the imports of one file that its layer forbids or does not name."""
    layer = layer_of(path)
    names = imports_of(ast.parse(source), path)
    return [name for name in names if is_in(name, MUST_NOT_IMPORT[layer]) or not is_open_to(layer, name)]


def is_in(name: str, rules: set[str]) -> bool:
    return any(name == rule or name.startswith(f"{rule}.") for rule in rules)


def is_open_to(layer: str, name: str) -> bool:
    top, *inside = name.split(".")
    if top == LIBRARY:
        room = inside[0] if inside else ""
        is_engine = room in ENGINE_ROOMS or not (MODULE / LIBRARY / room).is_dir()
        return is_engine or room == layer or is_in(name, MAY_IMPORT[layer])
    return top in sys.stdlib_module_names or is_in(name, MAY_IMPORT[layer])


def heavy_at_import(path: Path, source: str) -> list[str]:
    """Return the heavy packages that importing one file would import."""
    nodes = [node for node in run_at_import(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    heavy = HEAVY - SLICER if layer_of(path) == "panel" else HEAVY  # the panel exists in Slicer's window only
    return [name for node in nodes for name in imported(node, path) if name.split(".")[0] in heavy]


def test_every_room_has_a_layer():
    assert {layer_of(path) for path in PYTHON_FILES} <= MUST_NOT_IMPORT.keys()


@pytest.mark.parametrize(
    ("place", "source", "name"),
    [
        ("results/x.py", "def f():\n    import vtk.util", "vtk.util"),
        ("series/x.py", "from ..mrml import volume_node", f"{LIBRARY}.mrml.volume_node"),
        ("job.py", "from .cli.main import app", f"{LIBRARY}.cli.main.app"),
        ("pacs/__init__.py", "from .. import panel", f"{LIBRARY}.panel"),
        ("mrml/x.py", "import qt", "qt"),
        ("worker/x.py", f"import {LIBRARY}.panel", f"{LIBRARY}.panel"),
        ("models/x.py", "def f():\n    import nibabel", "nibabel"),
        ("mrml/x.py", "def f():\n    import pydicom", "pydicom"),
        ("worker/x.py", "import pydicom", "pydicom"),
        ("cli/x.py", "from torch import nn", "torch.nn"),
        ("panel/x.py", "from torch.nn import Module", "torch.nn.Module"),
    ],
)
def test_a_breach_is_seen(place: str, source: str, name: str):
    assert breaches(MODULE / LIBRARY / place, source) == [name]


def test_a_heavy_import_is_seen_where_it_runs():
    source = "try:\n import torch\nexcept ImportError: ...\nif TYPE_CHECKING:\n import vtk\ndef f():\n import pydicom"
    assert heavy_at_import(MODULE / LIBRARY / "results/x.py", source) == ["torch"]


def test_no_file_imports_from_a_layer_that_is_closed_to_it():
    found = {path: breaches(path, path.read_text(encoding="utf-8")) for path in PYTHON_FILES}
    assert {str(path.relative_to(MODULE)): names for path, names in found.items() if names} == {}


def test_the_rooms_of_the_engine_form_one_direction():
    """Also in what only a type checker reads: a model knows the inference that it asks for, never the other way."""
    imports: dict[str, set[str]] = {}
    for path in PYTHON_FILES:
        names = imports_of(ast.parse(path.read_text(encoding="utf-8")), path)
        rooms = [path.relative_to(MODULE / LIBRARY).parts[0], *(n.split(".")[1] for n in names if is_in(n, {LIBRARY}))]
        importing, *imported_rooms = rooms
        imports.setdefault(importing, set()).update(set(imported_rooms) - {importing})
    assert list(TopologicalSorter(imports).static_order())  # raises CycleError, which names the rooms


def test_heavy_packages_are_imported_inside_functions():
    found = {path: heavy_at_import(path, path.read_text(encoding="utf-8")) for path in PYTHON_FILES}
    assert {str(path.relative_to(MODULE)): names for path, names in found.items() if names} == {}


def test_nodes_need_no_application():
    """``slicer.app`` and ``slicer.modules`` are not there in a headless run."""
    found = []
    for path in (MODULE / LIBRARY / "mrml").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("slicer.app", "slicer.modules"):
                found.append(f"{path.relative_to(MODULE)}:{node.lineno}")
    assert found == []


def test_the_module_file_calls_panel_nodes_and_public_names_only():
    path = MODULE / "AIDicomBridge.py"
    names = imports_of(ast.parse(path.read_text(encoding="utf-8")), path)
    rooms = {name.split(".")[1] for name in names if name.startswith(f"{LIBRARY}.")}
    public = {name for name in rooms if not (MODULE / LIBRARY / name).is_dir()}
    assert rooms - public <= {"panel", "mrml"}
    assert not {name.split(".")[0] for name in names} & (HEAVY - SLICER | NETWORK)
