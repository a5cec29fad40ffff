"""An Enhanced multi-frame instance is read, segmented and referred to frame by frame."""

from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import BadDicomError, ConflictError, PixelError
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.labels import LabelVolume
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.result_set import encode_results
from AIDicomBridgeLib.results.segmentation import read_segmentation
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
from peers.validators import dciodvfy_errors
from pydicom import Dataset
from pydicom.uid import RLELossless
from segmented import PROVENANCE, SEGMENTS, phantom_labels
from synthetic import AXIAL, OBLIQUE, body_phantom, make_enhanced, make_series, save_series

SHAPE = (9, 24, 28)


def _read(folder: Path, *instances: Dataset) -> ImageVolume:
    return read_volume(save_series(list(instances), folder))


@pytest.fixture
def volume(tmp_path: Path) -> ImageVolume:
    """Frames stored last slice first."""
    datasets = make_series(body_phantom(SHAPE), orientation=OBLIQUE, reverse=True)
    return _read(tmp_path, make_enhanced(datasets))


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
def test_it_is_the_volume_that_its_frames_were_as_single_images(tmp_path, modality, reverse, orientation) -> None:
    voxels = body_phantom(SHAPE)
    datasets = make_series(voxels, modality=modality, orientation=orientation, reverse=reverse)
    expected = _read(tmp_path / "single", *datasets)

    volume = _read(tmp_path / "enhanced", make_enhanced(datasets))

    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.ijk_to_lps, expected.ijk_to_lps, atol=1e-9)
    frames = [piece.frame_number for piece in volume.source.slices]
    assert frames == (list(range(9, 0, -1)) if reverse else list(range(1, 10)))
    assert len(volume.source.sop_instance_uids) == len(volume.source.paths) == 1
    assert [h.ImagePositionPatient for h in volume.source.headers] == [
        h.ImagePositionPatient for h in expected.source.headers
    ]


def test_compressed_frames_and_their_own_rescale(tmp_path: Path) -> None:
    voxels = body_phantom(SHAPE)
    enhanced = make_enhanced(make_series(voxels))
    for number, frame in enumerate(enhanced.PerFrameFunctionalGroupsSequence):
        frame.PixelValueTransformationSequence[0].RescaleIntercept = str(number)
    enhanced.compress(RLELossless)

    found = _read(tmp_path, enhanced).voxels

    np.testing.assert_array_equal(found, voxels + np.arange(9, dtype=np.int16)[:, None, None])


def test_the_parts_of_a_series_in_several_instances_are_put_together(tmp_path: Path) -> None:
    voxels = body_phantom(SHAPE)
    datasets = make_series(voxels)
    volume = _read(tmp_path, make_enhanced(datasets[:4]), make_enhanced(datasets[4:]))
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert [piece.frame_number for piece in volume.source.slices] == [1, 2, 3, 4, 1, 2, 3, 4, 5]
    assert len(volume.source.sop_instance_uids) == 2


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("parts", [1, 2])
def test_every_result_names_the_frames_that_it_came_from(tmp_path: Path, encoding: str, parts: int) -> None:
    datasets = make_series(body_phantom(SHAPE), reverse=True)
    halves = [datasets] if parts == 1 else [datasets[:4], datasets[4:]]
    volume = _read(tmp_path, *(make_enhanced(half) for half in halves))
    source = volume.source
    labels = LabelVolume(phantom_labels(SHAPE), SEGMENTS, source=source, provenance=PROVENANCE)

    results = encode_results(labels, volume, measure(labels, volume), encodings=(encoding,))

    segmentation, report, *captures = [result.dataset for result in results]
    related = [segmentation]
    for dataset in (segmentation, report, *captures):
        assert [f for f in check_conformance(dataset, source, related=related) if f.severity == "error"] == []
    by_position = {tuple(piece.header.ImagePositionPatient): piece for piece in source.slices}
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        piece = by_position[tuple(group.PlanePositionSequence[0].ImagePositionPatient)]
        assert reference.ReferencedFrameNumber == piece.frame_number
        assert reference.ReferencedSOPInstanceUID == piece.sop_instance_uid
        assert reference.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2.1"
    listed = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert sorted(item.ReferencedSOPInstanceUID for item in listed) == sorted(source.sop_instance_uids)
    for k, capture in zip(np.flatnonzero(labels.labels.any(axis=(1, 2))), captures, strict=True):
        reference = capture.SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == source.slices[k].sop_instance_uid
        assert reference.ReferencedFrameNumber == source.slices[k].frame_number
    back = read_segmentation(segmentation, source)
    np.testing.assert_array_equal(back.labels, labels.labels)


def test_dciodvfy_finds_nothing_in_source_and_results(tmp_path: Path, volume: ImageVolume) -> None:
    source = volume.source
    labels = LabelVolume(phantom_labels(SHAPE), SEGMENTS, source=source, provenance=PROVENANCE)
    results = encode_results(labels, volume, measure(labels, volume), encodings=("BINARY", "LABELMAP"))
    for result in results:
        assert [e for e in dciodvfy_errors(result.dataset, tmp_path) if "ReferencedSegmentNumber" not in e] == []


@pytest.mark.parametrize("damage", ["fewer groups", "no groups", "no position", "wrong count"])
def test_damaged_functional_groups_are_refused(tmp_path: Path, damage: str) -> None:
    enhanced = make_enhanced(make_series(body_phantom(SHAPE)))
    if damage == "fewer groups":
        del enhanced.PerFrameFunctionalGroupsSequence[3]
    elif damage == "no groups":
        del enhanced.PerFrameFunctionalGroupsSequence
    elif damage == "no position":
        del enhanced.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence
    else:
        enhanced.NumberOfFrames = 100_000
    with pytest.raises(BadDicomError) as caught:
        SourceSeries.from_files(save_series([enhanced], tmp_path))
    assert caught.value.uid == enhanced.SOPInstanceUID


def test_truncated_frames_are_refused(tmp_path: Path) -> None:
    enhanced = make_enhanced(make_series(body_phantom(SHAPE)))
    enhanced.PixelData = enhanced.PixelData[:-100]
    with pytest.raises(PixelError, match="truncated"):
        _read(tmp_path, enhanced)


def test_single_and_multi_frame_instances_do_not_mix_silently(tmp_path: Path) -> None:
    datasets = make_series(body_phantom(SHAPE))
    other = make_enhanced(make_series(body_phantom(SHAPE), patient_id="OTHER"))
    other.SeriesInstanceUID = datasets[0].SeriesInstanceUID
    with pytest.raises(ConflictError, match="PatientID"):
        SourceSeries.from_files(save_series([*datasets, other], tmp_path))
