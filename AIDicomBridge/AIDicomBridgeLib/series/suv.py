"""Body-weight SUV of PET: from Bq/ml by weight, injected dose and decay (PS3.3 C.8.9.1, C.8.9.2).

Every factor comes from the headers. One that is missing, or that another contradicts, is a refusal: a guessed factor
gives a plausible image with wrong numbers.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ..errors import BridgeError, PixelError
from .dicom_file import element_as_read, raw_text, real_number
from .source_slice import other_real_world_values

if TYPE_CHECKING:
    from pydicom import Dataset

    from .source_series import SourceSeries

_DATE_TIME = re.compile(r"(\d{8})(\d{2})(\d{2})(\d{2}(?:\.\d{1,6})?)([+-]\d{4})?")
_TIMES_DIFFER_S = 60.0  # an injection noted twice
_CLOCK_S = 1.0  # times are written with and without fractions
# (least, largest) of what a person is given: values outside are in another unit, or none.
_WEIGHT_KG, _DOSE_BQ, _HALF_LIFE_S, _LONGEST_HALF_LIVES = (0.2, 500.0), (1e5, 1e11), (60.0, 1e7), 15.0


@dataclass(frozen=True)
class SuvFactors:
    """What turned Bq/ml into SUV.

    Attributes
    ----------
    scale
        g/ml for 1 Bq/ml; 1.0 where the stored values are SUV already.
    weight_kg, dose_bq, half_life_s
        Of the patient, of the radionuclide at its administration, of the radionuclide; None where not needed.
    decay_s
        From the administration to the moment that the stored values are corrected to, seconds.
    """

    scale: float
    weight_kg: float | None = None
    dose_bq: float | None = None
    half_life_s: float | None = None
    decay_s: float | None = None

    def describe(self) -> str:
        """Return the factors as one line without commas, for provenance."""
        if self.dose_bq is None:
            return "SUVbw as stored"
        return (
            f"SUVbw scale {self.scale:.8g} weight {self.weight_kg:g} kg dose {self.dose_bq:.6g} Bq "
            f"half-life {self.half_life_s:g} s decay {self.decay_s:g} s"
        )


def suv_factors(source: "SourceSeries") -> SuvFactors:
    """Return how a PET series becomes SUV by body weight.

    Raises
    ------
    PixelError
        It is no PET series in Bq/ml or SUVbw, a factor is missing or damaged, or two contradict each other; the text
        names the attribute.
    """
    try:
        if source.modality != "PT":
            raise PixelError(f"the series is {source.modality or 'of no modality'}, not PT")
        starts = [_text(header, "DecayCorrection") == "START" for header in source.headers]
        first = min(_moment(header, "Acquisition") for header in source.headers) if all(starts) else None
        found = {_factors_of(header, first) for header in source.headers}
    except BridgeError as error:
        raise PixelError(f"SUV cannot be computed: {error.what}", uid=source.series_uid, advice=error.advice) from error
    if len(found) > 1:
        raise PixelError("SUV cannot be computed: the slices differ in its factors", uid=source.series_uid)
    return found.pop()


def _factors_of(header: "Dataset", first: datetime | None) -> SuvFactors:
    """Return the factors of one slice; ``first`` is when the first slice of all was acquired, where that counts."""
    units, kind = _text(header, "Units"), _text(header, "SUVType")
    if units == "GML" and kind in ("", "BW"):
        return SuvFactors(1.0)
    if not units and element_as_read(header, "RealWorldValueMappingSequence") is not None:  # Enhanced PET
        raise PixelError(_why_no_unit(header))
    if units != "BQML":
        raise PixelError(f"Units is {units or 'missing'}{f' ({kind})' if kind else ''}, not BQML")
    weight = _number(header, "PatientWeight", _WEIGHT_KG, "kg")
    try:
        items = list(header.get("RadiopharmaceuticalInformationSequence") or ())
    except Exception as error:  # converters raise nearly anything on damaged input
        raise PixelError("RadiopharmaceuticalInformationSequence is damaged") from error
    if len(items) != 1:
        raise PixelError(f"RadiopharmaceuticalInformationSequence has {len(items)} items instead of one")
    dose = _number(items[0], "RadionuclideTotalDose", _DOSE_BQ, "Bq")
    half_life = _number(items[0], "RadionuclideHalfLife", _HALF_LIFE_S, "s")
    decay = _decay_s(header, items[0], first)
    if not 0 <= decay <= _LONGEST_HALF_LIVES * half_life:
        raise PixelError(f"the injection lies {decay:.0f} s before the scan, at a half-life of {half_life:.0f} s")
    return SuvFactors(weight * 1000 / (dose * 0.5 ** (decay / half_life)), weight, dose, half_life, decay)


def _why_no_unit(header: "Dataset") -> str:
    try:
        if other_real_world_values(header):
            return "RealWorldValueSlope or RealWorldValueIntercept differ from Rescale: the unit is not known"
        unit = header.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0].CodeValue
        return f"the unit {unit} is neither Bq/ml nor SUVbw"
    except Exception as error:  # converters raise nearly anything on damaged input
        raise PixelError("RealWorldValueMappingSequence is damaged") from error


def _decay_s(header: "Dataset", drug: "Dataset", first: datetime | None) -> float:
    """Return the seconds by which the dose decayed until the moment that the values are corrected to."""
    if _text(header, "DecayCorrected"):  # Enhanced PET
        if _text(header, "DecayCorrected") != "YES":
            raise PixelError("the values are not corrected for decay (DecayCorrected)")
        name = "DecayCorrectionDateTime"
        return _seconds_between(header, _injection(header, drug), _parsed(_text(header, name), name))
    correction = _text(header, "DecayCorrection")
    corrected = set(_text(header, "CorrectedImage").split("\\"))
    if correction not in ("START", "ADMIN"):
        raise PixelError(f"DecayCorrection is {correction or 'missing'}, neither START nor ADMIN")
    missing = {"DECY", "ATTN"} - corrected
    if missing:
        raise PixelError(f"CorrectedImage does not name {' and '.join(sorted(missing))}")
    if correction == "ADMIN":
        return 0.0
    start = _moment(header, "Series")
    if first is None:
        raise PixelError("the slices differ in DecayCorrection")
    if (start - first).total_seconds() > _CLOCK_S:
        raise PixelError(
            "SeriesTime lies after AcquisitionTime: to which moment its decay was corrected is not known",
            advice="Take the series as the scanner reconstructed it first.",
        )
    return _seconds_between(header, _injection(header, drug), (start, ""))


def _seconds_between(header: "Dataset", injection: tuple[datetime, str], end: tuple[datetime, str]) -> float:
    """Return the seconds from one moment to another, each by its own zone, else by the header's."""
    here = _text(header, "TimezoneOffsetFromUTC")
    zones = [zone or here for _, zone in (injection, end)]
    if any(zones) and not all(zones):
        name = "the moment of decay correction" if zones[0] else "RadiopharmaceuticalStartDateTime"
        raise PixelError(f"{name} has no time zone, and TimezoneOffsetFromUTC is missing, but the other moment has one")
    shift = _offset(zones[1]) - _offset(zones[0]) if any(zones) else timedelta()
    return (end[0] - injection[0] - shift).total_seconds()


