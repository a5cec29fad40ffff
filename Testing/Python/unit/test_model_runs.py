"""Models on volumes: what they refuse, how many series they take, and what they mark."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib import Catalogue, load_model
from AIDicomBridgeLib.errors import ConflictError, GeometryError, ModelError
from AIDicomBridgeLib.inference.channels import channels_of, modalities_of
from AIDicomBridgeLib.inference.rules import InputRules, IntensityStep
from AIDicomBridgeLib.models.card import WeightsFile
from AIDicomBridgeLib.models.weights import WeightsFolder
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import Dataset
from synthetic import body_phantom, make_series, save_series
from toy_card import own_card


def test_ct_tissues_labels_the_phantom_exactly(tmp_path: Path) -> None:
    voxels = body_phantom((16, 64, 72))
    volume = read_volume(save_series(make_series(voxels, spacing_mm=(3.0, 3.0, 3.0)), tmp_path))

    result = load_model("ct-tissues").segment(volume)

    expected = np.zeros(voxels.shape, np.uint8)
    for label, hounsfield in ((1, -850), (2, -100), (3, 50), (4, 700)):
        expected[voxels == hounsfield] = label
    np.testing.assert_array_equal(result.labels, expected)
    assert result.provenance is not None
    assert not result.provenance.learned


def test_a_model_refuses_a_modality_that_its_card_does_not_name(tmp_path: Path) -> None:
    volume = read_volume(save_series(make_series(body_phantom((3, 8, 8)), modality="MR"), tmp_path))
    with pytest.raises(ModelError, match="works on CT, not on MR"):
        load_model("ct-tissues").segment(volume)


@pytest.mark.parametrize("unit", ["Z_EFF", "US", "OD", "HU", "hu ", "HU_MOD", ""])
@pytest.mark.parametrize("stated_by", ["rescale", "table"])
def test_a_model_for_ct_takes_hounsfield_units_only(tmp_path: Path, unit: str, stated_by: str) -> None:
    images = make_series(body_phantom((3, 8, 8)))
    for image in images:
        if stated_by == "rescale":
            image.RescaleType = unit
        else:
            del image.RescaleSlope, image.RescaleIntercept, image.RescaleType
            table = image.add_new("ModalityLUTSequence", "SQ", [Dataset()]) or image.ModalityLUTSequence[0]
            table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [2, 0, 16], unit, [0, 1]
            table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    volume, model = read_volume(save_series(images, tmp_path)), load_model("ct-tissues")
    if unit in ("Z_EFF", "US", "OD"):
        with pytest.raises(ModelError, match=f"another unit: Rescale Type {unit}"):
            model.segment(volume)
    else:
        assert model.segment(volume).labels.shape == volume.voxels.shape


def test_a_model_refuses_another_body_part_unless_told(tmp_path: Path) -> None:
    card = dataclasses.replace(Catalogue.load()["ct-tissues"], body_parts=("HEAD",))
    volume = read_volume(save_series(make_series(body_phantom()), tmp_path))
    with pytest.raises(ModelError, match="works on HEAD, and the series says ABDOMEN"):
        load_model(card).segment(volume)
    assert load_model(card).segment(volume, any_body_part=True).labels.any()
    volume.source.headers[0].BodyPartExamined = ""
    assert load_model(card).segment(volume).labels.any()


def test_an_unusable_device_is_refused() -> None:
    with pytest.raises(ModelError, match="'nonsense'"):
        load_model("ct-tissues", device="nonsense")


def test_a_model_of_two_channels_takes_two_series_on_one_grid(tmp_path: Path) -> None:
    from safetensors.torch import save

    card = own_card(tmp_path)
    weights = {"0.weight": torch.zeros(4, 2, 3, 3, 3), "3.weight": torch.zeros(3, 4, 1, 1, 1)}
    weights["0.weight"][0, 0, 1, 1, 1] = weights["0.weight"][1, 1, 1, 1, 1] = 1
    weights["3.weight"][1, 0] = weights["3.weight"][2, 1] = 1
    content = save(weights)
    (tmp_path / "own.safetensors").write_bytes(content)
    card = dataclasses.replace(
        card,
        input=InputRules("SPL", channels=2, channel_names=("plain", "late")),
        weights=WeightsFile("own.safetensors", len(content), hashlib.sha256(content).hexdigest()),
    )
    shape, same = (6, 20, 24), {"study_uid": "1.2.3", "frame_of_reference_uid": "1.2.4"}
    first, second = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
    first[2:4, 5:9, 3:9] = 100
    second[1:3, 12:18, 12:20] = 100
    series = [make_series(voxels, **same) for voxels in (first, second)]
    elsewhere = make_series(second, **same, origin=(0.0, 0.0, 0.0))
    other_study = make_series(second, frame_of_reference_uid="1.2.4")
    volumes = [
        read_volume(save_series(made, tmp_path / str(number)))
        for number, made in enumerate([*series, elsewhere, other_study])
    ]
    model = load_model(card, "cpu", precision="float32", weights_folder=WeightsFolder(tmp_path))

    result = model.segment(volumes[:2], any_body_part=True)

    assert (result.labels[first > 0] == 1).all()
    assert (result.labels[second > 0] == 2).all()
    assert result.provenance is not None
    assert result.provenance.further_series == (volumes[1].source.series_uid,)
    with pytest.raises(ModelError, match=r"wants 2 input channels \(plain, late\), and 1 volume was given"):
        model.segment(volumes[0], any_body_part=True)
    with pytest.raises(GeometryError, match="do not lie on one grid"):
        model.segment([volumes[0], volumes[2]], any_body_part=True)
    with pytest.raises(ConflictError, match="of different studies"):
        model.segment([volumes[0], volumes[3]], any_body_part=True)
    with pytest.raises(ModelError, match="wants 1 input channel, and 2 volumes were given"):
        load_model("ct-tissues").segment(volumes[:2])
    with pytest.raises(ModelError, match="the same series for two of its 2 channels"):
        model.plan([volumes[1], volumes[1]])


def test_each_channel_gets_what_its_name_says(tmp_path: Path) -> None:
    same = {"study_uid": "1.2.3", "frame_of_reference_uid": "1.2.4"}
    ct, mr = (
        read_volume(save_series(make_series(body_phantom((3, 8, 8)), modality=kind, **same), tmp_path / kind))
        for kind in ("CT", "MR")
    )
    rules = InputRules("SPL", channels=2, channel_names=("late CT", "T1_post"))
    assert channels_of([ct, mr], rules, "toy") == (ct, mr)
    for swapped, what in (([mr, ct], "wants late CT there.* is MR"), ([ct, ct], "wants T1_post there.* is CT")):
        with pytest.raises(ModelError, match=what):
            channels_of(swapped, rules, "toy")
    for names in ((), ("CT", "CT"), ("portal", "prior")):  # which do not say what the MR is
        assert channels_of([ct, mr], dataclasses.replace(rules, channel_names=names), "toy")
    windows = tuple(IntensityStep("window", low, 300, channels=(number,)) for number, low in enumerate((-150, -900)))
    assert channels_of([ct, ct], InputRules("SPL", channels=2, intensity=windows), "toy")
    with pytest.raises(ModelError, match="the same series"):
        channels_of([ct, ct], InputRules("SPL", channels=2, intensity=(IntensityStep("window"),)), "toy")


@pytest.mark.parametrize(
    ("name", "modalities"),
    [("CT", ("CT",)), ("late_ceCT", ("CT",)), ("T1w Gd", ("MR",)), ("ADC", ("MR",)), ("SUVbw", ("PT",)),
     ("MP2RAGE", ("MR",)), ("PET/CT", ("CT", "PT")), ("SPECT", ()), ("diffraction contrast", ()), ("image", ()),
     *((name, ("CT",)) for name in ("HRCT", "LDCT", "NECT", "CTP", "CT1", "CTnorm", "sCT", "kVCT", "ctpa")),
     *((name, ("MR",)) for name in ("cineMRI", "cinemri", "MRI1", "SWI", "DCEMRI")), ("PETCT", ("CT", "PT")),
     ("bile duct", ()), ("CTV", ()), ("petrous bone", ())],
)  # fmt: skip
def test_a_channels_name_speaks_in_whole_words(name: str, modalities: tuple[str, ...]) -> None:
    assert modalities_of(name) == modalities
