"""Files mutated at random are read, or refused by a named error: no crash, no other exception, within time and memory.

``AIDICOMBRIDGE_MUTATIONS=10000 python -m pytest Testing/Python/unit/test_mutated_files.py`` tries that many, each time
others, and prints the largest time.
"""

import mmap
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import BadDicomError, BridgeError
from AIDicomBridgeLib.results.labels import LabelVolume
from AIDicomBridgeLib.results.measurement_report import build_measurement_report
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.report_table import ReportGroup, read_measurement_report
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.results.source_headers import normalised_headers
from AIDicomBridgeLib.series.header_scan import scan_header
from AIDicomBridgeLib.series.volume import read_volume
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    PositronEmissionTomographyImageStorage,
    RLELossless,
)
from segmented import PROVENANCE, SEGMENTS, make_source
from synthetic import body_phantom, make_enhanced, make_series, part10

imagecodecs = pytest.importorskip("imagecodecs")
COUNT = int(os.environ.get("AIDICOMBRIDGE_MUTATIONS", "300"))
KINDS = (
    *("explicit", "implicit", "RLE", "JPEG-LS", "JPEG 2000", "HTJ2K", "JPEG lossless", "Enhanced", "Enhanced RLE"),
    *("MR", "PET", "modality LUT"),
)
PROCESSOR_S, MEMORY_BYTES = 30, 2 * 2**30  # for one file
_ENCODERS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "JPEG-LS": (JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG 2000": (
        JPEG2000Lossless,
        lambda p: imagecodecs.jpeg2k_encode(p, level=0, codecformat="j2k", reversible=True),
    ),
    "HTJ2K": (HTJ2KLossless, imagecodecs.htj2k_encode),
    "JPEG lossless": (JPEGLosslessSV1, imagecodecs.ljpeg_encode),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("originals")
    files = []
    for kind in KINDS:
        datasets = make_series(body_phantom((3, 40, 48)), modality="MR" if kind == "MR" else "CT")
        image = make_enhanced(datasets) if kind.startswith("Enhanced") else datasets[1]
        if kind == "PET":
            image.SOPClassUID, image.Modality = PositronEmissionTomographyImageStorage, "PT"
            image.RescaleSlope, image.RescaleIntercept, image.Units = "0.37", "0", "BQML"
        elif kind == "modality LUT":
            table = Dataset()
            table.add_new("LUTDescriptor", "US", [256, 0, 16])
            table.add_new("LUTData", "OW", np.arange(256, dtype="<u2").tobytes())
            table.ModalityLUTType = "HU"
            image.ModalityLUTSequence = [table]
        if kind == "implicit":
            image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        elif kind.endswith("RLE"):
            image.compress(RLELossless)
        elif kind in _ENCODERS:
            syntax, encode = _ENCODERS[kind]
            plane = np.frombuffer(image.PixelData, "<u2").reshape(40, 48)
            image.file_meta.TransferSyntaxUID = syntax
            image.PixelData = encapsulate([bytes(encode(plane))])
            image["PixelData"].VR = "OB"
        path = folder / f"{kind}.dcm"
        image.save_as(path, enforce_file_format=True)
        files.append(path.read_bytes())
    return files


# Where (a share of the header, of where the pixel data begins, or of the file), how, and with which bytes.
mutations = st.lists(
    st.tuples(
        st.sampled_from(["header", "pixel data", "anywhere"]),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["replace", "insert", "remove", "cut", "number", "swap VR"]),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=5,
)


def mutate(content: bytes, steps: list[tuple[str, float, str, bytes]]) -> bytes:
    for region, share, how, patch in steps:
        begin, end = 132, len(content)
        if region == "header":
            end = min(end, 2200)
        elif region == "pixel data":  # tag, length, offset table and the first frame's item
            begin = max(content.rfind(b"\xe0\x7f\x10\x00"), begin)
            end = min(begin + 60, end)
        at = begin + int(share * max(end - begin, 1))
        if how == "replace":
            content = content[:at] + patch + content[at + len(patch) :]
        elif how == "insert":
            content = content[:at] + patch + content[at:]
        elif how == "remove":
            content = content[:at] + content[at + len(patch) :]
        elif how == "cut":
            content = content[: max(at, 140)]
        elif how == "number":  # the value or length of a 16-bit number becomes extreme
            at = content.find(b"US\x02\x00", at)
            content = content if at < 0 else content[: at + 4] + patch[:1] * 2 + content[at + 6 :]
        else:
            at = next((i for i in range(at, min(at + 200, len(content) - 2)) if content[i : i + 2].isalpha()), at)
            content = content[:at] + (b"SQ", b"UN", b"OB", b"UT")[patch[0] % 4] + content[at + 2 :]
    return content


@pytest.fixture(scope="module")
def worst() -> Iterator[dict[str, float]]:
    """Collect the largest time and what became of the files; print it in long runs."""
    seen = {"seconds": 0.0, "refused": 0, "read": 0}
    yield seen
    if COUNT > 300:
        print(f"\n{seen}")  # noqa: T201


@contextmanager
def within_limits(memory_bytes: int = MEMORY_BYTES) -> Iterator[None]:
    """Fail if what is done takes more memory or processor time than one file may."""
    before = _reset_peak_memory()
    start = time.process_time()  # of this process: what else runs on the machine does not count
    yield
    assert time.process_time() - start < PROCESSOR_S
    assert _memory("VmHWM") - before < memory_bytes


