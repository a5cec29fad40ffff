"""What is not one volume is told apart the same way whatever the order of the files, or is refused."""

from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import BadDicomError, ConflictError, GeometryError
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import DataElement, Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage
from synthetic import AXIAL, CORONAL, SAGITTAL, body_phantom, make_enhanced, make_series, save_series

SHAPE = (6, 16, 20)
UIDS = {"series_uid": "1.2.3", "study_uid": "1.2", "frame_of_reference_uid": "1.4"}


def _slices(count: int, **keywords: object) -> list[Dataset]:
    return make_series(body_phantom((count, 16, 20)), **UIDS, **keywords)


def test_a_stack_keeps_its_number_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    parts = [_slices(4, orientation=orientation) for orientation in (AXIAL, CORONAL, SAGITTAL)]
    for echo, ds in ((echo, ds) for echo in ("12", "4") for ds in _slices(4, origin=(0.0, 0.0, 500.0))):
        ds.EchoTime = echo
        parts.append([ds])
    paths = save_series([ds for part in parts for ds in part], tmp_path)
    shuffled = [paths[index] for index in np.random.default_rng(1).permutation(len(paths))]
    with pytest.raises(GeometryError, match=r"axial, 16 x 20, echo time 4 \(4 slices\).*echo time 12"):
        SourceSeries.from_files(paths)
    for number in range(1, 6):
        source = SourceSeries.from_files(paths, stack=number)
        for others in (paths[::-1], shuffled):
            assert SourceSeries.from_files(others, stack=number).sop_instance_uids == source.sop_instance_uids


def _two_phases(number_of: object, tmp_path: Path) -> list[Path]:
    datasets = []
    for phase in (1, 2):
        for k, ds in enumerate(_slices(6)):
            number_of(ds, phase, k)
            datasets.append(ds)
    return save_series(datasets, tmp_path)


def test_phases_go_by_what_names_a_phase_and_not_by_packages_of_slices(tmp_path: Path) -> None:
    def number(ds: Dataset, phase: int, k: int) -> None:
        ds.TemporalPositionIdentifier = phase
        ds.AcquisitionNumber = 1 + ((k < 3) == (phase == 1))

    paths = _two_phases(number, tmp_path)
    for phase in (1, 2):
        found = SourceSeries.from_files(paths, stack=phase)
        assert [ds.TemporalPositionIdentifier for ds in found.headers] == [phase] * 6


def test_packages_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    def number(ds: Dataset, phase: int, k: int) -> None:
        ds.AcquisitionTime = f"10101{phase}"
        ds.ContentTime = "101010"
        ds.AcquisitionNumber = 1 + ((k < 3) == (phase == 1))

    with pytest.raises(GeometryError, match="told apart differently by acquisition and by acquisition time"):
        SourceSeries.from_files(_two_phases(number, tmp_path))


