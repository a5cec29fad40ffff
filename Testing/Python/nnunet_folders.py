"""nnU-Net result folders with random weights, as nnU-Net itself would have written them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

LABELS = {"background": 0, "liver": 1, "kidney_left": 2, "kidney_right": 3, "something_else": 4}
REGIONS = {"background": 0, "kidney_left": [1, 2, 3], "masses": [2, 3], "tumor": 2}
CT_PROPERTIES = {"mean": 20.0, "std": 180.0, "percentile_00_5": -600.0, "percentile_99_5": 500.0}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "3d_fullres": {
        "spacing": [2.0, 2.0, 2.0], "patch_size": [16, 16, 24], "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "kernels": [[3, 3, 3]] * 3, "network": "PlainConvUNet", "normalization": "CTNormalization",
    },
    "3d_anisotropic": {
        "spacing": [5.0, 1.0, 1.0], "patch_size": [8, 24, 24], "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]], "network": "ResidualEncoderUNet",
        "normalization": "ZScoreNormalization",
    },
    "2d": {
        "spacing": [1.2, 1.2], "patch_size": [32, 32], "strides": [[1, 1], [2, 2], [2, 2]], "kernels": [[3, 3]] * 3,
        "network": "PlainConvUNet", "normalization": "CTNormalization",
    },
}  # fmt: skip


def plans_configuration(
    kind: str, *, channels: int = 1, masked: bool = False, nonlinearity: str = "LeakyReLU"
) -> dict[str, Any]:
    """Return one configuration as it stands in plans.json."""
    given = CONFIGURATIONS[kind]
    flat = len(given["patch_size"]) == 2
    plain = given["network"] == "PlainConvUNet"
    return {
        "data_identifier": f"nnUNetPlans_{kind}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": given["patch_size"],
        "median_image_size_in_voxels": given["patch_size"],
        "spacing": given["spacing"],
        "normalization_schemes": [given["normalization"], "ZScoreNormalization"][:channels],
        "use_mask_for_norm": [masked] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{given['network']}",
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [4, 8, 8],
                "conv_op": f"torch.nn.modules.conv.Conv{2 if flat else 3}d",
                "kernel_sizes": given["kernels"],
                "strides": given["strides"],
                "n_conv_per_stage" if plain else "n_blocks_per_stage": [2, 2, 2] if plain else [1, 2, 2],
                "n_conv_per_stage_decoder": [2, 2] if plain else [1, 1],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{2 if flat else 3}d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": f"torch.nn.{nonlinearity}",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }


def write_folder(
    root: Path,
    kind: str,
    *,
    folds: int = 1,
    mirroring: tuple[int, ...] | None = None,
    transpose: tuple[int, int, int] = (0, 1, 2),
    regions: bool = False,
    channels: int = 1,
    masked: bool = False,
    nonlinearity: str = "LeakyReLU",
    reader: str = "SimpleITKIO",
) -> Path:
    """Write a result folder with random weights and return it; nnU-Net must be installed."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    configuration = plans_configuration(kind, channels=channels, masked=masked, nonlinearity=nonlinearity)
    folder = root / "Dataset001_Random" / f"nnUNetTrainer__nnUNetPlans__{kind}"
    plans = {
        "dataset_name": "Dataset001_Random", "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.0, 2.0, 2.0], "original_median_shape_after_transp": [40, 40, 40],
        "image_reader_writer": reader, "transpose_forward": transpose,
        "transpose_backward": [transpose.index(axis) for axis in range(3)],
        "configurations": {kind: configuration}, "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(number): CT_PROPERTIES for number in range(channels)},
    }  # fmt: skip
    names = {str(number): name for number, name in enumerate(["CT", "late CT"][:channels])}
    dataset = {"channel_names": names, "labels": LABELS, "numTraining": 1, "file_ending": ".nii.gz"}
    if regions:
        dataset |= {"labels": REGIONS, "regions_class_order": [1, 3, 2]}
    heads = len(REGIONS) - 1 if regions else len(LABELS)
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    architecture = configuration["architecture"]
    for fold in range(folds):
        torch.manual_seed(fold)
        network = get_network_from_plans(
            architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"],
            channels, heads, deep_supervision=True,
        )  # fmt: skip
        with torch.no_grad():  # random heads give nearly the same everywhere; a trained one does not
            for head in network.decoder.seg_layers:
                head.weight.mul_(30 / head.weight.abs().mean())
        (folder / f"fold_{fold}").mkdir()
        torch.save(
            {
                "network_weights": network.state_dict(),
                "optimizer_state": {},
                "trainer_name": "nnUNetTrainer",
                "init_args": {"configuration": kind, "fold": fold, "device": torch.device("cpu")},
                "inference_allowed_mirroring_axes": mirroring,
                "_best_ema": np.float64(0.5),  # as real checkpoints have it
                "logging": {"ema_fg_dice": [np.float32(0.1)]},
            },
            folder / f"fold_{fold}" / "checkpoint_final.pth",
        )
    return folder
