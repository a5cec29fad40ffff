"""Labels are cleaned up, and floods find what hangs together."""

import numpy as np
import torch
from AIDicomBridgeLib.inference.flood import flood
from AIDicomBridgeLib.inference.postprocessing import fill_holes, holes, keep_largest_component, remove_small_components


def test_holes_are_filled_and_specks_removed() -> None:
    labels = np.zeros((7, 9, 9), np.uint8)
    labels[1:6, 1:6, 1:6] = 1
    labels[3, 3, 3] = 0
    labels[2, 2, 2] = 2
    labels[0, 8, 8] = 1
    filled = fill_holes(labels, 1)
    assert (filled[3, 3, 3], filled[2, 2, 2], filled[0, 0, 0]) == (1, 2, 0)
    cleaned = remove_small_components(filled, 1, 2)
    assert (cleaned[0, 8, 8], cleaned[3, 3, 3]) == (0, 1)


def test_only_the_largest_component_of_the_asked_label_is_kept() -> None:
    labels = np.zeros((6, 8, 8), np.uint8)
    labels[1:4, 1:4, 1:4] = 1
    labels[5, 7, 7] = 1
    labels[0, 0, 7] = 2
    cleaned = keep_largest_component(labels, 1)
    assert (cleaned[1:4, 1:4, 1:4] == 1).all()
    assert cleaned[5, 7, 7] == 0
    assert cleaned[0, 0, 7] == 2
    assert labels[5, 7, 7] == 1
    np.testing.assert_array_equal(keep_largest_component(labels, 9), labels)


def test_flood_goes_round_corners_and_stops_at_walls() -> None:
    passable = torch.tensor(
        [[[1, 1, 1, 0, 1], [0, 0, 1, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1]]], dtype=torch.bool
    )
    seeds = torch.zeros_like(passable)
    seeds[0, 0, 0] = True
    expected = passable.clone()
    expected[0, :, 4] = False
    assert torch.equal(flood(passable, seeds), expected)


def test_flood_agrees_with_connected_components() -> None:
    import SimpleITK as sitk

    passable = torch.rand(12, 13, 14, generator=torch.Generator().manual_seed(3)) > 0.6
    components = sitk.GetArrayFromImage(
        sitk.ConnectedComponent(sitk.GetImageFromArray(passable.numpy().astype(np.uint8)))
    )
    for value in range(1, min(6, components.max() + 1)):
        seeds = torch.zeros_like(passable)
        seeds[tuple(np.argwhere(components == value)[0])] = True
        np.testing.assert_array_equal(flood(passable, seeds).numpy(), components == value)


def test_holes_are_what_no_way_through_faces_leads_out_of() -> None:
    import SimpleITK as sitk

    random = np.random.default_rng(1)
    for shape in ((9, 11, 12), (1, 8, 8), (6, 2, 7)):
        for share in (0.3, 0.6, 0.8):
            mask = random.random(shape) < share
            filled = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(mask.astype(np.uint8)))) > 0
            np.testing.assert_array_equal(mask | holes(mask), filled)
