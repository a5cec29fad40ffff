"""The command line as a person, or a program, calls it."""

import json
from pathlib import Path
from typing import Any

from AIDicomBridgeLib.cli.main import app
from typer.testing import CliRunner

README = (Path(__file__).parents[2] / "README.md").read_text()


def run(*arguments: object) -> Any:
    """Run ``aidicombridge`` in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer_of(*arguments: object) -> dict[str, Any]:
    """Return what a command that succeeds prints with ``--json``; the README has every key of it."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    undocumented = [key for key in answer if f"`{key}`" not in README]
    assert not undocumented, "the README documents every key of every answer"
    return answer
