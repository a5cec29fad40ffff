"""The quick writer of segmentations against highdicom called plainly: the same object, attribute by attribute."""

from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import EncodingError
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.equipment import MANUFACTURER, MODEL_NAME, device_serial_number, software_version
from AIDicomBridgeLib.results.frame_pixels import rle_frame
from AIDicomBridgeLib.results.frame_places import frame_places
from AIDicomBridgeLib.results.frame_plan import plan_frames, split_labels
from AIDicomBridgeLib.results.frame_reading import FrameData, _written
from AIDicomBridgeLib.results.labels import LabelVolume, Segment
from AIDicomBridgeLib.results.result_series import ResultKind, complete_result, fresh_uid
from AIDicomBridgeLib.results.segment_description import describe_segment, with_tracking_uids
from AIDicomBridgeLib.results.segmentation import build_segmentation, read_segmentation
from AIDicomBridgeLib.results.source_headers import normalised_headers
from AIDicomBridgeLib.series.source_series import SourceSeries
from highdicom.seg import Segmentation
from pydicom import DataElement, Dataset, dcmread
from pydicom.pixels.decoders.rle import _rle_decode_frame
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless
from segmented import ANATOMY, LUNG, PROVENANCE, SEGMENTS, make_source
from synthetic import AXIAL, OBLIQUE, SAGITTAL, make_series, save_series

NOW = datetime(2026, 1, 2, 3, 4, 5)
NOT_COMPARED = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "DimensionOrganizationUID",
    "TrackingUID",
    "ContributionDateTime",
)


def labels_of(folder: Path, shape: tuple[int, int, int], **series: object) -> LabelVolume:
    """Return labels without any regularity, with an empty slice within, on a series of that shape."""
    random = np.random.default_rng(shape)
    array = random.integers(0, 4, shape).astype(np.uint8)
    if shape[0] > 3:
        array[0] = array[2] = 0
    if shape[0] > 1:
        array[-1][array[-1] == 2] = 1  # segment 2 has fewer slices than the others
    source = make_source(folder, np.zeros(shape, np.int16), **series)
    fractions = random.random((3, *shape)).astype(np.float32) * (array > 0)
    labels = LabelVolume(array, SEGMENTS, source=source, provenance=PROVENANCE, probabilities=fractions)
    return with_tracking_uids(labels, fresh_uid)


