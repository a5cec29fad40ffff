"""From a TOML file to a checked :class:`ModelCard`."""

import hashlib
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from ..checked_table import CheckedTable
from ..errors import EncodingError, ModelError
from ..inference.normalisation import INTENSITY_RULES
from ..inference.rules import Cleanup, Decision, InputRules, IntensityStep, WindowRules
from ..results.codes import why_no_code
from ..results.labels import Code, Segment
from .card import (
    ARCHITECTURES,
    FORMATS,
    PROGRAMS,
    SUFFIXES,
    ModelCard,
    NetworkRules,
    PackagedFile,
    WeightsFile,
)
from .procedure_cards import PROCEDURE_CARDS, refuse_unfit

MODALITIES = ("CT", "MR", "PT")  # what volumes are read of


def read_card(path: Path) -> ModelCard:
    """Read and check a card; see :meth:`ModelCard.from_file`."""
    try:
        content = path.read_bytes()
        # Windows' editors begin with a mark of UTF-8.
        table = CheckedTable(tomllib.loads(content.decode("utf-8-sig")), path.name)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"the model card {path.name} cannot be read: {error}") from error
    card = _card(table, hashlib.sha256(content).hexdigest())
    table.refuse_unknown_keys()
    refuse_unfit(card, path.name)
    return replace(card, folder=path.resolve().parent, file=path.name)


def _card(table: CheckedTable, sha256: str) -> ModelCard:
    has_network = "network" in table
    if not has_network and "rules" not in table:
        raise ModelError(f"{table.where} needs [network] or [rules]")
    conditions = table.table("conditions")
    name, version = table.get("name", str), table.get("version", str)
    rows = table.tables("segments")
    segments = tuple(replace(read_segment(row), algorithm_name=f"{name} {version}") for row in rows)
    if not segments or [s.label for s in segments] != list(range(1, len(segments) + 1)):
        counted = ", ".join(str(segment.label) for segment in segments)
        raise ModelError(
            f"{table.where}: the labels of [[segments]] must be counted from 1, and are {counted}"
            if segments
            else f"{table.where} needs [[segments]], one for each label"
        )
    weights = _weights(table.table("weights")) if has_network else None
    network = _network(table.table("network"), weights.format) if weights else None
    decision = _decision(table.optional_table("output"), len(segments), network.classes) if network else None
    rules, finder = table.optional_table("rules"), table.optional_table("finder_weights")
    return ModelCard(
        name=name,
        version=version,
        title=table.get("title", str),
        description=table.get("description", str),
        citation=table.get("citation", str),
        licence=table.get("licence", str),
        learned=table.get("learned", bool),
        not_for_diagnostic_use=table.get("not_for_diagnostic_use", bool),
        modalities=read_modalities(conditions),
        body_parts=read_body_parts(conditions),
        segments=segments,
        cleanups=tuple(filter(None, (_cleanup(row, s.label) for row, s in zip(rows, segments, strict=True)))),
        decision=decision,
        network=network,
        input=read_input(table.table("input")) if network else None,
        windows=read_windows(table.optional_table("windows")) if network else None,
        weights=weights,
        procedure=rules.choice("procedure", tuple(PROCEDURE_CARDS)) if rules else "",
        sha256=sha256,
        finder=_weights(finder) if finder else None,
        manufacturer=table.get("manufacturer", str, ""),
    )


def read_modalities(table: CheckedTable, default: list[str] | None = None) -> tuple[str, ...]:
    """Return ``modalities`` as Modality (0008,0060) says them; none only where that is the default."""
    found = table.get_list("modalities", str, default=default)
    if set(found) - set(MODALITIES) or not (found or default == []):
        raise ModelError(
            f'{table.where}: \'modalities\' must be a list of "CT", "MR" (MRI) and "PT" (PET), not {list(found)}'
        )
    return found


def read_body_parts(table: CheckedTable) -> tuple[str, ...]:
    """Return ``body_parts`` in capitals, as Body Part Examined is written."""
    return tuple(part.upper() for part in table.get_list("body_parts", str, default=[]))


