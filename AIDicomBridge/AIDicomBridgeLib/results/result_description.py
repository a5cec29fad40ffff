"""The small TOML or JSON file that says what an encoded result is: algorithm, segments, answers, detections, map."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checked_table import CheckedTable
from ..errors import EncodingError
from ..series.source_series import SourceSeries
from .labels import Code, Provenance, Segment
from .measurements import Measurement
from .observations import LEVELS, Classification, Detection, Evaluation
from .regions import Region

SUFFIXES = (".toml", ".json")
# How a region may be given, by key: exactly one of them.
_REGIONS: dict[str, Callable[[Any, np.ndarray], Region]] = {
    "point_lps_mm": lambda value, _: Region.point(value),
    "point_ijk": lambda value, affine: Region.point(value, ijk_to_lps=affine),
    "polygon_lps_mm": lambda value, _: Region.polygon(value),
    "polygon_ijk": lambda value, affine: Region.polygon(value, ijk_to_lps=affine),
    "box_lps_mm": lambda value, _: Region.box(*value),
    "box_ijk": lambda value, affine: Region.box(*value, ijk_to_lps=affine),
    "ellipsoid_lps_mm": lambda value, _: Region.ellipsoid(value[0], value[1:]),
}


@dataclass(frozen=True)
class ResultDescription:
    """What the file says; only what belongs to the kind of result can be there.

    Attributes
    ----------
    provenance
        ``[algorithm]``; None without: then a person made it.
    observer_name
        ``observer``: the person who looked at it.
    series_description
        ``series_description``.
    segments
        ``[[segments]]``.
    fractional_type
        ``fractional_type``: ``PROBABILITY``, or ``OCCUPANCY`` (the part of the voxel that is filled).
    classifications, detections, looked_for
        ``[[classifications]]``, ``[[detections]]``, ``looked_for``.
    quantity, unit, window
        Of ``[map]``.
    description, slices
        Of ``[map]`` or ``[pictures]``.
    burned_in_annotation
        Of ``[pictures]``: False only where the file says that no text in them identifies the patient.
    """

    provenance: Provenance | None = None
    observer_name: str | None = None
    series_description: str | None = None
    segments: tuple[Segment, ...] = ()
    fractional_type: str = "PROBABILITY"
    classifications: tuple[Classification, ...] = ()
    detections: tuple[Detection, ...] = ()
    looked_for: Code | None = None
    quantity: Code | None = None
    unit: Code | None = None
    window: tuple[float, float] | None = None
    description: str = ""
    slices: tuple[int, ...] | None = None
    burned_in_annotation: bool = True


def read_description(path: Path, kind: str, source: SourceSeries) -> ResultDescription:
    """Read and check the description of a result.

    Parameters
    ----------
    kind
        A kind of :data:`~.encode_files.KINDS`: other kinds' tables are refused.
    source
        The series: slice numbers and voxel indices are of its grid.

    Raises
    ------
    EncodingError
        The file cannot be read; a key is missing, unknown or has a wrong value. The text names table and key.
    """
    table = CheckedTable(_parsed(path), f"the file {path.name}", EncodingError)
    values: dict[str, Any] = {
        "series_description": _optional(table, "series_description", str),
        "provenance": _provenance(table.optional_table("algorithm")),
    }
    if kind in ("sr", "classification", "detection"):
        values["observer_name"] = _optional(table, "observer", str)
    if kind in ("seg", "sr", "fractional", "summary", "sc") and (kind != "sc" or "segments" in table):
        automatic = values["provenance"] is not None
        values["segments"] = tuple(_segment(row, automatic) for row in table.tables("segments"))
    if kind == "fractional":
        values["fractional_type"] = table.choice("fractional_type", ("PROBABILITY", "OCCUPANCY"), "PROBABILITY")
    if kind == "classification":
        rows = table.tables("classifications")
        values["classifications"] = tuple(_with_place(row, _classification, source) for row in rows)
    elif kind == "detection":
        rows = table.tables("detections")
        values["detections"] = tuple(_with_place(row, _detection, source) for row in rows)
        values["looked_for"] = _optional_code(table, "looked_for") if rows else _code(table, "looked_for")
    elif kind == "pm":
        values |= _map(table.optional_table("map"))
    elif kind == "sc" and "segments" not in table:
        values |= _pictures(table.table("pictures"))
    table.refuse_unknown_keys()
    return ResultDescription(**values)


def _parsed(path: Path) -> Any:
    try:
        content = path.read_text(encoding="utf-8")
        return json.loads(content) if path.suffix.lower() == ".json" else tomllib.loads(content)
    except (OSError, ValueError, RecursionError) as error:  # both parsers' errors are ValueErrors
        raise EncodingError(f"the file {path.name} cannot be read: {error}") from error


def _optional(table: CheckedTable, key: str, kind: type) -> Any:
    table.asked.add(key)
    return table.get(key, kind) if key in table else None


def _code(table: CheckedTable, key: str) -> Code:
    child = table.table(key)
    parts = [child.get(name, str) for name in ("value", "scheme", "meaning")]
    if not all(parts):
        raise EncodingError(f"{child.where}: 'value', 'scheme' and 'meaning' must not be empty")
    return Code(*parts)


def _optional_code(table: CheckedTable, key: str) -> Code | None:
    table.asked.add(key)
    return _code(table, key) if key in table else None


def _provenance(table: CheckedTable | None) -> Provenance | None:
    if table is None:
        return None
    return Provenance(
        table.get("name", str),
        table.get("version", str),
        learned=table.get("learned", bool, True),
        weights_sha256=table.get("weights_sha256", str, ""),
        device=table.get("device", str, ""),
        precision=table.get("precision", str, ""),
        manufacturer=table.get("manufacturer", str, ""),
        not_for_diagnostic_use=table.get("not_for_diagnostic_use", bool, True),
    )


def _segment(table: CheckedTable, automatic: bool) -> Segment:
    color = table.get_list("color_rgb", int, length=3) if "color_rgb" in table else None
    table.asked.add("color_rgb")
    if color and not all(0 <= level <= 255 for level in color):
        raise EncodingError(f"{table.where}: 'color_rgb' must lie within 0 to 255")
    return Segment(
        table.get("label", int),
        table.get("name", str),
        _code(table, "category"),
        _code(table, "type"),
        type_modifier=_optional_code(table, "type_modifier"),
        region=_optional_code(table, "region"),
        region_modifier=_optional_code(table, "region_modifier"),
        color_rgb=(color[0], color[1], color[2]) if color else None,
        tracking_uid=_optional(table, "tracking_uid", str),
        algorithm_type=table.choice(
            "algorithm_type", ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"), "AUTOMATIC" if automatic else "MANUAL"
        ),
    )


def _with_place(table: CheckedTable, read: Callable[[CheckedTable, SourceSeries], Any], source: SourceSeries) -> Any:
    """Return what ``read`` makes of a table; a complaint about its values gets the table's name."""
    try:
        return read(table, source)
    except EncodingError as error:
        if error.what.startswith(table.where):
            raise
        raise EncodingError(f"{table.where}: {error.what}", advice=error.advice) from error


