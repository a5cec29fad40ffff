"""What a person can ask of a model's run, from every door: probabilities, precision, mirroring, a memory limit."""

import json
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib import Job, run_job
from AIDicomBridgeLib.cli.main import app
from AIDicomBridgeLib.errors import MemoryLimitError, ModelError
from AIDicomBridgeLib.results.profiles import DestinationProfile
from AIDicomBridgeLib.series.image_files import ImageFiles
from AIDicomBridgeLib.worker.calls import Calls
from AIDicomBridgeLib.worker.model_run import ModelRun
from pydicom import dcmread
from toy_card import write_toy_card
from typer.testing import CliRunner


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path / "home"))


def segment(folder: Path, card: Path | str, *options: object) -> tuple[int, dict]:
    arguments = ["segment", folder, "--model", card, *options, "--json"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, json.loads(result.stdout)


def test_a_fractional_segmentation_holds_the_models_probabilities(ct_files: list[Path], tmp_path: Path) -> None:
    card = write_toy_card(tmp_path)
    options = ("--outputs", "seg", "--encoding", "fractional,binary", "--out", tmp_path / "out")
    status, answer = segment(ct_files[0].parent, card, *options)
    assert status == 0, answer
    fractional, binary = (dcmread(result["path"]) for result in answer["results"])
    assert (fractional.SegmentationType, fractional.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert 2 < len(np.unique(fractional.pixel_array)) <= fractional.MaximumFractionalValue + 1
    assert binary.SegmentationType == "BINARY"


def test_maps_hold_the_models_probabilities(ct_files: list[Path], tmp_path: Path) -> None:
    card = write_toy_card(tmp_path)
    job = Job(ct_files[0].parent, card, outputs=("pm",))
    done = run_job(job)
    assert done.labels is not None
    assert done.labels.probabilities is not None
    (found,) = done.results
    assert (found.kind, found.dataset.Modality) == ("pm", "OT")
    values = np.frombuffer(found.dataset.FloatPixelData, np.float32).reshape(done.labels.labels.shape)
    np.testing.assert_allclose(values, done.labels.probabilities[0], atol=1e-6)


def test_probabilities_are_computed_where_a_profile_asks_for_them(ct_files: list[Path], tmp_path: Path) -> None:
    card = write_toy_card(tmp_path)
    profile = DestinationProfile("probable", encoding="FRACTIONAL", outputs=("seg",))
    done = run_job(Job(ct_files[0].parent, card, profile=profile))
    assert [result.dataset.SegmentationType for result in done.results] == ["FRACTIONAL"]
    plain = run_job(Job(ct_files[0].parent, card, outputs=("seg",)))
    assert plain.labels is not None
    assert plain.labels.probabilities is None


def test_probabilities_of_a_model_that_has_none_are_refused_before_the_run(
    ct_files: list[Path], tmp_path: Path
) -> None:
    stages = []
    job = Job(ct_files[0].parent, "ct-tissues", outputs=("seg",), encodings=("FRACTIONAL",), out=tmp_path / "out")
    with pytest.raises(ModelError, match="gives labels only, no probabilities"):
        run_job(job, progress=lambda event: stages.append(event.stage))
    assert "segment" not in stages


def test_the_options_of_a_run_reach_the_model(ct_files: list[Path], tmp_path: Path) -> None:
    card = write_toy_card(tmp_path)
    found = {}
    for mirror in (True, False):
        job = Job(ct_files[0].parent, card, outputs=("seg",), device="cpu", precision="bfloat16", mirror=mirror)
        labels = run_job(job).labels
        assert labels is not None
        assert labels.provenance is not None
        assert labels.provenance.precision == "bfloat16"
        found[mirror] = labels.labels
    assert (found[True] != found[False]).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory-limit", "0.1 MB"), "the model needs about"),
        (("--precision", "float8"), "precision must be auto"),
    ],
)
def test_the_command_line_hands_its_options_over(
    ct_files: list[Path], tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    status, answer = segment(ct_files[0].parent, write_toy_card(tmp_path), *options, "--out", tmp_path / "out")
    assert status == 1
    assert words in str(answer["error"])
    assert not (tmp_path / "out").exists()


def test_a_limit_without_a_unit_is_wrong_usage(ct_files: list[Path], tmp_path: Path) -> None:
    arguments = ["segment", str(ct_files[0].parent), "--model", "x", "--out", str(tmp_path), "--memory-limit", "6"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "6 GB" in result.output


def test_the_worker_takes_the_same_options(ct_files: list[Path], tmp_path: Path) -> None:
    calls, card, files = Calls(lambda progress: None), write_toy_card(tmp_path), ImageFiles(tuple(ct_files))
    for call in (calls.segment, calls.plan):
        with pytest.raises(MemoryLimitError):
            call(files=files, run=ModelRun(card, memory_limit_bytes=1000))
    run = ModelRun(card, precision="float32", mirror=False, probabilities=True)
    labels = calls.segment(files=files, run=run)
    assert labels.probabilities is not None
    assert labels.provenance is not None
    assert labels.provenance.precision == "float32"
    mirrored = calls.segment(files=files, run=ModelRun(card, precision="float32"))
    assert (mirrored.labels != labels.labels).any()
