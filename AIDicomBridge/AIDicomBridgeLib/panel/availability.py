"""A control that cannot be used says why."""

from typing import Any


def set_available(control: Any, tip: str, *reasons: str) -> bool:
    """Enable a control, or disable it with the first reason that is not empty as its tooltip.

    Parameters
    ----------
    tip
        The tooltip while it can be used.
    reasons
        Why it cannot be used, each a sentence, or an empty text where it does not apply.
    """
    reason = next((text for text in reasons if text), "")
    control.setEnabled(not reason)
    control.setToolTip(reason or tip)
    return not reason
