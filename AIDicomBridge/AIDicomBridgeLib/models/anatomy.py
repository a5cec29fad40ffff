"""Coded segments for the label names that common models use, left and right included."""

import colorsys
import csv
import hashlib
import re
from pathlib import Path

from ..errors import ModelError
from ..results.labels import Code, Segment

# Beside the package in the repository and in Slicer's module folder; inside it where pip installed a copy.
_INSTALLED, _BESIDE = Path(__file__).parent / "shipped", Path(__file__).parents[2] / "Resources" / "Models"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else _BESIDE

LOCAL_SCHEME = "99AIDICOMBRIDGE"  # codes that stand for a label's name and nothing else (PS3.3 8.2)
_CATEGORIES = {
    "anatomy": Code("123037004", "SCT", "Anatomical Structure"),
    "lesion": Code("49755003", "SCT", "Morphologically Abnormal Structure"),
}
_LATERALITIES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}


def segment_of(name: str, label: int, *, algorithm: str) -> Segment:
    """Return a segment for a label of a model that names its labels but has no codes for them.

    Names of TotalSegmentator and alike have SNOMED CT codes, with left and right as modifiers: of the type, or of the
    region where the type is a lesion. Where SNOMED has nothing as special in the dictionaries that were checked, such
    as a single rib or two veins at once, the code of the kind is taken and the name says which. Any other name gets a
    code of a local scheme: that says openly that nothing is known of it, where a code of some other thing would be
    wrong.

    Raises
    ------
    ModelError
        DICOM cannot hold the name.
    """
    said = readable(name)[:64].rstrip()
    if not said or any(ord(letter) < 32 or letter == "\\" for letter in said):
        raise ModelError(
            f"the model's label {label} has the name {name[:80]!r}, which DICOM cannot hold",
            advice="Give it another in the model's own files: some letters, and no backslash.",
        )
    key = re.sub(r"[\s-]+", "_", name.strip()).lower()
    table = _table()
    known = table.get(key)
    hue = int(hashlib.sha256(key.encode()).hexdigest()[:4], 16) / 65536
    red, green, blue = (round(255 * level) for level in colorsys.hsv_to_rgb(hue, 0.55, 0.9))
    category, laterality, region = _CATEGORIES["anatomy"], None, None
    if known is None:
        code = Code(hashlib.sha256(key.encode()).hexdigest()[:12].upper(), LOCAL_SCHEME, said)
    else:
        category, laterality = _CATEGORIES[known["category"]], _LATERALITIES.get(known["laterality"])
        code = Code(known["type"], "SCT", known["meaning"])
        if known["region"]:
            organ = table[known["region"]]
            region = Code(organ["type"], "SCT", organ["meaning"])
    return Segment(
        label,
        said,
        category,
        code,
        type_modifier=None if region else laterality,
        region=region,
        region_modifier=laterality if region else None,
        color_rgb=(red, green, blue),
        algorithm_name=algorithm,
    )


def readable(name: str) -> str:
    """Return a label's name as people read it: ``"lung_upper_lobe_left"`` becomes ``"Lung upper lobe left"``."""
    words = re.sub(r"[_\s]+", " ", name).strip()
    return words[:1].upper() + words[1:]


def _table() -> dict[str, dict[str, str]]:
    with (SHIPPED / "anatomy.csv").open(encoding="utf-8", newline="") as file:
        return {row["name"].lower(): row for row in csv.DictReader(file)}
