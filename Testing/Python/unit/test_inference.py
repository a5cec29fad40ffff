"""What surrounds a network: intensities, grids, windows, sums, labels back on the source grid, and the memory."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib import Catalogue, ModelCard, load_model
from AIDicomBridgeLib.errors import ConflictError, GeometryError, JobCancelled, MemoryLimitError, ModelError
from AIDicomBridgeLib.free_memory import linux_memory, pages_free
from AIDicomBridgeLib.inference.activation_memory import activation_bytes
from AIDicomBridgeLib.inference.ensemble import Ensemble
from AIDicomBridgeLib.inference.flood import flood
from AIDicomBridgeLib.inference.label_rows import Decision, LabelRows
from AIDicomBridgeLib.inference.memory_plan import MemoryPlan, Task, choose_plan, leaner_plan, possible_plans
from AIDicomBridgeLib.inference.normalisation import cormack_units, normalise, scale_percentiles
from AIDicomBridgeLib.inference.postprocessing import fill_holes, keep_largest_component, remove_small_components
from AIDicomBridgeLib.inference.preparation import frame, network_input
from AIDicomBridgeLib.inference.resampling import axis_matrix, resample, separate_axis
from AIDicomBridgeLib.inference.sliding_window import run_windows
from AIDicomBridgeLib.inference.windows import importance_map, padding_to_patch, window_starts
from AIDicomBridgeLib.models.card import InputRules, IntensityStep, NetworkRules, WeightsFile, WindowRules
from AIDicomBridgeLib.models.weights import WeightsFolder
from AIDicomBridgeLib.progress import CancelToken
from AIDicomBridgeLib.series.volume import read_volume
from synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL, body_phantom, make_series, save_series

CPU = torch.device("cpu")


def own_card(folder: Path) -> ModelCard:
    """Write a small MeshNet with random weights and its card, windows of 16, three classes."""
    from safetensors.torch import save

    torch.manual_seed(5)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3, bias=False), torch.nn.Conv3d(4, 3, 1, bias=False))
    names = {"0.weight": network[0].weight, "3.weight": network[1].weight}
    content = save({name: tensor.detach().contiguous() for name, tensor in names.items()})
    (folder / "own.safetensors").write_bytes(content)
    shipped = Catalogue.load()["mindgrab"]
    segment = shipped.segments[0]
    return dataclasses.replace(
        shipped,
        name="own",
        segments=(segment, dataclasses.replace(segment, label=2, name="Other")),
        cleanups=(),
        decision=Decision((0, 1, 2)),
        modalities=("CT",),
        network=NetworkRules("meshnet", 3, 4, (1,)),
        input=InputRules("SPL", (2.0, 2.0, 2.0), (IntensityStep("window", -1000, 1000),)),
        windows=WindowRules((16, 16, 16)),
        weights=WeightsFile("own.safetensors", len(content), hashlib.sha256(content).hexdigest()),
    )


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


def test_memory_is_what_the_innermost_group_with_a_limit_leaves(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    for folder, files in {
        proc: {"meminfo": "MemTotal: 900 kB\nMemAvailable: 800 kB\n"},
        proc / "self": {"cgroup": "7:cpu:/x\n4:memory:/batch/job\n0::/slice/unit\n"},
        groups / "slice": {"memory.max": "5000", "memory.current": "4000", "memory.stat": "inactive_file 100\n"},
        groups / "slice" / "unit": {"memory.max": "max", "memory.current": "1", "memory.stat": "inactive_file 0\n"},
        groups / "memory" / "batch" / "job": {
            "memory.limit_in_bytes": "9000", "memory.usage_in_bytes": "2000", "memory.stat": "total_inactive_file 5\n",
        },
    }.items():  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content)
    assert sorted(linux_memory(proc, groups)) == [1100, 7005, 800 * 1024]
    assert linux_memory(tmp_path / "elsewhere", groups) == []
    said = "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free:   10.\nPages active: 99.\n"
    assert pages_free(said + "Pages inactive: 5.\n") == 15 * 16384
    assert pages_free("nothing") is None


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


TASK = Task(
    source_voxels=512 * 512 * 300, box=(300, 512, 512), grid=(300, 512, 512), patch=(96, 96, 96), classes=118,
    window_count=1000, weights_bytes=10**8,
)  # fmt: skip


def plans(free_gb: float, device: str = "cpu", device_gb: float | None = None, batch: int = 4) -> list[MemoryPlan]:
    return possible_plans(
        TASK,
        device=torch.device(device),
        precision=torch.float32,
        activations=lambda count: count * 10**9,
        device_available=None if device_gb is None else int(device_gb * 1e9),
        host_available=int(free_gb * 1e9),
        largest_batch=batch,
    )


def test_a_plan_takes_the_quickest_way_that_fits_and_says_what_it_gave_up() -> None:
    roomy = choose_plan(plans(64))
    assert (roomy.batch, roomy.accumulator_precision, roomy.notes) == (4, "float32", ())
    tight = choose_plan(plans(8))
    assert (tight.batch, tight.accumulator_precision) == (1, "float16")
    assert tight.host_bytes < 8e9
    assert "stepped down to batch 1 with sums in float16" in tight.notes[0]
    small_gpu = choose_plan(plans(64, "cuda:0", 4))
    assert (small_gpu.device, small_gpu.accumulator_device) == ("cuda:0", "cpu")
    assert small_gpu.device_bytes < 4e9 < small_gpu.host_bytes


def test_what_cannot_fit_is_refused_before_the_run_with_the_number() -> None:
    with pytest.raises(MemoryLimitError, match=r"at its leanest, the model needs about \d\.\d GB of .* 2\.0 GB are"):
        choose_plan(plans(2))


def test_after_running_out_of_memory_the_next_leaner_plan_is_taken() -> None:
    ways = plans(64)
    seen, plan = [], choose_plan(ways)
    while plan is not None:
        seen.append((plan.batch, plan.accumulator_precision))
        plan = leaner_plan(ways, plan)
    assert seen == [(4, "float32"), (2, "float32"), (1, "float32"), (1, "float16")]
    assert "after running out of memory" in leaner_plan(ways, ways[0]).notes[0]


def test_the_dry_run_finds_what_layers_hold_and_leaves_the_network_alone() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.Conv3d(8, 2, 1)).eval()
    found, dry = activation_bytes(network, (1, 1, 32, 32, 32), torch.float32)
    assert dry
    assert 9 * 32**3 * 4 < found < 2 * 11 * 32**3 * 4
    assert network[0].weight.device == CPU
    assert activation_bytes(lambda x: x, (1, 1, 32, 32, 32), torch.float32)[1] is False


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
@pytest.mark.parametrize("spacing_mm", [(3.0, 0.8, 0.6), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("crop", ["none", "nonzero"])
def test_a_network_that_thresholds_marks_the_same_voxels_of_the_source(
    tmp_path: Path, orientation: tuple[float, ...], spacing_mm: tuple[float, float, float], crop: str
) -> None:
    """Turning, resampling to 1 mm and back must not move anything: blocks of 6 voxels come back within their edge."""
    voxels = np.zeros((12, 48, 60), np.int16)
    voxels[3:9, 6:24, 36:54] = 100
    series = make_series(voxels, orientation=orientation, spacing_mm=spacing_mm)
    volume = read_volume(save_series(series, tmp_path))
    rules = InputRules("LIA", (1.0, 1.0, 1.0), (IntensityStep("window", 0, 100),), crop=crop)

    framing = frame([volume], rules)
    tensor = network_input([volume], rules, framing, CPU)
    rows = LabelRows(Decision((0, 1)), framing.grid, framing.box_shape, axis=1)
    rows.put(torch.cat([0.5 - tensor, tensor - 0.5]))
    labels = framing.on_source_grid(rows.labels)

    assert labels.shape == voxels.shape
    assert labels.dtype == np.uint8
    inner, outer = np.zeros_like(labels, bool), np.zeros_like(labels, bool)
    inner[4:8, 8:22, 38:52] = True
    outer[2:10, 4:26, 34:56] = True
    assert labels[inner].all()
    assert not labels[~outer].any()
    if spacing_mm == (1.0, 1.0, 1.0):
        np.testing.assert_array_equal(labels, voxels > 0)


def test_the_body_crop_keeps_the_body_and_halves_the_windows(tmp_path: Path) -> None:
    voxels = np.full((20, 128, 128), -1000, np.int16)
    voxels[:, 40:90, 30:100] = 40
    voxels[:, 110:112, 10:118] = 200  # a thin table
    volume = read_volume(save_series(make_series(voxels, spacing_mm=(2.0, 2.0, 2.0)), tmp_path))
    rules = InputRules("", crop="body")
    box = frame([volume], rules).box
    body = ((0, 20), (40, 90), (30, 100))
    assert all(part.start <= low and part.stop >= high for part, (low, high) in zip(box, body, strict=True))
    assert np.prod([part.stop - part.start for part in box]) < voxels.size / 2


@pytest.mark.parametrize(("count", "size"), [(7, 7), (7, 15), (20, 9), (1, 4)])
@pytest.mark.parametrize("kind", ["nearest", "linear", "cubic"])
def test_resampling_keeps_constants_and_lines_in_place(count: int, size: int, kind: str) -> None:
    matrix = axis_matrix(count, size, kind).astype(float)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
    middle = (np.arange(size) + 0.5) * count / size - 0.5
    inside = (middle >= 2) & (middle <= count - 3)
    if kind != "nearest" and inside.any():
        np.testing.assert_allclose((matrix @ np.arange(count))[inside], middle[inside], atol=0.25)


def test_the_coarse_axis_is_the_one_of_much_larger_spacing() -> None:
    assert separate_axis((5.0, 0.8, 0.8), (5.0, 0.8, 0.8)) == 0
    assert separate_axis((1.0, 1.0, 1.0), (1.0, 4.0, 1.0)) == 1
    assert separate_axis((1.0, 1.0, 1.5), (1.5, 1.5, 1.5)) is None
    stepped = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 6, 6)
    doubled = resample(stepped, (8, 12, 12), cubic=True, nearest_axis=0)
    np.testing.assert_allclose(doubled[0, :, 5, 5], [0, 0, 1, 1, 2, 2, 3, 3], atol=1e-5)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (IntensityStep("window", -100, 100), [0, 0.5, 0.75, 1]),
        (IntensityStep("clip", -50, 60), [-50, 0, 50, 60]),
        (IntensityStep("nnunet-ct", -50, 60, mean=10, std=20), [-3, -0.5, 2, 2.5]),
        (IntensityStep("shift-scale", mean=-200, std=100), [0, 2, 2.5, 5]),
        (IntensityStep("min-max"), [0, 0.4, 0.5, 1]),
        (IntensityStep("z-score", nonzero_only=True), [-1.22474, 0, 0, 1.22474]),
        (IntensityStep("window", 0, 1, modalities=("MR",)), [-200, 0, 50, 300]),
    ],
)
def test_intensity_rules(step: IntensityStep, expected: list[float]) -> None:
    found = normalise(torch.tensor([-200.0, 0.0, 50.0, 300.0])[None], (step,), ["CT"])[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_percentiles_are_scaled_and_clipped() -> None:
    scaled = scale_percentiles(torch.arange(101.0), 10, 90)
    assert scaled[:11].max() == 0
    assert scaled[90:].min() == 1
    assert scaled[50] == pytest.approx(0.5)
    assert (scale_percentiles(torch.full((8,), 7.0), 2, 98) == 0).all()


def test_cormack_units_stretch_soft_tissue_only() -> None:
    hounsfield = torch.tensor([-3000, -1024, -124, -24, 76, 1000], dtype=torch.int16)
    np.testing.assert_allclose(cormack_units(hounsfield), [0, 0, 900, 2000, 3100, 4024])


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


def test_an_unusable_device_is_refused() -> None:
    with pytest.raises(ModelError, match="'nonsense'"):
        load_model("ct-tissues", device="nonsense")


def test_a_model_plans_refuses_and_runs_within_a_limit(tmp_path: Path) -> None:
    card = own_card(tmp_path)
    folder = WeightsFolder(tmp_path)
    volume = read_volume(
        save_series(make_series(body_phantom((20, 40, 40)), spacing_mm=(2.0, 2.0, 2.0)), tmp_path / "s")
    )
    model = load_model(card, "cpu", precision="float32", weights_folder=folder)

    plan = model.plan(volume)
    assert plan is not None
    assert plan.patch == (16, 16, 16)
    assert 0 < plan.host_bytes < 100e6
    with pytest.raises(MemoryLimitError, match="needs about 1 MB of the machine's memory, and 0 MB are"):
        model.segment(volume, any_body_part=True, memory_limit_bytes=10**5)
    result = model.segment(volume, any_body_part=True, probabilities=True)
    again = model.segment(volume, any_body_part=True)
    np.testing.assert_array_equal(result.labels, again.labels)
    assert result.probabilities is not None
    assert result.probabilities.shape == (2, 20, 40, 40)
    assert result.provenance is not None
    assert "windows of 16x16x16" in result.provenance.memory_plan
    model.release()
    with pytest.raises(ModelError, match="was released"):
        model.segment(volume, any_body_part=True)


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


def test_channels_are_normalised_each_by_itself() -> None:
    first = torch.tensor([-200.0, 0.0, 50.0, 300.0])
    steps = (IntensityStep("min-max", channels=(0,)), IntensityStep("window", 0, 100, channels=(1,)))
    found = normalise(torch.stack([first, first]), steps, ["CT", "CT"])
    np.testing.assert_allclose(found, [[0, 0.4, 0.5, 1], [0, 0, 0.5, 1]], atol=1e-6)


def test_running_out_of_memory_steps_down_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from AIDicomBridgeLib.models import model as model_file

    card = own_card(tmp_path)
    volume = read_volume(save_series(make_series(body_phantom((6, 20, 20))), tmp_path / "s"))
    model = load_model(card, "cpu", precision="float32", weights_folder=WeightsFolder(tmp_path))
    run, sums = model_file.run_windows, []

    def short_of_memory(*arguments, **keywords) -> None:
        sums.append(arguments[5].accumulator_precision)
        if len(sums) == 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        run(*arguments, **keywords)

    monkeypatch.setattr(model_file, "run_windows", short_of_memory)
    result = model.segment(volume, any_body_part=True)
    assert sums == ["float32", "float16"]
    assert result.provenance is not None
    assert "stepped down to batch 1 with sums in float16 on cpu after running out" in result.provenance.memory_plan


def test_a_model_refuses_another_body_part_unless_told(tmp_path: Path) -> None:
    card = dataclasses.replace(Catalogue.load()["ct-tissues"], body_parts=("HEAD",))
    volume = read_volume(save_series(make_series(body_phantom()), tmp_path))
    with pytest.raises(ModelError, match="works on HEAD, and the series says ABDOMEN"):
        load_model(card).segment(volume)
    assert load_model(card).segment(volume, any_body_part=True).labels.any()
    volume.source.headers[0].BodyPartExamined = ""
    assert load_model(card).segment(volume).labels.any()
