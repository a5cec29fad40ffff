"""Who made a result: the software, the algorithm, and the device identity that changes whenever the model changes."""

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, uuid5

from .codes import (
    ARTIFICIAL_INTELLIGENCE,
    MORPHOLOGICAL_OPERATIONS,
    PROCESSING_ALGORITHM,
    coded_concept,
    read_code,
    same_concept,
)
from .labels import Provenance

if TYPE_CHECKING:
    from highdicom import AlgorithmIdentificationSequence
    from pydicom import Dataset

MANUFACTURER = "AIDicomBridge"
MODEL_NAME = "AIDicomBridge"
CONTENT_CREATOR = "AIDicomBridge^"  # a person name without the caret is the retired form
NOT_FOR_DIAGNOSTIC_USE = "not for diagnostic use"


def software_version() -> str:
    """Return this software with its version, as Software Versions holds it."""
    from .. import __version__

    return f"AIDicomBridge {__version__}"


def device_uid(provenance: Provenance | None) -> str:
    """Return the Device UID of the algorithm (of the software alone, for hand-made labels).

    It is computed from name and version and the hashes of weights and card: the same model has the same UID on every
    machine, another model has another one (IHE AI Results, 6.5.3.1).
    """
    return f"2.25.{uuid5(NAMESPACE_OID, f'AIDicomBridge:{_identity(provenance)}').int}"


def device_serial_number(provenance: Provenance | None) -> str:
    """Return the Device Serial Number: the first 16 hex digits of each hash that the Device UID is computed from."""
    if hashes := _hashes(provenance):
        return "-".join(sha256[:16] for sha256 in hashes)
    return uuid5(NAMESPACE_OID, f"AIDicomBridge:{_identity(provenance)}").hex[:16]


def _identity(provenance: Provenance | None) -> str:
    if provenance is None:
        return software_version()
    return ":".join((provenance.model, provenance.version, *(_hashes(provenance) or [""])))


def _hashes(provenance: Provenance | None) -> list[str]:
    """Return what is known of the model's hashes; results that name no card's keep the identity that they had."""
    return [sha256 for sha256 in (provenance.weights_sha256, provenance.card_sha256) if sha256] if provenance else []


def contributing_equipment(provenance: Provenance, now: datetime) -> "Dataset":
    """Return the Contributing Equipment item that describes the algorithm, as IHE AI Results asks.

    highdicom's own class refuses the purpose code (1630, 99IHE) and has no Device UID, hence a plain item.
    """
    from pydicom import Dataset

    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [coded_concept(PROCESSING_ALGORITHM)]
    item.Manufacturer = fit(provenance.manufacturer) or "Unknown"  # it must not be empty (PS3.3 C.12.1)
    item.ManufacturerModelName = fit(provenance.model)
    item.DeviceSerialNumber = device_serial_number(provenance)
    item.SoftwareVersions = fit(provenance.version)
    item.DeviceUID = device_uid(provenance)
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    remark = f"{NOT_FOR_DIAGNOSTIC_USE}; " if provenance.not_for_diagnostic_use else ""
    item.ContributionDescription = remark + "; ".join(f"{k}={v}" for k, v in _parameters(provenance).items())
    return item


def algorithm_identification(name: str, provenance: Provenance) -> "AlgorithmIdentificationSequence":
    """Return the Algorithm Identification of a segment: name, version, family of CID 7162, how it ran."""
    from highdicom import AlgorithmIdentificationSequence

    family = ARTIFICIAL_INTELLIGENCE if provenance.learned else MORPHOLOGICAL_OPERATIONS
    return AlgorithmIdentificationSequence(
        name=fit(name),
        family=coded_concept(family),
        version=fit(provenance.version),
        source=fit(provenance.manufacturer) or None,
        parameters=_parameters(provenance),
    )


def read_provenance(item: "Dataset") -> Provenance:
    """Return the provenance that :func:`algorithm_identification` wrote; of others' items, what they say.

    Raises
    ------
    BadDicomError
        The algorithm family has no code.
    """
    pairs = (pair.partition("=") for pair in str(item.get("AlgorithmParameters", "")).split(","))
    said = {key.strip(): value.strip() for key, _, value in pairs}
    family = item.get("AlgorithmFamilyCodeSequence")
    return Provenance(
        model=str(item.get("AlgorithmName", "")),
        version=str(item.get("AlgorithmVersion", "")),
        learned=bool(family) and same_concept(read_code(family[0]), ARTIFICIAL_INTELLIGENCE),
        weights_sha256=said.get("weights_sha256", ""),
        card_sha256=said.get("card_sha256", ""),
        device=said.get("device", ""),
        precision=said.get("precision", ""),
        memory_plan=said.get("memory_plan", ""),
        suv=said.get("suv", ""),
        manufacturer=str(item.get("AlgorithmSource") or ""),
        further_series=tuple(said.get("further_series", "").split()),
        # What another system wrote was not cleared for diagnosis by us.
        not_for_diagnostic_use=said.get("diagnostic_use") != "yes",
    )


def _parameters(provenance: Provenance) -> dict[str, str]:
    parameters = {
        "weights_sha256": provenance.weights_sha256,
        "card_sha256": provenance.card_sha256,
        "device": provenance.device,
        "precision": provenance.precision,
        "memory_plan": provenance.memory_plan,
        "further_series": " ".join(provenance.further_series),
        "suv": provenance.suv,
        "diagnostic_use": "no" if provenance.not_for_diagnostic_use else "yes",
    }
    return {key: value for key, value in parameters.items() if value}


def fit(text: str, length: int = 64) -> str:
    """Return text that fits a string VR: no backslash or control character, cut to ``length`` characters."""
    return "".join(" " if ord(c) < 32 else "/" if c == "\\" else c for c in text).strip()[:length].rstrip()
