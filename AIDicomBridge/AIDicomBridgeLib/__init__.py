"""AIDicomBridge: from the PACS through a segmentation network and back, as standard DICOM.

The names below are the public interface. They are imported on first use, so that ``import AIDicomBridgeLib`` itself
costs nothing and needs no installed package.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "errors": ("BridgeError", "JobCancelled"),
    "progress": ("CancelToken", "Progress"),
    "job": ("Job", "JobReport", "run_job"),
    "pacs.client": ("PacsClient", "connect"),
    "pacs.doctor": ("diagnose",),
    "pacs.doctor_report": ("DoctorReport",),
    "pacs.endpoint": ("DicomWebEndpoint", "DimseEndpoint", "parse_endpoint"),
    "pacs.records": ("InstanceRecord", "RetrieveReport", "SeriesRecord", "StoreReport", "StudyRecord"),
    "series.instance_store": ("InstanceStore",),
    "series.source_series": ("SourceSeries",),
    "series.volume": ("ImageVolume", "read_volume"),
    "models.catalogue": ("Catalogue",),
    "models.loading": ("load_model",),
    "models.model": ("Model",),
    "models.card": ("ModelCard",),
    "results.labels": ("Code", "LabelVolume", "Provenance", "Segment"),
    "results.profiles": ("DestinationProfile", "find_profile"),
    "results.segmentation": ("build_segmentation", "read_segmentation"),
    "results.measurements": ("Measurement", "SegmentMeasurements", "measure"),
    "results.measurement_report": ("build_measurement_report",),
    "results.observations": ("Classification", "Detection", "Evaluation"),
    "results.regions": ("Region",),
    "results.classification_report": ("build_classification_report",),
    "results.detection_report": ("build_detection_report",),
    "results.report_table": ("read_measurement_report",),
    "results.secondary_capture": ("build_picture_captures", "build_secondary_captures", "build_summary_capture"),
    "results.encode_files": ("encode_files",),
    "results.parametric_map": ("build_parametric_map",),
    "results.conformance": ("Finding", "check_conformance"),
    "delivery.outbox": ("Outbox",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605 - one table, not two lists


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
