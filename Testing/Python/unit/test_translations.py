"""What the panel shows goes through Slicer's translation, as texts that its tools can collect."""

import ast
import re
from pathlib import Path

MODULE = Path(__file__).parents[3] / "AIDicomBridge"
SOURCES = [MODULE / "AIDicomBridge.py", *sorted((MODULE / "AIDicomBridgeLib" / "panel").glob("*.py"))]
# Functions whose texts a person reads.
SHOWING = {
    *("setText", "setToolTip", "setPlaceholderText", "setTitle", "setWindowTitle", "setHorizontalHeaderLabels"),
    *("addItem", "say", "warn", "running", "set_available", "QPushButton", "QLabel"),
}
WORD = re.compile(r"[^\W\d_]{2}")


def calls() -> list[tuple[str, str, ast.Call]]:
    """Return the place, the function's name and the call, of every call in the panel."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                found.append((f"{path.name}:{node.lineno}", name, node))
    return found


def words_in(argument: ast.expr) -> bool:
    """Return whether an argument is a literal text with words in it; an f-string's own parts count."""
    parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
    texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return any(WORD.search(text) for text in texts)


def test_no_text_is_shown_untranslated():
    shown = [(place, call) for place, name, call in calls() if name in SHOWING]
    assert len(shown) > 50
    assert [place for place, call in shown if any(words_in(argument) for argument in call.args)] == []


def test_translated_texts_are_plain_literals_with_named_places():
    texts = [(place, call.args) for place, name, call in calls() if name == "_"]
    assert len(texts) > 50
    for place, arguments in texts:
        assert len(arguments) == 1, place
        assert isinstance(arguments[0], ast.Constant), f"{place}: put values in with format, after the translation"
        assert not re.search(r"{\d*}", arguments[0].value), f"{place}: name the places: translators may swap them"
