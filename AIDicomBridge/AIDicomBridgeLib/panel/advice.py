"""The engine's advice in the panel's words: where it names a command, a person at the panel has a button."""

import re

from slicer.i18n import tr as _

from ..errors import BridgeError

_OPTION_IN_BRACKETS = re.compile(r"\s*\([^()]*--\w[^()]*\)")
_COMMAND = re.compile(r"aidicombridge |--\w")
_SENTENCE_END = re.compile(r"(?<=[.!?]) ")


def panel_text(error: BridgeError) -> str:
    """Return the error's sentences, with what to do at the panel; what can be done by a command only is left out."""
    text = str(error)
    for pattern, words in (
        (r"Choose one by its number \(--stack N; in Python stack=N\)", _("Choose one at 'Stack' in stage 2")),
        (r"or let the network see .*\(--resample; in Python resample=True\)", _("or tick 'Resample' in stage 2")),
        (r", resampled \(loadSeries\(\.\.\., resample=True\)\)", _(" in stage 2, with 'Resample' ticked")),
        (r"Read it as SUV \(--suv\)", _("Load it with 'PET as SUV' ticked in stage 2")),
        (r"Ask for SUV \(--suv\)", _("Load it with 'PET as SUV' ticked in stage 2")),
        (r"\(--precision float32\)", _("(choose it under 'Advanced' in stage 3)")),
        (r"allow any body part \(--any-body-part\)", _("tick 'Run on this body part all the same'")),
        (r"Use --device auto or --device cpu", _("Choose the device auto or cpu in stage 3")),
        (r"Fetch them with: aidicombridge models fetch .*", _("Press 'Fetch weights' in stage 3.")),
        (r"aidicombridge models trust .*", _("press 'Trust this model' in stage 3.")),
        (r"Fetch it again with 'aidicombridge models fetch'", _("Press 'Fetch weights' in stage 3 again")),
        (r"give it with --from", _("take it with 'From file...' in stage 3")),
    ):
        text = re.sub(pattern, words, text)
    text = _OPTION_IN_BRACKETS.sub("", text)
    return " ".join(sentence for sentence in _SENTENCE_END.split(text) if not _COMMAND.search(sentence))
