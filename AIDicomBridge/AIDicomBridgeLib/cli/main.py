"""The command line, ``aidicombridge``."""

import logging
import warnings
from typing import Annotated

import typer

from .. import __version__
from . import (
    archive_commands,
    batch_command,
    demo_command,
    encode_command,
    endpoint_commands,
    find_command,
    job_commands,
    models_commands,
    outbox_commands,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From the PACS through a segmentation network and back, as standard DICOM. Exit status: 0 done, 1 failed, "
    "2 wrong usage, 3 partly done.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"AIDicomBridge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of all commands."""


app.command()(demo_command.demo)
app.command()(archive_commands.echo)
app.command()(archive_commands.doctor)
app.command()(find_command.find)
app.command()(archive_commands.get)
app.command()(job_commands.segment)
app.command()(encode_command.encode)
app.command()(archive_commands.send)
app.command()(job_commands.run)
app.command()(batch_command.batch)
app.add_typer(endpoint_commands.app, name="endpoints")
app.add_typer(models_commands.app, name="models")
app.add_typer(outbox_commands.app, name="outbox")


def main() -> None:
    """Run the command line."""
    # The libraries' own messages can hold identifiers; failures reach the person as one sentence.
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", module="pydicom")  # they quote the values that they complain about
    for name in ("pynetdicom", "pydicom", "highdicom", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    app()


if __name__ == "__main__":
    main()
