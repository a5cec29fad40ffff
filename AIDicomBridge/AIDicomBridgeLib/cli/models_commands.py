"""Commands on models: list, show, fetch and verify weights."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import WeightsError
from ..models.catalogue import Catalogue
from ..models.weights import WeightsFolder
from .command import JsonOption, running

app = typer.Typer(no_args_is_help=True, help="The models that can be run, and their weights.")
NameArgument = Annotated[str, typer.Argument(help="Name from 'models list'.", show_default=False)]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the models, what they work on, and whether their weights are on this machine."""
    with running("models list", as_json) as command:
        weights = WeightsFolder.default()
        cards = list(Catalogue.load().values())
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
                "none needed" if card.weights is None else "present" if weights.is_present(card) else "to be fetched",
            )
            for card in cards
        ]
        command.show_table(("Name", "Version", "Modality", "What it does", "Weights"), rows)


@app.command("show")
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show a model's card: what it does, its licence and citation, what its labels mean."""
    with running("models show", as_json) as command:
        card = Catalogue.load()[name]
        command.answer["model"] = {
            "name": card.name,
            "version": card.version,
            "title": card.title,
            "description": card.description,
            "citation": card.citation,
            "licence": card.licence,
            "learned": card.learned,
            "not_for_diagnostic_use": card.not_for_diagnostic_use,
            "modalities": list(card.modalities),
            "body_parts": list(card.body_parts),
            "weights": vars(card.weights) | {"package": vars(card.weights.package)} if card.weights else None,
            "segments": [
                {"label": s.label, "name": s.name, "category": vars(s.category), "type": vars(s.type)}
                for s in card.segments
            ],
        }
        command.say(f"{card.title} ({card.name} {card.version})\n{card.description}\n")
        command.say(f"Works on:  {', '.join(card.modalities)} {' '.join(card.body_parts).lower()}".rstrip())
        command.say(f"Kind:      {'trained network' if card.learned else 'rules, no learned model'}")
        command.say(f"Licence:   {card.licence}\nCitation:  {card.citation}")
        if card.not_for_diagnostic_use:
            command.say("Use:       research only, not for diagnostic use")
        rows = [(str(s.label), s.name, f"{s.type.meaning} ({s.type.value}, {s.type.scheme})") for s in card.segments]
        command.show_table(("Label", "Segment", "Type"), rows)


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
        path = WeightsFolder.default().fetch(Catalogue.load()[name], from_file=from_file, progress=command.progress)
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
        cards = [catalogue[name]] if name else [c for c in catalogue.values() if c.weights and weights.is_present(c)]
        states: dict[str, str] = {}
        failures: list[WeightsError] = []
        for card in cards:
            try:
                if card.weights:
                    weights.verified(card)
                states[card.name] = "ok" if card.weights else "none needed"
            except WeightsError as error:
                states[card.name] = error.what
                failures.append(error)
            command.say(f"{card.name}: {states[card.name]}")
        command.answer["models"] = states
        if not cards:
            command.say("No weights are on this machine; fetch them with: aidicombridge models fetch NAME")
        if failures:
            raise failures[0]
