"""Walking the nested items of a DICOM object, and naming the content items of a structured report."""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset


def nested_items(
    dataset: "Dataset", prefix: str = "", *, within: Collection[str] | None = None
) -> "Iterator[tuple[str, Dataset]]":
    """Yield every sequence item at any depth with its path: keywords with item numbers from 1.

    ``within``: only what is in these sequences of ``dataset``; others are not even decoded.
    """
    for element in dataset if within is None else (dataset[name] for name in sorted(within) if name in dataset):
        if element.VR == "SQ":
            for number, item in enumerate(element.value or [], start=1):
                path = f"{prefix}{element.keyword}[{number}]"
                yield path, item
                yield from nested_items(item, f"{path}.")


def children(item: "Dataset") -> "list[Dataset]":
    """Return the content items below one, or below the document."""
    return list(item.get("ContentSequence") or [])


def concept(item: "Dataset") -> str:
    """Return the Code Value of a content item's name; empty where it has none."""
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].get("CodeValue", "")) if names else ""
