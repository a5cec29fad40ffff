"""Model files from anywhere: none of eight hostile ones runs any code, and a program runs only after consent."""

import dataclasses
import hashlib
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib import Catalogue, ModelCard, load_model
from AIDicomBridgeLib.errors import BridgeError, ConsentError, ModelError, WeightsError
from AIDicomBridgeLib.inference.rules import Decision, InputRules, WindowRules
from AIDicomBridgeLib.models.card import NetworkRules, WeightsFile
from AIDicomBridgeLib.models.catalogue import SHIPPED_CARDS
from AIDicomBridgeLib.models.consent import Consents
from AIDicomBridgeLib.models.state_dicts import read_checkpoint
from AIDicomBridgeLib.models.weights import WeightsFolder
from AIDicomBridgeLib.series.volume import read_volume
from monai_folders import RESCALED, write_bundle
from synthetic import body_phantom, make_series, save_series

MARK = "was-here"


class Touch:
    """Pickles into a call that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def card_for(folder: Path, name: str, kind: str) -> ModelCard:
    """Return a card for a file in the folder: one input channel, two classes, windows of 8."""
    content = (folder / name).read_bytes()
    return dataclasses.replace(
        Catalogue.load()["mindgrab"],
        name="stranger",
        cleanups=(),
        modalities=("CT",),
        body_parts=(),
        decision=Decision((0, 1)),
        network=NetworkRules("meshnet" if kind in ("safetensors", "state-dict") else "", 2, 4, (1,)),
        input=InputRules("SPL"),
        windows=WindowRules((8, 8, 8)),
        weights=WeightsFile(name, len(content), hashlib.sha256(content).hexdigest(), kind),
    )


def scripted(path: Path, body: str) -> None:
    """Write a TorchScript file whose forward has that body."""
    source = path.with_suffix(".py")
    source.write_text(f"import torch\nclass N(torch.nn.Module):\n    def forward(self, x):\n{body}")
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"hostile_{path.stem}", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.jit.script(module.N()).save(str(path))


def pickled(folder: Path) -> tuple[str, str]:
    torch.save({"state": Touch(folder / MARK)}, folder / "m.pth")
    return "m.pth", "state-dict"


def pickled_the_old_way(folder: Path) -> tuple[str, str]:
    torch.save({"state": Touch(folder / MARK)}, folder / "m.pth", _use_new_zipfile_serialization=False)
    return "m.pth", "state-dict"


def script_that_saves(folder: Path) -> tuple[str, str]:
    scripted(folder / "m.pt", f"        torch.save(x, '{folder / MARK}')\n        return torch.cat([x, -x], 1)\n")
    return "m.pt", "torchscript"


def script_that_maps_a_file(folder: Path) -> tuple[str, str]:
    body = f"        torch.from_file('{folder / MARK}', shared=True, size=4)\n        return torch.cat([x, -x], 1)\n"
    scripted(folder / "m.pt", body)
    return "m.pt", "torchscript"


def script_called_a_checkpoint(folder: Path) -> tuple[str, str]:
    script_that_saves(folder)
    (folder / "m.pt").rename(folder / "m.pth")
    return "m.pth", "state-dict"


@pytest.mark.parametrize(
    "make",
    [pickled, pickled_the_old_way, script_that_saves, script_that_maps_a_file, script_called_a_checkpoint],
)
def test_a_hostile_file_runs_no_code(tmp_path: Path, make: Callable[[Path], tuple[str, str]]) -> None:
    name, kind = make(tmp_path)
    (tmp_path / MARK).unlink(missing_ok=True)
    with pytest.raises(WeightsError, match=r"Nothing of it was run|nobody has agreed to run it"):
        load_model(
            card_for(tmp_path, name, kind), "cpu", weights_folder=WeightsFolder(tmp_path),
            consents=Consents(tmp_path / "consents.json"),
        )  # fmt: skip
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize(
    "requirement", ["{0}", "file://{0}", "--requirement={0}/r.txt", "evil @ file://{0}", "git+https://example.org/x"]
)
def test_a_card_cannot_name_a_package_that_pip_would_run(tmp_path: Path, requirement: str) -> None:
    card = (SHIPPED_CARDS / "mindgrab.toml").read_text(encoding="utf-8")
    assert 'requirement = "brainchop==0.1.16"' in card
    evil = card.replace("brainchop==0.1.16", requirement.format(tmp_path))
    (tmp_path / "evil.toml").write_text(evil, encoding="utf-8")
    with pytest.raises(ModelError, match=r"\[package\]: 'requirement' must be \"name==version\""):
        ModelCard.from_file(tmp_path / "evil.toml")


@pytest.mark.parametrize("trick", ["_target_", "$"])
def test_a_hostile_bundle_configuration_is_read_and_not_run(tmp_path: Path, trick: str) -> None:
    mark = tmp_path / MARK
    evil = (
        {"_target_": "os.system", "command": f"touch {mark}"}
        if trick == "_target_"
        else f"$__import__('pathlib').Path('{mark}').touch()"
    )
    folder = write_bundle(tmp_path / "bundle", initialize=evil)
    with pytest.raises(ConsentError, match="nobody has agreed to run it"):
        load_model(folder, "cpu", consents=Consents(tmp_path / "consents.json"))
    assert not mark.exists()
    for place, value in (("transforms", [evil]), ("inferer", evil), ("postprocessing", [evil])):
        folder = write_bundle(tmp_path / place, **{place: value})
        with pytest.raises(ModelError, match=r"step system is not supported|is an expression|holds something"):
            load_model(folder, "cpu", consents=Consents(tmp_path / "consents.json"))
    assert not mark.exists()


def test_a_bundle_that_would_unpack_outside_of_its_folder_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in folder.rglob("*.*"):
            packed.write(path, f"bundle/{path.relative_to(folder)}")
        packed.writestr(f"../{MARK}", "x")
    with pytest.raises(ModelError, match="outside of its folder"):
        load_model(archive, "cpu", consents=Consents(tmp_path / "consents.json"))
    assert not (tmp_path / MARK).exists()
    assert not (tmp_path.parent / MARK).exists()


def test_a_program_runs_once_the_user_has_agreed(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", [{"_target_": "Orientationd", "axcodes": "RAS"}, RESCALED])
    volume = read_volume(save_series(make_series(body_phantom((8, 24, 24))), tmp_path / "series"))
    consents = Consents(tmp_path / "consents.json")
    consents.agree(hashlib.sha256((folder / "models" / "model.ts").read_bytes()).hexdigest(), "Stranger")

    model = load_model(folder, "cpu", precision="float32", consents=Consents(tmp_path / "consents.json"))
    labels = model.segment(volume).labels

    assert model.card.segments[0].type.value == "78961009"
    np.testing.assert_array_equal(labels, volume.voxels > 0)


def test_programs_and_graphs_give_what_the_network_gives(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = torch.nn.Conv3d(1, 2, 3, padding=1).eval()
    window = torch.zeros(1, 1, 8, 8, 8)
    torch.jit.trace(network, window).save(str(tmp_path / "m.pt"))
    torch.export.save(torch.export.export(network, (window,)), tmp_path / "m.pt2")
    kinds = [("m.pt", "torchscript"), ("m.pt2", "torch-export")]
    volume = read_volume(save_series(make_series(body_phantom((8, 24, 24))), tmp_path / "series"))
    found = []
    consents = Consents(tmp_path / "consents.json")
    for name, kind in kinds:
        card = card_for(tmp_path, name, kind)
        assert card.weights is not None
        consents.agree(card.weights.sha256, card.name)
        model = load_model(card, "cpu", precision="float32", weights_folder=WeightsFolder(tmp_path), consents=consents)
        found.append(model.segment(volume).labels)
    np.testing.assert_array_equal(found[0], found[1])
    assert 0 < found[0].sum() < found[0].size


def test_numbers_of_numpy_in_an_honest_checkpoint_are_read(tmp_path: Path) -> None:
    torch.save({"best": np.float64(0.5), "log": [np.float32(1)], "w": torch.ones(2)}, tmp_path / "m.pth")
    assert read_checkpoint(tmp_path / "m.pth")["best"] == 0.5


@pytest.mark.parametrize("content", [b"", b"no model", pickle.dumps({"a": 1}), b"PK\x03\x04broken"])
@pytest.mark.parametrize("kind", ["safetensors", "state-dict", "torchscript", "torch-export"])
def test_what_is_no_model_file_is_a_named_error(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "m").write_bytes(content)
    card = card_for(tmp_path, "m", kind)
    assert card.weights is not None
    consents = Consents(tmp_path / "consents.json")
    consents.agree(card.weights.sha256, card.name)
    with pytest.raises(BridgeError):
        load_model(card, "cpu", weights_folder=WeightsFolder(tmp_path), consents=consents)
