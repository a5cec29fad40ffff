"""Files of models that are damaged, missing, alike, or not what they seem: each a named error, none hides another."""

import io
import json
import random
from pathlib import Path

import pytest
import torch
from AIDicomBridgeLib import Catalogue, ModelCard
from AIDicomBridgeLib.cli.main import app
from AIDicomBridgeLib.errors import ConsentError, ModelError, WeightsError
from AIDicomBridgeLib.models.card import WeightsFile
from AIDicomBridgeLib.models.consent import Consents
from AIDicomBridgeLib.models.loading import find_card, load_model, programs_of
from AIDicomBridgeLib.models.resident import ResidentModels
from AIDicomBridgeLib.models.state_dicts import load_into, read_checkpoint
from AIDicomBridgeLib.models.weights import WeightsFolder
from AIDicomBridgeLib.results.equipment import device_uid
from AIDicomBridgeLib.series.volume import read_volume
from toy_card import CARD, write_toy_card
from typer.testing import CliRunner

# Two networks, as only deepbet's procedure runs them.
TWO_NETWORKS = (
    CARD[: CARD.index("[input]")]
    + '[rules]\nprocedure = "deepbet"\n\n[input]\norientation = "RAS"\n\n'
    + CARD[CARD.index("[network]") :]
)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def verify(name: object) -> tuple[int, dict]:
    result = CliRunner().invoke(app, ["models", "verify", str(name), "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_verify_looks_at_every_file_of_a_model(own_home: Path, tmp_path: Path) -> None:
    good, bad = b"a network", b"a finder"
    path = tmp_path / "two.toml"
    import hashlib

    first = f'size = {len(good)}\nsha256 = "{hashlib.sha256(good).hexdigest()}"\n'
    second = f'size = {len(bad)}\nsha256 = "{hashlib.sha256(bad).hexdigest()}"\n'
    text = TWO_NETWORKS.replace('file = "toy.safetensors"\n', f'file = "toy.safetensors"\n{first}')
    path.write_text(text + f'\n[finder_weights]\nfile = "finder.safetensors"\n{second}')
    (tmp_path / "toy.safetensors").write_bytes(good)
    (tmp_path / "finder.safetensors").write_bytes(bad)
    assert verify(path) == (0, {"command": "models verify", "status": "ok", "models": {"toy": "ok"}})
    (tmp_path / "finder.safetensors").write_bytes(b"damaged!")
    status, answer = verify(path)
    assert status == 1
    assert "finder.safetensors is not the one" in answer["models"]["toy"]


FINDER = '[finder_weights]\nfile = "finder.safetensors"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TWO_NETWORKS, 'procedure "deepbet" needs \\[finder_weights\\]'),
        (CARD + FINDER, "a card without a procedure has no \\[finder_weights\\]"),
        (TWO_NETWORKS.replace("deepbet", "lungmask") + FINDER, '"lungmask" has no \\[finder_weights\\]'),
        (TWO_NETWORKS.replace("deepbet", "ct-tissues"), '"ct-tissues" has no \\[network\\]'),
        (CARD + '[rules]\nprocedure = "lungmask"\n', '"lungmask" prepares .* \\[input\\] says another'),
        (
            TWO_NETWORKS.replace('"RAS"', '"RAS"\nspacing_mm = [1, 1, 1]') + FINDER,
            "\\[input\\] says another.*shipped card",
        ),
        (TWO_NETWORKS.replace("[network]", "[windows]\npatch = [8, 8, 8]\n[network]") + FINDER, "\\[windows\\] says"),
        (
            CARD.replace("[network]", "[output]\nthreshold = 0.4\n[network]"),
            "'threshold' is for the activation \"sigmoid\"",
        ),
        (CARD.replace("[network]", '[output]\noverlap_rule = "last"\n[network]'), "'overlap_rule' is for"),
    ],
)
def test_what_a_procedure_lacks_or_would_pass_over_is_refused_with_the_key(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "card.toml").write_text(text)
    with pytest.raises(ModelError, match=words):
        ModelCard.from_file(tmp_path / "card.toml")


def test_verify_says_what_it_could_not_check(tmp_path: Path) -> None:
    assert verify(write_toy_card(tmp_path))[1]["models"] == {"toy": "not checked: no SHA-256"}


