"""Models that a person brings: the README's example as written, found folders, consent and weights by command."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib import Catalogue, ModelCard, load_model
from AIDicomBridgeLib.cli.main import app
from AIDicomBridgeLib.cli.models_commands import describe
from AIDicomBridgeLib.errors import ConsentError, DependencyError, MemoryLimitError, ModelError, WeightsError
from AIDicomBridgeLib.inference.rules import InputRules, WindowRules
from AIDicomBridgeLib.models import resident
from AIDicomBridgeLib.models.anatomy import SHIPPED, segment_of
from AIDicomBridgeLib.models.model import Model
from AIDicomBridgeLib.models.nnunet_folder import nnunet_card, nnunet_files
from AIDicomBridgeLib.models.nnunet_networks import _unet
from AIDicomBridgeLib.models.own_models import OwnModels
from AIDicomBridgeLib.models.resident import ResidentModels
from AIDicomBridgeLib.progress import Progress
from AIDicomBridgeLib.series.volume import read_volume
from synthetic import body_phantom, make_series, save_series
from toy_card import write_toy_card
from typer.testing import CliRunner

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    section = README[README.index("### Bring your own model") :]
    return re.findall(rf"```{language}\n(.*?)```", section[: section.index("\n## ")], re.DOTALL)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "totalsegmentator"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str, answer: str = "") -> tuple[int, str]:
    done = CliRunner().invoke(app, line.split(), input=answer)
    return done.exit_code, done.output


def test_the_example_of_the_readme_works_as_written(home: Path) -> None:
    subprocess.run([sys.executable, "-c", blocks("python")[0]], check=True, cwd=home, env=dict(os.environ))
    (home / "toy.toml").write_text(blocks("toml")[0], encoding="utf-8")
    save_series(make_series(body_phantom(), spacing_mm=(4.0, 4.0, 4.0)), home / "DIR")
    trust, segment = re.findall(r"^aidicombridge (.*toy\.toml.*)$", README, re.MULTILINE)

    status, said = run(segment)
    assert status == 1
    assert re.search(rf"nobody has agreed to run it.*aidicombridge {trust}$", said, re.MULTILINE)
    status, said = run(trust, "n\n")
    assert status == 1
    assert "is a program" in said
    status, _ = run(trust, "y\n")
    assert status == 0
    status, said = run(f"{segment} --json")
    assert status == 0, said
    assert json.loads(said)["measurements"][0]["volume_ml"] > 0

    (home / "toy.pt").write_bytes((home / "toy.pt").read_bytes() + b" ")  # another file, another consent
    with pytest.raises(ConsentError):
        load_model(home / "toy.toml", "cpu")


PLANS = {
    "dataset_name": "Dataset297_Some_organs",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [1, 0, 2],
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 1.0, "std": 2.0, "percentile_00_5": -5.0, "percentile_99_5": 9.0}
    },
    "configurations": {
        "3d_fullres": {
            "spacing": [3.0, 1.0, 2.0],
            "patch_size": [32, 64, 48],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
        }
    },
}
DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "kidney_left": 1, "vertebrae_L5": 2, "odd": 3}}


def result_folder(root: Path, dataset: str = "Dataset297_Some_organs") -> Path:
    folder = root / dataset / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(PLANS))
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"not read for a card")
    return folder


def test_cards_that_read_alike_are_other_models_where_their_weights_are_others(home: Path) -> None:
    card = blocks("toml")[0].replace("toy.pt", "toy.onnx").replace('format = "torchscript"', 'format = "onnx"')
    models = ResidentModels(limit=3)
    loaded = []
    for name, weights in (("a", b"1"), ("b", b"22"), ("b", b"333")):
        (home / name).mkdir(exist_ok=True)
        (home / name / "toy.toml").write_text(card, encoding="utf-8")
        (home / name / "toy.onnx").write_bytes(weights)
        found = ModelCard.from_file(home / name / "toy.toml")
        assert found not in models
        with pytest.MonkeyPatch.context() as patch:
            made = Model(found, None, None, {}, weights)
            patch.setattr(resident, "load_model", lambda *_, made=made, **__: made)
            loaded.append(models.get(found))
        assert found in models
        assert models.get(found) is loaded[-1]
    assert [model.weights_sha256 for model in loaded] == [b"1", b"22", b"333"]


def test_what_totalsegmentator_downloaded_is_found_with_coded_sides(home: Path) -> None:
    result_folder(home / "totalsegmentator")
    card = Catalogue.load()["totalsegmentator-297"]
    assert card.title == "Some organs"
    assert card.input is not None
    assert card.input.orientation == "ASR"  # SAR, transposed as the plans say
    assert card.input.spacing_mm == (3.0, 1.0, 2.0)
    kidney, vertebra, odd = card.segments
    assert (kidney.type.value, kidney.type_modifier.meaning) == ("64033007", "Left")
    assert (vertebra.type.value, vertebra.type_modifier) == ("49668003", None)
    assert odd.type.scheme == "99AIDICOMBRIDGE"
    assert card.windows.mirror_axes == ()  # its program averages no mirrored windows in
    status, said = run("models list --json")
    assert status == 0
    assert "totalsegmentator-297" in [model["name"] for model in json.loads(said)["models"]]


def test_a_task_that_totalsegmentator_runs_inside_an_organ_is_not_offered_for_whole_series(home: Path) -> None:
    folder = result_folder(home / "totalsegmentator", "Dataset258_lung_vessels_248subj")
    result_folder(home / "totalsegmentator", "Dataset299_body")
    unclear = result_folder(home / "totalsegmentator", "Dataset300_body_6mm")  # neither its name nor its file says it
    one = PLANS["configurations"]["3d_fullres"]
    (unclear / "plans.json").write_text(json.dumps(PLANS | {"configurations": {"a": one, "b": one}}))
    assert [name for name in Catalogue.load().names() if "totalseg" in name] == ["totalsegmentator-299"]
    assert nnunet_card(folder).name == "Dataset297_Some_organs"  # by its path it is a model like any other


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("dataset.json", {"labels": {"background": 0, "": 1}}, "label 1 has the name ''"),
        ("dataset.json", {"labels": {"background": 0, "a\\b": 1}}, r"label 1 has the name 'a\\\\b'"),
        ("dataset.json", {"labels": ["background", "spleen"]}, "garbles"),
        ("plans.json", {"resampling_fn_data_kwargs": [1]}, "garbles"),
        ("plans.json", {"spacing": [float("inf"), 1.0, 1.0], "patch_size": [float("inf"), 8, 8]}, "garbles"),
    ],
)
def test_a_folder_that_cannot_be_used_hides_no_other_model(home: Path, file: str, change: dict, words: str) -> None:
    folder = result_folder(home / "totalsegmentator", "Dataset299_body")
    result_folder(home / "totalsegmentator")
    changed = PLANS | {"configurations": {"3d_fullres": PLANS["configurations"]["3d_fullres"] | change}}
    (folder / file).write_text(json.dumps(changed if file == "plans.json" else DATASET | change))
    assert [name for name in Catalogue.load().names() if "totalseg" in name] == ["totalsegmentator-297"]
    with pytest.raises(ModelError, match=words):
        nnunet_card(folder)


def test_the_five_networks_of_the_total_task_are_one_model(home: Path) -> None:
    stages = {"features_per_stage": [8, 8], "kernel_sizes": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]]}
    arguments = stages | {"n_conv_per_stage": 1, "n_conv_per_stage_decoder": 1, "conv_bias": True}
    architecture = {"network_class_name": "PlainConvUNet", "arch_kwargs": arguments}
    organs = ["spleen", "heart", "sacrum", "aorta", "liver"]
    for number, organ in enumerate(organs):
        folder = result_folder(home / "totalsegmentator", f"Dataset{291 + number}_part")
        plans = json.loads(json.dumps(PLANS))
        plans["configurations"]["3d_fullres"] |= {
            "architecture": architecture, "patch_size": [8, 8, 8 if number < 4 else 16], "spacing": [4.0, 4.0, 4.0]
        }  # fmt: skip
        (folder / "plans.json").write_text(json.dumps(plans))
        names = {"background": 0, organ: 1}
        (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": names}))
        torch.manual_seed(number)
        weights = _unet(False, arguments, 1, 2).state_dict()
        head = weights["decoder.seg_layers.0.weight"]  # one that says neither the same everywhere
        head[0], head[1, ::2], head[1, 1::2] = 0, 1, -1
        weights["decoder.seg_layers.0.bias"].fill_(0)
        content = {"network_weights": weights, "inference_allowed_mirroring_axes": (0, 1)}
        torch.save(content, folder / "fold_0" / "checkpoint_final.pth")
    volume = read_volume(save_series(make_series(body_phantom((9, 16, 16)), spacing_mm=(4.0, 4.0, 4.0)), home / "DIR"))
    catalogue = Catalogue.load()
    expected, most = np.zeros(volume.voxels.shape, np.uint8), 0
    for number in range(5):
        part = load_model(f"totalsegmentator-{291 + number}", "cpu", precision="float32", catalogue=catalogue)
        expected[part.segment(volume).labels > 0] = number + 1
        most = max(most, part.plan(volume).host_bytes)
    seen: list[Progress] = []

    model = load_model("totalsegmentator-total", "cpu", precision="float32", catalogue=catalogue)
    result = model.segment(volume, progress=seen.append)

    assert model.plan(volume).host_bytes == most + result.labels.nbytes
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(result.labels, expected)
    assert [segment.name for segment in result.segments] == [organ.capitalize() for organ in organs]
    assert [segment.label for segment in result.segments] == [1, 2, 3, 4, 5]
    assert result.provenance is not None
    assert result.provenance.model == "totalsegmentator-total"
    assert result.provenance.memory_plan.count("windows of") == 2  # four plans are one and the same
    assert "mirrored" not in result.provenance.memory_plan  # as its program runs them
    assert seen[-1].message.startswith("part 5 of 5")
    done = [event.completed for event in seen]
    assert done == sorted(done)  # one count of all windows, which never goes back
    assert {event.total for event in seen} == {done[-1]}
    mr = read_volume(save_series(make_series(body_phantom((3, 16, 16)), modality="MR"), home / "MR"))
    with pytest.raises(ModelError, match="totalsegmentator-total works on CT, not on MR"):
        model.segment(mr)
    with pytest.raises(ModelError, match=r"joins 5 networks.*its parts: totalsegmentator-291"):
        model.segment(volume, probabilities=True)
    with pytest.raises(MemoryLimitError, match="its leanest, the model needs"):
        model.segment(volume, memory_limit_bytes=1000)
    model.release()
    with pytest.raises(ModelError, match="was released"):
        model.segment(volume)


def test_the_two_networks_of_the_total_task_for_mr_are_one_model(home: Path) -> None:
    for number in (850, 851):
        assert "totalsegmentator-total-mr" not in Catalogue.load()
        result_folder(home / "totalsegmentator", f"Dataset{number}_TotalSegMRI_part")
    card = Catalogue.load()["totalsegmentator-total-mr"]
    assert (card.title, len(card.segments)) == ("all structures of the total mr task", 6)


def test_labels_that_others_are_taken_out_of_are_not_called_and_coded_as_the_whole(home: Path) -> None:
    folder = result_folder(home)
    regions = {"background": 0, "kidney_left": [1, 2, 3], "masses": [2, 3], "tumor": 2}
    (folder / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": regions, "regions_class_order": [1, 3, 2]})
    )
    card = nnunet_card(folder)
    assert card.decision is not None
    assert card.decision.values == (1, 3, 2)
    names = {segment.label: segment.name for segment in card.segments}
    assert names == {1: "Kidney left without masses and tumor", 2: "Tumor", 3: "Masses without tumor"}
    assert card.segments[0].type.scheme == "99AIDICOMBRIDGE"
    with pytest.raises(ModelError, match="labels only, no probabilities: it was trained on regions"):
        Model(card, None, None, {}, "").refuse_probabilities()


def test_a_file_beside_the_plans_says_what_they_do_not(home: Path) -> None:
    folder = result_folder(home)
    (folder / "aidicombridge.toml").write_text('orientation = "SAR"\nlicence = "MIT"\nbody_parts = ["ABDOMEN"]\n')
    card = nnunet_card(folder)
    assert card.input is not None
    assert (card.input.orientation, card.licence, card.body_parts) == ("ASR", "MIT", ("ABDOMEN",))
    (folder / "aidicombridge.toml").write_text('modalities = ["PT"]\nsuv = false\n')
    assert nnunet_card(folder).input.suv is False
    assert not nnunet_card(folder).unit_is_suv("PT", shown_as_suv=True)
    (folder / "dataset.json").write_text(json.dumps(DATASET | {"channel_names": {"0": "SUV"}}))
    (folder / "aidicombridge.toml").unlink()
    assert nnunet_card(folder).wants_suv("PT")
    assert nnunet_card(folder).unit_is_suv("PT", shown_as_suv=False)
    assert not nnunet_card(folder).wants_suv("CT")  # of several channels one may be CT
    (folder / "aidicombridge.toml").write_text('orientatoin = "SAR"\n')
    with pytest.raises(ModelError, match=r"unknown key 'orientatoin'.*suv"):
        nnunet_card(folder)
    (folder / "aidicombridge.toml").write_text("suv = false\n")  # nothing is wrong with it where the plans are
    second = PLANS["configurations"]["3d_fullres"] | {"previous_stage": "3d_lowres"}
    (folder / "plans.json").write_text(json.dumps(PLANS | {"configurations": {"3d_fullres": second}}))
    with pytest.raises(ModelError, match="second stage of a cascade"):
        nnunet_card(folder)


def test_a_channel_whose_name_says_no_modality_is_of_that_of_the_others(home: Path) -> None:
    folder = result_folder(home)
    plans = json.loads(json.dumps(PLANS))
    for channels, modalities in ((["T2", "ADC", "b 1400"], ("MR",)), (["contrast", "noNorm"], ("CT", "MR", "PT"))):
        (folder / "dataset.json").write_text(json.dumps(DATASET | {"channel_names": dict(enumerate(channels))}))
        plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["NoNormalization"] * len(channels)
        (folder / "plans.json").write_text(json.dumps(plans))
        assert nnunet_card(folder).modalities == modalities


def test_a_renamed_folder_says_its_configuration_by_its_plans_or_its_checkpoint(home: Path) -> None:
    folder = result_folder(home)
    folder = folder.rename(folder.parent / "my_model")
    assert nnunet_card(folder).version == "3d_fullres"
    flat = PLANS["configurations"]["3d_fullres"] | {"spacing": [1.5, 1.5], "patch_size": [64, 48]}
    both = {"3d_fullres": PLANS["configurations"]["3d_fullres"], "2d": flat}
    (folder / "plans.json").write_text(json.dumps(PLANS | {"configurations": both}))
    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    torch.save({"init_args": {"configuration": "2d"}}, checkpoint)
    card = nnunet_card(folder)
    assert (card.version, card.input.spacing_mm) == ("2d", (0.0, 1.5, 1.5))
    torch.save({"init_args": {"configuration": "3d_lowres"}}, checkpoint)
    with pytest.raises(ModelError, match=r"my_model nor its checkpoint says.* in __3d_fullres or __2d"):
        nnunet_card(folder)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        (
            "3d_fullres",
            {"configurations": {"a": {"inherits_from": "3d_fullres"}, "3d_fullres": {"inherits_from": "a"}}},
        ),
        ("patch_size", {"patch_size": [0, 64, 48]}),
        ("spacing", {"spacing": [1.0, 1.0, float("nan")]}),
        ("transpose_forward", {"transpose_forward": [0, 0, 1]}),
    ],
)
def test_plans_that_no_run_would_end_with_are_refused_by_key(home: Path, key: str, change: dict) -> None:
    folder = result_folder(home)
    configuration = PLANS["configurations"]["3d_fullres"] | change
    plans = PLANS | {"configurations": {"3d_fullres": configuration}} | change
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(ModelError, match=f"garbles '{key}'"):
        nnunet_card(folder)


def test_a_folder_is_the_same_model_wherever_it_lies_and_another_where_it_is_run_in_another_way(home: Path) -> None:
    folder, copy = result_folder(home / "a"), result_folder(home / "b")
    (copy / "fold_0" / "checkpoint_final.pth").touch()
    card = nnunet_card(folder)
    assert nnunet_card(copy).sha256 == card.sha256
    turned = nnunet_card(folder, orientation="SAR").sha256
    (copy / "aidicombridge.toml").write_text('orientation = "SAR"\n')
    assert len({card.sha256, turned, nnunet_card(copy).sha256}) == 3


def test_the_folds_of_a_folder_are_those_with_a_number(home: Path) -> None:
    folder = result_folder(home)
    for name in ("fold_10", "fold_2", "fold_all", "fold_0_old", "fold_3"):
        (folder / name).mkdir()
        if name != "fold_3":  # not trained to its end
            (folder / name / "checkpoint_final.pth").touch()

    def folds() -> list[str]:
        return [path.parent.name for path in nnunet_files(folder) if path.suffix == ".pth"]

    assert folds() == ["fold_0", "fold_2", "fold_10"]
    for name in ("fold_0", "fold_2", "fold_10"):
        (folder / name / "checkpoint_final.pth").unlink()
    assert folds() == ["fold_all"]


def test_every_coded_name_is_known_to_pydicom() -> None:
    import csv

    from pydicom.sr.codedict import codes

    meanings: dict[str, set[str]] = {}
    for name in codes.SCT.dir():
        code, words = getattr(codes.SCT, name), re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
        meanings.setdefault(code.value, set()).update({code.meaning.lower(), words.lower()})
    with (SHIPPED / "anatomy.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert not [row for row in rows if row["meaning"].lower() not in meanings[row["type"]]]
    said = {row["name"]: row["meaning"] for row in rows}
    assert (said["airways"], said["hip_left"]) == ("Airway structure", "Bone structure of pelvis")
    assert "left auricular appendage" in said["atrial_appendage_left"]
    assert all(row["laterality"] == side for row in rows for side in ("left", "right") if f"_{side}" in row["name"]
               and row["name"] not in ("lung_middle_lobe_right", "atrial_appendage_left"))  # fmt: skip


def test_the_side_of_a_lesion_is_that_of_its_organ() -> None:
    cyst, kidney = (segment_of(name, 1, algorithm="toy 1") for name in ("kidney_cyst_left", "kidney_left"))
    assert (cyst.type.meaning, cyst.type_modifier, cyst.region) == ("Cyst", None, kidney.type)
    assert cyst.region_modifier == kidney.type_modifier
    assert (kidney.type_modifier.meaning, kidney.region) == ("Left", None)


def test_an_added_model_is_known_by_its_name(home: Path) -> None:
    (home / "own").mkdir()
    card = write_toy_card(home / "own")
    assert run("models show toy")[0] == 1
    for _ in range(2):  # once more changes nothing
        status, said = run(f"models add {card} --json")
        assert (status, json.loads(said)["name"]) == (0, "toy")
    folder = result_folder(home)
    folder_name = nnunet_card(folder).name
    assert run(f"models add {folder / 'plans.json'}")[0] == 0
    listed = {row["name"] for row in json.loads(run("models list --json")[1])["models"]}
    assert {"toy", folder_name, "mindgrab"} <= listed
    load_model("toy", "cpu").release()

    second = home / "second"
    second.mkdir()
    status, said = run(f"models add {write_toy_card(second)}")
    assert (status, "nother model is called toy" in said) == (1, True)
    assert "take the other off the list: aidicombridge models remove toy" in said.replace("\n", " ")

    card.write_text("name = 3")  # it hides no other model
    status, said = run("models list")
    assert status == 0
    assert re.search(r"Not usable: \S*toy\.toml: toy\.toml needs", said.replace("\n", " "))
    assert "mindgrab" in said
    assert run(f"models remove {card}")[0] == 0
    assert "Not usable" not in run("models list")[1]
    assert run(f"models remove {folder_name}")[0] == 0
    assert (folder / "plans.json").is_file()
    assert folder_name not in Catalogue.load()


def test_an_own_model_that_became_unusable_is_removed_by_any_of_its_names(home: Path) -> None:
    for name in ("file", "toy"):  # the file's, the card's
        folder = home / f"own {name}"
        folder.mkdir()
        card = write_toy_card(folder).rename(folder / "file.toml")
        assert CliRunner().invoke(app, ["models", "add", str(card)]).exit_code == 0
        card.write_text(card.read_text().replace("classes = 2", "classes = 7"))
        said = run("models list")[1].replace("\n", " ")
        assert f"take it off the list: aidicombridge models remove '{card}'" in said
        assert run(f"models remove {name}")[0] == 0
        assert "Not usable" not in run("models list")[1]
        assert card.is_file()


def test_of_several_unusable_models_of_one_name_the_path_is_asked_for(home: Path) -> None:
    cards = []
    for name in ("a", "b"):
        (home / name).mkdir()
        cards.append(write_toy_card(home / name))
        assert run(f"models add {cards[-1]}")[0] == 0
        cards[-1].write_text("[")
    status, said = run("models remove toy")
    assert (status, "by its path" in said.replace("\n", " ")) == (1, True)
    assert run(f"models remove {cards[0]}")[0] == 0
    assert run("models remove toy")[0] == 0


def renamed_folder(home: Path, said: str = "3d_fullres") -> Path:
    """Return a folder of two configurations, of which only its checkpoint says which it is of."""
    folder = result_folder(home)
    folder = folder.rename(folder.parent / "renamed")
    flat = PLANS["configurations"]["3d_fullres"] | {"spacing": [1.5, 1.5], "patch_size": [64, 48]}
    both = {"2d": flat, "3d_fullres": PLANS["configurations"]["3d_fullres"]}
    (folder / "plans.json").write_text(json.dumps(PLANS | {"configurations": both}))
    torch.save({"init_args": {"configuration": said}}, folder / "fold_0" / "checkpoint_final.pth")
    return folder


def test_a_damaged_list_of_own_models_hides_no_other_model(home: Path) -> None:
    kept = home / "home" / "models.json"
    kept.parent.mkdir()
    for damaged in ("{", "[]", "[" * 100_000):
        kept.write_text(damaged)
        assert load_model("ct-tissues", "cpu").card.name == "ct-tissues"
        assert str(kept) in Catalogue.load().unusable
    status, said = run("models list")
    assert (status, "Repair or remove" in said, "models remove" in said) == (0, True, False)
    assert run(f"models add {write_toy_card(home)}")[0] == 1
    assert kept.read_text() == damaged  # nothing is lost by another addition


def test_an_added_folder_is_listed_without_reading_a_checkpoint(home: Path) -> None:
    folder = renamed_folder(home)
    name = OwnModels.default().add(folder).name
    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(b"not read for a list")
    card = Catalogue.load()[name]
    assert (card.version, card.input.spacing_mm) == ("3d_fullres", (3.0, 1.0, 2.0))
    torch.save({"init_args": {"configuration": "2d"}, "network_weights": {}}, checkpoint)
    with pytest.raises(WeightsError, match=r"renamed is of the configuration 2d, and the model of 3d_fullres"):
        load_model(name, "cpu")  # the folder was changed since
    assert OwnModels.default().add(folder).version == Catalogue.load()[name].version == "2d"


def test_what_a_checkpoint_must_say_is_no_reason_to_stop_without_torch(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = renamed_folder(home)
    own = OwnModels.default()
    own.path.parent.mkdir()
    own.path.write_text(json.dumps({str(folder): ""}))
    monkeypatch.setitem(sys.modules, "torch", None)  # not installed, as in Slicer before its extension
    catalogue = Catalogue.load()
    assert "ct-tissues" in catalogue
    assert catalogue.unusable == {str(folder): "the package torch is not installed"}
    with pytest.raises(DependencyError, match="pip install torch"):
        nnunet_card(folder)


def test_an_own_model_that_a_shipped_one_is_called_like_is_said_to_be_hidden(home: Path) -> None:
    card = write_toy_card(home)
    OwnModels.default().add(card)
    card.write_text(card.read_text().replace('name = "toy"', 'name = "mindgrab"'))
    catalogue = Catalogue.load()
    assert catalogue["mindgrab"].folder == SHIPPED
    assert catalogue.unusable == {str(card): "another model is called mindgrab too"}


def test_weights_are_removed_by_command(home: Path) -> None:
    weights = home / "home" / "weights"
    weights.mkdir(parents=True)
    (weights / "mindgrab-0.1.16.safetensors").write_bytes(b"12345")
    status, said = run("models remove mindgrab --json")
    assert (status, json.loads(said)["bytes"]) == (0, 5)
    assert not list(weights.iterdir())
    status, _ = run("models remove mindgrab")
    assert status == 1


@pytest.mark.parametrize("name", ["mindgrab", "ct-tissues", "lungmask-ltrclobes"])
def test_a_card_is_shown_whole(home: Path, name: str) -> None:
    status, said = run(f"models show {name} --json")
    model = json.loads(said)["model"]
    assert status == 0
    assert {"input", "windows", "weights", "segments", "cleanups", "decision"} <= set(model)
    assert run(f"models show {name}")[0] == 0


def test_what_is_shown_of_a_card_is_what_concerns_its_network(home: Path) -> None:
    assert "\nWindows:   none, all is seen at once\n" in run("models show mindgrab")[1]
    assert "\nWindows:   patch 256 256, overlap 0.5, tiling nnunet" in run("models show lungmask-r231")[1]
    assert describe(InputRules("SPL", suv=False)).endswith("crop none, suv False")
    whole = WindowRules(mirror_axes=(0, 2), skip_empty_up_to=0.0)
    assert describe(whole) == "none, all is seen at once, mirror_axes 0 2"
    assert describe(replace(whole, patch=(9, 9, 9))).endswith("mirror_axes 0 2, skip_empty_up_to 0")
