"""What is measured: each measurement declared once, with its title, quantity, unit, method and derivation codes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..series.pixel_format import is_hounsfield
from .labels import Code

if TYPE_CHECKING:
    from pydicom import Dataset

OWN_SCHEME = "99AIDICOMBRIDGE"  # for methods that no standard scheme has a code for

VOLUME = Code("118565006", "SCT", "Volume")
VOXELS = Code("nvoxels", "99QIICR", "Number of voxels")  # Slicer's code; the standard has none
SURFACE_AREA = Code("C0JK", "IBSI", "Surface Area of Mesh")  # CID 7471; the only code for the area of a 3-D surface
LONGEST_DIAMETER = Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh")  # CID 7470
CENTER_OF_MASS = Code("128138", "DCM", "Center of Mass")
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")  # CID 7469, and the next three
MR_SIGNAL = Code("110852", "DCM", "MR signal intensity")
ACTIVITY = Code("110821", "DCM", "Nuclear Medicine Tomographic Activity")
UPTAKE = Code("126400", "DCM", "Standardized Uptake Value")
PROBABILITY = Code("122157", "DCM", "Probability")

MILLILITER = Code("ml", "UCUM", "milliliter")
VOXEL_UNIT = Code("{voxels}", "UCUM", "voxels")
SQUARE_MILLIMETER = Code("mm2", "UCUM", "square millimeter")
MILLIMETER = Code("mm", "UCUM", "millimeter")
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
NO_UNITS = Code("1", "UCUM", "no units")
# Units of PET by Units (0054,1001), and of GML by SUV Type (0054,1006); CID 7181.
_PET_UNITS = {
    "BQML": Code("Bq/ml", "UCUM", "Becquerels/milliliter"),
    "CNTS": Code("{counts}", "UCUM", "Counts"),
    "CPS": Code("{counts}/s", "UCUM", "Counts per second"),
    "PROPCNTS": Code("{propcounts}", "UCUM", "Proportional to counts"),
    "PROPCPS": Code("{propcounts}/s", "UCUM", "Proportional to counts per second"),
}
_SUV_UNITS = {
    "BW": Code("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight"),
    "LBM": Code("g/ml{SUVlbm}", "UCUM", "Standardized Uptake Value lean body mass (James)"),
    "LBMJAMES128": Code(
        "g/ml{SUVlbm(James128)}", "UCUM", "Standardized Uptake Value lean body mass (James 128 multiplier)"
    ),
    "LBMJANMA": Code("g/ml{SUVlbm(Janma)}", "UCUM", "Standardized Uptake Value lean body mass (Janma)"),
    "IBW": Code("g/ml{SUVibw}", "UCUM", "Standardized Uptake Value ideal body weight"),
    "BSA": Code("cm2/ml{SUVbsa}", "UCUM", "Standardized Uptake Value body surface area"),
}
SUV_BODY_WEIGHT = UPTAKE, _SUV_UNITS["BW"]

# What Image Type (0008,0008) calls an MR image whose values are no signal.
_MAPS = {"ADC", "EADC", "FA", "RCBV", "RCBF", "MTT", "TTP", "TMAX", "T1MAP", "T2MAP", "KTRANS", "PHASE", "VELOCITY"}

SUM_OF_VOXELS = Code("126030", "DCM", "Sum of segmented voxel method for volume")  # CID 7474
CROFTON = Code("crofton13", OWN_SCHEME, "Crofton formula with 13 directions")
VOXEL_CENTERS = Code("feret", OWN_SCHEME, "Largest distance between voxel centers")
# CID 7464
MEAN = Code("373098007", "SCT", "Mean")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
MINIMUM = Code("255605001", "SCT", "Minimum")
MAXIMUM = Code("56851009", "SCT", "Maximum")
MEDIAN = Code("373099004", "SCT", "Median")
TENTH_PERCENTILE = Code("371890005", "SCT", "Tenth percentile")
NINETIETH_PERCENTILE = Code("371887004", "SCT", "Ninetieth percentile")


@dataclass(frozen=True)
class Quantity:
    """One measurement of a segment.

    Attributes
    ----------
    name
        Attribute of :class:`SegmentMeasurements`, and key in JSON.
    title
        For people, with the unit where it is fixed.
    code, unit
        None for a statistic of the voxel values: then they are those of the image (:func:`voxel_values`).
    method, derivation
        How it was obtained, where one number has several ways.
    in_reports
        False for what a report's measurement group has no number for.
    """

    name: str
    title: str
    code: Code | None = None
    unit: Code | None = None
    method: Code | None = None
    derivation: Code | None = None
    in_reports: bool = True


QUANTITIES = (
    Quantity("voxel_count", "Voxels", VOXELS, VOXEL_UNIT),
    Quantity("volume_ml", "Volume (ml)", VOLUME, MILLILITER, method=SUM_OF_VOXELS),
    Quantity("surface_area_mm2", "Surface area (mm2)", SURFACE_AREA, SQUARE_MILLIMETER, method=CROFTON),
    Quantity("longest_diameter_mm", "Longest diameter (mm)", LONGEST_DIAMETER, MILLIMETER, method=VOXEL_CENTERS),
    Quantity("centroid_lps_mm", "Centroid (LPS mm)", CENTER_OF_MASS, MILLIMETER, in_reports=False),
    Quantity("mean", "Mean", derivation=MEAN),
    Quantity("standard_deviation", "Standard deviation", derivation=STANDARD_DEVIATION),
    Quantity("minimum", "Minimum", derivation=MINIMUM),
    Quantity("percentile_10", "10th percentile", derivation=TENTH_PERCENTILE),
    Quantity("median", "Median", derivation=MEDIAN),
    Quantity("percentile_90", "90th percentile", derivation=NINETIETH_PERCENTILE),
    Quantity("maximum", "Maximum", derivation=MAXIMUM),
)


def voxel_values(modality: str, header: "Dataset") -> tuple[Code, Code] | None:
    """Return what the voxel values of an image are and their unit; None where the header does not tell."""
    if modality == "CT" and is_hounsfield(header):
        return ATTENUATION, HOUNSFIELD
    if modality == "MR" and not _is_computed_map(header):
        return MR_SIGNAL, NO_UNITS
    if modality == "PT":
        unit = str(header.get("Units", ""))
        if unit in _PET_UNITS:
            return ACTIVITY, _PET_UNITS[unit]
        # SUV Type is absent where it is BW (PS3.3 C.8.9.1.1.3 calls that its default).
        kind = {"GML": str(header.get("SUVType") or "BW"), "CM2ML": "BSA"}.get(unit, "")
        if kind in _SUV_UNITS:
            return UPTAKE, _SUV_UNITS[kind]
    return None


def _is_computed_map(header: "Dataset") -> bool:
    """Return True for an MR image of something else than signal, such as diffusion: by its type, or its real unit."""
    names = {str(name).upper().replace("_", " ") for name in header.get("ImageType") or ()}
    if names & _MAPS or any(name.endswith(" MAP") for name in names):
        return True
    mappings = header.get("RealWorldValueMappingSequence") or ()
    units = [unit for mapping in mappings for unit in mapping.get("MeasurementUnitsCodeSequence") or ()]
    return any(str(unit.get("CodeValue", "")) not in ("", NO_UNITS.value, "{no units}") for unit in units)


def fitting_units() -> dict[tuple[str, str], frozenset[tuple[str, str]]]:
    """Return the units that fit a quantity, by the quantity; each as Code Value and Coding Scheme Designator."""
    fitting: dict[Code, set[str]] = {
        quantity.code: {quantity.unit.value}
        for quantity in QUANTITIES
        if quantity.code is not None and quantity.unit is not None
    }
    fitting[VOLUME] |= {"cm3", "mm3", "dm3", "l", "L", "mL"}
    fitting[SURFACE_AREA] |= {"cm2"}
    fitting[LONGEST_DIAMETER] |= {"cm"}
    fitting[ATTENUATION] = {HOUNSFIELD.value}
    fitting[MR_SIGNAL] = {NO_UNITS.value}
    fitting[ACTIVITY] = {unit.value for unit in _PET_UNITS.values()}
    fitting[PROBABILITY] = {NO_UNITS.value}
    fitting[UPTAKE] = {unit.value for unit in _SUV_UNITS.values()}
    return {
        (quantity.value, quantity.scheme): frozenset((unit, "UCUM") for unit in units)
        for quantity, units in fitting.items()
    }
