"""The page of a model card's keys names every key that is read, and no other."""

import re
from pathlib import Path

from AIDicomBridgeLib.inference.normalisation import INTENSITY_RULES
from AIDicomBridgeLib.models import card_file
from AIDicomBridgeLib.models.anatomy import SHIPPED


def test_every_key_of_a_card_is_explained() -> None:
    source = Path(card_file.__file__).read_text(encoding="utf-8")
    asked = re.findall(
        r'(?:\.(?:get|get_list|number|choice|tables?|optional|optional_table)|_optional_code)\((?:table, )?"(\w+)"',
        source,
    )
    keys = {*asked, *(name for names in INTENSITY_RULES.values() for name in names)}
    page = (SHIPPED / "CARDS.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"(?<=[`\[. ])\w+(?=[`\]]| =)", page))
    assert len(keys) > 50
    assert sorted(keys - explained) == []
    first_column = {word for row in re.findall(r"^\|([^|]+)\|", page, re.M) for word in re.findall(r"`([\w-]+)`", row)}
    assert first_column - {"rule"} <= keys | set(INTENSITY_RULES)
