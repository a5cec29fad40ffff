"""Real scans for the demonstration, fetched from Debian or the Python package index and written as DICOM."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NotFoundError
from ..inference.orientation import Orientation

if TYPE_CHECKING:
    from pydicom import Dataset

_FETCH_TIMEOUT_S = 300
_HEAD_PACKAGE = "mricron-data"
_HEAD_FILES = {
    "ch2.nii.gz": "a009051127f64dc3dd554d5f5b589870ea72106d9642c21b4e7093e478cfc309",
    "ch2bet.nii.gz": "592a2d20abdf36eefcb540ca8958428040edffc1bc1a18ba1dcfbabac77c5dd1",
}
_CT_REQUIREMENT = "totalsegmentator==2.18.0"
_CT_SHA256 = "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03"
_CT_FOLDER = "totalsegmentator-2.18.0/tests/reference_files/example_ct_dicom/"


@dataclass(frozen=True)
class DemoScan:
    """A real scan as one DICOM series of one study, with a made-up patient.

    Attributes
    ----------
    datasets
        One per slice, in slice order.
    title
        What it is, for people.
    model
        The model that suits it.
    """

    datasets: "list[Dataset]" = field(repr=False)
    title: str
    model: str

    @property
    def accession_number(self) -> str:
        """Accession number of its study."""
        return str(self.datasets[0].AccessionNumber)


def fetch_head_files(folder: Path) -> dict[str, Path]:
    """Return the head scan (``ch2.nii.gz``, Colin27 T1 at 1 mm) and its brain (``ch2bet.nii.gz``), fetching them once.

    They come from Debian's package mricron-data, downloaded and unpacked without root.

    Raises
    ------
    NotFoundError
        There is no apt, it does not reach Debian, or the package holds other files.
    """
    paths = {name: folder / name for name in _HEAD_FILES}
    if all(path.is_file() and _sha256(path) == _HEAD_FILES[name] for name, path in paths.items()):
        return paths
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise NotFoundError("the head scan comes from Debian, and this machine has no apt-get")
    with tempfile.TemporaryDirectory(prefix="aidicombridge-") as name:
        _download_debian_package(Path(name))
        for file_name, path in paths.items():
            unpacked = Path(name) / "usr/share/mricron/templates" / file_name
            if not unpacked.is_file() or _sha256(unpacked) != _HEAD_FILES[file_name]:
                raise NotFoundError(f"the package {_HEAD_PACKAGE} does not hold the expected {file_name}")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(unpacked, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)
    return paths


def _download_debian_package(folder: Path) -> None:
    download = ["apt-get", "download", "-q", _HEAD_PACKAGE]
    done = _run(download, folder)
    if done.returncode and hasattr(os, "geteuid") and os.geteuid() == 0:
        _run(["apt-get", "update", "-q"], folder)  # a new machine has no package lists yet
        done = _run(download, folder)
    packages = list(folder.glob("*.deb"))
    if done.returncode or not packages or _run(["dpkg-deb", "-x", packages[0].name, "."], folder).returncode:
        raise NotFoundError(
            f"the package {_HEAD_PACKAGE} cannot be downloaded from Debian",
            advice="Check the network, or run 'apt-get update' as root once.",
        )


def head_scan(folder: Path) -> DemoScan:
    """Return the Colin27 head as a DICOM MR series of 181 axial slices; see :func:`fetch_head_files`."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(fetch_head_files(folder)["ch2.nii.gz"]))
    voxels, affine = as_axial(sitk.GetArrayFromImage(image), image)
    return DemoScan(
        _series(voxels.astype(np.uint16), affine, "MR"), "Colin27, a T1 head scan (181 slices of 1 mm)", "mindgrab"
    )


