"""Query keys, matching and answers, the same for C-FIND, QIDO-RS and the built-in archive.

An answer is a plain mapping of attribute keyword to text; an attribute that the peer did not return is absent.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ..errors import QueryError
from ..series.dicom_file import is_uid
from .records import InstanceRecord, PatientRecord, SeriesRecord, StudyRecord

PATIENT_KEYS = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "NumberOfPatientRelatedStudies")
STUDY_KEYS = (
    *("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedSeries"),
    *("NumberOfStudyRelatedInstances", "PatientSex", "ReferringPhysicianName"),
)
SERIES_KEYS = (
    *("StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription", "SeriesDate"),
    *("BodyPartExamined", "NumberOfSeriesRelatedInstances"),
)
INSTANCE_KEYS = (
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "InstanceNumber"),
    "NumberOfFrames",
)
_UID_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_DATE_KEYS = ("StudyDate", "SeriesDate", "PatientBirthDate", "ContentDate")
_TIME_KEYS = ("StudyTime", "SeriesTime", "ContentTime")


def patient_filters(
    *, patient_id: str | None, patient_name: str | None, patient_birth_date: str | None, patient_sex: str | None
) -> dict[str, str]:
    """Return the matching keys of a patient query; raises what :func:`study_filters` raises."""
    given = {
        "PatientID": patient_id,
        "PatientName": patient_name,
        "PatientBirthDate": patient_birth_date,
        "PatientSex": patient_sex,
    }
    return _checked(given)


def study_filters(
    *,
    patient_id: str | None,
    patient_name: str | None,
    accession_number: str | None,
    study_date: str | None,
    modalities: str | Iterable[str] | None,
    study_uid: str | None,
    patient_birth_date: str | None = None,
    study_time: str | None = None,
    study_id: str | None = None,
    study_description: str | None = None,
    referring_physician: str | None = None,
) -> dict[str, str]:
    r"""Return the matching keys of a study query; several modalities are joined by a backslash.

    Raises
    ------
    QueryError
        A date or time is none and no range of them, a UID is none, or a text holds a backslash.
    """
    names = [modalities] if isinstance(modalities, str) else list(modalities or ())
    given = {
        "PatientID": patient_id,
        "PatientName": patient_name,
        "PatientBirthDate": patient_birth_date,
        "AccessionNumber": accession_number,
        "StudyDate": study_date,
        "StudyTime": study_time,
        "StudyID": study_id,
        "StudyDescription": study_description,
        "ReferringPhysicianName": referring_physician,
        "StudyInstanceUID": study_uid,
    }
    filters = _checked(given)
    if study_uid:
        check_uid(study_uid, "Study Instance UID")
    if any(names):
        filters["ModalitiesInStudy"] = "\\".join(name.strip().upper() for name in names if name.strip())
    return filters


def series_filters(
    study_uid: str, *, series_uid: str | None, modality: str | None, series_number: str | None, description: str | None
) -> dict[str, str]:
    """Return the matching keys of a series query; raises what :func:`study_filters` raises."""
    check_uid(study_uid, "Study Instance UID")
    if series_uid:
        check_uid(series_uid, "Series Instance UID")
    given = {
        "StudyInstanceUID": study_uid,
        "SeriesInstanceUID": series_uid,
        "Modality": modality,
        "SeriesNumber": series_number,
        "SeriesDescription": description,
    }
    return _checked(given)


def _checked(given: Mapping[str, str | None]) -> dict[str, str]:
    filters = {keyword: value.strip() for keyword, value in given.items() if value and value.strip()}
    if any("\\" in value for value in filters.values()):
        raise QueryError("a search text holds a backslash, which DICOM uses to separate values")
    for keyword, what, form, advice in (
        ("StudyDate", "study date", "%Y%m%d", "Write YYYYMMDD or YYYYMMDD-YYYYMMDD."),
        ("PatientBirthDate", "birth date", "%Y%m%d", "Write YYYYMMDD or YYYYMMDD-YYYYMMDD."),
        ("StudyTime", "study time", "%H%M%S", "Write HHMMSS or HHMMSS-HHMMSS."),
    ):
        if keyword in filters and not _is_range(filters[keyword], form):
            raise QueryError(f"the {what} is not understood", advice=advice)
    return filters


def _is_range(text: str, form: str) -> bool:
    """Return True for one date (or time) that the calendar has, or a range of them in the right order."""
    ends = text.split("-")
    if len(ends) > 2 or not any(ends):
        return False
    try:
        for end in filter(None, ends):
            if datetime.strptime(end, form).strftime(form) != end:
                return False
    except ValueError:
        return False
    return not all(ends) or ends == sorted(ends)


def check_uid(uid: str, what: str) -> None:
    """Raise QueryError if a UID that a person gave is none."""
    if not is_uid(uid):
        raise QueryError(f"the {what} is not valid", advice="A UID has at most 64 characters: digits and dots.")


def sendable(filters: Mapping[str, str]) -> dict[str, str]:
    """Return the filters that are sent; a list of modalities is not: peers differ in what they take it for."""
    return {keyword: value for keyword, value in filters.items() if "\\" not in value or keyword in _UID_KEYS}


def matches(attributes: Mapping[str, str], filters: Mapping[str, str]) -> bool:
    """Return True if an answer fulfils all filters (PS3.4 C.2.2.2); absent attributes are not held against it."""
    return all(
        _matches_one(keyword, attributes[keyword], wanted)
        for keyword, wanted in filters.items()
        if wanted and keyword in attributes
    )


def _matches_one(keyword: str, value: str, wanted: str) -> bool:
    if keyword in _UID_KEYS or keyword == "ModalitiesInStudy":
        return bool(set(value.split("\\")) & set(wanted.split("\\")))
    if keyword in _DATE_KEYS + _TIME_KEYS and not set(wanted) & set("*?"):
        first, _, last = wanted.partition("-") if "-" in wanted else (wanted, "-", wanted)
        # The old form of a date is 2026.01.02. A time may have fractions of a second, or leave out minutes or seconds.
        shown = value.replace(".", "")[:8] if keyword in _DATE_KEYS else value.replace(":", "")[:6].ljust(6, "0")
        return bool(value) and shown >= first and (not last or shown <= last.ljust(len(shown), "9"))
    if keyword in ("PatientName", "ReferringPhysicianName"):
        pattern = wanted.rstrip("^").lower()
        return any(_matches_wildcards(group.rstrip("^").lower(), pattern) for group in [value, *value.split("=")])
    return any(_matches_wildcards(part, wanted) for part in value.split("\\"))


def _matches_wildcards(text: str, pattern: str) -> bool:
    """Return True if ``*`` (any characters) and ``?`` (any one) make the pattern equal to the whole text.

    No regular expression: those try every way to share the text among the stars, and both come from a stranger.
    """
    at = here = retry = 0
    star = -1
    while at < len(text):
        if pattern[here : here + 1] == "*":
            star, retry, here = here, at, here + 1
        elif pattern[here : here + 1] in ("?", text[at]):
            at, here = at + 1, here + 1
        elif star >= 0:  # the last star takes one character more; earlier ones need not
            at = retry = retry + 1
            here = star + 1
        else:
            return False
    return not pattern[here:].strip("*")


def patient_record(attributes: Mapping[str, str]) -> PatientRecord:
    """Return an answer at the patient level as a record."""
    text = attributes.get
    return PatientRecord(
        patient_id=text("PatientID", ""),
        patient_name=text("PatientName", ""),
        patient_birth_date=text("PatientBirthDate", ""),
        patient_sex=text("PatientSex", ""),
        study_count=_count(text("NumberOfPatientRelatedStudies", "")),
    )


def patients_of(studies: Iterable[StudyRecord]) -> list[PatientRecord]:
    """Return the patients of studies, for peers that have no patient level."""
    counts: dict[str, int] = {}
    first: dict[str, StudyRecord] = {}
    for study in studies:
        counts[study.patient_id] = counts.get(study.patient_id, 0) + 1
        first.setdefault(study.patient_id, study)
    return [
        PatientRecord(patient_id, study.patient_name, study.patient_birth_date, "", counts[patient_id])
        for patient_id, study in first.items()
    ]


def study_record(attributes: Mapping[str, str]) -> StudyRecord:
    """Return an answer at the study level as a record."""
    text = attributes.get
    return StudyRecord(
        study_uid=text("StudyInstanceUID", ""),
        patient_id=text("PatientID", ""),
        patient_name=text("PatientName", ""),
        patient_birth_date=text("PatientBirthDate", ""),
        accession_number=text("AccessionNumber", ""),
        study_id=text("StudyID", ""),
        study_date=text("StudyDate", ""),
        study_time=text("StudyTime", ""),
        study_description=text("StudyDescription", ""),
        modalities=tuple(name for name in text("ModalitiesInStudy", "").split("\\") if name),
        series_count=_count(text("NumberOfStudyRelatedSeries", "")),
        instance_count=_count(text("NumberOfStudyRelatedInstances", "")),
    )


def series_record(attributes: Mapping[str, str], study_uid: str) -> SeriesRecord:
    """Return an answer at the series level as a record."""
    text = attributes.get
    return SeriesRecord(
        study_uid=study_uid,
        series_uid=text("SeriesInstanceUID", ""),
        modality=text("Modality", ""),
        series_number=text("SeriesNumber", ""),
        series_description=text("SeriesDescription", ""),
        series_date=text("SeriesDate", ""),
        body_part=text("BodyPartExamined", ""),
        instance_count=_count(text("NumberOfSeriesRelatedInstances", "")),
    )


def instance_record(attributes: Mapping[str, str], study_uid: str, series_uid: str) -> InstanceRecord:
    """Return an answer at the instance level as a record."""
    text = attributes.get
    return InstanceRecord(
        study_uid=study_uid,
        series_uid=text("SeriesInstanceUID", "") or series_uid,
        sop_instance_uid=text("SOPInstanceUID", ""),
        sop_class_uid=text("SOPClassUID", ""),
        instance_number=text("InstanceNumber", ""),
        frame_count=_count(text("NumberOfFrames", "")),
    )


def counted_instances(series: Iterable[SeriesRecord]) -> int | None:
    """Return how many instances the peer counts in series; None where it does not say so of each."""
    counts = [record.instance_count for record in series]
    return sum(count or 0 for count in counts) if counts and None not in counts else None


def distinct(answers: Iterable[Mapping[str, str]], uid_keyword: str, peer: str) -> list[Mapping[str, str]]:
    """Return one answer per UID, in order; some peers answer once per instance at every level.

    Raises
    ------
    QueryError
        An answer has no valid UID, so what it stands for could be neither counted nor fetched; or another UID of it is
        none.
    """
    found: dict[str, Mapping[str, str]] = {}
    for answer in answers:
        for keyword in (uid_keyword, *_UID_KEYS):
            uid = answer.get(keyword, "")
            if not is_uid(uid) and (uid or keyword == uid_keyword):
                raise QueryError(
                    f"the peer lists an object without a valid {keyword}",
                    peer=peer,
                    advice="The PACS administrator can find and repair it.",
                )
        found.setdefault(answer[uid_keyword], answer)
    return list(found.values())


def json_attributes(item: Mapping[str, Any]) -> dict[str, str]:
    """Return one object of DICOM JSON (PS3.18 F.2) as keyword -> text; nested data sets are left out.

    Raises
    ------
    ValueError
        The object is not DICOM JSON.
    """
    from pydicom.datadict import keyword_for_tag

    texts = {}
    for tag, element in item.items():
        if not isinstance(element, Mapping) or not re.fullmatch(r"[0-9A-Fa-f]{8}", tag):
            raise ValueError("not a DICOM JSON element")
        values = element.get("Value", [])
        if not isinstance(values, list):
            raise ValueError("not a list of values")
        keyword = keyword_for_tag(tag)
        if keyword and element.get("vr") != "SQ":
            texts[keyword] = "\\".join(_json_text(value) for value in values)
    return texts


def _json_text(value: Any) -> str:
    if isinstance(value, Mapping):
        groups = [str(value.get(name, "") or "") for name in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    return "" if value is None else str(value).strip("\0 ")


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
