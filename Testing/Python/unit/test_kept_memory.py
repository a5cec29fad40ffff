"""What a layer frees serves the next one, and goes back to the system when the run is over."""

import ctypes
import resource
import sys
from pathlib import Path

import pytest
import torch
from AIDicomBridgeLib.inference.ensemble import Ensemble
from AIDicomBridgeLib.inference.kept_memory import freed_memory_kept
from AIDicomBridgeLib.models.model import Model
from AIDicomBridgeLib.series.volume import read_volume
from synthetic import body_phantom, make_series, save_series
from toy_card import own_card

BLOCK = 40 << 20

needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)


def page_faults_of_layers() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(BLOCK // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def memory_in_use() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@needs_glibc
def test_pages_are_cleared_once_and_not_for_every_layer() -> None:
    before = memory_in_use()
    usual = page_faults_of_layers()
    with freed_memory_kept():
        page_faults_of_layers()  # the blocks find their places
        kept = page_faults_of_layers()
        assert memory_in_use() > before + BLOCK // 2
    assert kept < usual / 5
    assert memory_in_use() < before + BLOCK // 2
    assert page_faults_of_layers() > kept * 5


@needs_glibc
def test_memory_goes_back_after_a_failure_too() -> None:
    def layer_that_fails() -> None:
        torch.ones(BLOCK // 4)
        raise RuntimeError("in the middle")

    before = memory_in_use()
    with pytest.raises(RuntimeError, match="in the middle"), freed_memory_kept():
        layer_that_fails()
    assert memory_in_use() < before + BLOCK // 2


class Layers(torch.nn.Module):
    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        for _ in range(10):
            torch.ones(BLOCK // 4)
        return torch.cat([-windows, windows, windows - 1], 1)


@needs_glibc
def test_a_run_clears_pages_once_unless_a_person_has_set_thresholds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = read_volume(save_series(make_series(body_phantom((8, 50, 50))), tmp_path / "s"))
    cpu = torch.device("cpu")
    model = Model(own_card(tmp_path), cpu, torch.float32, {"network": Ensemble([Layers()], cpu, torch.float32)}, "")

    def page_faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        model.segment(volume, any_body_part=True)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    page_faults()  # what the first run imports has pages too
    kept = page_faults()
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert kept < page_faults() * 2 / 3  # a third as a rule, where blocks find their places


def test_nothing_is_done_where_it_is_not_wanted() -> None:
    with freed_memory_kept(wanted=False):
        before = page_faults_of_layers()
    assert before >= page_faults_of_layers() / 5