def test_phases_whose_positions_differ_by_rounding_are_phases(tmp_path: Path) -> None:
    def number(ds: Dataset, phase: int, _: int) -> None:
        ds.AcquisitionNumber = phase
        ds.ImagePositionPatient[2] += 0.002 * phase

    paths = _two_phases(number, tmp_path)
    assert SourceSeries.from_files(paths, stack=2).shape == SHAPE
    with pytest.raises(GeometryError, match="holds 2 stacks"):
        SourceSeries.from_files(paths, resample=True)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("ConvolutionKernel", ("B30f", "B70f")),
        ("ImageType", (["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "PRIMARY", "AXIAL"])),
        ("ImageType", (["ORIGINAL", "PRIMARY", "AXIAL"], ["ORIGINAL", "PRIMARY", "LOCALIZER"])),
        ("RescaleType", ("HU", "OD")),
        ("EchoTime", ("4", "8")),
        ("StackID", ("1", "2")),
    ],
)
def test_images_of_two_kinds_are_no_volume_though_their_slices_fit(tmp_path: Path, keyword: str, values: tuple) -> None:
    datasets = _slices(6)
    for k, ds in enumerate(datasets):
        setattr(ds, keyword, values[k == 5])
    with pytest.raises(GeometryError, match="holds 2 stacks"):
        SourceSeries.from_files(save_series(datasets, tmp_path))


@pytest.mark.parametrize(
    ("keyword", "value"), [("Modality", "MR"), ("SOPClassUID", PositronEmissionTomographyImageStorage)]
)
def test_a_series_of_two_modalities_is_refused(tmp_path: Path, keyword: str, value: str) -> None:
    datasets = _slices(6)
    setattr(datasets[2], keyword, value)
    with pytest.raises(ConflictError, match=keyword):
        SourceSeries.from_files(save_series(datasets, tmp_path))


def _spaced(ds: Dataset) -> None:
    ds.PixelSpacing = [0.8, 0.606]


def _turned(ds: Dataset) -> None:
    ds.ImageOrientationPatient = [np.cos(0.01), np.sin(0.01), 0, -np.sin(0.01), np.cos(0.01), 0]


@pytest.mark.parametrize("change", [_spaced, _turned])
def test_a_slice_on_a_grid_of_its_own_is_no_slice_of_the_volume(tmp_path: Path, change) -> None:
    datasets = _slices(6)
    change(datasets[3])
    with pytest.raises(GeometryError, match="holds 2 stacks"):
        SourceSeries.from_files(save_series(datasets, tmp_path))


@pytest.mark.parametrize("first", [0, 7, 19])
def test_rounding_of_the_orientations_makes_no_stacks_whatever_the_order_of_the_uids(
    tmp_path: Path, first: int
) -> None:
    datasets = make_series(np.zeros((20, 512, 8), np.int16), spacing_mm=(3.0, 0.7, 0.7))
    for k, ds in enumerate(datasets):  # the far corners lie up to 0.04 pixels on either side of the middle
        ds.ImageOrientationPatient[5] = f"{8e-5 * np.cos(2 * k):.7f}"
        ds.SOPInstanceUID = f"1.2.{100 + (k - first) % 20}"
    datasets[4].ImageOrientationPatient[5] = "0.0003"
    with pytest.raises(GeometryError, match=r"\(19 slices\); 2: .*\(1 slices\)"):
        SourceSeries.from_files(save_series(datasets, tmp_path / "one"))
    del datasets[4]
    assert len(SourceSeries.from_files(save_series(datasets, tmp_path), resample=True).slices) == 19


@pytest.mark.parametrize("row", [(1.009, 0.0, 0.0), (0.99995, 0.0095, 0.0)])
def test_an_orientation_that_is_none_is_refused_and_rounding_is_taken_out(tmp_path: Path, row: tuple) -> None:
    paths = save_series(_slices(6, orientation=(*row, 0.0, 1.0, 0.0)), tmp_path / "wrong")
    with pytest.raises(GeometryError, match="perpendicular unit vectors"):
        SourceSeries.from_files(paths)
    rounded = save_series(_slices(6, orientation=(0.9397, 0.3420, 0.0, -0.3420, 0.9397, 0.0)), tmp_path / "rounded")
    affine = SourceSeries.from_files(rounded).ijk_to_lps[:3, :2] / (0.6, 0.8)
    np.testing.assert_allclose(affine.T @ affine, np.eye(2), atol=1e-9)


def test_a_lean_that_adds_up_is_named(tmp_path: Path) -> None:
    datasets = make_series(np.zeros((60, 4, 4), np.int16), spacing_mm=(1.0, 0.8, 0.8))
    for k, ds in enumerate(datasets):
        ds.ImagePositionPatient[0] += 0.002 * k  # 0.12 mm in the end
    with pytest.raises(GeometryError, match=r"gantry tilt of 0\.1 degrees"):
        SourceSeries.from_files(save_series(datasets, tmp_path))


def test_a_number_that_only_python_reads_is_refused(tmp_path: Path) -> None:
    datasets = _slices(2)
    datasets[1].ImagePositionPatient = [0, 0, 3]
    datasets[1]["ImagePositionPatient"] = DataElement(0x00200032, "LO", ["0_8", "0", "3"], already_converted=True)
    with pytest.raises(BadDicomError, match="ImagePositionPatient"):
        SourceSeries.from_files(save_series(datasets, tmp_path))


def test_hundreds_of_orientations_and_inseparable_copies_are_refused_at_once(tmp_path: Path) -> None:
    turned = make_series(np.zeros((300, 8, 8), np.int16), **UIDS)
    for k, ds in enumerate(turned):
        angle = k / 50
        ds.ImageOrientationPatient = [np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0]
    with pytest.raises(GeometryError, match="more than 256 orientations"):
        read_volume(save_series([make_enhanced_frames(turned)], tmp_path / "turned"))
    copies = [ds for _ in range(100) for ds in make_series(np.zeros((3, 2, 2), np.int16), **UIDS)]
    with pytest.raises(GeometryError, match="share one position"):
        read_volume(save_series([make_enhanced_frames(copies)], tmp_path / "copies"))


def make_enhanced_frames(datasets: list[Dataset]) -> Dataset:
    """Return an Enhanced instance in which every frame has an orientation of its own."""
    enhanced = make_enhanced(datasets)
    for group, ds in zip(enhanced.PerFrameFunctionalGroupsSequence, datasets, strict=True):
        group.PlaneOrientationSequence = [Dataset()]
        group.PlaneOrientationSequence[0].ImageOrientationPatient = ds.ImageOrientationPatient
    del enhanced.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    return enhanced
