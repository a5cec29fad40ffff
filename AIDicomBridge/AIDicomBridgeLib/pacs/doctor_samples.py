"""What the connection doctor tries a PACS with: an instance that it lists, and a tiny object of our own."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..progress import CancelToken
from ..series.instance_store import InstanceStore
from .records import InstanceRecord, RetrieveReport

if TYPE_CHECKING:
    from pydicom import Dataset

    from .client import PacsClient

_UNKNOWN_SIZE = 10**6


def first_instance(client: "PacsClient", study_uid: str | None) -> InstanceRecord | None:
    """Return an instance that the peer lists, out of its smallest series; None if it lists none.

    Without a study the studies of the last week are asked for first: a PACS may refuse to list everything that it has.
    """
    if study_uid is None:
        week = f"{datetime.now(UTC) - timedelta(days=7):%Y%m%d}-"
        studies = client.find_studies(study_date=week, limit=1) or client.find_studies(limit=1)
        if not studies:
            return None
        study_uid = studies[0].study_uid
    for record in sorted(client.find_series(study_uid), key=lambda record: record.instance_count or _UNKNOWN_SIZE):
        if instances := client.find_instances(study_uid, record.series_uid):
            return instances[0]
    return None


def fetch_one(client: "PacsClient", record: InstanceRecord, cancel: CancelToken | None) -> RetrieveReport:
    """Bring one instance into a temporary folder, which is removed again; raise what the failure is."""
    with tempfile.TemporaryDirectory(prefix="aidicombridge-doctor-") as folder, InstanceStore(Path(folder)) as store:
        report = client.retrieve(
            record.study_uid,
            record.series_uid,
            into=store,
            sop_instance_uids=[record.sop_instance_uid],
            cancel=cancel,
        )
    report.raise_if_incomplete()
    return report


def tiny_object() -> "Dataset":
    """Return a secondary capture of 8 x 8 pixels that says of itself that it is a test and may be deleted."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    now = datetime.now(UTC)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid(prefix=None)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(prefix=None), generate_uid(prefix=None)
    dataset.PatientName, dataset.PatientID = "AIDicomBridge^Test", "AIDICOMBRIDGE-TEST"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.ReferringPhysicianName = ""
    dataset.StudyDate, dataset.StudyTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    dataset.StudyID, dataset.AccessionNumber, dataset.SeriesNumber, dataset.InstanceNumber = "", "", 1, 1
    dataset.StudyDescription = dataset.SeriesDescription = "Connection test, may be deleted"
    dataset.Modality, dataset.ConversionType, dataset.PatientOrientation = "OT", "SYN", ""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.BurnedInAnnotation = 7, 0, "NO"
    dataset.PixelData = bytes(64)
    return dataset
