"""Commands on models: list, show, fetch and verify weights."""

import shlex
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConsentError, WeightsError
from ..inference.rules import WindowRules
from ..models.card import ModelCard
from ..models.catalogue import Catalogue
from ..models.consent import Consents
from ..models.loading import find_card, programs_of
from ..models.own_models import OwnModels
from ..models.weights import WeightsFolder
from .command import JsonOption, running

app = typer.Typer(no_args_is_help=True, help="The models that can be run, and their weights.")
NameArgument = Annotated[
    str, typer.Argument(help="Name from 'models list', or the path of a card, folder or bundle.", show_default=False)
]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the models, what they work on, and whether their weights are on this machine."""
    with running("models list", as_json) as command:
        weights = WeightsFolder.default()
        catalogue = Catalogue.load()
        cards = list(catalogue.values())
        command.answer["models"] = [
            {
                "name": card.name,
                "version": card.version,
                "title": card.title,
                "modalities": list(card.modalities),
                "learned": card.learned,
                "weights_present": weights.is_present(card),
            }
            for card in cards
        ]
        rows = [
            (
                card.name,
                card.version,
                ", ".join(card.modalities),
                card.title,
                _whereabouts(card, weights),
            )
            for card in cards
        ]
        command.show_table(("Name", "Version", "Modality", "What it does", "Weights"), rows)
        command.answer["unusable"] = catalogue.unusable
        for path, reason in catalogue.unusable.items():
            command.say(f"Not usable: {path}: {reason}.")
            if path == str(OwnModels.default().path):
                command.say("Repair or remove the file.")
            else:
                command.say(f"Mend it, or take it off the list: aidicombridge models remove {shlex.quote(path)}")


@app.command("show")
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show a model's card: what it does, its licence and citation, what its labels mean."""
    with running("models show", as_json) as command:
        card = find_card(name)
        command.answer["model"] = plain_values(card)
        command.say(f"{card.title} ({card.name} {card.version})\n{card.description}\n")
        command.say(f"Works on:  {', '.join(card.modalities)} {' '.join(card.body_parts).lower()}".rstrip())
        command.say(f"Kind:      {'trained network' if card.learned else 'rules, no learned model'}")
        command.say(f"Licence:   {card.licence}\nCitation:  {card.citation}")
        for title, value in (("Input", card.input), ("Windows", card.windows), ("Weights", card.weights)):
            if value is not None:
                command.say(f"{title + ':':<10} {describe(value)}")
        if card.not_for_diagnostic_use:
            command.say("Use:       research only, not for diagnostic use")
        rows = [
            (
                str(s.label),
                s.name,
                f"{s.type.meaning} ({s.type.value}, {s.type.scheme})",
                " ".join(code.meaning for code in (s.type_modifier, s.region_modifier, s.region) if code is not None),
            )
            for s in card.segments
        ]
        command.show_table(("Label", "Segment", "Type", "Side, region"), rows)


