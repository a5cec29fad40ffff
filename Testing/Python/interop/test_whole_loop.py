"""The whole loop between real Orthancs, over DIMSE and DICOMweb, with the real head scan and the real network."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib import InstanceStore, connect, read_segmentation
from AIDicomBridgeLib.cli.demo_data import DemoScan, as_axial, fetch_head_files, head_scan
from AIDicomBridgeLib.cli.main import app
from AIDicomBridgeLib.errors import NotFoundError, WeightsError
from AIDicomBridgeLib.models.catalogue import Catalogue
from AIDicomBridgeLib.models.weights import WeightsFolder
from AIDicomBridgeLib.pacs.endpoint import Endpoint, parse_endpoint
from AIDicomBridgeLib.series.dicom_file import read_dicom
from AIDicomBridgeLib.series.source_series import SourceSeries
from peers.orthanc import Orthanc, orthanc
from peers.validators import dciodvfy_errors, read_report_with_dcmqi
from pydicom import Dataset
from pydicom.uid import generate_uid
from synthetic import body_phantom, make_series
from typer.testing import CliRunner


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's data folder with MindGrab's weights."""
    folder = tmp_path_factory.mktemp("home")
    try:
        WeightsFolder(folder / "weights").fetch(Catalogue.load()["mindgrab"])
    except WeightsError as error:
        pytest.skip(f"MindGrab's weights: {error}")
    return folder


@pytest.fixture(scope="module")
def head(home: Path) -> DemoScan:
    """The real head scan as DICOM."""
    try:
        return head_scan(home / "demo")
    except NotFoundError as error:
        pytest.skip(f"the real head scan: {error}")


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory):
    with orthanc(tmp_path_factory.mktemp("pacs") / "orthanc", https=True) as running:
        yield running


def put(datasets: list[Dataset], endpoint: Endpoint) -> str:
    with connect(endpoint) as client:
        assert client.store(datasets).complete
    return str(datasets[0].StudyInstanceUID)


def run(*arguments: str) -> dict:
    result = CliRunner().invoke(app, ["run", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def fetch(endpoint: Endpoint, study_uid: str, folder: Path) -> dict[str, list[Path]]:
    """Return the files of a study by modality."""
    store = InstanceStore(folder)
    with connect(endpoint) as client:
        assert client.retrieve(study_uid, into=store).complete
    found: dict[str, list[Path]] = {}
    for instance in store.instances():
        found.setdefault(read_dicom(instance.path, stop_before_pixels=True).Modality, []).append(instance.path)
    return found


def test_brain_from_dimse_to_dicomweb(
    pacs: Orthanc, head: DemoScan, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(home))
    study = put(head.datasets, pacs.dimse)

    done = run(pacs.dimse.address, "--study", study, "--model", "mindgrab", "--to", pacs.dicomweb.address)

    assert done["deliveries"][0]["complete"]
    held = fetch(pacs.dicomweb, study, tmp_path / "back")
    assert set(held) == {"MR", "SEG", "SR", "OT"}
    source = SourceSeries.from_files(held["MR"])
    (seg_file,), (sr_file,) = held["SEG"], held["SR"]
    labels = read_segmentation(seg_file, source)
    assert {item.ReferencedSOPInstanceUID for item in _referenced(read_dicom(seg_file))} <= set(
        source.sop_instance_uids
    )

    volume_ml = done["measurements"][0]["volume_ml"]
    assert 1300 < volume_ml < 2100
    assert (labels.labels == 1).sum() / 1000 == pytest.approx(volume_ml)
    assert f"{volume_ml:.2f}"[:6] in json.dumps(read_report_with_dcmqi(read_dicom(sr_file), tmp_path))
    assert _dice(labels.labels == 1, _brain_by_bet(home)) >= 0.88
    for path in (seg_file, sr_file, held["OT"][0]):
        assert dciodvfy_errors(read_dicom(path), tmp_path) == []


def test_brain_from_dicomweb_to_dimse(
    pacs: Orthanc, head: DemoScan, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(home))
    brain = _brain_by_bet(home)
    middle = slice(70, 126)  # a third of the head, in a third of the time
    study = put(_in_a_study_of_its_own(head.datasets[middle]), pacs.dicomweb)

    arguments = ["--study", study, "--model", "mindgrab", "--outputs", "seg,sr", "--encoding", "binary,labelmap"]
    done = run(pacs.dicomweb.address, *arguments, "--to", pacs.dimse.address)

    assert done["deliveries"][0]["complete"]
    held = fetch(pacs.dicomweb, study, tmp_path / "back")
    source = SourceSeries.from_files(held["MR"])
    binary, labelmap = (read_segmentation(path, source).labels for path in held["SEG"][:2])
    np.testing.assert_array_equal(binary, labelmap)
    assert (labelmap == 1).sum() / 1000 == pytest.approx(done["measurements"][0]["volume_ml"])
    assert _dice(binary == 1, brain[middle]) >= 0.75  # the network misses the rest of the head


def test_ct_by_c_move_and_back_by_c_store(
    pacs: Orthanc, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(home))
    study = put(make_series(body_phantom()), pacs.dimse)
    by_move = parse_endpoint(f"{pacs.dimse.address.split('?')[0]}?retrieve=move&move_port={pacs.move_port}")

    done = run(by_move.address, "--study", study, "--model", "ct-tissues", "--to", by_move.address)

    assert done["deliveries"][0]["complete"]
    assert {arrived["proof"] for arrived in done["deliveries"][0]["arrived"]} == {"compared"}
    assert set(fetch(pacs.dimse, study, tmp_path / "back")) == {"CT", "SEG", "SR", "OT"}


def _in_a_study_of_its_own(datasets: list[Dataset]) -> list[Dataset]:
    study_uid, series_uid = generate_uid(), generate_uid()
    copies = [deepcopy(ds) for ds in datasets]
    for ds in copies:
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study_uid, series_uid, generate_uid()
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return copies


def _referenced(dataset: Dataset) -> list[Dataset]:
    return [item for series in dataset.ReferencedSeriesSequence for item in series.ReferencedInstanceSequence]


def _brain_by_bet(home: Path) -> np.ndarray:
    import SimpleITK as sitk

    image = sitk.ReadImage(str(fetch_head_files(home / "demo")["ch2bet.nii.gz"]))
    voxels, _ = as_axial(sitk.GetArrayFromImage(image), image)
    return voxels > 0


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))
