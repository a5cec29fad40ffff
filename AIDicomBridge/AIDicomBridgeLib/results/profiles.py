"""What a destination can take and show: one profile per kind of destination, chosen by name."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from types import MappingProxyType

from ..errors import EncodingError

OUTPUTS = ("seg", "sr", "sc", "pm")
USUAL_OUTPUTS = ("seg", "sr", "sc")
ENCODINGS = ("BINARY", "LABELMAP", "FRACTIONAL")
COMPRESSIONS = ("RLE", "JPEG-LS")
REPORT_CLASSES = ("COMPREHENSIVE_3D", "COMPREHENSIVE", "ENHANCED")
EMPTY_RULES = ("encode", "report", "refuse")
LARGEST_ELEMENT = 2**32 - 2  # bytes of native pixel data (PS3.5 7.1.1)


@dataclass(frozen=True)
class DestinationProfile:
    """How results are written for one kind of destination.

    Attributes
    ----------
    name
        What an address (``?profile=ohif``), a job or ``--profile`` calls it.
    outputs
        Any of ``seg``, ``sr``, ``sc``, ``pm``: what is made where nobody asks for anything else.
    encoding
        Of the segmentation: ``BINARY``, ``LABELMAP``, ``FRACTIONAL``; or ``AUTO``: LABELMAP where the destination says
        over DIMSE that it takes it, else BINARY.
    compression
        ``RLE`` or ``JPEG-LS`` of LABELMAP and FRACTIONAL; None for none of these. BINARY is never compressed.
    report_class
        SOP Class of reports: ``COMPREHENSIVE_3D``, ``COMPREHENSIVE`` or ``ENHANCED``.
    empty
        What becomes of labels without a voxel: ``encode`` (a segmentation with empty frames), ``report`` (no
        segmentation: the report alone, which says that nothing was found) or ``refuse``.
    summary_page
        Whether ``sc`` includes a page with the measurements and key slices.
    largest_bytes
        Most bytes of pixel data in one object; a larger segmentation is split.
    """

    name: str
    _: KW_ONLY
    outputs: tuple[str, ...] = USUAL_OUTPUTS
    encoding: str = "BINARY"
    compression: str | None = None
    report_class: str = "COMPREHENSIVE_3D"
    empty: str = "encode"
    summary_page: bool = False
    largest_bytes: int = LARGEST_ELEMENT

    def __post_init__(self) -> None:
        for what, value, known in (
            ("encoding", self.encoding, (*ENCODINGS, "AUTO")),
            ("compression", self.compression, (*COMPRESSIONS, None)),
            ("report class", self.report_class, REPORT_CLASSES),
            ("rule for empty results", self.empty, EMPTY_RULES),
        ):
            if value not in known:
                choices = ", ".join(str(item) for item in known)
                raise EncodingError(f"the {what} {value!r} is unknown", advice=f"Choose from {choices}.")
        if not self.outputs or set(self.outputs) - set(OUTPUTS):
            raise EncodingError(f"the outputs must be some of {', '.join(OUTPUTS)}, not {self.outputs!r}")
        if not 0 < self.largest_bytes <= LARGEST_ELEMENT:
            raise EncodingError(f"an object can hold 1 to {LARGEST_ELEMENT} bytes of pixel data")


DEFAULT_PROFILE = DestinationProfile("default")  # every reader takes it
_PRESETS = (
    DEFAULT_PROFILE,
    # Orthanc stores LABELMAP by REST and STOW, and refuses it over DIMSE before 1.12.
    DestinationProfile("orthanc", encoding="AUTO", compression="RLE"),
    # OHIF 3.11 and newer show LABELMAP, and BINARY with many segments very slowly; it hangs on an empty segmentation,
    # and does not show secondary captures over the images. Whether it decompresses segmentations depends on its build.
    DestinationProfile("ohif", outputs=("seg", "sr"), encoding="LABELMAP", empty="report"),
    # Slicer 5.12 and newer read LABELMAP and RLE through dcmqi, which does not read JPEG-LS.
    DestinationProfile("slicer", outputs=("seg", "sr"), encoding="LABELMAP", compression="RLE"),
    DestinationProfile("dcm4chee", outputs=("seg", "sr"), encoding="AUTO", compression="RLE"),
    # A PACS whose viewer shows pictures only, and which may know neither 3D reports nor label maps.
    DestinationProfile("plain-pacs", report_class="ENHANCED", empty="report", summary_page=True),
)
PROFILES: Mapping[str, DestinationProfile] = MappingProxyType({profile.name: profile for profile in _PRESETS})


def find_profile(profile: DestinationProfile | str | None) -> DestinationProfile:
    """Return the profile of that name, a profile as it is, and the default one for None or an empty name.

    Raises
    ------
    EncodingError
        There is no profile of that name.
    """
    if isinstance(profile, DestinationProfile):
        return profile
    found = PROFILES.get(profile.lower()) if profile else DEFAULT_PROFILE
    if found is None:
        raise EncodingError(
            f"there is no destination profile {profile!r}", advice=f"Choose from {', '.join(sorted(PROFILES))}."
        )
    return found