@app.command("fetch")
def fetch(
    name: NameArgument,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from", help="A copy of the weights file or its package on this machine, for machines without network."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Download a model's weights, check their SHA-256, and keep them."""
    with running("models fetch", as_json) as command:
        path = WeightsFolder.default().fetch(
            find_card(name), from_file=from_file, progress=command.progress, cancel=command.cancel
        )
        command.answer["path"] = str(path)
        command.say(f"The weights of {name} are in {path}.")


@app.command("verify")
def verify(
    name: Annotated[str | None, typer.Argument(help="A model; all where not given.", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the weights on this machine against the cards' SHA-256."""
    with running("models verify", as_json) as command:
        weights, catalogue = WeightsFolder.default(), Catalogue.load()
        cards = [find_card(name)] if name else [c for c in catalogue.values() if c.weights and weights.is_present(c)]
        states: dict[str, str] = {}
        failures: list[WeightsError] = []
        for card in cards:
            try:
                for file in card.weights_files:
                    weights.verified(card, file)
                states[card.name] = _verified(card)
            except WeightsError as error:
                states[card.name] = error.what
                failures.append(error)
            command.say(f"{card.name}: {states[card.name]}")
        command.answer["models"] = states
        if not cards:
            command.say("No weights are on this machine; fetch them with: aidicombridge models fetch NAME")
        if failures:
            raise failures[0]


@app.command("add")
def add(
    path: Annotated[Path, typer.Argument(help="A card (*.toml), an nnU-Net result folder, or a MONAI bundle.")],
    as_json: JsonOption = False,
) -> None:
    """Add an own model to the list: every command and Slicer's panel then know it by its name."""
    with running("models add", as_json) as command:
        card = OwnModels.default().add(path, taken=Catalogue.load().names())
        command.answer["name"] = card.name
        command.say(f"The model is known as {card.name} now; its files stay where they are.")


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="A model's name; of an own one that cannot be used, also its path.")],
    as_json: JsonOption = False,
) -> None:
    """Remove a model's weights from this machine; an own model is taken off the list, and its files stay."""
    with running("models remove", as_json) as command:
        if OwnModels.default().forget(name):
            command.answer["bytes"] = 0
            command.say(f"{name} is off the list of own models; its files are where they were.")
            return
        freed = WeightsFolder.default().remove(find_card(name))
        command.answer["bytes"] = freed
        command.say(f"The weights of {name} are removed; {freed / 1e6:.1f} MB are free.")


@app.command("trust")
def trust(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Agree without being asked.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Agree once that a model which is a program may run on this machine."""
    with running("models trust", as_json) as command:
        card = find_card(name)
        programs = programs_of(card)
        for sha256, file in programs:
            command.say(
                f"{card.title} ({card.name} {card.version}): {file} is a program. It can read, change and send "
                f"whatever you can on this machine.\nSHA-256 {sha256}"
            )
        if not yes and (as_json or not typer.confirm("Do you trust where it comes from?")):
            advice = "Give --yes: with --json nobody is asked." if as_json else None
            raise ConsentError(f"nobody agreed to run the model {card.name}", advice=advice)
        for sha256, _ in programs:
            Consents.default().agree(sha256, f"{card.name} {card.version}")
        command.answer["sha256"] = [sha256 for sha256, _ in programs]
        command.say("It may run from now on; a changed file asks again.")


def _whereabouts(card: ModelCard, weights: WeightsFolder) -> str:
    if card.weights is None:
        return "none needed" if card.kind == "file" else "in its own folder"
    return "present" if weights.is_present(card) else "to be fetched"


def _verified(card: ModelCard) -> str:
    """Return what the check of a model's weights, which found nothing wrong, was worth."""
    if not card.weights_files:
        return "none needed" if card.kind == "file" else "in its own folder; no card says what they must be"
    digits = min(len(file.sha256) for file in card.weights_files)
    if digits == 64:
        return "ok"
    return f"ok as far as known: the first {digits} digits of its SHA-256" if digits else "not checked: no SHA-256"


def plain_values(value: Any) -> Any:
    """Return a card, or a part of it, as JSON can hold it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain_values(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, tuple):
        return [plain_values(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def describe(value: Any) -> str:
    """Return the members of a part of a card that say something, in one line."""
    shown = []
    for item in fields(value):
        content = getattr(value, item.name)
        # What is nothing says something where it need not be said at all.
        if content not in ((), "", None, 0.0) or (content is not None and item.default is None):
            shown.append(f"{item.name} {_shown(content)}")
    if isinstance(value, WindowRules) and not value.patch:
        return ", ".join(["none, all is seen at once", *(text for text in shown if text.startswith("mirror_axes"))])
    return ", ".join(shown)


def _shown(value: Any) -> str:
    if is_dataclass(value):
        return f"({describe(value)})"
    if isinstance(value, tuple):
        return " ".join(_shown(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