def by_highdicom(labels: LabelVolume, encoding: str) -> Dataset:
    headers = normalised_headers(labels.source)
    for header in headers:  # highdicom copies it; only without it are the positions looked at
        header.pop("SpacingBetweenSlices", None)
        if len(headers) == 1:
            header.SpacingBetweenSlices = labels.source.spacing_mm[0]
    fractional = encoding == "FRACTIONAL"
    made = Segmentation(
        source_images=headers,
        pixel_array=np.moveaxis(labels.probabilities, 0, -1) if fractional else labels.labels,
        segmentation_type=encoding,
        segment_descriptions=[describe_segment(segment, segment.label, PROVENANCE) for segment in labels.segments],
        series_instance_uid=fresh_uid(),
        series_number=10001,
        sop_instance_uid=fresh_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=software_version(),
        device_serial_number=device_serial_number(PROVENANCE),
        content_description="Segmentation by software, not for diagnostic use",
        content_creator_name="AIDicomBridge^",
        content_label="SEGMENTATION",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    complete_result(made, headers[0], ResultKind.SEGMENTATION, provenance=PROVENANCE, series_description=None, now=NOW)
    return made


def differences(ours: Dataset, theirs: Dataset, path: str = "") -> list[str]:
    found = []
    for tag in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(tag), theirs.get(tag)
        name = f"{path}{(mine or other).keyword}"
        if mine is None or other is None or mine.VR not in other.VR:  # in memory highdicom leaves "OB or OW" open
            found.append(f"{name}: {mine} instead of {other}")
        elif mine.VR == "SQ":
            if len(mine.value) != len(other.value):
                found.append(f"{name}: {len(mine.value)} items instead of {len(other.value)}")
            for number, (item, its) in enumerate(zip(mine.value, other.value, strict=False), start=1):
                found += differences(item, its, f"{name}[{number}].")
        elif (
            mine.value != other.value
            and not _only_padded_otherwise(mine, other)
            and name.rpartition(".")[2] not in NOT_COMPARED
        ):
            found.append(f"{name}: {mine.value!r} instead of {other.value!r}"[:300])
    return found


def _only_padded_otherwise(mine: DataElement, other: DataElement) -> bool:
    """Pixel data of an odd length ends with a zero; highdicom writes the digit "0"."""
    return (
        mine.keyword == "PixelData"
        and mine.value[-1:] + other.value[-1:] == b"\x000"
        and mine.value[:-1] == other.value[:-1]
    )


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP", "FRACTIONAL"])
@pytest.mark.parametrize(
    ("shape", "series"),
    [
        ((6, 5, 7), {"orientation": OBLIQUE, "reverse": True}),
        ((5, 16, 8), {"orientation": AXIAL}),
        ((2, 9, 11), {"orientation": SAGITTAL, "spacing_mm": (1 / 3, 0.71, 0.33)}),
        ((1, 3, 3), {"modality": "MR"}),
    ],
)
def test_the_object_is_highdicoms(tmp_path: Path, encoding: str, shape: tuple[int, int, int], series: dict) -> None:
    labels = labels_of(tmp_path, shape, **series)
    expected = by_highdicom(labels, encoding)
    for form in (
        build_segmentation(labels, encoding=encoding, now=NOW, series_number=10001),
        _reread(labels, encoding),
    ):
        assert differences(form, expected) == []
        assert {name: form.file_meta[name].value for name in ("MediaStorageSOPClassUID", "TransferSyntaxUID")} == {
            name: expected.file_meta[name].value for name in ("MediaStorageSOPClassUID", "TransferSyntaxUID")
        }


@pytest.mark.parametrize("tag", ["1.5", "10", "-3"])
def test_a_lying_spacing_between_slices_is_not_copied(tmp_path: Path, tag: str) -> None:
    datasets = make_series(np.zeros((5, 8, 8), np.int16), modality="MR")
    for dataset in datasets:
        dataset.SpacingBetweenSlices = tag
    source = SourceSeries.from_files(save_series(datasets, tmp_path))
    labels = LabelVolume(np.ones(source.shape, np.uint8), SEGMENTS, source=source, provenance=PROVENANCE)
    segmentation = build_segmentation(with_tracking_uids(labels, fresh_uid), now=NOW)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(3)
    assert check_conformance(segmentation, source) == []
    measures.SpacingBetweenSlices = tag
    (finding,) = check_conformance(segmentation, source)
    assert (finding.severity, finding.message) == (
        "error",
        "The spacing between slices is not that of the source's positions.",
    )


@pytest.mark.parametrize(
    ("heights", "step", "warned"),
    [
        ((0, 3, 9, 12), 3, False),  # one slice is missing
        ((0, 3, 7.3, 10.3), None, True),
        ((5,), 4, False),  # one slice: what the volume assumes
    ],
)
def test_the_spacing_of_uneven_slices_is_their_step_or_absent(
    tmp_path: Path, heights: tuple[float, ...], step: float | None, warned: bool
) -> None:
    datasets = make_series(np.zeros((len(heights), 8, 8), np.int16), modality="MR")
    for dataset, height in zip(datasets, heights, strict=True):
        dataset.ImagePositionPatient, dataset.SpacingBetweenSlices = [0, 0, height], "4"
    source = SourceSeries.from_files(save_series(datasets, tmp_path), resample=True)
    labels = LabelVolume(np.ones(source.shape, np.uint8), SEGMENTS, source=source, provenance=PROVENANCE)
    segmentation = build_segmentation(with_tracking_uids(labels, fresh_uid), now=NOW)
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.get("SpacingBetweenSlices") == step
    found = check_conformance(segmentation, source)
    assert [(finding.severity, "no regular grid" in finding.message) for finding in found] == [
        ("warning", True)
    ] * warned
    if step is not None and len(heights) > 1:
        del measures.SpacingBetweenSlices
        assert any("does not say the spacing" in finding.message for finding in check_conformance(segmentation, source))


def test_the_object_of_one_segment_is_highdicoms(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, (5, 16, 8))
    array = (labels.labels > 0).astype(np.uint8)
    for slices in (slice(2, 5), slice(0, 5)):  # frames that lie evenly, and with a gap
        one = replace(labels, labels=np.zeros_like(array), segments=labels.segments[:1], probabilities=None)
        one.labels[slices] = array[slices]
        assert differences(build_segmentation(one, now=NOW, series_number=10001), by_highdicom(one, "BINARY")) == []


def _reread(labels: LabelVolume, encoding: str) -> Dataset:
    return dcmread(_saved(build_segmentation(labels, encoding=encoding, now=NOW, series_number=10001)))


def _saved(dataset: Dataset, **options: object) -> BytesIO:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True, **options)
    file.seek(0)
    return file


