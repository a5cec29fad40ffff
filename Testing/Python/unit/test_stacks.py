"""Several stacks in one series are told apart, copies passed over, irregular stacks resampled when asked."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import BadDicomError, ConflictError, GeometryError
from AIDicomBridgeLib.job import Job, run_job
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Segment
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.segmentation import build_segmentation, read_segmentation
from AIDicomBridgeLib.series.offered_stacks import offered_stacks
from AIDicomBridgeLib.series.regular_grid import labels_between_slices, labels_on_slices, regular_volume
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian, RLELossless
from synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL, body_phantom, make_enhanced, make_series, save_series

SHAPE = (6, 16, 20)
_FROM_MIDDLE_MM = np.array([21.3, 22.6, 2.1])  # of the slices' corners to the ball: nowhere symmetric


def _phases(**keyword: list[object]) -> tuple[list[Dataset], np.ndarray]:
    """Return a series whose slices occur once for every value of an attribute, and its (phase, k, j, i) voxels."""
    (name, values), voxels = next(iter(keyword.items())), body_phantom(SHAPE)
    both, datasets = [], []
    for number, value in enumerate(values):
        both.append(voxels + np.int16(number))
        part = make_series(both[-1], series_uid="1.2.3", study_uid="1.2", frame_of_reference_uid="1.4")
        for ds in part:
            setattr(ds, name, value)
        datasets += part
    return datasets, np.stack(both)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("AcquisitionNumber", [1, 2]),
        ("TriggerTime", ["0", "120", "240"]),
        ("EchoTime", ["4", "8"]),
        ("ImageType", [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]]),
        ("AcquisitionTime", ["101010", "101030"]),
    ],
)
def test_phases_are_listed_and_one_can_be_chosen(tmp_path: Path, name: str, values: list) -> None:
    datasets, voxels = _phases(**{name: values})
    paths = save_series(datasets, tmp_path)
    with pytest.raises(GeometryError, match=f"holds {len(values)} stacks") as caught:
        SourceSeries.from_files(paths)
    assert "(6 slices)" in str(caught.value)
    assert "--stack" in str(caught.value)
    for number in range(1, len(values) + 1):
        volume = read_volume(paths, stack=number)
        np.testing.assert_array_equal(volume.voxels, voxels[number - 1])
        assert len(volume.source.ignored_paths) == len(datasets) - 6
    with pytest.raises(GeometryError, match="no stack 9"):
        read_volume(paths, stack=9)


def test_the_phases_of_an_enhanced_instance_are_told_apart(tmp_path: Path) -> None:
    datasets, voxels = _phases(AcquisitionNumber=[1, 2])
    enhanced = make_enhanced(datasets)
    for number, frame in enumerate(enhanced.PerFrameFunctionalGroupsSequence):
        frame.FrameContentSequence[0].StackID = str(1 + number // 6)
    path = save_series([enhanced], tmp_path)[0]
    with pytest.raises(GeometryError, match="holds 2 stacks: 1: axial, 16 x 20, stack 1"):
        read_volume(path)
    volume = read_volume(path, stack=2)
    np.testing.assert_array_equal(volume.voxels, voxels[1])
    assert [piece.frame_number for piece in volume.source.slices] == [7, 8, 9, 10, 11, 12]


def test_three_planes_of_one_series_are_named(tmp_path: Path) -> None:
    parts = [
        make_series(
            body_phantom((n, 16, 16)),
            orientation=orientation,
            series_uid="1.2.3",
            study_uid="1.2",
            frame_of_reference_uid="1.4",
        )
        for n, orientation in ((3, SAGITTAL), (5, CORONAL), (4, OBLIQUE))
    ]
    paths = save_series([ds for part in parts for ds in part], tmp_path)
    with pytest.raises(GeometryError) as caught:
        SourceSeries.from_files(paths)
    assert "of different orientations: 1: coronal, 16 x 16 (5 slices); 2: oblique axial" in str(caught.value)
    assert SourceSeries.from_files(paths, stack=3).shape == (3, 16, 16)


_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def _with_another(image_type: str, *lost: str, orientation: tuple = CORONAL, **attributes: str) -> list[Dataset]:
    """Return a series and, as its last, an image of another type that lacks some attributes."""
    datasets = make_series(body_phantom(SHAPE))
    other = make_series(body_phantom((1, 16, 20)), orientation=orientation, origin=(0.0, 0.0, 400.0))[0]
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(other, name, datasets[0].get(name))  # an element of its own
    other.ImageType = image_type
    for name in lost:
        del other[name]
    for name, value in attributes.items():
        setattr(other, name, value)
    return [*datasets, other]


@pytest.mark.parametrize(
    "datasets",
    [
        _with_another(r"ORIGINAL\PRIMARY\LOCALIZER"),
        _with_another(r"ORIGINAL\PRIMARY\LOCALIZER", *_PLACE),
        _with_another(r"ORIGINAL\PRIMARY\LOCALIZER", "PixelSpacing"),
        _with_another(r"ORIGINAL\PRIMARY\LOCALIZER", FrameOfReferenceUID="1.9"),
        _with_another(r"ORIGINAL\PRIMARY\LOCALIZER", orientation=AXIAL, FrameOfReferenceUID="1.9"),
        _with_another(r"ORIGINAL\PRIMARY\LOCALIZER", "FrameOfReferenceUID"),
        _with_another(r"DERIVED\SECONDARY\OTHER", *_PLACE[:2]),
        _with_another(r"DERIVED\SECONDARY\OTHER", *_PLACE),
    ],
)
def test_what_is_no_slice_by_its_type_is_left_out(tmp_path: Path, datasets: list[Dataset]) -> None:
    paths = save_series(datasets, tmp_path)
    source = SourceSeries.from_files(paths)
    assert source.shape == SHAPE
    assert source.ignored_paths == (paths[-1],)


@pytest.mark.parametrize(
    ("datasets", "error", "words"),
    [
        (_with_another(r"ORIGINAL\PRIMARY\AXIAL", *_PLACE), BadDicomError, "no usable ImagePositionPatient"),
        (_with_another(r"DERIVED\SECONDARY\OTHER", "PixelSpacing"), BadDicomError, "no usable PixelSpacing"),
        (_with_another(r"DERIVED\SECONDARY\OTHER", FrameOfReferenceUID="1.9"), ConflictError, "FrameOfReferenceUID"),
    ],
)
def test_what_may_be_a_slice_is_not_left_out(tmp_path: Path, datasets: list[Dataset], error, words: str) -> None:
    with pytest.raises(error, match=words):
        SourceSeries.from_files(save_series(datasets, tmp_path))


def test_a_derived_slice_that_lost_its_place_is_not_left_out_of_derived_ones(tmp_path: Path) -> None:
    datasets = make_series(body_phantom(SHAPE))
    for ds in datasets:
        ds.ImageType = r"DERIVED\SECONDARY\MPR"
    del datasets[-1].ImagePositionPatient  # no gap would show it
    with pytest.raises(BadDicomError, match="no usable ImagePositionPatient"):
        SourceSeries.from_files(save_series(datasets, tmp_path))


def test_an_equal_copy_is_passed_over_and_another_is_refused(tmp_path: Path) -> None:
    paths = save_series(make_series(body_phantom(SHAPE)), tmp_path)
    copy = tmp_path / "copy.dcm"
    shutil.copy(paths[2], copy)
    content = copy.read_bytes()
    copy.write_bytes(b"\1" * 128 + content[128:])  # another preamble is no difference
    source = SourceSeries.from_files([*paths, copy])
    assert source.shape == SHAPE
    assert source.ignored_paths == (copy,)
    copy.write_bytes(content[:-1] + b"\7")
    with pytest.raises(ConflictError, match="share one SOP Instance UID and differ"):
        SourceSeries.from_files([*paths, copy])


@pytest.mark.parametrize("syntax", [RLELossless, ImplicitVRLittleEndian])
def test_a_copy_in_another_transfer_syntax_is_passed_over_if_its_image_is_the_same(tmp_path: Path, syntax: str) -> None:
    datasets = make_series(body_phantom(SHAPE))
    paths = save_series(datasets, tmp_path)

    def add_copy(**attributes: object) -> list[Path]:
        copy = dcmread(paths[2])
        for name, value in attributes.items():
            setattr(copy, name, value)
        if syntax == RLELossless:
            copy.compress(RLELossless, generate_instance_uid=False)
        else:
            copy.file_meta.TransferSyntaxUID = syntax
        copy.save_as(tmp_path / "copy.dcm", implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
        return [*paths, tmp_path / "copy.dcm"]

    assert SourceSeries.from_files(add_copy()).shape == SHAPE
    for altered in ({"PixelData": datasets[2].PixelData[:-1] + b"\7"}, {"RescaleSlope": "2"}, {"PatientSex": "F"}):
        with pytest.raises(ConflictError, match="share one SOP Instance UID and differ"):
            SourceSeries.from_files(add_copy(**altered))


# Irregular stacks


def _ball(points_lps: np.ndarray, center: np.ndarray, radius: float) -> np.ndarray:
    return np.linalg.norm(points_lps - center, axis=-1) <= radius


def _phantom_at(datasets: list[Dataset], center: np.ndarray, radius: float) -> np.ndarray:
    """Write a ball of 100 HU into the slices, exactly where each lies, and return it as (slice, j, i) bool."""
    inside = []
    for ds in datasets:
        row, column = np.array(ds.ImageOrientationPatient[:3], float), np.array(ds.ImageOrientationPatient[3:], float)
        dy, dx = (float(value) for value in ds.PixelSpacing)
        j, i = np.mgrid[: ds.Rows, : ds.Columns]
        points = np.array(ds.ImagePositionPatient, float) + i[..., None] * row * dx + j[..., None] * column * dy
        inside.append(_ball(points, center, radius))
        ds.PixelData = np.where(inside[-1], 100, -1000).astype("<i2").tobytes()
    return np.stack(inside)


def _tilt(datasets: list[Dataset]) -> None:
    for k, ds in enumerate(datasets):
        ds.ImagePositionPatient[1] += 0.7 * k  # 19 degrees, and no whole number of rows


def _gap(datasets: list[Dataset]) -> None:
    del datasets[9:11]


def _uneven(datasets: list[Dataset]) -> None:
    for ds in datasets[12:]:
        ds.ImagePositionPatient[2] += 0.7


IRREGULAR = {
    "gantry tilt": (_tilt, "gantry tilt of 19.3 degrees"),
    "gap": (_gap, "slices are missing"),
    "uneven": (_uneven, "unevenly spaced"),
}


@pytest.fixture(params=IRREGULAR)
def irregular(request, tmp_path: Path) -> tuple[ImageVolume, np.ndarray, str]:
    spoil, words = IRREGULAR[request.param]
    datasets = make_series(
        np.zeros((24, 60, 64), np.int16), spacing_mm=(2.0, 0.8, 0.7), origin=(-20.0, -25.0, 40.0), reverse=True
    )
    datasets.reverse()
    spoil(datasets)
    positions = np.array([ds.ImagePositionPatient for ds in datasets], float)
    inside = _phantom_at(datasets, positions.mean(axis=0) + _FROM_MIDDLE_MM, 14.0)
    paths = save_series(datasets, tmp_path)
    with pytest.raises(GeometryError, match=f"(?i){words}.*resample"):
        read_volume(paths)
    return read_volume(paths[::-1], resample=True), inside, words


def test_the_network_sees_the_phantom_where_it_is(irregular) -> None:
    volume, _, words = irregular
    assert words in volume.source.irregularity.lower()
    seen = regular_volume(volume)
    np.testing.assert_allclose(seen.spacing_mm, (2.0, 0.8, 0.7), atol=1e-3)
    k, j, i = np.nonzero(seen.voxels > -450)
    center = (seen.ijk_to_lps @ np.stack([i, j, k, np.ones_like(i)])).mean(axis=1)[:3]
    volume_mm3 = len(i) * np.prod(seen.spacing_mm)
    positions = volume.source.positions_mm
    np.testing.assert_allclose(center, positions.mean(axis=0) + _FROM_MIDDLE_MM, atol=0.5)  # of 2 mm slices
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * 14.0**3, rel=0.04)


def test_labels_land_on_the_right_pixels_of_the_right_slices(irregular) -> None:
    volume, inside, _ = irregular
    seen = regular_volume(volume)
    labels = labels_on_slices((seen.voxels > -450).astype(np.uint8), volume.source)
    assert labels.shape == volume.voxels.shape
    np.testing.assert_array_equal(volume.voxels > 0, inside)  # the volume itself stays as it was stored
    dice = 2 * np.count_nonzero(inside & (labels > 0)) / (np.count_nonzero(inside) + np.count_nonzero(labels))
    assert dice > 0.99
    wrong = inside != (labels > 0)
    shifted = [
        np.count_nonzero(inside != np.roll(labels > 0, (dj, di), axis=(1, 2))) for dj in (-1, 0, 1) for di in (-1, 0, 1)
    ]
    assert min(shifted) == np.count_nonzero(wrong)  # no shift of the labels would fit better
    # Each voxel has its nearest neighbour's label, half a voxel off at most and on the whole not at all.
    bias = np.argwhere(labels > 0).mean(axis=0) - np.argwhere(inside).mean(axis=0)
    assert (np.abs(bias) < 0.1).all()


def test_results_of_an_irregular_series_keep_its_positions(irregular) -> None:
    volume, inside, _ = irregular
    code = Code("52988006", "SCT", "Lesion")
    segment = Segment(
        1, "Ball", Code("49755003", "SCT", "Morphologically Abnormal Structure"), code, algorithm_name="T"
    )
    labels = LabelVolume(inside.astype(np.uint8), (segment,), source=volume.source)
    segmentation = build_segmentation(labels)
    positions = {tuple(np.round(p, 4)) for p in volume.source.positions_mm[inside.any(axis=(1, 2))]}
    written = {
        tuple(np.round(np.array(group.PlanePositionSequence[0].ImagePositionPatient, float), 4))
        for group in segmentation.PerFrameFunctionalGroupsSequence
    }
    assert written == positions
    np.testing.assert_array_equal(read_segmentation(segmentation, volume.source).labels, labels.labels)


def test_the_volume_of_a_segment_is_that_of_the_phantom(irregular) -> None:
    volume, inside, words = irregular
    code = Code("52988006", "SCT", "Lesion")
    labels = LabelVolume(inside.astype(np.uint8), (Segment(1, "Ball", code, code),), source=volume.source)
    measured = measure(labels, volume)[0]
    assert measured.volume_ml == pytest.approx(4 / 3 * np.pi * 14.0**3 / 1000, rel=0.03)
    assert (measured.centroid_lps_mm is None) == ("tilt" not in words)


def test_a_job_resamples_when_asked_and_says_so(irregular, tmp_path: Path) -> None:
    volume, _, words = irregular
    folder = volume.source.paths[0].parent
    with pytest.raises(GeometryError, match="--resample"):
        run_job(Job(folder, "ct-tissues", outputs=("seg",), any_body_part=True))
    done = run_job(Job(folder, "ct-tissues", outputs=("seg",), any_body_part=True, resample=True))
    assert words in done.to_dict()["warnings"][0]
    assert done.labels.labels.shape == volume.voxels.shape


def test_a_gap_too_wide_to_be_filled_is_refused(tmp_path: Path) -> None:
    datasets = make_series(body_phantom(SHAPE), orientation=AXIAL)
    datasets[-1].ImagePositionPatient[2] += 3000
    paths = save_series(datasets, tmp_path)
    with pytest.raises(GeometryError, match=r"cannot be resampled.*Choose another series") as caught:
        SourceSeries.from_files(paths, resample=True)  # before a voxel is read
    assert caught.value.uid == datasets[0].SeriesInstanceUID
    (offered,) = offered_stacks(paths)
    assert "cannot be resampled" in offered.problem
    assert not offered.irregularity  # so that nobody is asked for what cannot be done


def test_the_network_sees_what_lies_on_thin_slices_among_thick_ones(tmp_path: Path) -> None:
    datasets = make_series(np.zeros((33, 16, 20), np.int16), spacing_mm=(1.0, 0.8, 0.7))
    for k, ds in enumerate(datasets[16:]):
        ds.ImagePositionPatient[2] += 4.0 * k  # 16 slices at 1 mm, then 17 at 5 mm
    middle = np.array(datasets[9].ImagePositionPatient, float) + np.array([10 * 0.7, 8 * 0.8, 0])
    inside = _phantom_at(datasets, middle, 2.0)
    assert np.flatnonzero(inside.any(axis=(1, 2))).tolist() == [7, 8, 9, 10, 11]
    paths = save_series(datasets, tmp_path)
    with pytest.raises(GeometryError, match=r"unevenly spaced: they lie 1.000 to 5.000 mm apart"):
        read_volume(paths)
    volume = read_volume(paths, resample=True)
    seen = regular_volume(volume)
    assert seen.spacing_mm[0] == pytest.approx(1.0)
    np.testing.assert_array_equal(labels_on_slices((seen.voxels > -450).astype(np.uint8), volume.source), inside)
    shown = labels_between_slices(inside.astype(np.uint8), volume.source)
    np.testing.assert_array_equal(labels_on_slices(shown, volume.source), inside)
