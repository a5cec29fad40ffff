"""What the engine advises is said in the panel's words: no command, no option of the command line."""

import re
from pathlib import Path

import AIDicomBridgeLib
from AIDicomBridgeLib.errors import BridgeError, WeightsError

ENGINE = Path(AIDicomBridgeLib.__file__).parent
ROOMS = ("pacs", "series", "models", "inference", "results", "delivery", "mrml")
A_TEXT = re.compile(r'f?"((?:[^"\\\n]|\\.)*)"(?:\s*f?"((?:[^"\\\n]|\\.)*)")*')


def advice_of_the_engine() -> list[str]:
    """Return every text that follows ``advice=``, put together from its lines; what is filled in is a word."""
    found = []
    for room in ROOMS:
        for path in (ENGINE / room).rglob("*.py"):
            for place in re.finditer(r"advice=\(?\s*", text := path.read_text("utf-8")):
                if match := A_TEXT.match(text, place.end()):
                    parts = re.findall(r'"((?:[^"\\\n]|\\.)*)"', match.group())
                    found.append(re.sub(r"\{[^}]*\}", "word", "".join(parts)))
    return found


def test_no_advice_in_the_panel_names_a_command(shell):
    from AIDicomBridgeLib.panel.advice import panel_text

    every = advice_of_the_engine()
    assert len(every) > 30
    assert any("aidicombridge" in advice or "--" in advice for advice in every)
    shown = [panel_text(BridgeError("it failed", advice=advice)) for advice in every]
    assert [text for text in shown if re.search(r"aidicombridge |--\w", text)] == []


def test_the_advice_ends_as_a_sentence(shell):
    from AIDicomBridgeLib.panel.advice import panel_text

    error = WeightsError("they are missing", advice="Fetch them with: aidicombridge models fetch mindgrab")
    assert panel_text(error) == "They are missing. Press 'Fetch weights' in stage 3."
    error = BridgeError("it failed", advice="Take the first (--stack 1), or use --all. Else wait.")
    assert panel_text(error) == "It failed. Else wait."
