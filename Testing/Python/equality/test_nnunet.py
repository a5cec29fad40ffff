"""The same labels as nnU-Net's own predictor gives, on the same result folder and the same series."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from AIDicomBridgeLib import load_model
from AIDicomBridgeLib.errors import ModelError, WeightsError
from AIDicomBridgeLib.models.nnunet_folder import nnunet_card
from AIDicomBridgeLib.series.volume import read_volume
from synthetic import AXIAL, CORONAL, SAGITTAL, make_series, save_series

pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed (extra peers)")

from nnunet_folders import plans_configuration, write_folder


def smooth_volume(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    folder: Path,
    *,
    seed: int = 1,
    **series: object,
):
    noise = torch.randn(1, 1, *(size // 3 + 2 for size in shape), generator=torch.Generator().manual_seed(seed))
    voxels = 400 * torch.nn.functional.interpolate(noise, size=shape, mode="trilinear")[0, 0]
    made = make_series(voxels.numpy().astype(np.int16), spacing_mm=spacing_mm, **series)
    return read_volume(save_series(made, folder))


def labels_of_nnunet(folder: Path, volumes, mirroring: bool) -> np.ndarray:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=mirroring, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder), None)
    labels: np.ndarray = predictor.predict_single_npy_array(
        np.stack([volume.voxels for volume in volumes]).astype(np.float32),
        {"spacing": list(volumes[0].spacing_mm)},
        None,
        None,
        False,
    )
    return labels


@pytest.mark.parametrize(
    ("kind", "shape", "spacing_mm", "folds", "mirroring"),
    [
        ("3d_fullres", (16, 24, 27), (2.6, 1.7, 1.7), 1, None),
        ("3d_fullres", (20, 20, 26), (2.0, 2.0, 2.0), 2, (0,)),
        ("3d_anisotropic", (10, 30, 28), (6.0, 1.3, 1.3), 1, None),
        ("2d", (4, 44, 40), (4.0, 1.0, 1.0), 1, (0, 1)),
        ("2d", (4, 40, 38), (4.0, 0.9, 0.9), 1, None),  # 28.5 columns of the network, or a digit less
    ],
)
def test_labels_equal_those_of_the_predictor_of_nnunet(tmp_path: Path, kind, shape, spacing_mm, folds, mirroring):
    folder = write_folder(tmp_path, kind, folds=folds, mirroring=mirroring)
    volume = smooth_volume(shape, spacing_mm, tmp_path / "series")
    expected = labels_of_nnunet(folder, [volume], mirroring is not None)

    result = load_model(folder, "cpu", precision="float32").segment(volume)

    assert len(np.unique(expected)) >= 3
    agreement = float((result.labels == expected).mean())
    assert agreement >= 0.999, agreement
    by_name = {segment.name: segment for segment in result.segments}
    assert by_name["Kidney left"].type_modifier.meaning == "Left"
    assert by_name["Something else"].type.scheme == "99AIDICOMBRIDGE"


def test_the_network_of_all_cases_is_not_averaged_in_with_the_folds(tmp_path: Path):
    folder = write_folder(tmp_path, "2d", folds=2)
    (folder / "fold_1").rename(folder / "fold_all")
    volume = smooth_volume((3, 40, 40), (4.0, 1.2, 1.2), tmp_path / "series")
    expected = labels_of_nnunet(folder, [volume], mirroring=False)

    result = load_model(folder, "cpu", precision="float32").segment(volume)

    agreement = float((result.labels == expected).mean())
    assert agreement >= 0.999, agreement


def test_a_folder_of_another_name_is_run_as_its_checkpoint_says(tmp_path: Path):
    folder = write_folder(tmp_path, "2d").rename(tmp_path / "my_model")
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"] |= {"3d_fullres": plans_configuration("3d_fullres")}
    (folder / "plans.json").write_text(json.dumps(plans))
    volume = smooth_volume((3, 40, 40), (4.0, 1.2, 1.2), tmp_path / "series")
    expected = labels_of_nnunet(folder, [volume], mirroring=False)

    result = load_model(folder, "cpu", precision="float32").segment(volume)

    agreement = float((result.labels == expected).mean())
    assert agreement >= 0.999, agreement


@pytest.mark.parametrize(
    ("reader", "orientation"),
    [
        ("SimpleITKIO", SAGITTAL),
        ("NibabelIO", AXIAL),
        ("NibabelIOWithReorient", AXIAL),
        ("NibabelIOWithReorient", SAGITTAL),
    ],
)
def test_a_series_lies_as_the_reader_of_the_plans_lays_its_file(tmp_path: Path, reader, orientation):
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    folder = write_folder(tmp_path, "2d", reader=reader)
    volume = smooth_volume((4, 40, 36), (4.0, 1.2, 1.2), tmp_path / "series", orientation=orientation)
    image = sitk.GetImageFromArray(volume.voxels)
    directions, spacing = volume.ijk_to_lps[:3, :3], np.linalg.norm(volume.ijk_to_lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((directions / spacing).ravel().tolist())
    image.SetOrigin(volume.ijk_to_lps[:3, 3].tolist())
    sitk.WriteImage(image, tmp_path / "image.nii")
    files = recursive_find_reader_writer_by_name(reader)()
    voxels, properties = files.read_images([str(tmp_path / "image.nii")])
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder), None)
    labels = predictor.predict_single_npy_array(voxels, properties, None, None, False)
    files.write_seg(labels, str(tmp_path / "labels.nii"), properties)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "labels.nii"))

    result = load_model(folder, "cpu", precision="float32").segment(volume)

    agreement = float((result.labels == expected).mean())
    assert agreement >= 0.999, agreement


@pytest.mark.parametrize(
    ("kind", "shape", "spacing_mm", "orientation", "options"),
    [
        ("3d_anisotropic", (10, 30, 28), (6.0, 1.3, 1.3), SAGITTAL, {"masked": True}),
        ("3d_fullres", (15, 24, 20), (2.5, 1.8, 2.0), CORONAL, {"transpose": (2, 0, 1), "nonlinearity": "ReLU"}),
        ("3d_anisotropic", (26, 28, 9), (1.2, 1.2, 6.0), AXIAL, {}),  # the coarse axis is another one on the way back
        ("3d_fullres", (8, 10, 12), (2.0, 2.0, 2.0), AXIAL, {"regions": True}),  # smaller than a window
        ("3d_fullres", (14, 20, 22), (2.0, 2.0, 2.0), AXIAL, {"channels": 2}),
    ],
)
def test_plans_are_followed_as_nnunet_follows_them(tmp_path: Path, kind, shape, spacing_mm, orientation, options):
    folder = write_folder(tmp_path, kind, **options)
    same = {"study_uid": "1.2.3", "frame_of_reference_uid": "1.2.4", "orientation": orientation}
    volumes = [
        smooth_volume(shape, spacing_mm, tmp_path / str(number), seed=number, **same)
        for number in range(options.get("channels", 1))
    ]
    if options.get("masked"):
        voxels = volumes[0].voxels
        voxels[voxels == 0] = 1
        voxels[:, :4] = voxels[..., -3:] = voxels[3:6, 12:18, 8:15] = 0  # the last is enclosed
    expected = labels_of_nnunet(folder, volumes, mirroring=False)

    model = load_model(folder, "cpu", precision="float32")
    if options.get("regions"):  # a label is what the later regions leave of one
        with pytest.raises(ModelError, match="the probability of a whole region is not that of what is left of it"):
            model.segment(volumes, probabilities=True)
    result = model.segment(volumes)

    assert len(np.unique(expected)) >= 3
    agreement = float((result.labels == expected).mean())
    assert agreement >= 0.999, agreement


def changed_plans(folder: Path, kind: str, **changes: object) -> Path:
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"][kind].update(changes)
    (folder / "plans.json").write_text(json.dumps(plans))
    return folder


def test_what_cannot_be_run_is_refused_by_name(tmp_path: Path):
    folder = write_folder(tmp_path, "2d")
    changed_plans(folder, "2d", previous_stage="3d_lowres")
    with pytest.raises(ModelError, match="second stage of a cascade"):
        load_model(folder, "cpu")
    changed_plans(folder, "2d", previous_stage=None, resampling_fn_data="resample_torch_fornnunet")
    with pytest.raises(ModelError, match="resamples by resample_torch_fornnunet"):
        load_model(folder, "cpu")
    changed_plans(folder, "2d", resampling_fn_data="resample_data_or_seg_to_shape")
    changed_plans(folder, "2d", resampling_fn_data_kwargs={"is_seg": False, "order": 1, "force_separate_z": None})
    with pytest.raises(ModelError, match="resamples with order = 1"):
        nnunet_card(folder)
    changed_plans(folder, "2d", resampling_fn_data_kwargs={}, preprocessor_name="OwnPreprocessor")
    with pytest.raises(ModelError, match="prepares images by OwnPreprocessor"):
        nnunet_card(folder)
    changed_plans(folder, "2d", preprocessor_name="DefaultPreprocessor")
    architecture = json.loads((folder / "plans.json").read_text())["configurations"]["2d"]["architecture"]
    for key, value, words in (
        ("nonlin", "torch.nn.GELU", "of InstanceNorm2d, GELU, BasicBlockD"),
        ("nonlin_first", True, "ask for 'nonlin_first'"),
    ):
        arguments = architecture["arch_kwargs"] | {key: value}
        changed_plans(folder, "2d", architecture=architecture | {"arch_kwargs": arguments})
        with pytest.raises(ModelError, match=words):
            load_model(folder, "cpu")


def test_a_reader_whose_axes_are_not_known_is_refused_until_somebody_says_them(tmp_path: Path):
    folder = write_folder(tmp_path, "2d", reader="NaturalImage2DIO")
    with pytest.raises(ModelError, match=r"read images by NaturalImage2DIO.*aidicombridge\.toml.*orientation"):
        nnunet_card(folder)
    (folder / "aidicombridge.toml").write_text('orientation = "SAR"')
    assert nnunet_card(folder).input.orientation == "SAR"


def test_a_checkpoint_that_does_not_fit_is_refused_by_name(tmp_path: Path):
    folder = write_folder(tmp_path, "2d")
    path = folder / "fold_0" / "checkpoint_final.pth"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="damaged"):
        load_model(folder, "cpu")
    path.write_bytes(whole)
    checkpoint = torch.load(path, weights_only=False)
    head = checkpoint["network_weights"].pop("decoder.seg_layers.1.weight")
    torch.save(checkpoint, path)
    with pytest.raises(WeightsError, match=r"lack the tensor 'decoder\.seg_layers\.1\.weight'"):
        load_model(folder, "cpu")
    checkpoint["network_weights"]["decoder.seg_layers.1.weight"] = head[:3]
    torch.save(checkpoint, path)
    with pytest.raises(WeightsError, match=r"is \(3, 4, 1, 1\), and the card's network needs \(5, 4, 1, 1\)"):
        load_model(folder, "cpu")
