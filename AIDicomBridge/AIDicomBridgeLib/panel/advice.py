"""The engine's advice in the panel's words: where it names a command, a person at the panel has a button."""

import re

from slicer.i18n import tr as _

from ..errors import BridgeError


def panel_text(error: BridgeError) -> str:
    """Return the error's sentence, with what to do at the panel."""
    text = str(error)
    for pattern, words in (
        (r"allow any body part \(--any-body-part\)", _("tick 'Run on this body part all the same'")),
        (r"Use --device auto or --device cpu", _("Choose the device auto or cpu in stage 3")),
        (r"Fetch them with: aidicombridge models fetch \S+", _("Press 'Fetch weights' in stage 3.")),
        (r"Fetch it again with 'aidicombridge models fetch'", _("Press 'Fetch weights' in stage 3 again")),
        (
            r"fetch the file elsewhere and give it with --from",
            _("fetch them elsewhere and put them into the folder that the tooltip of 'Fetch weights' names"),
        ),
    ):
        text = re.sub(pattern, words, text)
    return text
