"""What MONAI bundles do around their networks: done as they say, or refused by the name of the step."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from AIDicomBridgeLib import load_model
from AIDicomBridgeLib.errors import ModelError
from AIDicomBridgeLib.inference.normalisation import normalise
from AIDicomBridgeLib.inference.postprocessing import clean_up
from AIDicomBridgeLib.inference.preparation import frame, network_input
from AIDicomBridgeLib.inference.rules import InputRules, IntensityStep
from AIDicomBridgeLib.models import bundle_config
from AIDicomBridgeLib.models.consent import Consents
from AIDicomBridgeLib.models.loading import folder_card
from AIDicomBridgeLib.models.monai_bundle import bundle_program, load_bundle
from AIDicomBridgeLib.series.volume import read_volume
from monai_folders import INFERER, RESCALED, write_bundle
from synthetic import make_series, save_series

ORIENTED = {"_target_": "Orientationd", "keys": ["image"], "axcodes": "RAS"}
SPACED = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2.0], "mode": "bilinear"}
LOADED = {"_target_": "LoadImaged", "keys": "image"}
TRANSFORMS = [LOADED, ORIENTED, SPACED, RESCALED]


@pytest.mark.parametrize(
    "given",
    [
        {"transforms": TRANSFORMS},
        {"transforms": "$@pre + @rest", "pre": [LOADED, ORIENTED], "rest": [SPACED, RESCALED]},
        {"preprocessing": "@pre", "pre": {"_target_": "Compose", "transforms": TRANSFORMS}},
        {"transforms": [LOADED, "@oriented", {"_target_": "Compose", "transforms": [SPACED, "@rest#0"]}],
         "oriented": ORIENTED, "rest": [RESCALED]},
    ],
)  # fmt: skip
def test_steps_are_found_in_every_form_that_holds_no_code(tmp_path: Path, given: dict[str, Any]) -> None:
    rules = folder_card(write_bundle(tmp_path / "bundle", **given)).input
    assert rules is not None
    assert (rules.orientation, rules.spacing_mm) == ("RAS", (1.5, 1.5, 2.0))
    assert [step.rule for step in rules.intensity] == ["clip", "shift-scale"]
    assert rules.resampled_first  # in the order of the steps


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"_target_": "Resized", "spatial_size": [64, 64, 64]}, "step Resize is not supported"),
        ({"_target_": "monai.transforms.CropForegroundd", "source_key": "image"}, "step CropForeground"),
        ({"_target_": "Lambdad", "func": "$lambda x: x"}, "step Lambda"),
        ({"_target_": "NormalizeIntensityd", "subtrahend": 100}, "NormalizeIntensity with subtrahend = 100"),
        ({"_target_": "NormalizeIntensityd", "invented": 1}, "NormalizeIntensity with the option 'invented'"),
        ({"_target_": "ScaleIntensityRangePercentilesd", "lower": 1, "upper": 99, "b_min": 0, "b_max": 1},
         "ScaleIntensityRangePercentiles without clip"),
        ({"_target_": "ScaleIntensityRanged", "a_min": 0, "a_max": "$2**10", "b_min": 0, "b_max": 1}, "'a_max' is an"),
        ({**SPACED, "mode": "nearest"}, "Spacing with mode = 'nearest'"),
        ({**RESCALED, "dtype": "$np.uint8"}, "ScaleIntensityRange to whole numbers"),
        ({**ORIENTED, "axcodes": "RAX"}, "must name each body axis once"),
        ("$@more", "'preprocessing' is an expression"),
    ],
)  # fmt: skip
def test_a_step_that_is_not_understood_is_refused_by_name(tmp_path: Path, step: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        folder_card(write_bundle(tmp_path / "bundle", [ORIENTED, step]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"preprocessing": None}, "no 'preprocessing'"),
        ({"inferer": {"_target_": "PatchInferer"}}, "step PatchInferer"),
        ({"inferer": {"_target_": "SliceInferer", "roi_size": [8, 8, 8]}}, "SliceInferer with roi_size"),
        ({"inferer": {"_target_": "SliceInferer", "roi_size": [8, 8], "spatial_dim": 3}}, "with spatial_dim = 3"),
        ({"inferer": {**INFERER, "roi_size": [8, 8]}, "transforms": [{"_target_": "ScaleIntensityd"}]},
         "after intensities of each slice by itself"),
        ({"inferer": {**INFERER, "overlap": [0.25, 0.75, 0.5]}}, r"overlap = \[0\.25, 0\.75, 0\.5\]"),
        ({"inferer": {**INFERER, "padding_mode": "reflect"}}, "SlidingWindowInferer with padding_mode"),
        ({"inferer": {**INFERER, "roi_size": [8, 8, -1]}}, "SlidingWindowInferer with roi_size"),
        ({"postprocessing": {"_target_": "RemoveSmallObjectsd", "keys": "pred", "min_size": 9}}, "RemoveSmallObjects"),
        ({"postprocessing": [{"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}]}, "begin with the backg"),
        ({"a": ["@b"] * 40, "b": ["@c"] * 40, "c": ["@c"], "transforms": ["@a"]}, "leads in circles"),
    ],
)  # fmt: skip
def test_what_surrounds_the_network_is_refused_by_name_too(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        folder_card(write_bundle(tmp_path / "bundle", **given))


def test_a_bundle_without_a_configuration_in_json_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    (folder / "configs" / "inference.json").rename(folder / "configs" / "inference.yaml")
    with pytest.raises(ModelError, match=r"has no configs/inference\.json"):
        folder_card(folder)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (RESCALED | {"clip": False, "b_min": -1}, [-1.4, -0.2, 0.0, 1.5]),
        ({"_target_": "NormalizeIntensityd", "subtrahend": 100, "divisor": 50}, [-30.0, -6.0, -2.0, 28.0]),
        ({"_target_": "NormalizeIntensityd", "nonzero": True}, [-1.14868, -0.14008, 0.0, 1.28876]),
        ({"_target_": "ScaleIntensityd", "minv": -1, "maxv": 1}, [-1.0, -0.172414, -0.034483, 1.0]),
        ({"_target_": "ScaleIntensityRangePercentilesd", "lower": 0, "upper": 100, "b_min": 10, "b_max": 20,
          "clip": True}, [10.0, 14.137931, 14.827586, 20.0]),
        ({**RESCALED, "_disabled_": True}, [-1400.0, -200.0, 0.0, 1500.0]),
        ({**RESCALED, "keys": "label"}, [-1400.0, -200.0, 0.0, 1500.0]),
    ],
)  # fmt: skip
def test_intensities_are_those_of_the_step(tmp_path: Path, step: dict[str, Any], expected: list[float]) -> None:
    rules = folder_card(write_bundle(tmp_path / "bundle", [step])).input
    assert rules is not None
    found = normalise(torch.tensor([-1400.0, -200.0, 0.0, 1500.0])[None], rules.intensity, ["CT"])[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_steps_after_the_network_decide_and_clean_up(tmp_path: Path) -> None:
    largest = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1]}
    only = largest | {"applied_labels": 0}
    argmax = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
    softmax = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
    card = folder_card(write_bundle(tmp_path / "softmax", postprocessing=[softmax, argmax, largest]))
    assert card.decision is not None
    assert (card.decision.values, card.decision.activation) == ((0, 1), "softmax")
    labels = np.zeros((1, 4, 4), np.uint8)
    labels[0, :2, :2] = labels[0, 2, 2] = 1  # joined by a corner: one component for MONAI
    np.testing.assert_array_equal(clean_up(labels, card.cleanups[0], 1.0), labels)

    sigmoid = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
    cut = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.3}
    card = folder_card(write_bundle(tmp_path / "sigmoid", channels=("whole",), postprocessing=[sigmoid, cut, only]))
    assert card.decision is not None
    assert (card.decision.values, card.decision.activation, card.decision.threshold) == ((1,), "sigmoid", 0.3)
    assert not card.decision.outputs_are_probabilities
    assert [cleanup.label for cleanup in card.cleanups] == [1]


@pytest.mark.parametrize("activated", [[{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}], []])
def test_channels_that_lie_within_one_another_are_refused_by_name(tmp_path: Path, activated: list[Any]) -> None:
    nested = ("whole tumour", "tumour core", "enhancing tumour")
    cut = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}
    with pytest.raises(ModelError, match=r"3 channels .* may overlap.* Write a model card .* overlap_rule"):
        folder_card(write_bundle(tmp_path / "bundle", channels=nested, postprocessing=[*activated, cut]))


def test_another_configuration_is_another_model(tmp_path: Path) -> None:
    first = folder_card(write_bundle(tmp_path / "a", [SPACED]))
    second = folder_card(write_bundle(tmp_path / "b", [{**SPACED, "pixdim": [1, 1, 1]}]))
    assert first.sha256 != second.sha256


def test_an_archive_that_unpacks_to_too_much_is_refused_with_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_bundle(tmp_path / "bundle")
    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(folder / "configs" / "metadata.json", "configs/metadata.json")
        packed.write(folder / "configs" / "inference.json", "configs/inference.json")
        packed.writestr("models/model.pt", bytes(2**20))
    monkeypatch.setattr(bundle_config, "LARGEST_NETWORK", 2**19)
    with pytest.raises(ModelError, match="too large: 1048576 bytes, and 524288 are allowed"):
        load_bundle(folder_card(archive), None, "bundle.zip")  # type: ignore[arg-type]


def test_the_order_of_the_steps_counts(tmp_path: Path) -> None:
    first = folder_card(write_bundle(tmp_path / "a", [ORIENTED, RESCALED, SPACED])).input
    assert first is not None
    assert not first.resampled_first
    for name, steps in (("b", [SPACED, ORIENTED]), ("c", [RESCALED, SPACED, RESCALED]), ("d", [SPACED, SPACED])):
        with pytest.raises(ModelError, match="is not supported"):
            folder_card(write_bundle(tmp_path / name, steps))


def test_percentiles_after_resampling_are_those_of_the_resampled_volume(tmp_path: Path) -> None:
    voxels = np.zeros((4, 8, 8), np.int16)
    voxels[:, ::2] = 1000
    volume = read_volume(save_series(make_series(voxels, spacing_mm=(1.0, 1.0, 1.0)), tmp_path))
    rules = InputRules("SPL", (1.0, 2.0, 1.0), (IntensityStep("min-max"),))
    before, after = (
        network_input([volume], given, frame([volume], given), torch.device("cpu"))
        for given in (rules, dataclasses.replace(rules, resampled_first=True))
    )
    assert float(before.max() - before.min()) < 0.01  # stripes were averaged away
    assert float(after.max()) <= 1
    assert not torch.equal(before, after)


def test_a_series_that_no_step_turns_is_seen_as_it_lies(tmp_path: Path) -> None:
    rules = folder_card(write_bundle(tmp_path / "bundle", [LOADED])).input
    assert rules is not None
    assert rules.orientation == "ijk"


def test_metadata_of_one_channel_is_a_segment(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", channels=("lesion",))
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["outputs"]["pred"]["num_channels"] == 1
    card = folder_card(folder)
    assert card.decision is not None
    assert (len(card.segments), card.decision.activation) == (1, "sigmoid")


def test_input_channels_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = tuple(f"in{number}" for number in range(12))
    rules = folder_card(write_bundle(tmp_path / "bundle", inputs=names)).input
    assert rules is not None
    assert rules.channel_names == names


def test_a_bundle_that_says_no_modality_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    file = folder / "configs" / "metadata.json"
    metadata = json.loads(file.read_text())
    del metadata["network_data_format"]["inputs"]["image"]["modality"]
    file.write_text(json.dumps(metadata))
    with pytest.raises(ModelError, match=r"does not say for which modality.*configs/metadata\.json"):
        folder_card(folder)


def test_a_bundle_of_two_channels_takes_two_series(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", [RESCALED | {"a_min": 0}], inputs=("plain", "late"))
    card = folder_card(folder)
    consents = Consents(tmp_path / "consents.json")
    consents.agree(bundle_program(card)[0], card.name)
    voxels = np.zeros((2, 4, 8, 8), np.int16)
    voxels[0, :, 2:6] = voxels[1, :, 4:8] = 900  # above one half on average where both are
    same = {"study_uid": "1.2.3", "frame_of_reference_uid": "1.2.4"}
    volumes = [
        read_volume(save_series(make_series(part, **same), tmp_path / str(number)))
        for number, part in enumerate(voxels)
    ]
    labels = load_model(card, "cpu", precision="float32", consents=consents).segment(volumes, any_body_part=True).labels
    np.testing.assert_array_equal(labels > 0, voxels.min(0) > 0)
    with pytest.raises(ModelError, match=r"wants 2 input channels \(plain, late\)"):
        load_model(card, "cpu", consents=consents).segment(volumes[0])


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"_target_": "NormalizeIntensityd", "nonzero": True}, "NormalizeIntensity over several channels as one"),
        ({"_target_": "ScaleIntensityd"}, "ScaleIntensity over several channels as one"),
        ({"_target_": "NormalizeIntensityd", "subtrahend": [1, 2], "divisor": [3, 4], "channel_wise": True},
         "NormalizeIntensity with numbers for each channel"),
    ],
)  # fmt: skip
def test_channels_that_a_step_sees_as_one_are_refused_by_name(tmp_path: Path, step: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        folder_card(write_bundle(tmp_path / "bundle", [step], inputs=("plain", "late")))
    alone = {"_target_": "NormalizeIntensityd", "nonzero": True, "channel_wise": True}
    rules = folder_card(write_bundle(tmp_path / "alone", [alone], inputs=("plain", "late"))).input
    assert rules is not None
    assert (rules.channels, rules.channel_names) == (2, ("plain", "late"))