@pytest.mark.parametrize("old_form", [False, True])
def test_damaged_checkpoints_are_named_errors(old_form: bool) -> None:
    file = io.BytesIO()
    content = {"0.weight": torch.randn(2, 1, 1, 1, 1), "epoch": 3}
    torch.save(content, file, _use_new_zipfile_serialization=not old_form)
    whole, chance = file.getvalue(), random.Random(7)  # noqa: S311 - the same damage every time
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            tensors = read_checkpoint(bytes(damaged[: chance.choice((len(damaged), chance.randrange(len(damaged))))]))
            load_into(torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1, bias=False)), tensors)
        except WeightsError:
            pass


@pytest.mark.parametrize("content", [{"0.weight": 5}, {1: torch.ones(1)}, [torch.ones(1)]])
def test_a_checkpoint_that_is_no_table_of_tensors_is_a_named_error(content: object) -> None:
    file = io.BytesIO()
    torch.save(content, file)
    with pytest.raises(WeightsError, match=r"no table of tensors|'0\.weight' is no tensor"):
        load_into(torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1)), read_checkpoint(file.getvalue()))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:80@evil.example/x",
        "http://localhost.evil.example/x",
        "https:///x",
        "https://a@b/x",
        "file:///x",
    ],
)
def test_an_address_that_only_looks_safe_is_refused(tmp_path: Path, url: str) -> None:
    source = f'file = "toy.safetensors"\nsize = 1\nsha256 = "{"0" * 64}"\nurls = ["{url}"]'
    text = CARD.replace('file = "toy.safetensors"', source)
    (tmp_path / "card.toml").write_text(text)
    with pytest.raises(ModelError, match="'urls' must begin with https://"):
        ModelCard.from_file(tmp_path / "card.toml")


def test_weights_without_a_hash_are_taken_from_beside_the_card_only(own_home: Path, tmp_path: Path) -> None:
    card = ModelCard.from_file(write_toy_card(tmp_path))
    (own_home / "weights").mkdir(parents=True)
    (tmp_path / "toy.safetensors").rename(own_home / "weights" / "toy.safetensors")
    with pytest.raises(WeightsError, match=r"Put the file toy\.safetensors beside the card"):
        load_model(card, "cpu")
    with pytest.raises(WeightsError, match=r"Put the file toy\.safetensors beside the card"):
        WeightsFolder.default().fetch(card, from_file=own_home / "weights" / "toy.safetensors")


def test_weights_that_were_put_beside_their_card_are_neither_fetched_nor_removed(tmp_path: Path) -> None:
    card = write_toy_card(tmp_path)
    fetched, removed = (CliRunner().invoke(app, ["models", what, str(card), "--json"]) for what in ("fetch", "remove"))
    assert json.loads(fetched.stdout)["path"] == str(tmp_path / "toy.safetensors")
    assert removed.exit_code == 1
    assert "they lie beside its card. Remove" in json.loads(removed.stdout)["error"]["message"]


def test_what_is_no_model_by_itself_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fold = tmp_path / "Trainer__Plans__3d_fullres" / "fold_0"
    fold.mkdir(parents=True)
    for path in (
        Path("toy.pt"),
        fold.parent / "plans.json",
        fold.parent / "dataset.json",
        fold / "checkpoint_best.pth",
    ):
        path.write_text("{}")
    with pytest.raises(ModelError, match=r"toy\.pt is no model by itself\. A network's file needs a card"):
        find_card("toy.pt")
    with pytest.raises(
        ModelError, match=r"no fold_0/checkpoint_final\.pth\. If another .* checkpoint_best\.pth, copy it"
    ):
        find_card(fold.parent)
    (fold / "checkpoint_best.pth").rename(fold / "checkpoint_final.pth")
    for path in (fold.parent / "plans.json", fold / "checkpoint_final.pth"):
        with pytest.raises(ModelError, match=r"part of: .*Trainer__Plans__3d_fullres$"):
            find_card(path)
    for missing in ("gone.onnx", "models/gone", str(tmp_path / "gone")):
        with pytest.raises(ModelError, match=f"no file or folder {missing}"):
            find_card(missing)
    with pytest.raises(ModelError, match=r"no model 'mindgrap'\. Known are: ct-tissues"):
        find_card("mindgrap")


