"""Every call of Slicer that slicer-core can judge is made with arguments that it takes.

Methods of VTK and MRML objects are judged by name and number of arguments: the docstrings of slicer-core list every
overload. Where the class is written in the call it is asked itself; elsewhere one class of slicer-core that has the
method must take so many. Functions of ``slicer.util`` are judged by their Python signatures, keywords too.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from AIDicomBridgeLib.mrml.core_scene import has_slicer_core

MODULE = Path(__file__).parents[3] / "AIDicomBridge"
SOURCES = [
    MODULE / "AIDicomBridge.py",
    *sorted((MODULE / "AIDicomBridgeLib" / "mrml").glob("*.py")),
    *sorted((MODULE / "AIDicomBridgeLib" / "panel").glob("*.py")),
]


def receiver_and_method(call: ast.Call) -> tuple[str, str]:
    """Return ``a.b`` and ``c`` of a call ``a.b.c(...)``; the receiver is empty where it is no plain name."""
    parts = []
    node = call.func
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    root = [node.id] if isinstance(node, ast.Name) else []
    names = [*root, *reversed(parts)]
    return (".".join(names[:-1]) if root else "", names[-1] if names else "")


def calls_of_slicer() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield the place, the receiver and the call, for every call of a method whose name begins with a capital."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        others = {
            (alias.asname or alias.name).partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level)
            for alias in node.names
        } - {"slicer", "vtk"}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            receiver, method = receiver_and_method(node)
            if method[0].isupper() and receiver.partition(".")[0] not in others:
                yield f"{path.name}:{node.lineno} {method}", receiver, node


def argument_counts(function: object, name: str) -> list[tuple[int, int]]:
    """Return the least and the largest number of arguments of every overload that a docstring of VTK lists."""
    counts = []
    overloads = rf"^{name}\((.*?)\)(?:\s+->[^:]*?)?\nC\+\+:"
    for match in re.finditer(overloads, function.__doc__ or "", re.DOTALL | re.MULTILINE):
        depth, parts = 0, [""]
        for character in match[1]:
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
            if character == "," and depth == 0:
                parts.append("")
            else:
                parts[-1] += character
        arguments = [part.strip() for part in parts if part.strip() not in ("", "self")]
        counts.append((sum("=" not in argument for argument in arguments), len(arguments)))
    return counts


@cache
def classes() -> list[type]:
    """Return the classes of slicer-core and of VTK."""
    import slicer
    import vtk

    found = [value for module in (slicer, vtk) for value in vars(module).values() if inspect.isclass(value)]
    return [cls for cls in found if cls.__name__.startswith("vtk")]


@cache
def counts_by_name(name: str) -> frozenset[tuple[int, int]]:
    """Return how many arguments methods of this name take, in any class."""
    return frozenset(
        count for cls in classes() if name in vars(cls) for count in argument_counts(vars(cls)[name], name)
    )


def class_named(receiver: str) -> type | None:
    """Return the class that a call is written with: ``slicer.vtkX.F()``; that of the scene for the scene."""
    import slicer
    import vtk

    module, _, name = receiver.replace("slicer.mrmlScene", "slicer.vtkMRMLScene").partition(".")
    found = getattr({"slicer": slicer, "vtk": vtk}.get(module), name, None)
    return found if inspect.isclass(found) else None


@pytest.fixture(autouse=True)
def _slicer_core() -> None:
    if not has_slicer_core():
        pytest.skip("slicer-core is not installed")


def test_overloads_are_read():
    import slicer

    counts = argument_counts(slicer.vtkMRMLScene.AddNewNodeByClass, "AddNewNodeByClass")
    assert counts == [(1, 2)]
    imports = argument_counts(
        slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode, "ImportLabelmapToSegmentationNode"
    )
    assert imports == [(2, 4), (2, 5), (3, 4)]
    assert argument_counts(slicer.vtkMRMLSubjectHierarchyNode.SetItemParent, "SetItemParent") == [(2, 3)]
    assert len(list(calls_of_slicer())) > 80


def test_methods_exist_and_take_so_many_arguments():
    wrong = []
    for place, receiver, call in calls_of_slicer():
        name, cls = call.func.attr, class_named(receiver)
        if cls is None and inspect.isclass(class_named(f"{receiver}.{name}")):
            continue  # the class itself is called
        method = inspect.getattr_static(cls, name, None) if cls else None
        counts = argument_counts(getattr(cls, name), name) if method is not None else counts_by_name(name)
        if cls is not None and method is None:
            wrong.append(f"{place}: {cls.__name__} has no such method")
        elif any(isinstance(argument, ast.Starred) for argument in call.args):
            continue
        elif call.keywords or not any(least <= len(call.args) <= most for least, most in counts):
            wrong.append(f"{place}: {len(call.args)} arguments, and it takes {sorted(counts)}")
    assert not wrong, "\n".join(wrong)


def test_functions_of_slicer_util_take_what_they_are_given():
    import slicer

    judged = 0
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and receiver_and_method(node)[0] == "slicer.util":
                function = getattr(slicer.util, node.func.attr)
                keywords = {keyword.arg: None for keyword in node.keywords}
                inspect.signature(function).bind(*[None] * len(node.args), **keywords)
                judged += 1
    assert judged >= 4
