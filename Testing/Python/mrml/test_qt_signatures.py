"""Every call that the panel makes of Qt, CTK and Slicer's widgets stands in Testing/README.md with its signature.

Python has no types to tell whose method a call is of: names and numbers of arguments are held to the table, and the
table's Qt classes to Qt itself, which has the methods of its version 5.15 here too.
"""

import ast
import builtins
import hashlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import GeneratorType

import pytest

ROOT = Path(__file__).parents[3]
MODULE = ROOT / "AIDicomBridge"
SOURCES = [
    MODULE / "AIDicomBridge.py",
    MODULE / "AIDicomBridgeLib" / "mrml" / "dicom_database.py",
    *sorted((MODULE / "AIDicomBridgeLib" / "panel").glob("*.py")),
]
OF_PYTHONQT = {("QObject", "connect")}  # takes a signal's text and a function


def method_calls() -> Iterator[tuple[str, str, int]]:
    """Yield place, name and number of arguments of every call of a method whose name begins with a small letter."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            (alias.asname or alias.name).partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            receiver = ast.unparse(node.func.value)
            if receiver == "slicer.util" or receiver in imported - {"qt"}:
                continue  # functions of modules: those of slicer.util are judged by test_slicer_signatures
            if node.func.attr[0].islower() and not node.func.attr.startswith("q"):
                count = len(node.args) + len(node.keywords)
                # Base classes are called with their object: ``ScriptedLoadableModuleWidget.setup(self)``.
                count -= bool(node.args) and ast.unparse(node.args[0]) == "self"
                yield f"{path.name}:{node.lineno}: {ast.unparse(node.func)}", node.func.attr, count


def arguments_of(text: str) -> list[str]:
    """Return the arguments of a signature; commas inside brackets divide none."""
    return [part for part in re.split(r",\s*(?![^({]*[)}])", text) if part]


def rows_below(heading: str) -> list[tuple[str, str]]:
    """Return the first two columns of the table under a heading of the README."""
    text = (ROOT / "Testing" / "README.md").read_text("utf-8").partition(heading)[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \| (`.+`) \| \S.* \|$", text, re.MULTILINE)


def qt_class(name: str) -> type:
    """Return a class of Qt."""
    from PySide6 import QtCore, QtGui, QtWidgets

    return next(getattr(module, name) for module in (QtCore, QtGui, QtWidgets) if hasattr(module, name))


def table() -> dict[tuple[str, str], tuple[int, int]]:
    """Return the least and the largest number of arguments by object and method, from the README."""
    found = {}
    for name, methods in rows_below("## Their signatures"):
        for method, arguments in re.findall(r"`(\w+)\((.*?)\)`", methods):
            parts = arguments_of(arguments)
            found[name, method] = (sum("=" not in part for part in parts), len(parts))
    return found


@pytest.fixture
def own_names() -> set[str]:
    """Return the names of the project's functions and of the methods of Python's own classes."""
    own = {
        node.name
        for path in MODULE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    classes = [value for value in vars(builtins).values() if inspect.isclass(value)]
    others = [Path, re.Pattern, GeneratorType, type(hashlib.sha256())]
    python = {name for cls in (*classes, *others) for name in dir(cls)}
    callbacks = {"on_change", "on_edited", "on_model_chosen", "on_progress"}
    return own | python | callbacks


def test_the_table_is_read():
    found = table()
    assert found["QTableWidget", "setItem"] == (3, 3)
    assert found["QIcon", "pixmap"] == (2, 4)
    assert found["ctkDICOMDatabase", "insert"] == (1, 5)
    assert found["QDialog", "open"] == (0, 0)


def test_every_call_stands_in_the_table(own_names):
    counts: dict[str, list[tuple[int, int]]] = {}
    for (_, method), count in table().items():
        counts.setdefault(method, []).append(count)
    wrong = [
        f"{place} with {count} arguments"
        for place, method, count in method_calls()
        if method not in own_names and not any(least <= count <= most for least, most in counts.get(method, []))
    ]
    assert not wrong, "find each in its header, then add it to Testing/README.md:\n" + "\n".join(wrong)


def test_the_table_has_nothing_that_is_not_called():
    called = {method for _, method, _ in method_calls()}
    assert sorted({method for _, method in table()} - called) == []


def test_qt_has_the_methods_of_the_table():
    import PySide6  # noqa: F401 - brings what follows
    from shibokensupport.signature import get_signature

    wrong = []
    for (name, method), (least, most) in table().items():
        if not name.startswith("Q") or (name, method) in OF_PYTHONQT:
            continue
        signatures = get_signature(getattr(qt_class(name), method))
        overloads = signatures if isinstance(signatures, list) else [signatures]
        taken = [[p for p in overload.parameters.values() if p.name != "self"] for overload in overloads]
        if not any(sum(p.default is p.empty for p in found) <= least and most <= len(found) for found in taken):
            wrong.append(f"{name}.{method}: {overloads}")
    assert not wrong, "\n".join(wrong)


def test_the_signals_stand_in_the_table_and_qt_has_them():
    sources = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    signals = {(name, signal) for name, texts in rows_below("## Signals") for signal in re.findall(r"`(.+?)`", texts)}
    assert set(re.findall(r'connect\("(.+?)"', sources)) == {signal for _, signal in signals}
    of_qt = [(name, signal) for name, signal in signals if name.startswith("Q")]
    assert [pair for pair in of_qt if qt_class(pair[0]).staticMetaObject.indexOfSignal(pair[1]) < 0] == []