def test_advice_on_a_card_that_was_handed_in_names_what_commands_can_find(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    text = CARD.replace('file = "toy.safetensors"', 'file = "toy.pt"\nformat = "torchscript"')
    path.write_text(text.replace('architecture = "meshnet"\nchannels = 4\ndilations = [1]\n', ""))
    torch.jit.trace(torch.nn.Conv3d(1, 2, 1), torch.zeros(1, 1, 8, 8, 8)).save(str(tmp_path / "toy.pt"))
    with pytest.raises(ConsentError, match=f"aidicombridge models trust {path}"):
        ResidentModels().get(ModelCard.from_file(path), "cpu")
    path.write_text(
        CARD.replace('file = "toy.safetensors"', f'file = "toy.safetensors"\nsize = 1\nsha256 = "{"0" * 64}"')
    )
    (tmp_path / "toy.safetensors").unlink(missing_ok=True)
    with pytest.raises(WeightsError, match=f"aidicombridge models fetch {path}"):
        load_model(ModelCard.from_file(path), "cpu")


def test_a_folder_of_a_models_name_does_not_hide_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mindgrab").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_card("mindgrab").name == "mindgrab"
    with pytest.raises(ModelError, match="folder mindgrab is no model"):
        find_card(tmp_path / "mindgrab")


def test_every_program_of_a_model_is_agreed_to(own_home: Path, tmp_path: Path) -> None:
    files = []
    for name in ("network", "finder"):
        torch.jit.trace(torch.nn.Conv3d(1, 2, 1), torch.zeros(1, 1, 8, 8, 8)).save(str(tmp_path / f"{name}.pt"))
        files.append(WeightsFile(f"{name}.pt", 0, "", "torchscript"))
    (tmp_path / "card.toml").write_text(
        TWO_NETWORKS.replace('file = "toy.safetensors"', 'file = "network.pt"\nformat = "torchscript"').replace(
            'architecture = "meshnet"\nchannels = 4\ndilations = [1]\n', ""
        )
        + '\n[finder_weights]\nfile = "finder.pt"\nformat = "torchscript"\n'
    )
    card = ModelCard.from_file(tmp_path / "card.toml")
    assert [name for _, name in programs_of(card)] == ["network.pt", "finder.pt"]
    refused = CliRunner().invoke(app, ["models", "trust", str(tmp_path / "card.toml"), "--json"])
    assert "--yes" in json.loads(refused.stdout)["error"]["advice"]  # and nothing but JSON was printed
    agreed = CliRunner().invoke(app, ["models", "trust", str(tmp_path / "card.toml"), "--yes", "--json"])
    assert agreed.exit_code == 0
    assert all(Consents.default().has(sha256) for sha256, _ in programs_of(card))
    load_model(card, "cpu")


def test_the_same_weights_run_in_another_way_are_another_device(tmp_path: Path, ct_files: list[Path]) -> None:
    volume, path = read_volume(ct_files), write_toy_card(tmp_path)
    (tmp_path / "other.toml").write_text(CARD.replace("low = -1000", "low = -150"))
    made = [load_model(card, "cpu").segment(volume).provenance for card in (path, tmp_path / "other.toml")]
    assert made[0].weights_sha256 == made[1].weights_sha256
    assert device_uid(made[0]) != device_uid(made[1])
    rules = load_model("ct-tissues", "cpu").segment(volume).provenance
    assert (rules.weights_sha256, rules.card_sha256) == ("", Catalogue.load()["ct-tissues"].sha256)


def test_a_model_that_makes_room_for_another_can_still_be_used(tmp_path: Path, ct_files: list[Path]) -> None:
    card = ModelCard.from_file(write_toy_card(tmp_path))
    volume = read_volume(ct_files)
    models = ResidentModels(limit=1)
    held = models.get(card, "cpu")
    models.get(Catalogue.load()["ct-tissues"], "cpu")
    assert card not in models
    assert held.segment(volume).labels.shape == volume.voxels.shape
    held.release()
    with pytest.raises(ModelError, match="was released"):
        held.plan(volume)
