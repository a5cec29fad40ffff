"""The demonstration as a person runs it: its answer, its archive, its report and its pictures."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.cli.demo_data import fetch_head_files, head_scan
from AIDicomBridgeLib.errors import NotFoundError
from AIDicomBridgeLib.series.dicom_file import read_dicom
from AIDicomBridgeLib.series.instance_store import InstanceStore
from peers.validators import dciodvfy_errors
from PIL import Image

BRAIN_COLOR = np.array([250, 170, 110])  # as on MindGrab's card


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    try:
        fetch_head_files(folder / "demo")
    except NotFoundError as error:
        pytest.skip(f"the real head scan: {error}")
    return folder


def test_the_head_scan_is_a_valid_mr_series(home: Path, tmp_path: Path) -> None:
    scan = head_scan(home / "demo")
    assert len(scan.datasets) == 181
    assert scan.accession_number == "AIDB0001"
    assert dciodvfy_errors(scan.datasets[90], tmp_path) == []


def test_demo_runs_the_whole_loop(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "AIDicomBridgeLib.cli.main", "demo", "--scan", "head", "--out", str(out), "--json"]
    library = Path(__file__).parents[3] / "AIDicomBridge"
    environment = {**os.environ, "AIDICOMBRIDGE_HOME": str(home), "PYTHONPATH": str(library)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)

    assert answer["status"] == "ok"
    assert 1300 < answer["measurements"][0]["volume_ml"] < 2100
    (delivery,) = answer["deliveries"]
    assert delivery["remaining"] == []
    assert {arrived["proof"] for arrived in delivery["arrived"]} == {"compared"}

    held = [
        read_dicom(instance.path, stop_before_pixels=True) for instance in InstanceStore(out / "archive").instances()
    ]
    assert {ds.StudyInstanceUID for ds in held} == {answer["study_uid"]}
    by_modality = {modality: [ds for ds in held if ds.Modality == modality] for modality in ("MR", "SEG", "SR", "OT")}
    assert [len(by_modality[m]) for m in ("MR", "SEG", "SR")] == [181, 2, 1]
    sources = {ds.SOPInstanceUID for ds in by_modality["MR"]}
    for segmentation in by_modality["SEG"]:
        referenced = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert {item.ReferencedSOPInstanceUID for item in referenced} <= sources
    assert all(ds.SourceImageSequence[0].ReferencedSOPInstanceUID in sources for ds in by_modality["OT"])

    page = (out / "report.html").read_text()
    pictures = re.findall(r"alt='(\w+) view' src='data:image/png;base64,([^']+)'", page)
    assert [name for name, _ in pictures] == ["Axial", "Coronal", "Sagittal", "3D"]
    for _, content in pictures:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")).astype(int)
        assert (np.abs(pixels - BRAIN_COLOR).max(axis=-1) < 60).sum() > 500, "the brain is not outlined"
