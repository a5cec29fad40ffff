"""No voxel leaves its place: series, volume, node, labels, segmentation node, labels, DICOM SEG, same positions.

dcmqi and highdicom read the SEG. With AIDICOMBRIDGE_GEOMETRIES=500 in the environment, that many geometries are drawn,
each time others.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.cli.demo_data import ct_as_published, head_scan
from AIDicomBridgeLib.errors import NotFoundError
from AIDicomBridgeLib.mrml.core_scene import CoreScene
from AIDicomBridgeLib.mrml.segmentation_node import label_volume_from, segmentation_node_from
from AIDicomBridgeLib.mrml.source_files import SourceFiles
from AIDicomBridgeLib.mrml.volume_node import image_volume_from, scalar_volume_node, volume_node_from
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Provenance, Segment
from AIDicomBridgeLib.results.segmentation import build_segmentation, read_segmentation
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from peers.validators import on_grid, read_labels_with_dcmqi, save
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut
from pydicom.uid import CTImageStorage, JPEG2000Lossless, generate_uid
from synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL, make_enhanced, make_series, save_series

from .conftest import ANATOMY, mirrored

_ORGAN = Code("113343008", "SCT", "Organ")
SEGMENTS = tuple(
    Segment(n, f"Part {n}", ANATOMY, _ORGAN, algorithm_name="Test", tracking_uid=f"2.25.{n}") for n in (1, 2, 3)
)
ORIENTATIONS = {
    "axial": AXIAL,
    "sagittal": SAGITTAL,
    "coronal": CORONAL,
    "prone": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "mirrored": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),  # rows to the right: slices then go down
    "oblique": OBLIQUE,
}


def marked_labels(shape: tuple[int, int, int]) -> np.ndarray:
    """Return labels that no flip, shift or swap of axes leaves as they are."""
    labels = np.zeros(shape, np.uint8)
    depth, height, width = shape
    labels[:, : height // 2, : width // 3] = 1
    labels[depth // 2 :, height // 2 :, width // 2 :] = 2
    labels[0, 0, -2:] = 3
    return labels


def go_round(core: CoreScene, volume: ImageVolume, axes: tuple[int, ...] = ()) -> LabelVolume:
    """Return labels that went with their volume to nodes and back; the volume mirrored, as Slicer's loader may do."""
    files = SourceFiles()
    files.remember(volume.source)
    volume_node = volume_node_from(volume, core.scene)
    if axes:
        affine, uids = mirrored(volume.ijk_to_lps, volume.voxels.shape, axes), volume.source.sop_instance_uids
        volume_node = scalar_volume_node(np.flip(volume.voxels, axes), affine, core.scene, "Loaded")
        volume_node.SetAttribute("DICOM.instanceUIDs", " ".join(uids[::-1] if 0 in axes else uids))
    back = image_volume_from(volume_node, files.source_of(volume_node))
    np.testing.assert_array_equal(back.voxels, volume.voxels)
    provenance = Provenance("Test", "1")
    labels = LabelVolume(marked_labels(volume.voxels.shape), SEGMENTS, source=back.source, provenance=provenance)
    node = segmentation_node_from(labels, core.scene, volume_node=volume_node)
    found = label_volume_from(node, back.source)
    np.testing.assert_array_equal(found.labels, labels.labels)
    assert found.segments == tuple(found.segment(segment.name) for segment in SEGMENTS)
    return found


def labels_by_dcmqi(segmentation: Dataset, labels: LabelVolume, folder: Path) -> np.ndarray:
    images, _ = read_labels_with_dcmqi(segmentation, folder)
    found = np.zeros(labels.labels.shape, np.uint8)
    if segmentation.SegmentationType == "LABELMAP" and len(images) == 1:
        return on_grid(images[0], found.shape, labels.ijk_to_lps).astype(np.uint8)
    drawn = [segment for segment in labels.segments if (labels.labels == segment.label).any()]  # others have no frames
    for image, segment in zip(images, drawn, strict=True):
        found[on_grid(image, found.shape, labels.ijk_to_lps) > 0] = segment.label
    return found


def labels_by_highdicom(segmentation: Dataset, labels: LabelVolume, folder: Path) -> np.ndarray:
    from highdicom.seg import segread

    volume = segread(save(segmentation, folder)).get_volume(combine_segments=True)
    index = np.argwhere(volume.array)
    world = volume.affine[:3, :3] @ index.T + volume.affine[:3, 3:]
    ijk = np.linalg.inv(labels.ijk_to_lps) @ np.vstack([world, np.ones(world.shape[1])])
    nearest = np.rint(ijk[:3]).astype(int)
    assert np.abs(ijk[:3] - nearest).max() < 0.02
    found = np.zeros(labels.labels.shape, np.uint8)
    found[tuple(nearest[::-1])] = volume.array[tuple(index.T)]
    return found


