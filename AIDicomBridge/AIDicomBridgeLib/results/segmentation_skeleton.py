"""A segmentation by highdicom on one slice, and how it becomes one of the whole series.

highdicom knows the attributes of the object; it takes 4 s for 60 segments on 300 slices, mostly for their frames. So it
makes the object for one slice, and frames, references and pixel data are put in by us.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..series.geometry import position_tolerance_mm
from ..series.source_series import SourceSeries
from ..series.source_slice import SourceSlice
from .equipment import MANUFACTURER, MODEL_NAME, device_serial_number, software_version
from .frame_pixels import compressed_frames, native_pixels
from .frame_plan import FRACTIONAL_MAXIMUM, FramePlan
from .functional_groups import SourceReference, encode_frame_groups, encode_referenced_series, encode_source_images
from .labels import LabelVolume, Provenance
from .segment_description import describe_segment
from .source_frames import single_frame_stand_ins

if TYPE_CHECKING:
    from pydicom import Dataset

SYNTAXES = {None: "1.2.840.10008.1.2.1", "RLE": "1.2.840.10008.1.2.5", "JPEG-LS": "1.2.840.10008.1.2.4.80"}
_LONGEST_DECIMAL_STRING = 16


def build_skeleton(
    source: SourceSeries,
    header: "Dataset",
    plan: FramePlan,
    provenance: Provenance | None,
    *,
    fractional_type: str,
    compression: str | None,
    **attributes: Any,
) -> "Dataset":
    """Return a segmentation of the plan's segments without frames, in the study of a source.

    Parameters
    ----------
    header
        That of the source's first slice, as :func:`~.source_headers.normalised_headers` gives it.
    fractional_type
        For FRACTIONAL.
    compression
        Of the frames to come: one of ``SYNTAXES``.
    attributes
        Further arguments of highdicom's Segmentation.
    """
    from highdicom.seg import Segmentation
    from pydicom import Dataset
    from pydicom.uid import UID

    descriptions = [
        describe_segment(segment, number, provenance)
        for segment, number in zip(plan.segments, plan.numbers, strict=True)
    ]
    algorithm = {name: descriptions[0].get(name) for name in ("SegmentAlgorithmType", "SegmentAlgorithmName")}
    unidentified = "SegmentationAlgorithmIdentificationSequence" not in descriptions[0]
    if unidentified:  # highdicom describes the background of a label map like the first segment, and knows no such one
        descriptions[0].SegmentAlgorithmType = "MANUAL"
    made = Segmentation(
        source_images=single_frame_stand_ins(replace(source, slices=source.slices[:1]), [header]),
        pixel_array=_nothing(plan),
        segmentation_type=plan.encoding,
        segment_descriptions=descriptions,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=software_version(),
        device_serial_number=device_serial_number(provenance),
        content_label="SEGMENTATION",
        omit_empty_frames=False,
        fractional_type=fractional_type,
        max_fractional_value=FRACTIONAL_MAXIMUM,
        transfer_syntax_uid=SYNTAXES[None],  # of the empty frame, which is thrown away
        **attributes,
    )
    if unidentified:
        for item in made.SegmentSequence:
            if int(item.SegmentNumber) in (0, plan.numbers[0]):
                for name, value in algorithm.items():
                    if value is not None:
                        setattr(item, name, value)
    del made.PixelData, made.PerFrameFunctionalGroupsSequence
    skeleton = Dataset(dict(made.items()))
    skeleton.file_meta = made.file_meta
    skeleton.file_meta.TransferSyntaxUID = UID(SYNTAXES[compression])
    return skeleton


def fill_skeleton(segmentation: "Dataset", labels: LabelVolume, plan: FramePlan) -> None:
    """Put the frames of the whole series into a skeleton, in place."""
    from pydicom.encaps import encapsulate

    source = labels.source
    references = [_reference(piece) for piece in source.slices]
    segmentation.SegmentsOverlap = plan.overlap
    _describe_spacing(segmentation, source, plan)
    segmentation.NumberOfFrames = len(plan.frames)
    syntax = segmentation.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        segmentation.PixelData = encapsulate(compressed_frames(labels, plan, syntax))
        segmentation["PixelData"].is_undefined_length = True
    else:
        segmentation.PixelData = native_pixels(labels, plan)
    segmentation["PixelData"].VR = "OW" if plan.bits == 16 and not syntax.is_encapsulated else "OB"
    _put_encoded(
        segmentation,
        {
            0x00081115: encode_referenced_series(source.series_uid, references),
            0x00082112: encode_source_images(references),
            0x52009230: encode_frame_groups(plan, references),
        },
    )


def _nothing(plan: FramePlan) -> np.ndarray:
    """Return one slice without a segment, as highdicom takes it."""
    if plan.encoding != "FRACTIONAL":
        return np.zeros((1, *plan.frame_shape), np.uint16 if plan.bits == 16 else np.uint8)
    nothing: np.ndarray = np.broadcast_to(np.float32(0), (1, *plan.frame_shape, len(plan.segments)))
    return nothing


def _reference(piece: SourceSlice) -> SourceReference:
    from pydicom.valuerep import format_number_as_ds

    texts = [str(value) for value in piece.header.ImagePositionPatient]
    fitting = [text if len(text) <= _LONGEST_DECIMAL_STRING else format_number_as_ds(float(text)) for text in texts]
    return SourceReference(str(piece.header.SOPClassUID), piece.sop_instance_uid, tuple(fitting), piece.frame_number)


def slice_step_mm(positions: np.ndarray, orientation: Sequence[float] | np.ndarray) -> float | None:
    """Return the distance along the normal that all gaps between slices are multiples of; None where there is none.

    Parameters
    ----------
    positions
        Image Position (Patient) of each slice, (n, 3), in any order.
    orientation
        Image Orientation (Patient).
    """
    directions = np.asarray(orientation, float)
    gaps = np.diff(np.sort(positions @ np.cross(directions[:3], directions[3:])))
    if not gaps.size or gaps.min() <= 0:
        return None
    counts = np.rint(gaps / gaps.min())
    step = float(gaps.sum() / counts.sum())
    return step if np.abs(np.cumsum(gaps - counts * step)).max() <= position_tolerance_mm(step) else None


def _describe_spacing(segmentation: "Dataset", source: SourceSeries, plan: FramePlan) -> None:
    """Write what depends on all slices: their spacing, and whether the frames form a regular stack."""
    from highdicom.spatial import get_volume_positions
    from pydicom.valuerep import format_number_as_ds

    shared = segmentation.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    positions = source.positions_mm
    measures = shared.PixelMeasuresSequence[0]
    # Never the source's own, which highdicom copies: readers build their grid of it, and exports that leave slices out
    # have it wrong.
    step = slice_step_mm(positions, orientation) if len(positions) > 1 else source.spacing_mm[0]
    if step is not None:
        measures.SpacingBetweenSlices = format_number_as_ds(step)
    elif "SpacingBetweenSlices" in measures:
        del measures.SpacingBetweenSlices
    if "DimensionOrganizationType" in segmentation:
        del segmentation.DimensionOrganizationType
    # 3D: frames that differ by their place alone, so those of one segment or of a label map.
    if len(plan.slices) > 1 and (plan.encoding == "LABELMAP" or len(plan.segments) == 1):
        stack, _ = get_volume_positions(
            image_positions=[positions[k] for k in plan.slices], image_orientation=orientation, sort=False
        )
        if stack is not None and stack > 0:
            segmentation.DimensionOrganizationType = "3D"


def _put_encoded(dataset: "Dataset", sequences: dict[int, bytes]) -> None:
    """Add sequences that are encoded already, as pydicom holds those of a file that it has not looked into."""
    from pydicom.dataelem import RawDataElement
    from pydicom.filewriter import correct_ambiguous_vr
    from pydicom.tag import Tag

    correct_ambiguous_vr(dataset, True)
    for tag, value in sequences.items():
        dataset[tag] = RawDataElement(Tag(tag), "SQ", len(value), value, 0, False, True)
    # Said to be read in this encoding, it is written without decoding; in another one, pydicom decodes it first.
    dataset.set_original_encoding(False, True, dataset._character_set)
