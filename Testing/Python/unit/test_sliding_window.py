"""Windows, their sums, and the labels that rows of them become."""

import numpy as np
import pytest
import torch
from AIDicomBridgeLib.errors import JobCancelled, ModelError
from AIDicomBridgeLib.inference.ensemble import Ensemble
from AIDicomBridgeLib.inference.label_rows import LabelRows
from AIDicomBridgeLib.inference.memory_plan import MemoryPlan
from AIDicomBridgeLib.inference.rules import Decision, WindowRules
from AIDicomBridgeLib.inference.sliding_window import run_windows
from AIDicomBridgeLib.inference.windows import importance_map, padding_to_patch, window_starts
from AIDicomBridgeLib.progress import CancelToken

CPU = torch.device("cpu")


def plan_for(patch: tuple[int, ...], *, batch: int = 1, sums: str = "float32") -> MemoryPlan:
    return MemoryPlan("cpu", "float32", batch, "cpu", sums, (1, 1, 1), patch, 1, 0, 0)


def full_accumulator(network, tensor: torch.Tensor, patch, rules: WindowRules, size=None) -> torch.Tensor:
    """Return the averaged outputs (C, D, H, W) as a plain sliding window makes them: all classes, whole grid."""
    padding = padding_to_patch(tensor.shape[1:], patch)
    padded = torch.nn.functional.pad(tensor, [n for pair in reversed(padding) for n in pair])
    weight = importance_map(patch, rules.importance, rules.tiling)
    starts = [window_starts(s, p, rules.overlap, rules.tiling) for s, p in zip(padded.shape[1:], patch, strict=True)]
    sums = counts = 0
    for d in starts[0]:
        for h in starts[1]:
            for w in starts[2]:
                place = (slice(None), slice(d, d + patch[0]), slice(h, h + patch[1]), slice(w, w + patch[2]))
                outputs = network(padded[place][None])[0]
                if isinstance(sums, int):
                    sums = torch.zeros(len(outputs), *padded.shape[1:])
                    counts = torch.zeros(padded.shape[1:])
                sums[place] += outputs * weight
                counts[place[1:]] += weight
    inside = tuple(slice(before, before + s) for (before, _), s in zip(padding, tensor.shape[1:], strict=True))
    mean = (sums / counts)[(slice(None), *inside)]
    return mean if size is None else torch.nn.functional.interpolate(mean[None], size=size, mode="trilinear")[0]


@pytest.mark.parametrize("tiling", ["nnunet", "monai"])
def test_a_2d_network_runs_every_slice_once(tiling: str) -> None:
    assert window_starts(10, 1, 0.5, tiling) == list(range(10))