def check_everywhere(labels: LabelVolume, encoding: str, folder: Path) -> None:
    segmentation = build_segmentation(labels, encoding=encoding)
    folder.mkdir(exist_ok=True)
    np.testing.assert_array_equal(read_segmentation(segmentation, labels.source).labels, labels.labels)
    np.testing.assert_array_equal(labels_by_dcmqi(segmentation, labels, folder), labels.labels)
    np.testing.assert_array_equal(labels_by_highdicom(segmentation, labels, folder), labels.labels)


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("reverse", [False, True], ids=["first slice first", "last slice first"])
@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_every_orientation(core, tmp_path: Path, orientation, reverse: bool, encoding: str) -> None:
    voxels = np.random.default_rng(3).integers(-1000, 1000, (5, 16, 20), dtype=np.int16)
    datasets = make_series(voxels, orientation=orientation, reverse=reverse, spacing_mm=(2.5, 0.8, 0.6))
    volume = read_volume(save_series(datasets, tmp_path / "source"))
    np.testing.assert_array_equal(volume.voxels, voxels)
    check_everywhere(go_round(core, volume), encoding, tmp_path / "seg")


def _single_slice() -> list[Dataset]:
    return make_series(np.ones((1, 16, 20), np.int16), orientation=OBLIQUE)


def _enhanced() -> list[Dataset]:
    return [make_enhanced(make_series(np.ones((5, 16, 20), np.int16), orientation=OBLIQUE, reverse=True))]


def _enhanced_mr() -> list[Dataset]:
    return [make_enhanced(make_series(np.ones((5, 16, 20), np.int16), orientation=CORONAL, modality="MR"))]


def _rounded() -> list[Dataset]:
    datasets = make_series(np.ones((5, 16, 20), np.int16), orientation=OBLIQUE, spacing_mm=(0.625, 0.8, 0.6))
    for dataset in datasets:
        dataset.ImagePositionPatient = [f"{value:.2f}" for value in dataset.ImagePositionPatient]
    return datasets


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("make", [_single_slice, _enhanced, _enhanced_mr, _rounded])
def test_other_kinds_of_series(core, tmp_path: Path, make: Callable[[], list[Dataset]], encoding: str) -> None:
    volume = read_volume(save_series(make(), tmp_path / "source"))
    check_everywhere(go_round(core, volume), encoding, tmp_path / "seg")


def _real_ct(folder: Path) -> list[Dataset]:
    """Return a scanner's own images with the JPEG 2000 that it wrote; the identity, which is empty, is made up."""
    images, study_uid, series_uid = ct_as_published(folder), generate_uid(), generate_uid()
    for image in images:
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, image.file_meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID = study_uid, series_uid
        image.PatientID, image.PatientName = "REAL", "Real^CT"
    assert {image.file_meta.TransferSyntaxUID for image in images} == {JPEG2000Lossless}
    return images


def _real_head(folder: Path) -> list[Dataset]:
    return head_scan(folder).datasets


@pytest.mark.parametrize("make", [_real_ct, _real_head])
def test_real_images(core, tmp_path: Path, tmp_path_factory, make: Callable[[Path], list[Dataset]]) -> None:
    try:
        datasets = make(tmp_path_factory.getbasetemp().parent / "demonstration-data")
    except NotFoundError as error:
        pytest.skip(str(error))
    volume = read_volume(save_series(datasets[::-1], tmp_path / "source"))
    decoded = [apply_modality_lut(image.pixel_array, image) for image in datasets]  # by pydicom, with another decoder
    np.testing.assert_array_equal(volume.voxels, decoded)
    labels = go_round(core, volume)
    for encoding, read in (("BINARY", labels_by_dcmqi), ("LABELMAP", labels_by_highdicom)):  # both of both take 30 s
        segmentation = build_segmentation(labels, encoding=encoding)
        np.testing.assert_array_equal(read_segmentation(segmentation, labels.source).labels, labels.labels)
        np.testing.assert_array_equal(read(segmentation, labels, tmp_path), labels.labels)


lengths = st.floats(0.2, 8.0)
angles = st.floats(-np.pi, np.pi)


