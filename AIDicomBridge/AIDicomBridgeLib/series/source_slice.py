"""One slice of a source: a single-frame instance, or one frame of an Enhanced multi-frame instance (PS3.3 C.7.6.16)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BadDicomError
from .dicom_file import element_as_read, raw_text, read_header, real_number, sop_class_of_file, tag_of, whole_number

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

# Images that form volumes (PS3.4 B.5), by SOP Class UID.
SINGLE_FRAME_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image",
    "1.2.840.10008.5.1.4.1.1.4": "MR Image",
    "1.2.840.10008.5.1.4.1.1.128": "PET Image",
}
# Each with the single-frame class whose attributes its frames have.
MULTI_FRAME_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2.1": "1.2.840.10008.5.1.4.1.1.2",  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2": "1.2.840.10008.5.1.4.1.1.2",  # Legacy Converted Enhanced CT
    "1.2.840.10008.5.1.4.1.1.4.1": "1.2.840.10008.5.1.4.1.1.4",  # Enhanced MR
    "1.2.840.10008.5.1.4.1.1.4.4": "1.2.840.10008.5.1.4.1.1.4",  # Legacy Converted Enhanced MR
    "1.2.840.10008.5.1.4.1.1.130": "1.2.840.10008.5.1.4.1.1.128",  # Enhanced PET
    "1.2.840.10008.5.1.4.1.1.128.1": "1.2.840.10008.5.1.4.1.1.128",  # Legacy Converted Enhanced PET
}
VOLUME_SOP_CLASSES = {*SINGLE_FRAME_CLASSES, *MULTI_FRAME_CLASSES}
VOLUME_SOP_CLASS_NAMES = "CT, MR and PET series, single-frame or Enhanced, can be read."

# Functional groups whose one item describes a frame as the attributes of a single-frame image do.
_FRAME_GROUPS = (
    "FrameContentSequence",
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "FrameAnatomySequence",
    "CTImageFrameTypeSequence",
    "MRImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "CTExposureSequence",
    "CTXRayDetailsSequence",
    "MRTimingAndRelatedParametersSequence",
    "MREchoSequence",
    "MRModifierSequence",
    "MRDiffusionSequence",
    "MRVelocityEncodingSequence",
    "CTReconstructionSequence",
    "ContrastBolusUsageSequence",
    "CardiacSynchronizationSequence",
    "RespiratorySynchronizationSequence",
    "TemporalPositionSequence",
)
# What Legacy Converted Enhanced images keep of their single-frame ones where no functional group has a place for it.
_CONVERTED_GROUPS = ("UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence")
# Attributes that single-frame images have under another name.
_SINGLE_FRAME_NAMES = {
    "FrameType": "ImageType",
    "EffectiveEchoTime": "EchoTime",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "InversionTimes": "InversionTime",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
}
# Units and SUV Type (PS3.3 C.8.9.1) of a mapping to real-world values, by its unit (PS3.16 CID 84, 85).
_PET_UNITS = {
    "Bq/ml": ("BQML", ""),
    **dict.fromkeys(("{SUVbw}g/ml", "g/ml{SUVbw}"), ("GML", "BW")),
    **dict.fromkeys(("{SUVlbm}g/ml", "g/ml{SUVlbm}"), ("GML", "LBM")),
    **dict.fromkeys(("{SUVibw}g/ml", "g/ml{SUVibw}"), ("GML", "IBW")),
    **dict.fromkeys(("{SUVbsa}cm2/ml", "cm2/ml{SUVbsa}"), ("CM2ML", "BSA")),
}
_SUV_BODY_WEIGHT = "126401"  # DCM, as the quantity beside a plain "g/ml"
_NOT_OF_A_FRAME = {
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionOrganizationSequence",
    "DimensionIndexSequence",
    "NumberOfFrames",
    # Where an instance has them beside its functional groups, they are of no frame in particular.
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "PixelData",
}


@dataclass(frozen=True, eq=False)
class SourceSlice:
    """Where one slice of a series is stored, and what its header says.

    Attributes
    ----------
    path
        The file.
    header
        The attributes of this slice without pixel data, always as those of a single-frame image: for a frame, the
        instance's own with those of its functional groups. SOP Class and SOP Instance UID are the instance's.
    frame_number
        The frame's number from 1 on, as Referenced Frame Number has it; None in a single-frame instance.
    frame_count
        Frames of the instance.
    pixel_offset
        Where the element Pixel Data begins in the file, bytes.
    file_state
        What :func:`~.dicom_file.file_state` said when the header was read; a file that has changed since is another
        one. None where nobody noted it.
    """

    path: Path = field(repr=False)  # folders are often called like patients
    header: "Dataset" = field(repr=False)
    frame_number: int | None = None
    frame_count: int = 1
    pixel_offset: int = 0
    file_state: tuple[int, int] | None = None

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID of the instance."""
        return raw_text(self.header, "SOPInstanceUID")


def read_image_header(path: Path) -> "tuple[Dataset, int] | None":
    """Return what :func:`~.dicom_file.read_header` does, but None for what cannot be read and says that it is no image.

    Reports may be deflated, and palettes and hanging protocols belong to no study. A damaged slice is no such object.

    Raises
    ------
    BadDicomError
        The file cannot be read, and its file meta information names no standard class of other objects.
    """
    from pydicom.uid import UID

    try:
        return read_header(path)
    except BadDicomError:
        sop_class = UID(sop_class_of_file(path))
        if sop_class in VOLUME_SOP_CLASSES or sop_class.type != "SOP Class":
            raise
        return None