def _injection(header: "Dataset", drug: "Dataset") -> tuple[datetime, str]:
    """Return when the drug was given, and the time zone that this is told in, where it says one."""
    whole = _text(drug, "RadiopharmaceuticalStartDateTime")
    time = _text(drug, "RadiopharmaceuticalStartTime")
    if not whole:
        if not time:
            raise PixelError("RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime are missing")
        return _parsed(_text(header, "SeriesDate") + time, "RadiopharmaceuticalStartTime")
    injected, zone = _parsed(whole, "RadiopharmaceuticalStartDateTime")
    here = _text(header, "TimezoneOffsetFromUTC")
    if time:  # as every time without a zone, it is told in the header's
        local = injected + (_offset(here) - _offset(zone) if zone and here else timedelta())
        noted = _parsed(f"{local:%Y%m%d}{time}", "RadiopharmaceuticalStartTime")[0]
        apart = abs((noted - local).total_seconds())
        if min(apart, abs(apart - 86400)) > _TIMES_DIFFER_S:
            raise PixelError("RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime differ")
    return injected, zone


def _moment(header: "Dataset", what: str) -> datetime:
    return _parsed(_text(header, f"{what}Date") + _text(header, f"{what}Time"), f"{what}Date or {what}Time")[0]


def _parsed(text: str, name: str) -> tuple[datetime, str]:
    found = _DATE_TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError(name)
        date, hours, minutes, seconds, zone = found.groups()
        time = timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))
        return datetime.strptime(date, "%Y%m%d") + time, zone or ""
    except ValueError as error:
        raise PixelError(f"{name} is missing or no date with its time") from error


def _offset(zone: str) -> timedelta:
    if not re.fullmatch(r"[+-](0\d|1[0-4])[0-5]\d", zone):
        raise PixelError("TimezoneOffsetFromUTC, or the zone of a date with its time, is damaged")
    sign = -1 if zone[0] == "-" else 1
    return sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))


def _number(dataset: "Dataset", name: str, limits: tuple[float, float], unit: str) -> float:
    try:
        present = element_as_read(dataset, name) is not None and raw_text(dataset, name) not in ("", "None")
        value = real_number(dataset, name, 0.0) if present else None
    except Exception as error:  # converters raise nearly anything on damaged input
        raise PixelError(f"{name} is damaged") from error
    if value is None:
        raise PixelError(f"{name} is missing")
    if not limits[0] <= value <= limits[1]:
        raise PixelError(f"{name} is {value:g}, and cannot be meant in {unit}")
    return value


def _text(dataset: "Dataset", name: str) -> str:
    try:
        element = element_as_read(dataset, name)
        if element is None:
            return ""
        value = element.value if isinstance(element.value, bytes) else dataset.get(name)
        if isinstance(value, bytes):
            value = value.decode("ascii")
        elif value is not None and not isinstance(value, str):
            value = "\\".join(str(item) for item in value)
        return (value or "").strip("\0 ").upper()
    except Exception as error:  # converters raise nearly anything on damaged input
        raise PixelError(f"{name} is damaged") from error