def as_axial(voxels: np.ndarray, image: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return an ITK image's voxels with slices to the head, rows to the back, columns to the left, and their affine.

    Parameters
    ----------
    voxels
        (k, j, i), the image's own array.
    image
        The SimpleITK image, whose directions lie along the body's axes.
    """
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    turned = Orientation.between(affine, "SPL").apply(voxels)
    # The corner voxel with the smallest L, P and S, and the spacing along each.
    corners = np.array(
        [
            [i, j, k, 1]
            for k in (0, voxels.shape[0] - 1)
            for j in (0, voxels.shape[1] - 1)
            for i in (0, voxels.shape[2] - 1)
        ]
    )
    result = np.diag([*np.abs(affine[:3, :3]).sum(axis=1), 1.0])
    result[:3, 3] = (affine @ corners.T)[:3].min(axis=1)
    return turned, result


def abdominal_ct(folder: Path) -> DemoScan:
    """Return a real abdominal CT of 20 slices; see :func:`ct_as_published`.

    Its files keep traces of the hospital: only pixels, geometry and technique are taken over, into new data sets.
    """
    sources = ct_as_published(folder)
    voxels = np.stack([source.pixel_array.astype(np.int32) for source in sources])
    voxels = voxels * int(sources[0].RescaleSlope) + int(sources[0].RescaleIntercept)
    affine = np.eye(4)
    rows_mm, columns_mm = (float(value) for value in sources[0].PixelSpacing)
    step = float(sources[1].ImagePositionPatient[2]) - float(sources[0].ImagePositionPatient[2])
    affine[:3, :3] = np.diag([columns_mm, rows_mm, step])
    affine[:3, 3] = [float(value) for value in sources[0].ImagePositionPatient]
    title = "an abdominal CT (20 slices of 2 mm)"
    return DemoScan(_series(np.clip(voxels, -1024, 3071).astype(np.int16), affine, "CT"), title, "ct-tissues")


def ct_as_published(folder: Path) -> "list[Dataset]":
    """Return the images of the CT in TotalSegmentator's source package, in slice order, fetching it once.

    They are as a scanner made them, in JPEG 2000, but for their UIDs and their patient, which are empty.

    Raises
    ------
    NotFoundError
        The package index cannot be reached, or the package is another one.
    """
    archive = folder / "totalsegmentator-2.18.0.tar.gz"
    if not archive.is_file() or _sha256(archive) != _CT_SHA256:
        folder.mkdir(parents=True, exist_ok=True)
        # pip must know the package before it runs anything of it, as it does to read a source package's metadata.
        (folder / "requirements.txt").write_text(f"{_CT_REQUIREMENT} --hash=sha256:{_CT_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "totalsegmentator"]
        command += ["--require-hashes", "--dest", ".", "--requirement", "requirements.txt"]
        if _run(command, folder).returncode or not archive.is_file() or _sha256(archive) != _CT_SHA256:
            raise NotFoundError(
                "the demonstration's CT cannot be downloaded from the Python package index",
                advice="Check the network and pip's proxy settings.",
            )
    return sorted(_read_ct_files(archive), key=lambda source: float(source.ImagePositionPatient[2]))


def _read_ct_files(archive: Path) -> "list[Dataset]":
    from pydicom import dcmread

    with tarfile.open(archive) as package:
        members = [m for m in package.getmembers() if m.isfile() and m.name.startswith(_CT_FOLDER)]
        files = [package.extractfile(member) for member in members]
        return [dcmread(file) for file in files if file is not None]


def _series(voxels: np.ndarray, ijk_to_lps: np.ndarray, modality: str) -> "list[Dataset]":
    """Return an axial volume as single-frame CT or MR images of a new study.

    Parameters
    ----------
    voxels
        (k, j, i), int16 in HU for CT, uint16 for MR.
    ijk_to_lps
        4x4 with a positive diagonal rotation part.
    """
    from datetime import datetime

    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

    is_ct = modality == "CT"
    now = datetime.now()
    study_uid, series_uid, frame_of_reference_uid = (generate_uid() for _ in range(3))
    spacing = np.diag(ijk_to_lps)[:3]
    datasets = []
    for k, plane in enumerate(voxels):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if is_ct else "M"]
        ds.SOPClassUID = CTImageStorage if is_ct else MRImageStorage
        ds.SOPInstanceUID = generate_uid()
        ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = now.strftime("%Y%m%d")
        ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = now.strftime("%H%M%S")
        ds.AccessionNumber = "AIDB0002" if is_ct else "AIDB0001"
        ds.Modality, ds.Manufacturer, ds.ReferringPhysicianName = modality, "AIDicomBridge demo", ""
        ds.StudyDescription = "Demo abdomen CT" if is_ct else "Demo head MR"
        ds.SeriesDescription = "Abdomen" if is_ct else "T1 1 mm"
        ds.PatientName, ds.PatientID = ("Demo^Abdomen", "AIDB-DEMO-2") if is_ct else ("Demo^Colin", "AIDB-DEMO-1")
        ds.PatientBirthDate, ds.PatientSex = "", "O"
        ds.BodyPartExamined = "ABDOMEN" if is_ct else "HEAD"
        if is_ct:
            ds.KVP = ""
            ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "HU"
            ds.WindowCenter, ds.WindowWidth = "40", "400"
        else:
            ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "GR", "NONE", ""
            ds.MRAcquisitionType, ds.EchoTime, ds.EchoTrainLength, ds.RepetitionTime = "3D", "", "", ""
        ds.PatientPosition = "HFS"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid, series_uid
        ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = "1", 1, 1, k + 1
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = frame_of_reference_uid, ""
        ds.SliceThickness = f"{spacing[2]:.6g}"
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [f"{value:.8g}" for value in (ijk_to_lps @ (0, 0, k, 1))[:3]]
        ds.PixelSpacing = [f"{spacing[1]:.8g}", f"{spacing[0]:.8g}"]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = plane.shape
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16 if is_ct else 12, 15 if is_ct else 11
        ds.PixelRepresentation = 1 if is_ct else 0
        ds.PixelData = np.ascontiguousarray(plane).astype(plane.dtype.newbyteorder("<")).tobytes()
        datasets.append(ds)
    return datasets


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, timeout=_FETCH_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return subprocess.CompletedProcess(command, 1)
