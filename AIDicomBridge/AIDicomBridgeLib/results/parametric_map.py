"""Heat maps and other float volumes as a DICOM Parametric Map: :func:`build_parametric_map`."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from ..errors import EncodingError, GeometryError
from ..series.source_series import SourceSeries
from .anatomy import frame_anatomy
from .codes import SOURCE_IMAGE, coded_concept
from .equipment import (
    CONTENT_CREATOR,
    MANUFACTURER,
    MODEL_NAME,
    NOT_FOR_DIAGNOSTIC_USE,
    device_serial_number,
    fit,
    software_version,
)
from .labels import Code, Provenance
from .profiles import LARGEST_ELEMENT
from .quantities import NO_UNITS, OWN_SCHEME, PROBABILITY
from .result_series import ResultKind, complete_result, encoding_errors, fresh_uid, result_series_number
from .source_frames import single_frame_stand_ins, source_instances
from .source_headers import normalised_headers

if TYPE_CHECKING:
    from pydicom import Dataset

    from ..series.source_slice import SourceSlice

PARAMETRIC_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.30"
_WIDEST = 2.0**62  # a display window: readers hold its width as an integer of 64 bits
_DERIVATION = Code("algorithm", OWN_SCHEME, "Computed from the image by an algorithm")  # CID 7203 has none that fits


def build_parametric_map(
    values: np.ndarray,
    source: SourceSeries,
    *,
    quantity: Code = PROBABILITY,
    unit: Code = NO_UNITS,
    description: str = "",
    window: tuple[float, float] | None = None,
    provenance: Provenance | None = None,
    series_description: str | None = None,
    series_number: int | None = None,
    new_uid: Callable[[], str] = fresh_uid,
    now: datetime | None = None,
    content_creator: str = CONTENT_CREATOR,
) -> "Dataset":
    """Return a float volume on the grid of its source as one Parametric Map, every slice a frame.

    Parameters
    ----------
    values
        (k, j, i), any float or integer type; written as float32.
    quantity, unit
        What the values are; a probability without unit where not given.
    description
        What is shown, such as ``"Tumour probability"``; the quantity's meaning where empty.
    window
        Center and width for display; from the smallest to the largest value where not given.
    provenance
        The model that made it.
    series_description, series_number, new_uid, now, content_creator
        As for :func:`build_segmentation`.

    Raises
    ------
    GeometryError
        The values are not on the grid of the source.
    EncodingError
        A value is not finite or, as a probability, not in 0 to 1; the map would exceed 4 GiB; the source has no frame
        of reference, or its identity cannot be carried.
    """
    from highdicom import PixelMeasuresSequence
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom.uid import ExplicitVRLittleEndian

    if values.shape != source.shape:
        raise GeometryError(f"the values {values.shape} are not on the grid of their source {source.shape}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused next
        values = values.astype(np.float32, copy=False)
    low, high = _range(values, quantity)
    if values.size * 4 > LARGEST_ELEMENT:
        raise EncodingError("the map would hold more than DICOM's 4 GiB", uid=source.series_uid)
    if not source.frame_of_reference_uid:
        raise EncodingError("the source has no Frame of Reference UID, which a map needs", uid=source.series_uid)
    center, width = window or ((low + high) / 2, min(max(high - low, 1e-6), _WIDEST))
    if not (np.isfinite((center, width)).all() and width > 0):
        raise EncodingError(f"the window {center:g}, {width:g} has no width")
    title = fit(description or quantity.meaning)
    now = now or datetime.now()
    headers = normalised_headers(source)
    with encoding_errors("the parametric map", source.series_uid):
        result = ParametricMap(
            source_images=single_frame_stand_ins(source, headers),
            pixel_array=values,
            series_instance_uid=new_uid(),
            series_number=series_number
            or result_series_number(ResultKind.PARAMETRIC_MAP, headers[0], provenance, variant=title),
            sop_instance_uid=new_uid(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL_NAME,
            software_versions=software_version(),
            device_serial_number=device_serial_number(provenance),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[
                RealWorldValueMapping(
                    lut_label=fit(quantity.meaning, 16),
                    lut_explanation=title,
                    unit=coded_concept(unit),
                    value_range=(low, high),
                    slope=1.0,
                    intercept=0.0,
                    quantity_definition=coded_concept(quantity),
                )
            ],
            window_center=center,
            window_width=width,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            pixel_measures=PixelMeasuresSequence(
                pixel_spacing=source.spacing_mm[1:],
                slice_thickness=source.spacing_mm[0],
                spacing_between_slices=source.spacing_mm[0],
            ),
            content_label="MAP",
            content_description=_content_description(title, provenance),
            content_creator_name=content_creator,
        )
        complete_result(
            result,
            headers[0],
            ResultKind.PARAMETRIC_MAP,
            provenance=provenance,
            series_description=series_description,
            now=now,
        )
        shared = result.SharedFunctionalGroupsSequence[0]
        shared.FrameVOILUTSequence[0].VOILUTFunction = "LINEAR_EXACT"  # LINEAR has no widths below 1
        shared.FrameAnatomySequence = [frame_anatomy(headers[0])]  # dcmqi's reader ends without it
        _refer_to_source(result, source, headers)
    return result


def _range(values: np.ndarray, quantity: Code) -> tuple[float, float]:
    """Return the smallest and the largest value of float32 values."""
    low, high = float(values.min()), float(values.max())  # a NaN anywhere makes both NaN
    if not (np.isfinite(low) and np.isfinite(high)):
        raise EncodingError("the map holds values that are not finite numbers, or beyond 3.4e38, the limit of float32")
    if quantity == PROBABILITY and not 0 <= low <= high <= 1:
        raise EncodingError(
            f"the values lie between {low:g} and {high:g}; probabilities lie between 0 and 1",
            advice="Name the quantity and unit that they have.",
        )
    return low, high


def _content_description(title: str, provenance: Provenance | None) -> str:
    if provenance is None or not provenance.not_for_diagnostic_use:
        return title
    return f"{fit(title, 64 - len(NOT_FOR_DIAGNOSTIC_USE) - 2)}, {NOT_FOR_DIAGNOSTIC_USE}"


def _refer_to_source(result: "Dataset", source: SourceSeries, headers: "list[Dataset]") -> None:
    """Let the map name the source's instances, and every frame the slice that it lies on: frames are in slice order."""
    instances = [header for header, _ in source_instances(source, headers)]
    result.SourceImageSequence = [_reference(header) for header in instances]
    result.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [_reference(header) for header in instances]
    for group, piece in zip(result.PerFrameFunctionalGroupsSequence, source.slices, strict=True):
        group.DerivationImageSequence = [_derivation(piece)]


def _derivation(piece: "SourceSlice") -> "Dataset":
    from pydicom import Dataset

    reference = _reference(piece.header)
    if piece.frame_number is not None:
        reference.ReferencedFrameNumber = piece.frame_number
    reference.PurposeOfReferenceCodeSequence = [coded_concept(SOURCE_IMAGE)]
    item = Dataset()
    item.SourceImageSequence = [reference]
    item.DerivationCodeSequence = [coded_concept(_DERIVATION)]
    return item


def _reference(instance: "Dataset") -> "Dataset":
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = instance.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    return item