def _classification(table: CheckedTable, source: SourceSeries) -> Classification:
    slices = _slices(table, source)
    shown = [source.slices[k] for k in dict.fromkeys(slices or ())]
    images = tuple(dict.fromkeys(piece.sop_instance_uid for piece in shown))
    return Classification(
        table.get("name", str),
        _evaluations(table),
        probability=_optional(table, "probability", float),
        level=table.choice("level", LEVELS, "image" if images else "series"),
        sop_instance_uids=images,
        frames=tuple((piece.sop_instance_uid, piece.frame_number) for piece in shown if piece.frame_number is not None),
        finding=_optional_code(table, "finding"),
        site=_optional_code(table, "site"),
        site_modifier=_optional_code(table, "site_modifier"),
        measurements=_measurements(table),
    )


def _detection(table: CheckedTable, source: SourceSeries) -> Detection:
    table.asked |= set(_REGIONS)
    given = [key for key in _REGIONS if key in table]
    if len(given) != 1:
        raise EncodingError(f"{table.where} needs exactly one of {', '.join(_REGIONS)}")
    if given[0].endswith("_ijk") and not source.is_evenly_spaced:
        raise EncodingError(f"{table.where}: the slices are uneven; give the region in LPS millimetres")
    try:
        region = _REGIONS[given[0]](table.get(given[0], list), source.ijk_to_lps)
    except (TypeError, LookupError) as error:
        raise EncodingError(f"{table.where}: '{given[0]}' must be a list of points [x, y, z]") from error
    return Detection(
        table.get("name", str),
        _code(table, "finding"),
        region,
        score=_optional(table, "score", float),
        category=_optional_code(table, "category"),
        site=_optional_code(table, "site"),
        site_modifier=_optional_code(table, "site_modifier"),
        evaluations=_evaluations(table),
        measurements=_measurements(table),
        tracking_uid=_optional(table, "tracking_uid", str),
    )


def _evaluations(table: CheckedTable) -> tuple[Evaluation, ...]:
    rows = table.tables("answers")
    return tuple(Evaluation(_code(row, "question"), _code(row, "answer")) for row in rows)


def _measurements(table: CheckedTable) -> tuple[Measurement, ...]:
    return tuple(
        Measurement(
            _code(row, "quantity"),
            row.get("value", float),
            _code(row, "unit"),
            _optional_code(row, "method"),
            _optional_code(row, "derivation"),
        )
        for row in table.tables("measurements")
    )


def _map(table: CheckedTable | None) -> dict[str, Any]:
    if table is None:
        return {}
    quantity, unit = _optional_code(table, "quantity"), _optional_code(table, "unit")
    if (quantity is None) != (unit is None):
        raise EncodingError(f"{table.where} needs 'quantity' and 'unit' together")
    window = table.get_list("window", float, length=2, default=[0.0, 0.0])
    return {
        "quantity": quantity,
        "unit": unit,
        "description": table.get("description", str, ""),
        "window": (window[0], window[1]) if "window" in table else None,
    }


def _pictures(table: CheckedTable) -> dict[str, Any]:
    slices = table.get_list("slices", int, default=[]) if "slices" in table else None
    table.asked.add("slices")
    return {
        "description": table.get("description", str),
        "slices": slices,
        "burned_in_annotation": table.choice("burned_in_annotation", ("YES", "NO"), "YES") == "YES",
    }


def _slices(table: CheckedTable, source: SourceSeries) -> tuple[int, ...] | None:
    table.asked.add("slices")
    if "slices" not in table:
        return None
    slices = table.get_list("slices", int)
    if not slices or not all(0 <= k < len(source.slices) for k in slices):
        raise EncodingError(f"{table.where}: 'slices' must be numbers from 0 to {len(source.slices) - 1}")
    return slices
