"""Commands for saved endpoints: list, add, remove. Secrets are typed in or piped, never part of a command."""

import getpass
import sys
from typing import Annotated

import typer

from ..errors import EndpointError
from ..pacs.credentials import Auth, OAuthClient
from ..pacs.endpoint import parse_endpoint
from ..pacs.saved_endpoints import SavedEndpoints
from .command import JsonOption, running
from .progress_lines import counted

app = typer.Typer(no_args_is_help=True, help="Endpoints saved under a name, which every command takes as ENDPOINT.")
NameArgument = Annotated[str, typer.Argument(help="The name.", metavar="NAME", show_default=False)]


@app.command("list")
def list_endpoints(as_json: JsonOption = False) -> None:
    """List the saved endpoints with their addresses, which hold no secret."""
    with running("endpoints list", as_json) as command:
        saved = SavedEndpoints.default()
        rows = list(saved)
        command.answer["endpoints"] = [{"name": name, "address": address} for name, address in rows]
        command.show_table(("Name", "Address"), rows)
        command.say(f"{counted(len(rows), 'endpoint')} saved in {saved.path}.")


@app.command("add")
def add_endpoint(
    name: NameArgument,
    address: Annotated[
        str,
        typer.Argument(help="dimse://AETITLE@host:port, or https://host/dicom-web; with options", metavar="ADDRESS"),
    ],
    user: Annotated[str | None, typer.Option(help="User name; the password is asked for.")] = None,
    token: Annotated[bool, typer.Option("--token", help="Ask for a bearer token.")] = False,
    oauth_client: Annotated[
        str | None, typer.Option(help="OAuth 2.0 client ID; the client secret is asked for.", metavar="ID")
    ] = None,
    token_url: Annotated[str | None, typer.Option(help="Where the OAuth 2.0 client gets its tokens.")] = None,
    scope: Annotated[str, typer.Option(help="Scope to ask for with --oauth-client.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Save an endpoint under a name.

    A secret is asked for without being shown, or read from standard input if that is no terminal. It goes into the
    system's keyring, or, where there is none, into a file that only you can read.
    """
    if sum((user is not None, token, oauth_client is not None)) > 1:
        raise typer.BadParameter("give one of --user, --token and --oauth-client")
    if (oauth_client is None) != (token_url is None):
        raise typer.BadParameter("--oauth-client and --token-url go together")
    with running("endpoints add", as_json) as command:
        endpoint = parse_endpoint(address)
        auth: Auth = None
        if user is not None:
            auth = (user, _ask("Password"))
        elif token:
            auth = _ask("Token")
        elif oauth_client is not None:
            auth = OAuthClient(token_url or "", oauth_client, _ask("Client secret"), scope)
        where = SavedEndpoints.default().add(name, endpoint, auth)
        command.answer |= {"name": name, "address": endpoint.address, "secret": where}
        kept = {
            "": "",
            "keyring": " Its secret is in the system's keyring.",
            "file": " Its secret is in a file of yours.",
        }
        command.say(f"{name} is saved.{kept[where]}")


@app.command("remove")
def remove_endpoint(name: NameArgument, as_json: JsonOption = False) -> None:
    """Forget a saved endpoint and its secret."""
    with running("endpoints remove", as_json) as command:
        SavedEndpoints.default().remove(name)
        command.answer["name"] = name
        command.say(f"{name} is removed.")


def _ask(what: str) -> str:
    secret = getpass.getpass(f"{what}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not secret:
        raise EndpointError(f"no {what.lower()} was given")
    return secret
