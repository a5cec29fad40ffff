"""Labels, codes and the headers that results are built on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import EncodingError, GeometryError
from AIDicomBridgeLib.results.codes import coded_concept, read_code, same_concept, why_no_code
from AIDicomBridgeLib.results.equipment import device_uid
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Segment, count_voxels
from AIDicomBridgeLib.results.result_series import ResultKind, result_series_description, result_series_number
from AIDicomBridgeLib.results.source_headers import normalised_headers
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import ImageVolume
from pydicom import Dataset, dcmread
from segmented import ANATOMY, LEFT, LUNG, PROVENANCE, SEGMENTS, make_labels, make_source, phantom_labels
from synthetic import body_phantom, make_series, save_series


def test_labels_without_a_segment_are_refused(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    with pytest.raises(EncodingError, match=r"\[3\] have no segment"):
        LabelVolume(labels.labels, SEGMENTS[:2], source=labels.source)


def test_labels_of_another_grid_are_refused(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    with pytest.raises(EncodingError, match="not on the grid"):
        LabelVolume(phantom_labels((12, 64, 70)), SEGMENTS, source=source)


def test_labels_whose_last_column_lies_beside_that_of_the_source_are_refused(tmp_path: Path) -> None:
    """By half a voxel, 0.0008 mm a column: no number of the affine differs by more."""
    source = make_source(tmp_path, np.zeros((2, 2, 512), np.int16))
    stretched = source.ijk_to_lps @ np.diag([1 + 0.5 / 512, 1, 1, 1])
    labels = np.ones(source.shape, np.uint8)
    with pytest.raises(EncodingError, match="not on the grid"):
        LabelVolume(labels, SEGMENTS[:1], source=source, ijk_to_lps=stretched)
    volume = ImageVolume(np.zeros(source.shape, np.int16), stretched, source)
    with pytest.raises(GeometryError, match="not on the same grid"):
        LabelVolume(labels, SEGMENTS[:1], source=source).refuse_other_grid(volume)


def test_voxels_are_counted_by_label() -> None:
    labels = phantom_labels()
    counts = count_voxels(labels)
    assert counts.sum() == labels.size
    assert [int(counts[value]) for value in (1, 2, 3)] == [int((labels == value).sum()) for value in (1, 2, 3)]


def test_a_code_needs_all_its_parts() -> None:
    with pytest.raises(EncodingError, match="value, scheme and meaning"):
        Code("39607008", "SCT", "")


def test_a_segment_without_a_name_is_refused() -> None:
    with pytest.raises(EncodingError, match="label 3 has no name"):
        Segment(3, "\x00 ", ANATOMY, LUNG)


def test_a_segment_without_a_code_is_refused() -> None:
    with pytest.raises(EncodingError, match="'Thing' has no code"):
        Segment(1, "Thing", ANATOMY, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"region_modifier": LEFT}, "region_modifier without a region"),
        ({"tracking_uid": "abc"}, "'abc' of the segment 'Lung' is no UID"),
        ({"color_rgb": (300, 0, 0)}, "colour"),
        ({"color_rgb": (1, 2)}, "colour"),
    ],
)
def test_what_dicom_cannot_hold_is_refused_where_the_segment_is_made(wrong: dict, named: str) -> None:
    with pytest.raises(EncodingError, match=named):
        Segment(1, "Lung", ANATOMY, LUNG, **wrong)


@pytest.mark.parametrize(
    ("scheme", "meaning"), [("SCT", "x" * 65), ("x" * 17, "Lung"), ("SCT", "a\\b"), ("SCT", "a\nb")]
)
def test_a_code_fits_into_dicom(scheme: str, meaning: str) -> None:
    with pytest.raises(EncodingError, match="is no text of"):
        Code("39607008", scheme, meaning)
    item = coded_concept(LUNG)
    item.CodeMeaning = "Lung, " * 12  # of another producer
    assert len(read_code(item).meaning) <= 64


def test_codes_survive_the_way_to_dicom_and_back() -> None:
    for code in (LUNG, Code("a value that is longer than sixteen", "99LOCAL", "Long")):
        assert read_code(coded_concept(code)) == code


@pytest.mark.parametrize(
    ("value", "plausible"), [("39607008", True), ("39607009", False), ("3960700", False), ("x", False)]
)
def test_snomed_codes_are_told_by_their_check_digit(value: str, plausible: bool) -> None:
    assert (why_no_code(Code(value, "SCT", "Lung")) == "") is plausible


def test_both_codes_of_anatomical_structures_mean_the_same() -> None:
    listed = Code("91723000", "SCT", "Anatomical Structure")
    assert same_concept(ANATOMY, listed)
    assert same_concept(listed, ANATOMY)
    assert not same_concept(listed, LUNG)


def test_another_model_has_another_device_uid() -> None:
    assert device_uid(PROVENANCE) == device_uid(replace(PROVENANCE, device="cuda"))
    assert device_uid(PROVENANCE) != device_uid(replace(PROVENANCE, weights_sha256="f" * 64))


def test_series_numbers_of_results_keep_apart() -> None:
    models = [PROVENANCE, replace(PROVENANCE, version="2.2"), replace(PROVENANCE, weights_sha256="f" * 64), None]
    sources = [None, 1, 4, 301, 10004, 20004, 21473, 2**31 - 1]
    numbers = []
    for place, source in enumerate((*sources, 1)):  # two series with the number 1
        header = Dataset()
        header.SeriesNumber, header.SeriesInstanceUID = source, f"1.2.3.{place}"
        for kind in ResultKind:
            for provenance in models:
                for variant in ("BINARY", "FRACTIONAL"):
                    numbers.append(result_series_number(kind, header, provenance, variant=variant))
                numbers.append(result_series_number(kind, header, provenance, variant="BINARY", nth=1))
    assert len(set(numbers)) == len(numbers)
    assert 0 < min(numbers) <= max(numbers) < 2**31
    assert not set(numbers) & set(range(10000)), "the scanner's own"


def test_the_series_number_begins_with_the_sources_and_stays(tmp_path: Path) -> None:
    header = Dataset()
    header.SeriesNumber, header.SeriesInstanceUID = 301, "1.2.3"
    number = result_series_number(ResultKind.MEASUREMENT_REPORT, header, PROVENANCE)
    assert str(number).startswith("3012")
    assert number == result_series_number(ResultKind.MEASUREMENT_REPORT, header, replace(PROVENANCE, device="cuda"))
    parts = {result_series_number(ResultKind.SEGMENTATION, header, PROVENANCE, nth=nth) for nth in range(10000)}
    assert len(parts) == 10000


def test_the_series_says_that_it_is_not_for_diagnosis_within_64_characters() -> None:
    for text in (None, "short", "long " * 20):
        description = result_series_description(ResultKind.SEGMENTATION, PROVENANCE, text)
        assert description.endswith("(not for diagnostic use)")
        assert len(description) <= 64
    cleared = replace(PROVENANCE, not_for_diagnostic_use=False)
    assert result_series_description(ResultKind.SEGMENTATION, cleared, "short") == "short"


def _source(folder: Path, change: object) -> SourceSeries:
    datasets = make_series(body_phantom())
    for dataset in datasets:
        change(dataset)  # type: ignore[operator]
    return SourceSeries.from_files(save_series(datasets, folder))


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 144", "Щукин^Юлий"),
        ("ISO_IR 126", "Διονυσιος"),
    ],
)
def test_names_in_every_script_arrive_unaltered(tmp_path: Path, charset: str | list[str], name: str) -> None:
    def change(dataset: Dataset) -> None:
        dataset.SpecificCharacterSet, dataset.PatientName = charset, name

    header = normalised_headers(_source(tmp_path, change))[0]
    header.save_as(tmp_path / "header.dcm", implicit_vr=False, little_endian=True)
    back = dcmread(tmp_path / "header.dcm", force=True)
    assert back.SpecificCharacterSet == "ISO_IR 192"
    assert str(back.PatientName) == name


@pytest.mark.parametrize(
    ("charset", "written"),
    [
        ("ISO_IR 192", "Müller^Jörg".encode("latin-1")),
        ("", "Müller^Jörg".encode("latin-1")),
        ("ISO_IR 100", "山田^太郎".encode("shift_jis")),
        (["", "ISO 2022 IR 87"], "山田^太郎".encode("shift_jis")),
        (["", "ISO 2022 IR 149"], "홍^길동".encode("euc_kr")),
    ],
)
def test_a_name_in_bytes_that_its_character_set_does_not_hold_is_refused(
    tmp_path: Path, charset: str | list[str], written: bytes
) -> None:
    placeholder = "X" * len(written)

    def change(dataset: Dataset) -> None:
        dataset.SpecificCharacterSet, dataset.PatientName = charset, placeholder

    paths = _source(tmp_path, change).paths
    for path in paths:  # as a device would that declares one set and writes another
        path.write_bytes(path.read_bytes().replace(placeholder.encode(), written))
    with pytest.raises(EncodingError, match="PatientName") as caught:
        normalised_headers(SourceSeries.from_files(paths))
    assert "ller" not in str(caught.value)


@pytest.mark.parametrize(
    ("keyword", "value"), [("PatientID", "x" * 70), ("PatientBirthDate", "1970.01.01"), ("AccessionNumber", "a" * 20)]
)
def test_identity_that_breaks_its_rules_is_refused_by_name_only(tmp_path: Path, keyword: str, value: str) -> None:
    source = make_source(tmp_path)
    for header in source.headers:
        with pytest.warns(UserWarning, match="alue"):
            header[keyword].value = value
    with pytest.raises(EncodingError, match=keyword) as caught:
        normalised_headers(source)
    assert value not in str(caught.value)


def test_what_is_no_identity_is_repaired_on_a_copy(tmp_path: Path) -> None:
    source = make_source(tmp_path, spacing_mm=(3.0, 0.8, 0.6))
    for header in source.headers:
        for name in ("StudyID", "PatientSex", "SliceThickness", "ReferringPhysicianName"):
            del header[name]
        with pytest.warns(UserWarning, match="alue"):
            header.StudyTime = "10:11:12"
        header.add_new((0x0009, 0x0010), "LO", "PRIVATE")
    copies = normalised_headers(source)
    assert all(copy.StudyTime is None and copy.StudyID is None for copy in copies)
    assert all(float(copy.SliceThickness) == 3.0 for copy in copies)
    assert all((0x0009, 0x0010) not in copy for copy in copies)
    assert all(header.StudyTime == "10:11:12" and "StudyID" not in header for header in source.headers)
    assert [copy.SOPInstanceUID for copy in copies] == list(source.sop_instance_uids)
    for copy, header in zip(copies, source.headers, strict=True):
        for name in ("PatientID", "PatientName", "StudyInstanceUID", "ImagePositionPatient", "PixelSpacing"):
            assert copy[name].value == header[name].value


def test_a_segment_is_found_by_its_name(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    assert labels.segment("Bone").label == 3
    with pytest.raises(KeyError):
        labels.segment("Heart")


def test_labels_must_be_small_whole_numbers(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    with pytest.raises(EncodingError, match="uint8 or uint16"):
        LabelVolume(np.zeros(source.shape, np.int64), (Segment(1, "x", ANATOMY, LUNG),), source=source)
