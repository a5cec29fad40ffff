"""Tests of the panel in the look-alike window. They run in a process of their own: ``pytest Testing/Python/panel``."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from AIDicomBridgeLib import connect
from AIDicomBridgeLib.mrml.core_scene import has_slicer_core
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.series.instance_store import InstanceStore
from peers.orthanc import orthanc
from shell.steps import NAME, PATIENT_ID
from synthetic import body_phantom, make_series, save_series

if TYPE_CHECKING:
    from shell.window import Window


@pytest.fixture(autouse=True)
def _packages_of_the_shell() -> None:
    if not has_slicer_core():
        pytest.skip("slicer-core is not installed")
    # Without its system libraries (libEGL, libxkbcommon and others) it is there and cannot be imported.
    pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)


@pytest.fixture
def shell(_packages_of_the_shell: None) -> Iterator["Window"]:
    """The panel in a window; whatever went wrong in a slot fails the test at its end."""
    from shell.window import open_window

    with open_window() as window:
        yield window


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    """Outbox, weights and temporary files of panel and worker go below the test's own folder; returns the latter's."""
    for variable, name in (("AIDICOMBRIDGE_HOME", "home"), ("TMPDIR", "tmp")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


@pytest.fixture
def series(tmp_path) -> list[Path]:
    """A CT of a patient whose name must not turn up where it does not belong."""
    datasets = make_series(body_phantom((10, 64, 72)), patient_name=NAME, patient_id=PATIENT_ID)
    for dataset in datasets:
        dataset.BodyPartExamined = "HEAD"  # so that every model takes it
        for keyword in ("IssuerOfPatientID", "PatientAddress", "PatientComments", "InstitutionName", "StudyID"):
            setattr(dataset, keyword, f"{NAME} {keyword}"[:16])
        for keyword in ("OtherPatientNames", "ReferringPhysicianName", "OperatorsName"):
            setattr(dataset, keyword, NAME)
    return save_series(datasets, tmp_path / "ct")


@pytest.fixture
def archive(series, tmp_path):
    """The built-in archive, which holds the CT."""
    with InstanceStore(tmp_path / "archive") as store, Archive(store) as running:
        for path in series:
            store.add_file(path)
        yield running


@pytest.fixture
def clinic(series, tmp_path):
    """An Orthanc that holds the CT."""
    with orthanc(tmp_path / "orthanc") as running:
        with connect(running.dimse) as client:
            assert client.store(series).complete
        yield running