def random_network(classes: int, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Conv3d(1, classes, 3, padding=1).eval()


@pytest.mark.parametrize("tiling", ["nnunet", "monai"])
@pytest.mark.parametrize(
    ("shape", "patch", "overlap", "size"),
    [
        ((20, 13, 17), (8, 8, 8), 0.5, None),
        ((20, 13, 17), (8, 8, 8), 0.5, (25, 20, 11)),
        ((9, 30, 14), (8, 12, 16), 0.25, (18, 31, 13)),  # one axis shorter than the window
        ((7, 9, 5), (8, 12, 16), 0.0, None),  # all of them
        ((6, 24, 24), (1, 16, 16), 0.5, None),  # slice by slice
        ((24, 6, 6), (24, 6, 6), 0.5, (12, 12, 12)),
    ],
)
def test_rolling_rows_give_what_a_full_accumulator_gives(shape, patch, overlap, size, tiling) -> None:
    rules = WindowRules(patch, overlap, tiling)
    network, tensor = random_network(5), torch.randn(1, *shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = full_accumulator(network, tensor, patch, rules, size)
        for axis in range(3):
            for batch in (1, 3):
                rows = LabelRows(
                    Decision((0, 1, 2, 3, 4)), shape, size or shape, axis=axis, probability_labels=(1, 2, 3, 4)
                )
                ensemble = Ensemble([network], CPU, torch.float32)
                run_windows(ensemble, tensor, rows, rules, patch, plan_for(patch, batch=batch))
                agreement = (torch.from_numpy(rows.labels) == expected.argmax(0)).float().mean()
                assert agreement > 0.999, (axis, batch)
                shares = expected.softmax(0)[1:]
                np.testing.assert_allclose(rows.probabilities, shares, atol=2e-3)


@pytest.mark.parametrize("overlap_rule", ["highest", "last"])
@pytest.mark.parametrize("outputs_are_probabilities", [False, True])
def test_overlapping_segments_are_decided_by_the_rule(overlap_rule: str, outputs_are_probabilities: bool) -> None:
    logits = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    shares = logits.sigmoid()
    decision = Decision((1, 2, 3), "sigmoid", outputs_are_probabilities, 0.6, overlap_rule)
    rows = LabelRows(decision, (4, 5, 6), (4, 5, 6), probability_labels=(1, 2, 3))
    rows.put(shares if outputs_are_probabilities else logits)
    claimed = shares > 0.6
    if overlap_rule == "highest":
        expected = torch.where(claimed.any(0), shares.argmax(0) + 1, 0)
    else:
        expected = torch.where(claimed[2], 3, torch.where(claimed[1], 2, torch.where(claimed[0], 1, 0)))
    np.testing.assert_array_equal(rows.labels, expected)
    np.testing.assert_allclose(rows.probabilities, shares, atol=1e-3)


def test_more_than_255_labels_are_wide() -> None:
    outputs = torch.zeros(301, 2, 2, 2)
    outputs[300] = 1
    rows = LabelRows(Decision(tuple(range(301))), (2, 2, 2), (2, 2, 2))
    rows.put(outputs)
    assert rows.labels.dtype == np.uint16
    assert (rows.labels == 300).all()


def test_mirrored_windows_and_folds_are_averaged() -> None:
    networks, windows = [random_network(2, seed) for seed in (1, 2)], torch.randn(2, 1, 6, 5, 4)
    with torch.inference_mode():
        found = Ensemble(networks, CPU, torch.float32, mirror_axes=(0, 2))(windows)
        flips = [[], [2], [4], [2, 4]]
        expected = sum(network(windows.flip(f)).flip(f) for network in networks for f in flips) / 8
    torch.testing.assert_close(found, expected)


def test_empty_windows_are_not_run_where_the_card_allows() -> None:
    tensor = torch.zeros(1, 4, 4, 16)
    tensor[..., 12:] = 1
    calls = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        calls.append(len(windows))
        return torch.cat([0.5 - windows, windows - 0.5], 1)

    rows = LabelRows(Decision((0, 1)), (4, 4, 16), (4, 4, 16), axis=2)
    rules = WindowRules((4, 4, 4), 0.0, skip_empty_up_to=0.0)
    run_windows(network, tensor, rows, rules, (4, 4, 4), plan_for((4, 4, 4)))
    assert calls == [1]
    np.testing.assert_array_equal(rows.labels, tensor[0])


@pytest.mark.parametrize("decision", [Decision((0, 1)), Decision((1, 2), "sigmoid", threshold=0.3)])
def test_what_was_skipped_is_background_whatever_the_batch(decision: Decision) -> None:
    tensor = torch.zeros(1, 4, 4, 24)
    tensor[..., 9:11] = 1  # of the windows of 4, only the third is run
    found = []
    for batch in (1, 4):
        rows = LabelRows(decision, (4, 4, 24), (4, 4, 24), axis=2, probability_labels=(1,))
        rules = WindowRules((4, 4, 4), 0.0, skip_empty_up_to=0.0)

        def network(windows: torch.Tensor) -> torch.Tensor:
            return torch.cat([3 - 6 * windows, 6 * windows - 3], 1).roll(len(decision.values) - 2, 1)

        run_windows(network, tensor, rows, rules, (4, 4, 4), plan_for((4, 4, 4), batch=batch))
        outside = np.ones(24, bool)
        outside[8:12] = False
        assert not rows.labels[..., outside].any()
        assert rows.labels[..., ~outside].any()
        assert rows.probabilities is not None
        assert rows.probabilities[..., outside].max() < 1e-6
        found.append(rows.labels)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("overlap_rule", ["highest", "last"])
def test_outputs_that_are_no_numbers_are_no_empty_segmentation(wrong: float, overlap_rule: str) -> None:
    outputs = torch.zeros(2, 3, 4, 5)
    outputs[1, 2, 2, 2] = wrong
    for decision in (Decision((0, 1)), Decision((1, 2), "sigmoid", overlap_rule=overlap_rule)):
        with pytest.raises(ModelError, match="no numbers"):
            LabelRows(decision, (3, 4, 5), (3, 4, 5)).put(outputs)


def test_cancel_takes_effect_within_one_window() -> None:
    cancel = CancelToken()
    seen: list[tuple[int, int | None]] = []

    def progress(event) -> None:
        seen.append((event.completed, event.total))
        cancel.cancel()

    rows = LabelRows(Decision((0, 1)), (8, 8, 8), (8, 8, 8))
    with pytest.raises(JobCancelled):
        run_windows(
            random_network(2), torch.zeros(1, 8, 8, 8), rows, WindowRules((4, 4, 4)), (4, 4, 4), plan_for((4, 4, 4)),
            progress=progress, cancel=cancel,
        )  # fmt: skip
    assert seen == [(1, 27)]


def test_cancel_takes_effect_between_layers_of_a_whole_volume() -> None:
    cancel = CancelToken()
    layers = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity())
    with pytest.raises(JobCancelled):
        Ensemble([layers], CPU, torch.float32).whole(torch.zeros(1, 2, 2, 2), lambda _: cancel.cancel(), cancel)


def test_outputs_of_another_channel_count_are_refused() -> None:
    rows = LabelRows(Decision((0, 1, 2)), (4, 4, 4), (4, 4, 4))
    with pytest.raises(ModelError, match=r"gives \(2, 4, 4, 4\).* the card says 3 channels"):
        run_windows(
            random_network(2), torch.zeros(1, 4, 4, 4), rows, WindowRules((4, 4, 4)), (4, 4, 4), plan_for((4, 4, 4))
        )
