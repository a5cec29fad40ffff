"""A TOML table that names the key in every complaint and knows which keys were asked for.

It stands beside ``errors`` at the top: ``models`` and ``results`` both read such files, and neither is above the other.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from .errors import BridgeError, ModelError


class CheckedTable:
    """One table of a file that a person writes: a model card, the description of a result.

    Parameters
    ----------
    values
        What the TOML parser gave.
    where
        How complaints call the table: ``"card.toml [input]"``.
    error
        What complaints are raised as.
    """

    def __init__(self, values: Any, where: str, error: type[BridgeError] = ModelError) -> None:
        self.error = error
        if not isinstance(values, Mapping):
            raise error(f"{where} must be a table")
        self.values, self.where = values, where
        self.children: list[CheckedTable] = []
        self.asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Return the value of a key, of that type; it must be there unless a default is given."""
        self.asked.add(key)
        if key not in self.values:
            if default is not None:
                return default
            if meant := _nearest(key, set(self.values) - self.asked):
                raise self.error(f"{self.where} has the unknown key '{meant}'", advice=f"Do you mean '{key}'?")
            raise self.error(
                f"{self.where} lacks the key '{key}'", advice=f"It has: {', '.join(self.values) or 'none'}."
            )
        value = self.values[key]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self.error(f"{self.where}: '{key}' must be of type {kind.__name__}, not {value!r}")
        return value

    def optional(self, key: str, kind: type) -> Any:
        """Return the value of a key, of that type, or None if it is not there."""
        self.asked.add(key)
        return self.get(key, kind) if key in self.values else None

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """Return a text that must be one of a list, which the complaint shows."""
        value: str = self.get(key, str, default)
        if value not in allowed:
            listed = ", ".join(f'"{word}"' for word in allowed if word)
            raise self.error(f"{self.where}: '{key}' must be one of {listed}, not {value!r}")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """Return a number that must lie within limits."""
        value: float = self.get(key, float, default)
        if not low <= value <= high:
            raise self.error(f"{self.where}: '{key}' must lie within {low:g} and {high:g}, not be {value:g}")
        return value

    def get_list(self, key: str, kind: type, *, length: int | None = None, default: list | None = None) -> tuple:
        """Return a list's items, each of that type, as a tuple."""
        items = self.get(key, list, default)
        typed = [float(item) if kind is float and type(item) is int else item for item in items]
        if any(type(item) is not kind for item in typed) or (length is not None and len(typed) != length):
            count = f"{length} " if length is not None else ""
            raise self.error(f"{self.where}: '{key}' must be a list of {count}{kind.__name__} values, not {items!r}")
        return tuple(typed)

    def table(self, key: str) -> "CheckedTable":
        """Return a sub-table."""
        child = CheckedTable(self.get(key, dict), f"{self.where} [{key}]", self.error)
        self.children.append(child)
        return child

    def optional_table(self, key: str) -> "CheckedTable | None":
        """Return a sub-table, or None if there is none."""
        self.asked.add(key)
        return self.table(key) if key in self.values else None

    def tables(self, key: str) -> "list[CheckedTable]":
        """Return an array of tables, empty where there is none."""
        rows = self.get(key, list, [])
        children = [
            CheckedTable(row, f"{self.where} [[{key}]] {number}", self.error)
            for number, row in enumerate(rows, start=1)
        ]
        self.children += children
        return children

    def refuse_unknown_keys(self) -> None:
        """Raise if the table holds a key that nobody asked for: most often a spelling mistake."""
        unknown = sorted(set(self.values) - self.asked)
        if unknown:
            allowed = ", ".join(sorted(self.asked))
            meant = _nearest(unknown[0], self.asked - set(self.values))
            raise self.error(
                f"{self.where} has the unknown key '{unknown[0]}'",
                advice=(f"Do you mean '{meant}'? " if meant else "") + f"Its keys are: {allowed}.",
            )
        for child in self.children:
            child.refuse_unknown_keys()


def _nearest(word: str, keys: Iterable[str]) -> str:
    """Return the key that is most like the word, as after a slip of the pen; empty where none is."""
    return next(iter(get_close_matches(word, sorted(keys), n=1, cutoff=0.7)), "")