def slices_of(
    path: Path, header: "Dataset", pixel_offset: int, file_state: tuple[int, int] | None = None
) -> Iterator[SourceSlice]:
    """Yield the slices of one instance of ``VOLUME_SOP_CLASSES``, in frame order.

    ``header`` and ``pixel_offset`` are what :func:`~.dicom_file.read_header` gives, ``file_state`` is from before.

    Raises
    ------
    BadDicomError
        The functional groups of a multi-frame instance are absent, damaged, or not one for each frame.
    """
    if raw_text(header, "SOPClassUID") not in MULTI_FRAME_CLASSES:
        yield SourceSlice(path, header, pixel_offset=pixel_offset, file_state=file_state)
        return
    count = whole_number(header, "NumberOfFrames", 1)
    try:
        groups = list(header.PerFrameFunctionalGroupsSequence)
        shared = header.get("SharedFunctionalGroupsSequence") or []
        common = _without_groups(header)
        for group in shared[:1]:
            _add_groups(common, group)
        if len(groups) != count:
            raise ValueError("one functional group for each frame")
        for number, group in enumerate(groups, start=1):
            frame = _copied(common)
            _add_groups(frame, group)
            for groups_of in (group, *shared[:1]):
                _add_converted(frame, groups_of)
            if frame.get("Modality") == "PT":
                _add_unit(frame)
            yield SourceSlice(path, frame, number, count, pixel_offset, file_state)
    except Exception as error:  # values are converted here, and converters raise nearly anything on damaged input
        raise BadDicomError(
            f"the image has no usable functional groups for its {count} frames", uid=str(header.SOPInstanceUID)
        ) from error


def _without_groups(header: "Dataset") -> "Dataset":
    common = _copied(header)
    for keyword in _NOT_OF_A_FRAME:
        if keyword in common:
            del common[keyword]
    return common


def _copied(header: "Dataset") -> "Dataset":
    """Return another data set over the same elements; adding to one does not change the other."""
    from pydicom import Dataset

    copy = Dataset(dict(header.items()))
    implicit_vr, little_endian = header.original_encoding
    copy.set_original_encoding(implicit_vr, little_endian, header.original_character_set)
    if hasattr(header, "file_meta"):
        copy.file_meta = header.file_meta
    return copy


def _add_groups(frame: "Dataset", groups: "Dataset") -> None:
    from pydicom import DataElement

    for name in [name for name in _FRAME_GROUPS if element_as_read(groups, name) is not None]:
        items = groups.get(name)
        if not items:
            continue
        for tag, element in items[0].items():  # as read: of thousands of frames each conversion would be felt
            frame[tag] = element
        for keyword, single_frame_keyword in _SINGLE_FRAME_NAMES.items():
            if element_as_read(items[0], keyword) is not None:
                named = items[0][keyword]
                del frame[keyword]
                frame.add(DataElement(single_frame_keyword, named.VR, named.value, already_converted=True))
        directions = items[0].get("DiffusionGradientDirectionSequence")
        if directions and "DiffusionGradientOrientation" in directions[0]:
            frame["DiffusionGradientOrientation"] = directions[0]["DiffusionGradientOrientation"]
    if frame.get("Modality") == "PT" and groups.get("RealWorldValueMappingSequence"):
        frame["RealWorldValueMappingSequence"] = groups["RealWorldValueMappingSequence"]


def _add_converted(frame: "Dataset", groups: "Dataset") -> None:
    """Give a frame the attributes of its single-frame image that neither the instance nor a functional group has."""
    for name in _CONVERTED_GROUPS:
        items = groups.get(name) if element_as_read(groups, name) is not None else None
        for tag, element in items[0].items() if items else ():
            if tag not in frame and tag not in _not_of_a_frame():
                frame[tag] = element


@lru_cache(maxsize=1)
def _not_of_a_frame() -> "frozenset[BaseTag]":
    return frozenset(tag_of(keyword) for keyword in _NOT_OF_A_FRAME)


def _add_unit(frame: "Dataset") -> None:
    """Give a frame the unit of its mapping to real-world values, if that maps as Rescale does and the unit is known."""
    mappings = frame.get("RealWorldValueMappingSequence")
    if not mappings or "Units" in frame:
        return
    if other_real_world_values(frame):
        return
    code = str(mappings[0].MeasurementUnitsCodeSequence[0].CodeValue)
    concepts = [
        str(concept.get("CodeValue", ""))
        for quantity in mappings[0].get("QuantityDefinitionSequence") or ()
        for concept in quantity.get("ConceptCodeSequence") or ()
    ]
    known = ("GML", "BW") if code == "g/ml" and _SUV_BODY_WEIGHT in concepts else _PET_UNITS.get(code)
    if known is not None:
        frame.Units = known[0]
        if known[1]:
            frame.SUVType = known[1]


def other_real_world_values(frame: "Dataset") -> bool:
    """Return True if the unit of a frame's mapping to real-world values is not that of its rescaled values."""
    mapping = frame.RealWorldValueMappingSequence[0]
    return not all(  # a mapping by a table has no slope
        math.isclose(
            real_number(mapping, f"RealWorldValue{part}", math.nan),
            real_number(frame, f"Rescale{part}", own),
            rel_tol=1e-6,  # Rescale has 16 characters
        )
        for part, own in (("Slope", 1.0), ("Intercept", 0.0))
    )
