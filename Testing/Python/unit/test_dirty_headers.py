"""Headers as they occur in the wild: every variation gives clean results, or is refused by name; nobody's identity is
altered.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import BridgeError
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Segment
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.result_set import encode_results
from AIDicomBridgeLib.series.volume import read_volume
from peers.validators import dciodvfy_errors
from pydicom import DataElement, Dataset, dcmread
from pydicom.tag import Tag
from segmented import PROVENANCE
from synthetic import body_phantom, make_series, save_series

Change = Callable[[Dataset], None]
CLEAN = ""  # else: words of the refusal


def absent(*keywords: str) -> Change:
    def change(ds: Dataset) -> None:
        for keyword in keywords:
            del ds[keyword]

    return change


def empty(*keywords: str) -> Change:
    def change(ds: Dataset) -> None:
        for keyword in keywords:
            ds[keyword] = DataElement(ds[keyword].tag, ds[keyword].VR, None)

    return change


def raw(keyword: str, value: object, vr: str | None = None) -> Change:
    """Write a value that pydicom itself would refuse or change."""

    def change(ds: Dataset) -> None:
        tag = Tag(keyword)
        ds[keyword] = DataElement(tag, vr or ds[keyword].VR if keyword in ds else vr, value, already_converted=True)

    return change


def named(charset: str | list[str] | None, name: str) -> Change:
    def change(ds: Dataset) -> None:
        ds.SpecificCharacterSet, ds.PatientName = charset, name
        if charset is None:
            del ds.SpecificCharacterSet

    return change


def in_bytes(charset: str | list[str], name: bytes) -> Change:
    """Write a name as a device does that declares one set and writes another."""

    def change(ds: Dataset) -> None:
        ds.SpecificCharacterSet, ds.PatientName = charset, "X" * len(name)

    change.written = name  # type: ignore[attr-defined]
    return change


_TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"),
    *(
        "ReferringPhysicianName",
        "StudyID",
        "SeriesNumber",
        "InstanceNumber",
        "Manufacturer",
        "PositionReferenceIndicator",
    ),
)
VARIATIONS: dict[str, tuple[Change, str]] = {
    **{f"{keyword} absent": (absent(keyword), CLEAN) for keyword in _TYPE_2},
    **{f"{keyword} empty": (empty(keyword), CLEAN) for keyword in _TYPE_2},
    "all of type 2 absent": (absent(*_TYPE_2), CLEAN),
    "SliceThickness absent": (absent("SliceThickness"), CLEAN),
    "SliceThickness empty": (empty("SliceThickness"), CLEAN),
    "BodyPartExamined absent": (absent("BodyPartExamined"), CLEAN),
    "StudyDescription absent": (absent("StudyDescription", "SeriesDescription"), CLEAN),
    "WindowCenter empty": (empty("WindowCenter", "WindowWidth"), CLEAN),
    "WindowCenter of several values": (raw("WindowCenter", ["40", "50"]), CLEAN),
    "RescaleType absent": (absent("RescaleType"), CLEAN),
    "SpecificCharacterSet absent": (absent("SpecificCharacterSet"), CLEAN),
    "SpecificCharacterSet unknown": (raw("SpecificCharacterSet", "ISO_IR 999"), CLEAN),
    "FrameOfReferenceUID absent": (absent("FrameOfReferenceUID"), "Frame of Reference"),
    "FrameOfReferenceUID empty": (empty("FrameOfReferenceUID"), "Frame of Reference"),
    "PixelSpacing absent": (absent("PixelSpacing"), "PixelSpacing"),
    "PixelSpacing empty": (empty("PixelSpacing"), "PixelSpacing"),
    "PixelSpacing of one value": (raw("PixelSpacing", "0.8"), "PixelSpacing"),
    "PixelSpacing with a comma": (raw("PixelSpacing", ["0,8", "0,6"]), "PixelSpacing"),
    "ImagePositionPatient absent": (absent("ImagePositionPatient"), "ImagePositionPatient"),
    "ImageOrientationPatient of zeros": (raw("ImageOrientationPatient", ["0"] * 6), "perpendicular"),
    "RescaleSlope empty": (empty("RescaleSlope"), "rescale"),
    "StudyInstanceUID with letters": (raw("StudyInstanceUID", "1.2.abc"), "StudyInstanceUID"),
    "StudyInstanceUID of 66 characters": (raw("StudyInstanceUID", "1." + "2" * 64), "StudyInstanceUID"),
    "StudyInstanceUID empty": (empty("StudyInstanceUID"), "StudyInstanceUID"),
    "SOPInstanceUID with spaces": (raw("SOPInstanceUID", "1.2 .3"), "SOPInstanceUID"),
    "FrameOfReferenceUID with letters": (raw("FrameOfReferenceUID", "1.2.x"), "FrameOfReferenceUID"),
    "PatientID of 70 characters": (raw("PatientID", "1" * 70), "PatientID"),
    "PatientID with a backslash": (raw("PatientID", "A\\B", "LO"), "PatientID"),
    "PatientBirthDate dotted": (raw("PatientBirthDate", "1970.01.02"), "PatientBirthDate"),
    "AccessionNumber of 20 characters": (raw("AccessionNumber", "1" * 20), "AccessionNumber"),
    "PatientSex in words": (raw("PatientSex", "male"), CLEAN),
    "StudyTime with colons": (raw("StudyTime", "10:11:12"), CLEAN),
    "StudyDate in month 13": (raw("StudyDate", "20261301"), CLEAN),
    "StudyDate dotted": (raw("StudyDate", "2026.01.02"), CLEAN),
    "StudyID of 20 characters": (raw("StudyID", "1" * 20), CLEAN),
    "StudyDescription of 90 characters": (raw("StudyDescription", "d" * 90), CLEAN),
    "BodyPartExamined in small letters": (raw("BodyPartExamined", "abdomen"), CLEAN),
    "PatientAge as a number": (raw("PatientAge", "45", "AS"), CLEAN),
    "PatientWeight in words": (raw("PatientWeight", "70 kg", "DS"), CLEAN),
    "SeriesNumber as a fraction": (raw("SeriesNumber", "14.5"), CLEAN),
    "InstanceNumber in words": (raw("InstanceNumber", "first"), CLEAN),
    "a DS of 20 characters": (raw("SliceThickness", "3.000000000000000001"), CLEAN),
    "an incomplete procedure code": (
        lambda ds: setattr(ds, "ProcedureCodeSequence", [Dataset()]),
        CLEAN,
    ),
    "a private block": (lambda ds: ds.add_new(0x00090010, "LO", "PRIVATE"), CLEAN),
    "an overlay": (lambda ds: ds.add_new(0x60000010, "US", 8), CLEAN),
    "a retired name form": (named("ISO_IR 6", "Doe John"), CLEAN),
    "Latin-1": (named("ISO_IR 100", "Müller^Jörg"), CLEAN),
    "UTF-8": (named("ISO_IR 192", "Müller^Jörg=山田^太郎"), CLEAN),
    "Japanese": (named(["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"), CLEAN),
    "Japanese, half-width": (named(["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"), CLEAN),
    "Korean": (named(["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"), CLEAN),
    "Chinese, GB18030": (named("GB18030", "Wang^XiaoDong=王^小东"), CLEAN),
    # pydicom leaves the escape sequences of GB 2312 in the text.
    "Chinese, GB 2312": (in_bytes(["", "ISO 2022 IR 58"], b"Zhang^XiaoDong=\x1b$)A\xd5\xc5"), "PatientName"),
    "Chinese, GB 2312 without escapes": (
        in_bytes(["", "ISO 2022 IR 58"], "Zhang=张^小东".encode("gb2312")),
        "PatientName",
    ),
    "Cyrillic": (named("ISO_IR 144", "Щукин^Юлий"), CLEAN),
    "Greek": (named("ISO_IR 126", "Διονυσιος"), CLEAN),
    "Arabic": (named("ISO_IR 127", "قباني^لنزار"), CLEAN),
    "Hebrew": (named("ISO_IR 138", "שרון^דבורה"), CLEAN),
    "Thai": (named("ISO_IR 166", "สมชาย"), CLEAN),
    "Latin-1 bytes under UTF-8": (in_bytes("ISO_IR 192", "Müller^Jörg".encode("latin-1")), "PatientName"),
    "Latin-1 bytes under ASCII": (in_bytes("", "Müller^Jörg".encode("latin-1")), "PatientName"),
    "Shift-JIS bytes under Latin-1": (in_bytes("ISO_IR 100", "山田^太郎".encode("shift_jis")), "PatientName"),
    "EUC-KR bytes without escapes": (in_bytes(["", "ISO 2022 IR 149"], "홍^길동".encode("euc_kr")), "PatientName"),
}
_IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyInstanceUID")
_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
_SEGMENT = Segment(1, "Lung", _STRUCTURE, Code("39607008", "SCT", "Lung"))


def _write(change: Change, folder: Path) -> list[Path]:
    datasets = make_series(body_phantom((3, 16, 16)))
    for ds in datasets:
        change(ds)
    paths = save_series(datasets, folder)
    name = getattr(change, "written", b"")
    for path in paths if name else ():
        path.write_bytes(path.read_bytes().replace(b"X" * len(name), name))
    return paths


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("change", "refusal"), VARIATIONS.values(), ids=VARIATIONS)
def test_results_are_clean_or_refused_and_the_identity_is_the_sources(
    tmp_path: Path, change: Change, refusal: str
) -> None:
    paths = _write(change, tmp_path / "source")
    source = dcmread(paths[0])

    def results() -> list[Dataset]:
        volume = read_volume(paths)
        array = np.zeros(volume.voxels.shape, np.uint8)
        array[1, 4:9, 5:12] = 1
        labels = LabelVolume(array, (_SEGMENT,), source=volume.source, provenance=PROVENANCE)
        made = encode_results(labels, volume, measure(labels, volume), outputs=("seg", "sr", "sc"))
        related = [item.dataset for item in made if item.kind == "seg"]
        findings = [f for item in made for f in check_conformance(item.dataset, volume.source, related=related)]
        assert [f.message for f in findings if f.severity == "error"] == []
        return [item.dataset for item in made]

    if refusal:
        with pytest.raises(BridgeError, match=f"(?i){refusal}") as caught:
            results()
        for keyword in _IDENTITY[:4]:
            text = str(source.get(keyword, ""))
            assert len(text) < 4 or text not in str(caught.value)
        return
    made = results()
    assert len(made) == 3
    for result in made:
        path = tmp_path / f"{result.SOPInstanceUID}.dcm"
        result.save_as(path, enforce_file_format=True)
        back = dcmread(path)
        for keyword in _IDENTITY:
            assert str(back.get(keyword) or "") == str(source.get(keyword) or "")
    for result in made[:2]:
        assert dciodvfy_errors(result, tmp_path) == []


def test_there_are_enough_variations() -> None:
    assert len(VARIATIONS) >= 60