def test_it_can_be_changed_and_written_in_another_transfer_syntax(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, (6, 5, 7))
    segmentation = build_segmentation(labels)
    segmentation.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    group = segmentation.PerFrameFunctionalGroupsSequence[0]
    group.FrameContentSequence[0].FrameLabel = "first"
    back = dcmread(_saved(segmentation, implicit_vr=True, little_endian=True))
    assert back.PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0].FrameLabel == "first"
    assert np.array_equal(read_segmentation(back, labels.source).labels, labels.labels)
    assert Segmentation.from_dataset(build_segmentation(labels)).number_of_segments == 3


@pytest.mark.parametrize("largest", [3, 3000])
def test_runs_are_packed_as_dicom_rle(largest: int) -> None:
    plane = np.random.default_rng(3).integers(0, 3, (9, 300)).astype(np.uint16 if largest > 255 else np.uint8)
    plane[2:6] = largest
    assert _rle_decode_frame(rle_frame(plane), 9, 300, 1, plane.itemsize * 8) == plane.tobytes()


@pytest.mark.parametrize("columns", [1, 127, 128, 129, 300])
def test_noise_hardly_grows_by_rle(columns: int) -> None:
    plane = np.random.default_rng(columns).integers(0, 256, (50, columns)).astype(np.uint8)
    plane[:20, ::3] = plane[:20, 1::3][:, : plane[:, ::3].shape[1]].mean() if columns > 1 else 0
    plane[20:30] = np.repeat(plane[20:30, ::2], 2, axis=1)[:, :columns]  # pairs
    frame = rle_frame(plane)
    assert len(frame) % 2 == 0
    assert len(frame) <= 64 + 50 * (columns + -(-columns // 128)) + 1
    assert _rle_decode_frame(frame, 50, columns, 1, 8) == plane.tobytes()


@pytest.mark.parametrize(("compression", "syntax"), [("RLE", RLELossless), ("JPEG-LS", JPEGLSLossless)])
@pytest.mark.parametrize("encoding", ["LABELMAP", "FRACTIONAL"])
def test_compression_loses_nothing(tmp_path: Path, encoding: str, compression: str, syntax: str) -> None:
    labels = labels_of(tmp_path, (6, 30, 140))
    compressed = build_segmentation(labels, encoding=encoding, compression=compression)
    assert compressed.file_meta.TransferSyntaxUID == syntax
    plain = build_segmentation(labels, encoding=encoding)
    assert np.array_equal(dcmread(_saved(compressed)).pixel_array, plain.pixel_array)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5)])
