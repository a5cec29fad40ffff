"""What a run will need is known before it, and what cannot fit is refused or stepped down."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib import load_model
from AIDicomBridgeLib.errors import MemoryLimitError, ModelError
from AIDicomBridgeLib.free_memory import linux_memory, pages_free
from AIDicomBridgeLib.inference.activation_memory import HEADROOM, activation_bytes
from AIDicomBridgeLib.inference.memory_plan import MemoryPlan, Task, choose_plan, leaner_plan, possible_plans
from AIDicomBridgeLib.models import ct_tissues, network_run
from AIDicomBridgeLib.models.weights import WeightsFolder
from AIDicomBridgeLib.series.volume import read_volume
from synthetic import body_phantom, make_series, save_series
from toy_card import own_card

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


def test_a_plan_takes_the_quickest_way_that_fits_and_says_what_it_gave_up() -> None:
    roomy = choose_plan(plans(64))
    assert (roomy.batch, roomy.accumulator_precision, roomy.notes) == (4, "float32", ())
    assert roomy.keeps_freed
    tight = choose_plan(plans(8))
    assert (tight.batch, tight.accumulator_precision) == (1, "float16")
    assert tight.host_bytes < 8e9
    tightest = choose_plan(plans(tight.host_bytes / 1e9 - 0.5))
    assert (tight.keeps_freed, tightest.keeps_freed) == (True, False)
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
        seen.append((plan.batch, plan.accumulator_precision, plan.keeps_freed))
        plan = leaner_plan(ways, plan)
    both = (True, False)
    assert seen == [
        *((batch, "float32", keeps) for batch in (4, 2, 1) for keeps in both),
        *((1, "float16", keeps) for keeps in both),
    ]
    assert "without keeping freed memory after running out of memory" in leaner_plan(ways, ways[0]).notes[0]


def test_the_dry_run_finds_what_layers_hold_and_leaves_the_network_alone() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.Conv3d(8, 2, 1)).eval()
    found, dry = activation_bytes(network, (1, 1, 32, 32, 32), torch.float32)
    assert dry
    assert 9 * 32**3 * 4 < found < 2 * 11 * 32**3 * 4
    assert network[0].weight.device == torch.device("cpu")
    assert activation_bytes(lambda x: x, (1, 1, 32, 32, 32), torch.float32)[1] is False


def test_the_dry_run_knows_what_autocast_keeps_in_float32_and_copies() -> None:
    lowered, raised = torch.nn.Conv3d(8, 8, 1, bias=False), torch.nn.GroupNorm(8, 8)
    window, voxels = (1, 8, 16, 16, 16), 16**3

    def bytes_a_voxel(*layers: torch.nn.Module) -> float:
        found, dry = activation_bytes(torch.nn.Sequential(*layers), window, torch.float16, autocast=True)
        assert dry
        return (found / HEADROOM - 4 * 8 * voxels) / voxels / 8  # beside the input

    weights = 2 * 64 / voxels
    assert bytes_a_voxel(lowered) == pytest.approx(2 + 2 + weights / 8, rel=0.01)  # the input's copy, and what is found
    assert bytes_a_voxel(lowered, raised) == pytest.approx(2 + 4 + 4 + weights / 8, rel=0.01)
    assert bytes_a_voxel(lowered, torch.nn.InstanceNorm3d(8)) == pytest.approx(2 + 2 + weights / 8, rel=0.01)
    assert bytes_a_voxel(lowered, torch.nn.Softmax(1)) == pytest.approx(2 + 4 + 4 + weights / 8, rel=0.01)


def test_a_network_that_bears_no_two_types_without_data_is_planned_as_more_than_float32() -> None:
    class Particular(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x)
            if y.dtype != x.dtype:
                raise RuntimeError("expected both to have the same type")
            return x + y

    shape = (1, 4, 4, 4, 8)
    in_float32, _ = activation_bytes(Particular(), shape, torch.float32)
    found, dry = activation_bytes(Particular(), shape, torch.float16, autocast=True)
    assert dry
    assert found > in_float32


@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_that_write_neighbours_out_are_planned_so(transposed: bool) -> None:
    kind = torch.nn.ConvTranspose3d if transposed else torch.nn.Conv3d
    shape, voxels = (1, 4, 8, 8, 8), 8**3
    found, _ = activation_bytes(kind(4, 4, 3, padding=1), shape, torch.bfloat16, unfolded=True)
    assert found / HEADROOM == pytest.approx(2 * voxels * (4 + 27 * 4 + 4), rel=1e-4)


@pytest.mark.parametrize("error", [ValueError("x"), IndexError("x"), AssertionError()])
def test_a_network_that_fails_without_data_is_estimated(error: Exception) -> None:
    class Failing(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise error

    assert activation_bytes(Failing(), (1, 1, 8, 8, 8), torch.float32)[1] is False


def test_the_dry_run_understands_keywords() -> None:
    class ByKeyword(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.nn.functional.leaky_relu(input=torch.nn.functional.instance_norm(input=x))
            return torch.cat(tensors=[x, x], dim=1)

    found, dry = activation_bytes(ByKeyword(), (1, 1, 8, 8, 8), torch.float32)
    assert dry
    assert found >= 4 * 8**3 * 4


class _UNet(torch.nn.Module):
    """Of two levels, as wide as is asked for."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [(1, width, 1), (width, 2 * width, 2), (2 * width, width, 1)]
        self.first, self.down, self.join = (
            torch.nn.Sequential(
                torch.nn.Conv3d(into, out, 3, step, 1), torch.nn.InstanceNorm3d(out), torch.nn.LeakyReLU()
            )
            for into, out, step in sizes
        )
        self.up = torch.nn.ConvTranspose3d(2 * width, width, 2, 2)
        self.last = torch.nn.Conv3d(width, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = self.first(x)
        return self.last(self.join(torch.cat([kept, self.up(self.down(kept))], 1)))


@pytest.mark.parametrize("unfolded", [False, True])
@pytest.mark.parametrize("width", [16, 64])
def test_what_is_estimated_of_a_program_is_enough_and_not_far_too_much(width: int, unfolded: bool) -> None:
    network, shape = _UNet(width).eval(), (1, 1, 8, 8, 8)
    kept = torch.bfloat16 if unfolded else torch.float32  # as it is where autocast has to be asked for by name
    found, dry = activation_bytes(network, shape, kept, unfolded=unfolded)
    assert dry
    program = torch.jit.trace(network, torch.zeros(shape))
    for precision in (torch.float32, torch.bfloat16):
        estimated, dry = activation_bytes(program, shape, precision, unfolded=unfolded)
        assert not dry
        assert found <= estimated <= 3 * found


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


def test_running_out_of_memory_steps_down_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    card = own_card(tmp_path)
    volume = read_volume(save_series(make_series(body_phantom((6, 20, 20))), tmp_path / "s"))
    model = load_model(card, "cpu", precision="float32", weights_folder=WeightsFolder(tmp_path))
    run, sums = network_run.run_windows, []

    def short_of_memory(*arguments, **keywords) -> None:
        sums.append(arguments[5].accumulator_precision)
        if len(sums) <= 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        run(*arguments, **keywords)

    monkeypatch.setattr(network_run, "run_windows", short_of_memory)
    result = model.segment(volume, any_body_part=True)
    assert sums == ["float32", "float32", "float16"]
    assert result.provenance is not None
    assert "stepped down to batch 1 with sums in float16 on cpu after running out" in result.provenance.memory_plan


def test_a_procedure_is_planned_refused_and_says_what_it_takes(ct_files: list[Path]) -> None:
    volume, model = read_volume(ct_files), load_model("ct-tissues")
    with pytest.raises(MemoryLimitError, match=r"needs about \d MB of the machine's memory, and 0 MB are"):
        model.segment(volume, memory_limit_bytes=1000)
    with pytest.raises(MemoryLimitError):
        model.plan(volume, memory_limit_bytes=1000)
    provenance = model.segment(volume).provenance
    assert provenance is not None
    assert re.fullmatch(r"12 windows of 1x64x72; batch 1; \d MB host", provenance.memory_plan)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_a_procedure_that_runs_out_of_memory_is_a_named_error(
    ct_files: list[Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def short_of_memory(*_: object) -> None:
        raise error

    monkeypatch.setattr(ct_tissues, "_body", short_of_memory)
    with pytest.raises(MemoryLimitError, match="did not suffice even for 12 windows"):
        load_model("ct-tissues").segment(read_volume(ct_files))