def read_input(table: CheckedTable) -> InputRules:
    """Return the ``[input]`` table."""
    orientation = checked_orientation(table.get("orientation", str, ""), table.where)
    spacing = table.get_list("spacing_mm", float, default=[])
    if spacing and (len(spacing) != 3 or min(spacing) < 0):
        raise ModelError(f"{table.where}: 'spacing_mm' must be a list of 3 float values, not {list(spacing)}")
    channels = int(table.number("channels", 1, 64, 1.0))
    names = table.get_list("channel_names", str, default=[])
    if names and len(names) != channels:
        raise ModelError(f"{table.where}: 'channel_names' must name all {channels} channels, not {list(names)}")
    return InputRules(
        orientation,
        spacing,
        tuple(_intensity(step) for step in table.tables("intensity")),
        channels,
        names,
        table.choice("resampling", ("linear", "cubic", "nnunet"), "linear"),
        table.choice("crop", ("none", "nonzero", "body"), "none"),
        table.get("resampled_first", bool, False),
        table.optional("suv", bool),
    )


def checked_orientation(orientation: str, where: str) -> str:
    """Return it; ModelError if it is not the axes of the body, or the series' own, each once, or empty."""
    axes = sorted("LPS".find({"R": "L", "A": "P", "I": "S"}.get(letter, letter)) for letter in orientation)
    if orientation and axes != [0, 1, 2] and sorted(orientation) != ["i", "j", "k"]:
        raise ModelError(
            f"{where}: 'orientation' must name each body axis once, like \"LIA\", or each of the series' own, like "
            f'"kji", not {orientation!r}'
        )
    return orientation


def read_windows(table: CheckedTable | None) -> WindowRules:
    """Return the ``[windows]`` table; without one the network sees the whole volume at once."""
    if table is None:
        return WindowRules()
    patch = table.get_list("patch", int)
    if len(patch) not in (2, 3) or min(patch) < 1:
        raise ModelError(f"{table.where}: 'patch' must be (D, H, W), or (H, W) for a 2D network, not {list(patch)}")
    mirror_axes = table.get_list("mirror_axes", int, default=[])
    if any(axis not in range(len(patch)) for axis in mirror_axes):
        raise ModelError(f"{table.where}: 'mirror_axes' must lie within 0 and {len(patch) - 1}")
    return WindowRules(
        patch,
        table.number("overlap", 0, 0.95, 0.5),
        table.choice("tiling", ("nnunet", "monai"), "nnunet"),
        table.choice("importance", ("gaussian", "constant"), "gaussian"),
        table.get("padding_value", float, 0.0),
        mirror_axes,
        table.optional("skip_empty_up_to", float),
    )


def read_segment(table: CheckedTable) -> Segment:
    """Return one of the ``[[segments]]``."""
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


def _intensity(table: CheckedTable) -> IntensityStep:
    rule = table.choice("rule", tuple(INTENSITY_RULES))
    numbers = {name: table.get(name, float) for name in INTENSITY_RULES[rule]}
    step = IntensityStep(
        rule,
        **numbers,
        nonzero_only=table.get("nonzero_only", bool, False) if rule == "z-score" else False,
        holes_too=table.get("holes_too", bool, False) if rule == "z-score" else False,
        modalities=read_modalities(table, []),
        channels=table.get_list("channels", int, default=[]),
    )
    if step.std <= 0:
        raise ModelError(f"{table.where}: 'std' must be more than 0")
    if step.low >= step.high or (rule == "percentiles" and not 0 <= step.low < step.high <= 100):
        raise ModelError(f"{table.where}: 'low' and 'high' are out of range for the rule \"{rule}\"")
    return step


def _network(table: CheckedTable, weights_format: str) -> NetworkRules:
    classes = int(table.number("classes", 1, 65535))
    if weights_format not in ("safetensors", "state-dict"):
        return NetworkRules("", classes)
    architecture = table.choice("architecture", ARCHITECTURES)
    if architecture != "meshnet":
        return NetworkRules(architecture, classes)
    return NetworkRules(architecture, classes, table.get("channels", int), table.get_list("dilations", int))


