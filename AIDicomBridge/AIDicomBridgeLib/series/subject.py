"""Of whom, and of which study, DICOM objects are: what a person confirms before they leave the house."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from ..errors import ConflictError

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True)
class Subject:
    """Patient and study as the header of one object has them; empty texts where it has nothing.

    Two are equal if patient and study are: description and date tell no studies apart, and a date that breaks its
    rules is not carried into a result. What is printed of one names no patient.
    """

    patient_name: str = field(repr=False)
    patient_id: str = field(repr=False)
    patient_birth_date: str = field(repr=False)
    study_uid: str = field(repr=False)
    accession_number: str = field(repr=False)
    study_date: str = field(repr=False, compare=False)
    study_description: str = field(repr=False, compare=False)

    @classmethod
    def of(cls, header: "Dataset") -> "Subject":
        """Return the subject of a header."""
        return cls(**{name: str(header.get(keyword, "") or "") for name, keyword in _KEYWORDS.items()})

    def refuse_others(self, found: "Iterable[Subject]") -> None:
        """Refuse what is not of this patient and study.

        Raises
        ------
        ConflictError
            One differs; the text names the attributes, not their values.
        """
        for other in found:
            differing = [
                _KEYWORDS[item.name]
                for item in fields(self)
                if item.compare and getattr(self, item.name) != getattr(other, item.name)
            ]
            if differing:
                raise ConflictError(
                    "the image files are not of the patient and study that they were loaded as: they have another "
                    + ", ".join(differing),
                    advice="They were changed since then. Load the series again and look whose it is.",
                )


_KEYWORDS = {
    "patient_name": "PatientName",
    "patient_id": "PatientID",
    "patient_birth_date": "PatientBirthDate",
    "study_uid": "StudyInstanceUID",
    "accession_number": "AccessionNumber",
    "study_date": "StudyDate",
    "study_description": "StudyDescription",
}
