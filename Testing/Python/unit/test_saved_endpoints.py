"""Endpoints saved under a name: found by every command, without a secret in any file that is not made for it."""

import json
import sys
from pathlib import Path

import pytest
from AIDicomBridgeLib.cli.main import app
from AIDicomBridgeLib.errors import EndpointError, FolderError, NotFoundError
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.credentials import OAuthClient
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint, parse_endpoint
from AIDicomBridgeLib.pacs.saved_endpoints import SavedEndpoints
from typer.testing import CliRunner

WEB = DicomWebEndpoint("", "https://pacs.example/dicom-web", timeout_s=7.0)


class Keyring:
    """A keyring in memory."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}

    def set_password(self, service: str, user: str, secret: str) -> None:
        self.kept[service, user] = secret

    def get_password(self, service: str, user: str) -> str | None:
        return self.kept.get((service, user))

    def delete_password(self, service: str, user: str) -> None:
        del self.kept[service, user]


class NoKeyring:
    """What the package keyring is on a server: there, and of no use."""

    def set_password(self, *_arguments: str) -> None:
        raise RuntimeError("no backend")

    get_password = delete_password = set_password


@pytest.fixture(params=[Keyring, NoKeyring])
def keyring(request: pytest.FixtureRequest) -> object:
    return request.param()


def texts_below(folder: Path, *, besides: str = "") -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file() and path.name != besides)


@pytest.mark.parametrize(
    "auth", [("doctor", "canary"), "canary", OAuthClient("https://login.example/token", "bridge", "canary", "dicom")]
)
def test_a_saved_endpoint_comes_back_with_its_secret(tmp_path, keyring, auth) -> None:
    where = SavedEndpoints(tmp_path, keyring).add("main pacs", WEB, auth)

    found = SavedEndpoints(tmp_path, keyring).get("main pacs")

    assert where == ("keyring" if isinstance(keyring, Keyring) else "file")
    assert (found.name, found.url, found.timeout_s, found.auth) == ("main pacs", WEB.url, 7.0, auth)
    assert "canary" not in texts_below(tmp_path, besides="secrets.json")
    assert (tmp_path / "secrets.json").exists() == (where == "file")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_secret_is_given_to_its_own_service_only(tmp_path, keyring) -> None:
    saved = SavedEndpoints(tmp_path, keyring)
    saved.add("main", WEB, "canary")

    assert saved.with_secret(parse_endpoint("https://pacs.example/dicom-web?timeout_s=3")).auth == "canary"
    assert saved.with_secret(parse_endpoint("https://pacs.example/other")).auth is None
    assert saved.with_secret(parse_endpoint("https://pacs.example:8443/dicom-web")).auth is None


def test_what_is_removed_is_gone_with_its_secret(tmp_path, keyring) -> None:
    saved = SavedEndpoints(tmp_path, keyring)
    saved.add("one", WEB, "canary")
    saved.add("two", WEB)
    saved.remove("one")
    assert saved.get("two").auth == "canary"  # the same service

    saved.remove("two")

    assert list(saved) == []
    assert "canary" not in texts_below(tmp_path)
    assert not (isinstance(keyring, Keyring) and keyring.kept)
    with pytest.raises(NotFoundError):
        saved.get("two")


def test_one_whose_address_is_not_valid_any_more_keeps_no_other_from_being_removed(tmp_path) -> None:
    saved = SavedEndpoints(tmp_path, NoKeyring())
    saved.add("one", WEB, "canary")
    saved.add("two", DicomWebEndpoint("", "https://other.example/dicom-web"), "canary")
    text = (tmp_path / "endpoints.toml").read_text()
    text = text.replace("?timeout_s=7.0", "?timeout_s=never&ca_file=/gone")
    (tmp_path / "endpoints.toml").write_text(text.replace("[secrets]", 'broken = "nothing"\n\n[secrets]'))

    for name in ("two", "one", "broken"):
        saved.remove(name)

    assert list(saved) == []
    assert "canary" not in texts_below(tmp_path)


def test_certificate_files_are_asked_for_when_they_are_needed(tmp_path) -> None:
    saved = SavedEndpoints(tmp_path, NoKeyring())
    endpoint = DicomWebEndpoint("", "https://127.0.0.1/dicom-web", ca_file=str(tmp_path / "gone.pem"))
    saved.add("main", endpoint)

    with pytest.raises(EndpointError, match=r"gone\.pem does not exist"):
        connect(saved.get("main")).verify()


def test_the_environment_comes_before_what_is_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "keyring", NoKeyring())
    SavedEndpoints(tmp_path).add("main", WEB, "kept")
    environ = {"AIDICOMBRIDGE_DICOMWEB_TOKEN": "of-the-machine", "AIDICOMBRIDGE_DICOMWEB_HOST": "pacs.example"}

    assert parse_endpoint("main", environ=environ).auth == "of-the-machine"
    assert parse_endpoint("main", environ=environ | {"AIDICOMBRIDGE_DICOMWEB_HOST": "other.example"}).auth == "kept"
    assert parse_endpoint("main", auth="given", environ=environ).auth == "given"


def test_a_secret_file_that_others_can_read_is_not_used(tmp_path) -> None:
    saved = SavedEndpoints(tmp_path, NoKeyring())
    saved.add("main", WEB, "canary")
    (tmp_path / "secrets.json").chmod(0o644)

    with pytest.raises(FolderError, match="chmod 600"):
        saved.get("main")


@pytest.mark.parametrize("name", ["", "a:b", "../x", "x" * 65, "a\nb", "dimse://A@h:1"])
def test_a_name_that_is_none_is_refused(tmp_path, name) -> None:
    with pytest.raises(EndpointError, match="no name"):
        SavedEndpoints(tmp_path, Keyring()).add(name, WEB)


def test_a_file_edited_by_hand_is_read_and_a_damaged_one_named(tmp_path) -> None:
    (tmp_path / "endpoints.toml").write_text('[endpoints]\nmain = "dimse://PACS@host:104"\n')
    assert SavedEndpoints(tmp_path).get("main") == DimseEndpoint("main", "host", 104, "PACS")

    (tmp_path / "endpoints.toml").write_text("[endpoints\n")
    with pytest.raises(FolderError, match=r"endpoints\.toml"):
        SavedEndpoints(tmp_path).get("main")


def test_the_commands(tmp_path, monkeypatch, unused_port) -> None:
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "keyring", NoKeyring())
    runner = CliRunner()

    added = runner.invoke(app, ["endpoints", "add", "web", WEB.address, "--token"], input="canary\n")
    assert added.exit_code == 0, added.output
    address = f"dimse://PACS@127.0.0.1:{unused_port}?associations=2"
    assert runner.invoke(app, ["endpoints", "add", "local", address]).exit_code == 0
    listed = runner.invoke(app, ["endpoints", "list", "--json"])

    assert json.loads(listed.stdout)["endpoints"] == [
        {"name": "web", "address": WEB.address},
        {"name": "local", "address": address},
    ]
    assert "canary" not in added.output + listed.output + texts_below(tmp_path, besides="secrets.json")
    assert parse_endpoint("web").auth == "canary"
    assert parse_endpoint("local") == DimseEndpoint("local", "127.0.0.1", unused_port, "PACS", associations=2)
    echoed = runner.invoke(app, ["echo", "local"])
    assert echoed.exit_code == 1
    assert "at local" in echoed.output
    assert runner.invoke(app, ["endpoints", "remove", "web"]).exit_code == 0
    assert "canary" not in texts_below(tmp_path)
    assert runner.invoke(app, ["echo", "web"]).exit_code == 1


def test_the_real_package_keyring_on_a_machine_without_a_keyring(tmp_path) -> None:
    keyring = pytest.importorskip("keyring", reason="the package keyring is not installed")
    fail = pytest.importorskip("keyring.backends.fail")
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    try:
        assert SavedEndpoints(tmp_path).add("main", WEB, "canary") == "file"
        assert SavedEndpoints(tmp_path).get("main").auth == "canary"
    finally:
        keyring.set_keyring(before)
