"""Own checks of segmentations: segments, frames, dimensions, the length of the pixel data, the voxels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BridgeError
from ..series.dicom_file import is_uid
from .equipment import fit
from .frame_places import frame_groups
from .frame_plan import quantised
from .labels import LabelVolume, Segment
from .segmentation import read_segmentation
from .segmentation_skeleton import slice_step_mm

if TYPE_CHECKING:
    from pydicom import Dataset

_Error = Callable[[str, str], None]  # path, message
_CODES = ("category", "type", "type_modifier", "region", "region_modifier")
_CONTENT, _POSITION, _DERIVATION, _IDENTIFICATION = 0x00209111, 0x00209113, 0x00089124, 0x0062000A


def distinct_groups(dataset: "Dataset") -> "Iterator[tuple[str, dict[int, list[Dataset]]]]":
    """Yield path and functional groups, by tag, of every frame; those that repeat another frame's bytes only once.

    Position and source image of a slice are the same for each of its segments, and the content of frames differs
    in its indices alone: of 2000 frames with 5 nested data sets each, 600 are to be decoded instead of 10000.
    """
    seen: set[tuple[int, object]] = set()
    for number, groups in enumerate(frame_groups(dataset), start=1):
        new = {tag: value for tag, value in groups.encoded.items() if (tag, _key(tag, value)) not in seen}
        seen |= {(tag, _key(tag, value)) for tag, value in new.items()}
        yield f"PerFrameFunctionalGroupsSequence[{number}]", {tag: groups.decoded(tag) for tag in new}


def _key(tag: int, value: object) -> object:
    if not isinstance(value, bytes):
        return id(value)
    return len(value) if tag == _CONTENT else value


def check_segments(dataset: "Dataset", error: _Error) -> None:
    """Call ``error`` with path and message for everything that is wrong with the segments and their frames."""
    segments = list(enumerate(dataset.get("SegmentSequence") or [], start=1))
    numbers = [int(item.get("SegmentNumber", -1)) for _, item in segments]
    labelmap = dataset.get("SegmentationType") == "LABELMAP"
    counted = labelmap or numbers == list(range(1, len(numbers) + 1))
    if not segments or not counted or len(set(numbers)) < len(numbers):
        error("SegmentSequence", "The segment numbers are not 1, 2, 3 ... (BINARY, FRACTIONAL) or not unique.")
    tracking: set[str] = set()
    for order, item in segments:
        if item.get("SegmentNumber") == 0:
            continue
        path = f"SegmentSequence[{order}]"
        uid = str(item.get("TrackingUID", ""))
        if not is_uid(uid) or not item.get("TrackingID") or uid in tracking:
            error(f"{path}.TrackingUID", "The segment has no tracking identifier and UID of its own.")
        tracking.add(uid)
        for name in ("SegmentLabel", "SegmentAlgorithmType"):  # LO and CS
            if not item.get(name) or len(str(item[name].value)) > 64:
                error(f"{path}.{name}", f"{name} is empty or too long.")
        for name in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"):
            if not item.get(name):
                error(f"{path}.{name}", "The segment does not say what it is.")
        if item.get("SegmentAlgorithmType") != "MANUAL" and not item.get("SegmentAlgorithmName"):
            error(f"{path}.SegmentAlgorithmName", "The algorithm has no name.")
    if not dataset.get("ReferencedSeriesSequence"):
        error("ReferencedSeriesSequence", "The series of the source is not referenced.")
    check_frames(dataset, None if labelmap else set(numbers), error)
    _check_pixel_length(dataset, error)


def check_frames(dataset: "Dataset", numbers: set[int] | None, error: _Error) -> None:
    """Check that every frame has a position, a source image, dimension indices and, of ``numbers``, a segment."""
    try:
        frames = list(frame_groups(dataset))
    except BridgeError as damage:
        error("PerFrameFunctionalGroupsSequence", damage.what)
        return
    if len(frames) != int(dataset.get("NumberOfFrames") or 0) or not frames:
        error("NumberOfFrames", "The number of frames is not that of the functional groups.")
    dimensions = len(dataset.get("DimensionIndexSequence") or [])
    if not dimensions:
        error("DimensionIndexSequence", "The dimensions of the frames are not described.")
    for path, groups in distinct_groups(dataset):
        if _DERIVATION in groups and not (groups[_DERIVATION] and groups[_DERIVATION][0].get("SourceImageSequence")):
            error(f"{path}.DerivationImageSequence", "The frame does not name its source image.")
        if _CONTENT in groups:
            values = groups[_CONTENT][0].get("DimensionIndexValues") if groups[_CONTENT] else None
            if np.size(values if values is not None else []) != dimensions:
                error(f"{path}.FrameContentSequence", "The frame has not one index for each dimension.")
        if _IDENTIFICATION in groups and numbers is not None:
            number = groups[_IDENTIFICATION][0].get("ReferencedSegmentNumber") if groups[_IDENTIFICATION] else None
            if number not in numbers:
                error(f"{path}.SegmentIdentificationSequence", "The frame belongs to no segment.")
    needed = {
        _POSITION: "The frame has no position.",
        _DERIVATION: "The frame does not name its source image.",
        _CONTENT: "The frame has no dimension indices.",
    }
    needed |= {} if numbers is None else {_IDENTIFICATION: "The frame belongs to no segment."}
    for order, frame in enumerate(frames, start=1):
        for tag, message in needed.items():
            if tag not in frame.encoded:
                error(f"PerFrameFunctionalGroupsSequence[{order}]", message)


def check_spacing(dataset: "Dataset", headers: "Sequence[Dataset]", error: _Error, warning: _Error) -> None:
    """Check the distance between slices, of which readers build their grid, against the positions of the sources."""
    if len(headers) < 2 or not all("ImagePositionPatient" in header for header in headers):
        return  # frames of an Enhanced instance, given without their series
    path = "SharedFunctionalGroupsSequence[1].PixelMeasuresSequence[1].SpacingBetweenSlices"
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    said = (shared.get("PixelMeasuresSequence") or [{}])[0].get("SpacingBetweenSlices")
    positions = np.array([header.ImagePositionPatient for header in headers], float)
    orientation = np.array(headers[0].ImageOrientationPatient, float)
    step = slice_step_mm(positions, orientation)
    if said is not None and (step is None or not abs(float(said) - step) <= 0.01 * step):
        error(path, "The spacing between slices is not that of the source's positions.")
    elif said is None and step is not None:
        error(path, "The segmentation does not say the spacing between slices.")
    # Along the rows or columns, slice by slice: gantry tilt.
    shift = np.abs((positions - positions[0]) @ orientation.reshape(2, 3).T).max()
    if step is None or shift > 0.1 * step:
        warning(path, "The slices of the source form no regular grid; readers that need one show this wrongly.")


def check_references(
    dataset: "Dataset", positions: "Mapping[tuple[str, int | None], np.ndarray]", error: _Error
) -> None:
    """Check that every frame lies where the source image that it names lies.

    Parameters
    ----------
    positions
        Image Position (Patient) by SOP Instance UID and, in a multi-frame instance, frame number.
    """
    seen: set[tuple[object, object]] = set()
    for order, frame in enumerate(frame_groups(dataset), start=1):
        if not {_DERIVATION, _POSITION} <= frame.encoded.keys():
            continue  # reported as missing
        derivation, place = frame.encoded[_DERIVATION], frame.encoded[_POSITION]
        key = (_key(_DERIVATION, derivation), _key(_POSITION, place))
        if key in seen:
            continue
        seen.add(key)
        images = [image for item in frame.decoded(_DERIVATION) for image in item.get("SourceImageSequence") or []]
        for image in images:
            number = image.get("ReferencedFrameNumber")
            expected = positions.get(
                (str(image.get("ReferencedSOPInstanceUID", "")), None if number is None else int(number))
            )
            found = [
                float(value) for item in frame.decoded(_POSITION) for value in item.get("ImagePositionPatient") or []
            ]
            if expected is not None and (len(found) != 3 or not np.allclose(found, expected, atol=0.01)):
                path = f"PerFrameFunctionalGroupsSequence[{order}].DerivationImageSequence"
                error(path, "The frame names a source image that lies elsewhere.")


def _check_pixel_length(dataset: "Dataset", error: _Error) -> None:
    syntax = dataset.file_meta.TransferSyntaxUID
    frames, data = int(dataset.get("NumberOfFrames") or 0), dataset.get("PixelData") or b""
    if syntax.is_encapsulated:
        from pydicom.encaps import generate_fragments

        try:
            found = sum(1 for _ in generate_fragments(data[8 + int.from_bytes(data[4:8], "little") :]))
        except ValueError:  # it ends within a fragment
            found = 0
        if found < frames:
            error("PixelData", "The pixel data has fewer frames than the number of frames says.")
        return
    bits = frames * int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated)
    if len(data) != -(-bits // 16) * 2:
        error("PixelData", "The length of the pixel data is not that of the frames.")


def check_voxels(dataset: "Dataset", labels: LabelVolume, error: _Error) -> None:
    """Read a segmentation back and compare it, voxel for voxel, with the labels that it was made from.

    Parameters
    ----------
    labels
        With the tracking UIDs of the segmentation; segments that it does not describe must have no voxel in it.
    """
    try:
        back = read_segmentation(dataset, labels.source)
    except BridgeError as failure:
        error("PixelData", f"The segmentation cannot be read back: {failure.what}.")
        return
    pairs = {}
    for segment in back.segments:
        twin = next((ours for ours in labels.segments if ours.tracking_uid == segment.tracking_uid), None)
        if twin is None:
            error("SegmentSequence", f"The segment {segment.label} is none of the labels' segments.")
            return
        pairs[segment] = twin
        for name in _CODES:
            ours, theirs = getattr(twin, name), getattr(segment, name)
            if ours != theirs:  # also another meaning: that is what people see
                error("SegmentSequence", f"The {name} of the segment {segment.label} is not that of the labels.")
        if segment.name != fit(twin.name):
            error("SegmentSequence", f"The segment {segment.label} has another name than in the labels.")
    if back.probabilities is not None:
        equal = all(_equal_fractions(back, number, labels, twin) for number, twin in enumerate(pairs.values()))
    elif back.further_layers or labels.further_layers:
        equal = all(np.array_equal(back.mask(segment), labels.mask(twin)) for segment, twin in pairs.items())
    else:
        equal = _equal_labels(back, labels, pairs)
    if not equal:
        error("PixelData", "The voxels read back are not those of the labels.")


def _equal_labels(back: LabelVolume, labels: LabelVolume, pairs: dict[Segment, Segment]) -> bool:
    expected = np.zeros(int(np.iinfo(labels.labels.dtype).max) + 1, np.uint16)
    for segment, twin in pairs.items():
        expected[twin.label] = segment.label
    return all(
        np.array_equal(theirs, ours) or np.array_equal(theirs, expected[ours])
        for theirs, ours in zip(back.labels, labels.labels, strict=True)
    )


def _equal_fractions(back: LabelVolume, number: int, labels: LabelVolume, twin: Segment) -> bool:
    if back.probabilities is None or labels.probabilities is None:
        return False
    ours = labels.probabilities[labels.segments.index(twin)]
    return all(
        np.array_equal(quantised(first), quantised(second))
        for first, second in zip(back.probabilities[number], ours, strict=True)
    )