def _reset_peak_memory() -> int:
    """Let the peak count from here (Linux only), and return what is in use."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    if not Path("/proc/self/status").exists():
        return 0
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def read_within_limits(paths: list[Path], worst: dict[str, float]) -> None:
    """Read a volume from files, or have it refused by an error that names no patient."""
    start = time.process_time()
    with within_limits():
        try:
            volume = read_volume(paths)
            volume.voxels.sum()
            normalised_headers(volume.source)
            refusal = None
        except BridgeError as error:
            refusal = str(error)
    assert refusal is None or ("." in refusal and "Synthetic^Sample" not in refusal)
    worst["read" if refusal is None else "refused"] += 1
    worst["seconds"] = max(worst["seconds"], time.process_time() - start)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of memory")
def test_the_limit_of_memory_is_felt() -> None:
    with within_limits(2**27):
        _take_memory(2**25)
    with pytest.raises(AssertionError), within_limits(2**24):
        _take_memory(2**25)


def _take_memory(count: int) -> None:
    """Fill pages that are new to the process: malloc may give freed ones that it kept, and these count already."""
    with mmap.mmap(-1, count) as pages:
        for start in range(0, count, mmap.PAGESIZE):
            pages[start] = 1


@pytest.mark.filterwarnings("ignore")
@given(index=st.integers(0, len(KINDS) - 1), steps=mutations)
@settings(
    max_examples=COUNT,
    deadline=None,
    database=None,
    derandomize=COUNT <= 300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_only_named_errors(originals, worst, tmp_path: Path, index: int, steps: list) -> None:
    path = tmp_path / "mutated.dcm"
    path.write_bytes(mutate(originals[index], steps))
    read_within_limits([path], worst)


@pytest.fixture(scope="module")
def whole_series() -> list[bytes]:
    """Two phases of four slices, then a copy of one of them."""
    datasets = make_series(body_phantom((4, 40, 48)), series_uid="1.2.3", study_uid="1.2", frame_of_reference_uid="1.4")
    again = make_series(body_phantom((4, 40, 48)), series_uid="1.2.3", study_uid="1.2", frame_of_reference_uid="1.4")
    for ds in again:
        ds.AcquisitionNumber = 2
    return [part10(ds) for ds in (*datasets, *again, datasets[2])]


@pytest.mark.filterwarnings("ignore")
@given(count=st.sampled_from([4, 8, 9]), at=st.integers(0, 8), steps=mutations)
@settings(
    max_examples=max(COUNT // 5, 20),
    deadline=None,
    database=None,
    derandomize=COUNT <= 300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_one_bad_file_among_stacks_and_copies(whole_series, worst, tmp_path: Path, count, at: int, steps: list) -> None:
    contents = whole_series[:count]
    contents[at % count] = mutate(contents[at % count], steps)
    paths = [tmp_path / f"{number}.dcm" for number in range(count)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    read_within_limits(paths, worst)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("report")
    source = make_source(folder / "ct", body_phantom((3, 40, 48)))
    labels = LabelVolume(np.ones(source.shape, np.uint8), SEGMENTS[:1], source=source, provenance=PROVENANCE)
    measured = measure(labels, read_volume(labels.source))
    dataset = build_measurement_report(labels, measured, segmentation=build_segmentation(labels))
    dataset.save_as(folder / "sr.dcm", enforce_file_format=True)
    return (folder / "sr.dcm").read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_reports_give_rows_or_a_named_error(report: bytes, tmp_path: Path) -> None:
    path, rng = tmp_path / "mutated.dcm", np.random.default_rng(0)
    # Short elements under another value representation, or a length that does not fit: what converters stumble over.
    places = [found.start() for found in re.finditer(rb"(CS|SH|LO|DS|UI|FD|US|FL)[\x00-\x40]\x00", report[400:])]
    read, refusals = 0, ""
    count = max(COUNT // 3, 100)  # each takes 20 ms
    for _ in range(count):
        at = 400 + int(rng.choice(places))
        patch = [b"US", b"FD", b"AT", b"IS", b"DT", b"ZZ", b"SQ", b"UN"][rng.integers(8)]
        if rng.integers(2):
            at, patch = at + 2, bytes([rng.integers(32)])
        path.write_bytes(report[:at] + patch + report[at + len(patch) :])
        try:
            assert all(isinstance(row, ReportGroup) for row in read_measurement_report(path))
            read += 1
        except BadDicomError as error:
            refusals += str(error)
    assert 0 < read < count
    assert "Synthetic^Sample" not in refusals


@pytest.mark.filterwarnings("ignore")
@given(index=st.integers(0, len(KINDS) - 1), steps=mutations)
@settings(
    max_examples=COUNT,
    deadline=None,
    database=None,
    derandomize=COUNT <= 300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_quick_scan_finds_what_pydicom_finds(originals, tmp_path: Path, index: int, steps: list) -> None:
    content = mutate(originals[index], steps)
    scanned = scan_header(content)
    if scanned is None:
        return
    path = tmp_path / "mutated.dcm"
    path.write_bytes(content)
    with path.open("rb") as file:
        try:
            expected = dcmread(file, stop_before_pixels=True)
        except Exception:  # noqa: BLE001 - pydicom raises nearly anything; then there is nothing to compare
            return
        assert file.tell() == scanned[1]
    assert set(scanned[0].keys()) == set(expected.keys())
    for tag in expected.keys():  # noqa: SIM118 - iterating would convert the values
        ours, theirs = scanned[0].get_item(tag), expected.get_item(tag)
        if theirs.is_raw:  # pydicom converts the character set at once
            assert (ours.VR, ours.value) == (theirs.VR, theirs.value)