def _decision(table: CheckedTable | None, segment_count: int, classes: int) -> Decision:
    table = table or CheckedTable({}, "card [output]")
    activation = table.choice("activation", ("softmax", "sigmoid"), "softmax")
    for key in ("threshold", "overlap_rule"):
        if key in table and activation == "softmax":
            raise ModelError(
                f"{table.where}: '{key}' is for the activation \"sigmoid\" only, where channels may overlap"
            )
    wanted = segment_count + (activation == "softmax")
    if classes != wanted:
        raise ModelError(
            f"{table.where.partition(' [')[0]}: {classes} classes need {classes - (activation == 'softmax')} "
            f'[[segments]] with the activation "{activation}", and there are {segment_count}',
            advice='With activation = "softmax" in [output] the first class is the background, with "sigmoid" none is.',
        )
    return Decision(
        tuple(range(segment_count + 1 - wanted, segment_count + 1)),  # with softmax the first channel is the background
        activation,
        table.get("outputs_are_probabilities", bool, False),
        table.number("threshold", 0.01, 0.99, 0.5),
        table.choice("overlap_rule", ("highest", "last"), "highest"),
    )


def _weights(table: CheckedTable) -> WeightsFile:
    file, kind = table.get("file", str), table.choice("format", FORMATS, "safetensors")
    if Path(file).name != file or not file.endswith(SUFFIXES[kind]):
        endings = " or ".join(f"*{suffix}" for suffix in SUFFIXES[kind])
        raise ModelError(f"{table.where}: 'file' must be a plain {endings} file name, not {file!r}")
    package = table.optional_table("package")
    urls = table.get_list("urls", str, default=[])
    if not all(map(_is_safe, urls)):
        raise ModelError(f"{table.where}: 'urls' must begin with https:// and name a host")
    own = not (package or urls or "size" in table or "sha256" in table)  # a file beside the card
    size, sha256 = (table.get("size", int, 0), table.get("sha256", str, "")) if own else (
        table.get("size", int), table.get("sha256", str)
    )  # fmt: skip
    whole = len(sha256) == 64 and size > 0
    begun = kind not in PROGRAMS and size == 0 and len(sha256) >= 8
    if set(sha256) - set("0123456789abcdef") or not (own or whole or begun):
        raise ModelError(
            f"{table.where}: 'sha256' must be 64 hexadecimal digits, small letters, with the 'size' in bytes; plain "
            "weights whose size and hash are not known may have a size of 0 and the first 8 digits or more"
        )
    return WeightsFile(file, size, sha256, kind, _packaged(package) if package else None, urls)


def _is_safe(url: str) -> bool:
    """Return True for https, and for http on this machine alone: a user name before the host could look like it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if "@" in parts.netloc or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost"))


def _packaged(table: CheckedTable) -> PackagedFile:
    requirement, sha256 = table.get("requirement", str), table.get("sha256", str)
    # A path, an address or an option of pip's would make pip run what lies there.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._+!]*", requirement):
        raise ModelError(f"{table.where}: 'requirement' must be \"name==version\", not {requirement!r}")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ModelError(f"{table.where}: 'sha256' must be 64 hexadecimal digits, small letters")
    return PackagedFile(requirement, table.get("member", str), sha256)


def _cleanup(table: CheckedTable, label: int) -> Cleanup | None:
    cleanup = Cleanup(
        label,
        table.get("fill_holes", bool, False),
        table.get("keep_largest_component", bool, False),
        table.number("minimum_ml", 0, 1e6, 0.0),
        table.get("by_corners", bool, False),
    )
    return None if replace(cleanup, by_corners=False) == Cleanup(label) else cleanup


def _optional_code(table: CheckedTable, key: str) -> Code | None:
    code = table.optional_table(key)
    return _code(code) if code else None


def _code(table: CheckedTable) -> Code:
    try:
        code = Code(table.get("value", str), table.get("scheme", str), table.get("meaning", str))
    except EncodingError as error:
        raise ModelError(f"{table.where}: {error.what}", advice=error.advice) from error
    if wrong := why_no_code(code):
        raise ModelError(
            f"{table.where}: 'value' cannot be right: {wrong}",
            advice='Those of SNOMED CT (SCT) are numbers, such as "78961009"; a scheme of your own begins with 99.',
        )
    return code