COUNT = int(os.environ.get("AIDICOMBRIDGE_GEOMETRIES", "15"))
as_many_as_asked_for = settings(
    max_examples=COUNT,
    phases=[Phase.explicit, Phase.generate],  # each example takes a second: the smallest one is not searched for
    deadline=None,
    database=None,
    derandomize=COUNT <= 15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
shapes = st.tuples(st.integers(1, 5), st.integers(4, 9), st.integers(4, 9))  # so that no segment is empty
spacings = st.tuples(lengths, lengths, lengths)
origins = st.tuples(*[st.floats(-400, 400)] * 3)
flips = st.lists(st.integers(0, 2), unique=True).map(lambda axes: tuple(sorted(axes)))


@st.composite
def orientations(draw: st.DrawFn) -> tuple[float, ...]:
    """Draw Image Orientation (Patient): any turn of the patient's axes, in half of the cases left-handed."""
    (a, b, c), left_handed = draw(st.tuples(angles, angles, angles)), draw(st.booleans())
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    row, column, _ = (about_z @ about_x @ about_y).T
    cosines = (*row, *(-column if left_handed else column))
    return tuple(round(float(cosine), 12) for cosine in cosines)  # DCMTK, and so dcmqi, cannot read 5e-324


def any_voxels(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32768, 32768, shape, dtype=np.int16)


@given(
    shape=shapes,
    spacing=spacings,
    origin=origins,
    orientation=orientations(),
    order=st.randoms(use_true_random=False),
    enhanced=st.booleans(),
    flipped=flips,
    encoding=st.sampled_from(["BINARY", "LABELMAP"]),
    seed=st.integers(0, 2**32 - 1),
)
@as_many_as_asked_for
def test_any_geometry(
    core, tmp_path_factory, shape, spacing, origin, orientation, order, enhanced, flipped, encoding, seed
) -> None:
    voxels = any_voxels(shape, seed)
    datasets = make_series(voxels, orientation=orientation, spacing_mm=spacing, origin=origin)
    order.shuffle(datasets)
    folder = tmp_path_factory.mktemp("any")
    volume = read_volume(save_series([make_enhanced(datasets)] if enhanced else datasets, folder))

    np.testing.assert_array_equal(volume.voxels, voxels)
    labels = go_round(core, volume, flipped)
    segmentation = build_segmentation(labels, encoding=encoding)
    np.testing.assert_array_equal(read_segmentation(segmentation, labels.source).labels, labels.labels)
    np.testing.assert_array_equal(labels_by_highdicom(segmentation, labels, folder), labels.labels)
    if seed % 4 == 0:  # dcmqi takes the most time
        np.testing.assert_array_equal(labels_by_dcmqi(segmentation, labels, folder), labels.labels)


@given(
    shape=st.tuples(st.integers(3, 6), st.integers(4, 9), st.integers(4, 9)),
    spacing=spacings,
    orientation=orientations(),
    gaps=st.lists(st.floats(1.0, 3.0), min_size=6, max_size=6),
    tilt=st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)),  # of a slice's width and height, from first to last
    encoding=st.sampled_from(["BINARY", "LABELMAP"]),
    seed=st.integers(0, 2**32 - 1),
)
@as_many_as_asked_for
def test_any_uneven_or_tilted_stack(tmp_path_factory, shape, spacing, orientation, gaps, tilt, encoding, seed) -> None:
    """Every frame of the result is at the position of the very slice that it belongs to; no node is made."""
    voxels = any_voxels(shape, seed)
    datasets = make_series(voxels, orientation=orientation, spacing_mm=spacing)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    along = np.cumsum([0.0, *gaps])[: len(datasets)] * spacing[0]
    right, down = tilt[0] * shape[2] * spacing[2] / along[-1], tilt[1] * shape[1] * spacing[1] / along[-1]
    for ds, distance in zip(datasets, along, strict=True):
        position = np.cross(row, column) * distance + (right * row + down * column) * distance
        ds.ImagePositionPatient = [f"{value:.8g}" for value in position]
    volume = read_volume(save_series(datasets, tmp_path_factory.mktemp("any"))[::-1], resample=True)
    np.testing.assert_array_equal(volume.voxels, voxels)

    labels = LabelVolume(marked_labels(shape), SEGMENTS, source=volume.source, provenance=Provenance("Test", "1"))
    segmentation = build_segmentation(labels, encoding=encoding)
    np.testing.assert_array_equal(read_segmentation(segmentation, volume.source).labels, labels.labels)
    planes = segmentation.pixel_array.reshape(-1, *shape[1:])
    found = np.zeros(shape, np.uint8)
    for plane, group in zip(planes, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        k = int(np.linalg.norm(volume.source.positions_mm - position, axis=1).argmin())
        np.testing.assert_allclose(position, volume.source.positions_mm[k], atol=1e-4)
        if encoding == "LABELMAP":
            found[k] = plane
        else:
            found[k][plane > 0] = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    np.testing.assert_array_equal(found, labels.labels)
