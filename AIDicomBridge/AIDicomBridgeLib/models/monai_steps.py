"""The steps of a MONAI bundle's lists of transforms, read as data: which, in which order, with which options."""

import re
from collections.abc import Mapping
from typing import Any

from ..errors import ModelError
from .bundle_config import Configuration

ADVICE = "Write a model card for the bundle's network file instead; the README shows one."


class Step:
    """One transform: its name, and its options, each of which must be asked for.

    Attributes
    ----------
    kind
        MONAI's name of the transform, without the ending of its dictionary form.
    """

    def __init__(self, configuration: Configuration, given: Mapping[str, Any]) -> None:
        self.kind = re.sub("(d|D|Dict)$", "", str(given["_target_"]).rpartition(".")[2])
        self._configuration = configuration
        self._given = {key: value for key, value in given.items() if not key.startswith("_")}
        self._asked = {"keys", "allow_missing_keys", "dtype", "lazy", "channel_wise"}
        if "int" in str(self._given.get("dtype", "")):
            raise self.refused("to whole numbers")

    def get(self, option: str, default: Any = None) -> Any:
        """Return an option as plain data."""
        self._asked.add(option)
        return self._configuration.plain(self._given.get(option, default), option)

    def get_one(self, option: str, default: Any = None) -> Any:
        """Return an option of which there may be one for each key: that of the first key."""
        value = self.get(option, default)
        return value[0] if isinstance(value, list) and value else value

    def is_for(self, item: str) -> bool:
        """Return True if the step is done to that item of the dictionary."""
        keys = self.get("keys", [item])
        return item in (keys if isinstance(keys, list) else [keys])

    def ignore(self, *options: str) -> None:
        """Let these options have any value: they change no result."""
        self._asked.update(options)

    def expect(self, **usual: Any) -> None:
        """Refuse the bundle if one of these options has another value."""
        for option, value in usual.items():
            if (found := self.get_one(option, value)) != value:
                raise self.refused(f"with {option} = {found!r}")

    def refuse_other_options(self) -> None:
        """Refuse the bundle if the step has an option that nobody asked for."""
        if unknown := sorted(set(self._given) - self._asked):
            raise self.refused(f"with the option '{unknown[0]}'")

    def refused(self, why: str = "") -> ModelError:
        """Return the error that this step is not supported."""
        return ModelError(f"the bundle's step {self.kind}{' ' if why else ''}{why} is not supported", advice=ADVICE)


def steps_for(item: str, configuration: Configuration, value: Any, name: str, depth: int = 8) -> list[Step]:
    """Return the steps of a list that are done to one item, in order: those of lists within it too, none switched off.

    Raises
    ------
    ModelError
        Something in the list is an expression, or no step.
    """
    value = configuration.plain(value, name)
    if isinstance(value, list) and depth:
        return [step for part in value for step in steps_for(item, configuration, part, name, depth - 1)]
    if not isinstance(value, Mapping) or not isinstance(value.get("_target_"), str):
        raise ModelError(f"the bundle's '{name}' holds something that is no step", advice=ADVICE)
    if str(configuration.plain(value.get("_disabled_", False), "_disabled_")).lower() == "true":
        return []
    if value["_target_"].rpartition(".")[2] == "Compose":
        return steps_for(item, configuration, value.get("transforms", []), name, depth - 1) if depth else []
    step = Step(configuration, value)
    return [step] if step.is_for(item) else []
