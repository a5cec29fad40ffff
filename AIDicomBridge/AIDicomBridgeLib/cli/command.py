"""What every command does around its own work: progress, one answer, one sentence for an error, the exit status."""

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import BridgeError, JobCancelled
from ..progress import CancelToken
from .progress_lines import ProgressLines

FILE_WIDTH = 240  # characters a line where the output goes to a file or another program
SUCCESS, FAILED, USAGE, PARTIAL = 0, 1, 2, 3

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text, for machines.")]


class Command:
    """One run of a command.

    Attributes
    ----------
    progress
        Callback for long steps: bars in a terminal, a line per stage elsewhere, nothing with ``--json``.
    cancel
        Cancelled by Ctrl-C or SIGTERM.
    """

    def __init__(self, name: str, as_json: bool) -> None:
        self.name = name
        self.as_json = as_json
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = FILE_WIDTH
        self.progress = ProgressLines(Console(stderr=True, highlight=False, quiet=as_json))
        self.cancel = CancelToken()
        self.answer: dict[str, Any] = {}
        self.exit_status = SUCCESS

    def say(self, text: str) -> None:
        """Print a sentence for people; silent with ``--json``."""
        if not self.as_json:
            self.progress.stop()
            self.console.print(text, markup=False, soft_wrap=True)

    def show_table(
        self, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, title: str | None = None
    ) -> None:
        """Print a table for people; silent with ``--json``."""
        if self.as_json:
            return
        self.progress.stop()
        widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
        if rows and sum(widths) + 3 * len(widths) + 1 > self.console.width:
            self._show_records(columns, rows, title)
            return
        table = Table(title=title, title_justify="left", header_style="bold")
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.console.print(table)

    def _show_records(self, columns: Sequence[str], rows: Sequence[tuple[str, ...]], title: str | None) -> None:
        """Print a line per cell: a UID that is cut or folded cannot be copied into the next command."""
        if title:
            self.say(title)
        width = max(len(column) for column in columns)
        for row in rows:
            lines = [f"{column:<{width}}  {cell}" for column, cell in zip(columns, row, strict=True) if cell]
            self.say("\n".join(lines) + "\n")

    def stop(self, *_: object) -> None:
        """Handle Ctrl-C: the first asks to stop at the next safe point, the second stops at once."""
        if self.cancel.cancelled:
            raise KeyboardInterrupt
        self.cancel.cancel()

    def partial(self, text: str) -> None:
        """Say what is missing and end with exit status 3."""
        self.exit_status = PARTIAL
        self.say(text)


@contextmanager
def running(name: str, as_json: bool) -> Iterator[Command]:
    """Run a command's work and end the process as DESIGN of the command line says: 0, 1 failed, 3 partial.

    With ``--json`` exactly one JSON object goes to standard output: ``command``, ``status`` (ok, partial, failed or
    cancelled), then what the command adds, or ``error``.
    """
    command = Command(name, as_json)
    previous = {number: signal.signal(number, command.stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield command
        status = {SUCCESS: "ok", PARTIAL: "partial"}[command.exit_status]
    except (JobCancelled, KeyboardInterrupt):
        command.exit_status, status = FAILED, "cancelled"
        _complain(command, "Cancelled; what had arrived before is kept.")
    except BridgeError as error:
        command.exit_status, status = FAILED, "failed"
        command.answer["error"] = error.to_dict()
        _complain(command, str(error))
    except OSError as error:  # a file or folder that the person named, or a full disk
        command.exit_status, status = FAILED, "failed"
        failure = BridgeError(f"{error.filename or 'a file'} cannot be read or written: {error.strerror}")
        command.answer["error"] = failure.to_dict()
        _complain(command, str(failure))
    finally:
        command.progress.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
    if as_json:
        sys.stdout.write(json.dumps({"command": name, "status": status, **command.answer}, indent=2) + "\n")
    raise typer.Exit(command.exit_status)


def _complain(command: Command, text: str) -> None:
    command.progress.stop()
    if not command.as_json:
        Console(stderr=True, highlight=False).print(f"aidicombridge: {text}", markup=False, soft_wrap=True)