def test_frames_too_small_for_jpeg_ls_are_refused_by_name(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    source = make_source(tmp_path, np.zeros(shape, np.int16))
    labels = LabelVolume(np.ones(shape, np.uint8), SEGMENTS, source=source, provenance=PROVENANCE)
    with pytest.raises(EncodingError, match="larger compressed by JPEG-LS"):
        build_segmentation(labels, encoding="LABELMAP", compression="JPEG-LS")
    rle = build_segmentation(labels, encoding="LABELMAP", compression="RLE")
    assert np.array_equal(read_segmentation(rle, source).labels, labels.labels)


def test_a_label_map_of_many_labels_has_16_bits(tmp_path: Path) -> None:
    source = make_source(tmp_path, np.zeros((3, 5, 7), np.int16))
    array = np.zeros(source.shape, np.uint16)
    array[1, 2:, 3:], array[2] = 300, 7
    segments = (Segment(7, "Seven", ANATOMY, LUNG), Segment(300, "Three hundred", ANATOMY, LUNG))
    labels = LabelVolume(array, segments, source=source, provenance=PROVENANCE)
    for compression in (None, "RLE", "JPEG-LS"):
        made = dcmread(_saved(build_segmentation(labels, encoding="LABELMAP", compression=compression)))
        assert np.array_equal(made.pixel_array, array[[2, 1]])


def test_segments_without_voxels_are_not_described(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, (4, 5, 7))
    labels = replace(labels, labels=np.where(labels.labels == 2, 0, labels.labels).astype(np.uint8))
    binary = build_segmentation(labels)
    assert [(item.SegmentNumber, item.SegmentLabel) for item in binary.SegmentSequence] == [
        (1, "Right lung"),
        (2, "Bone"),
    ]
    assert np.array_equal(read_segmentation(binary, labels.source).labels == 2, labels.labels == 3)
    labelmap = build_segmentation(labels, encoding="LABELMAP")
    assert [int(item.SegmentNumber) for item in labelmap.SegmentSequence] == [0, 1, 3]


def test_nothing_at_all_is_refused_where_that_is_asked_for(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, (4, 5, 7))
    empty = replace(labels, labels=np.zeros_like(labels.labels), probabilities=np.zeros((3, 4, 5, 7)))
    for encoding in ("BINARY", "LABELMAP", "FRACTIONAL"):
        with pytest.raises(EncodingError, match="nothing to encode"):
            build_segmentation(empty, encoding=encoding, empty="refuse")
        assert build_segmentation(empty, encoding=encoding).NumberOfFrames == (1 if encoding == "LABELMAP" else 3)


def test_segments_may_overlap(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, (4, 5, 7))
    lower = np.where(labels.labels == 3, 0, labels.labels).astype(np.uint8)
    upper = np.zeros_like(lower)
    upper[1:, 1:4, 2:6] = 3
    labels = replace(labels, labels=lower, further_layers=(upper,))
    segmentation = build_segmentation(labels)
    assert segmentation.SegmentsOverlap == "YES"
    back = read_segmentation(segmentation, labels.source)
    for segment in labels.segments:
        assert np.array_equal(back.mask(back.segment(segment.name)), labels.mask(segment))
    with pytest.raises(EncodingError, match="cannot hold segments that overlap"):
        build_segmentation(labels, encoding="LABELMAP")
    with pytest.raises(EncodingError, match="in two layers"):
        build_segmentation(replace(labels, further_layers=(upper, upper)))


def test_many_segments_may_share_a_voxel_and_too_many_are_refused_on_writing(tmp_path: Path) -> None:
    source = make_source(tmp_path, np.zeros((2, 3, 4), np.int16))
    segments = tuple(Segment(n, f"S{n}", ANATOMY, LUNG) for n in range(1, 66))
    layers = [np.full(source.shape, n, np.uint8) for n in range(1, 66)]
    labels = LabelVolume(
        layers[0], segments[:20], source=source, provenance=PROVENANCE, further_layers=tuple(layers[1:20])
    )
    back = read_segmentation(build_segmentation(labels), source)
    assert all(back.mask(segment).all() for segment in back.segments)
    with pytest.raises(EncodingError, match="65 layers"):
        build_segmentation(replace(labels, segments=segments, further_layers=tuple(layers[1:])))


class _Watched(np.ndarray):
    def __setitem__(self, key: object, value: object) -> None:
        assert self.ndim == 1, "only what was written is undone"
        super().__setitem__(key, value)


def test_a_segment_in_the_way_is_undone_frame_by_frame(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, (4, 5, 7))
    segmentation = build_segmentation(replace(labels, labels=(labels.labels == 1).astype(np.uint8)))
    data, places = FrameData.of(segmentation, labels.source.shape), frame_places(segmentation, labels.source)
    layer = np.zeros(labels.source.shape, np.uint8)
    layer[places[0].k], layer[places[-1].k] = (labels.labels[places[0].k] != 1) * 1, 2
    before = layer.copy()
    assert not _written(data, places, layer.view(_Watched), 3)
    assert np.array_equal(layer, before)


@pytest.mark.parametrize("kind", ["PROBABILITY", "OCCUPANCY"])
def test_fractions_are_kept_in_steps_of_255(tmp_path: Path, kind: str) -> None:
    labels = labels_of(tmp_path, (4, 5, 7))
    segmentation = build_segmentation(labels, encoding="FRACTIONAL", fractional_type=kind)
    assert (segmentation.SegmentationFractionalType, segmentation.MaximumFractionalValue) == (kind, 255)
    back = read_segmentation(segmentation, labels.source)
    assert np.abs(back.probabilities - labels.probabilities).max() < 0.5 / 255 + 1e-3
    again = build_segmentation(back, encoding="FRACTIONAL")
    assert again.SegmentationFractionalType == kind
    assert again.PixelData == segmentation.PixelData


@pytest.mark.parametrize("wrong", [1.2, -0.1, np.nan])
def test_fractions_must_be_fractions(tmp_path: Path, wrong: float) -> None:
    labels = labels_of(tmp_path, (4, 5, 7))
    labels.probabilities[1, 2, 3, 4] = wrong
    with pytest.raises(EncodingError, match="not from 0 to 1"):
        build_segmentation(labels, encoding="FRACTIONAL")
    with pytest.raises(EncodingError, match="have no probabilities"):
        build_segmentation(replace(labels, probabilities=None), encoding="FRACTIONAL")


@pytest.mark.parametrize("encoding", ["BINARY", "FRACTIONAL"])
def test_a_segmentation_too_large_for_one_object_is_split(tmp_path: Path, encoding: str) -> None:
    labels = labels_of(tmp_path, (6, 16, 8))
    whole = plan_frames(labels, encoding).pixel_bytes
    assert whole == len(build_segmentation(labels, encoding=encoding).PixelData)
    with pytest.raises(EncodingError, match=f"would hold {whole} bytes"):
        build_segmentation(labels, encoding=encoding, largest_bytes=whole - 2)
    parts = [
        build_segmentation(part, encoding=encoding, largest_bytes=whole - 2)
        for part in split_labels(labels, encoding, whole - 2)
    ]
    assert [[item.SegmentLabel for item in part.SegmentSequence] for part in parts] == [
        ["Right lung", "Left lung"],
        ["Bone"],
    ]
    assert sum(len(part.PixelData) for part in parts) == whole
    assert split_labels(labels, encoding, whole) == [labels]
    with pytest.raises(EncodingError, match="segment 1 alone"):
        split_labels(labels, encoding, 20)


def test_a_label_map_too_large_is_compressed(tmp_path: Path) -> None:
    labels = labels_of(tmp_path, (6, 16, 8))
    assert split_labels(labels, "LABELMAP", 100) == [labels]
    made = build_segmentation(labels, encoding="LABELMAP", largest_bytes=100)
    assert made.file_meta.TransferSyntaxUID == RLELossless
    assert np.array_equal(read_segmentation(made, labels.source).labels, labels.labels)
