"""A series is accepted only when it is one regular stack of one patient; else it is refused by name."""

from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import BadDicomError, ConflictError, GeometryError, NotFoundError, PixelError
from AIDicomBridgeLib.series.dicom_file import is_part10_file
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import DataElement, Dataset
from pydicom.fileset import FileSet
from pydicom.uid import BasicTextSRStorage, ColorPaletteStorage, DeflatedExplicitVRLittleEndian
from synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL, body_phantom, make_series, save_series


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
@pytest.mark.parametrize("reverse", [False, True])
def test_voxels_and_affine_follow_the_positions_not_the_file_order(
    tmp_path: Path, orientation: tuple[float, ...], reverse: bool
) -> None:
    voxels = body_phantom((5, 20, 24))
    datasets = make_series(voxels, orientation=orientation, reverse=reverse)

    volume = read_volume(save_series(datasets, tmp_path))

    np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.voxels.dtype == np.int16
    assert volume.spacing_mm == pytest.approx((3.0, 0.8, 0.6), abs=1e-5)
    in_slice_order = datasets[::-1] if reverse else datasets
    assert volume.source.sop_instance_uids == tuple(ds.SOPInstanceUID for ds in in_slice_order)
    for k, ds in enumerate(in_slice_order):
        np.testing.assert_allclose((volume.ijk_to_lps @ (0, 0, k, 1))[:3], ds.ImagePositionPatient, atol=1e-4)


def _without_slice(datasets: list[Dataset]) -> None:
    del datasets[2]


def _uneven(datasets: list[Dataset]) -> None:
    datasets[3].ImagePositionPatient[2] += 1.1


def _same_position(datasets: list[Dataset]) -> None:
    datasets[3].ImagePositionPatient = datasets[2].ImagePositionPatient


def _tilted(datasets: list[Dataset]) -> None:
    for k, ds in enumerate(datasets):
        ds.ImagePositionPatient[1] += 0.5 * k


def _localizer(datasets: list[Dataset]) -> None:
    datasets[0].ImageOrientationPatient = list(SAGITTAL)


def _infinite(datasets: list[Dataset]) -> None:
    datasets[0].PixelSpacing = ["0", "0"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_without_slice, "(?i)slices are missing"),
        (_uneven, "unevenly spaced"),
        (_same_position, "share one position"),
        (_tilted, "gantry tilt"),
        (_localizer, "different orientations"),
        (_infinite, "not positive"),
    ],
)
def test_irregular_stacks_are_refused_with_their_reason(tmp_path: Path, spoil, words: str) -> None:
    datasets = make_series(body_phantom((6, 8, 8)))
    spoil(datasets)

    with pytest.raises(GeometryError, match=words) as caught:
        SourceSeries.from_files(save_series(datasets, tmp_path))
    assert caught.value.uid == datasets[0].SeriesInstanceUID


@pytest.mark.parametrize("thickness", ["", "0"])
def test_one_slice_of_unknown_thickness_is_refused(tmp_path: Path, thickness: str) -> None:
    """All its volumes would be of a guessed thickness."""
    (dataset,) = make_series(body_phantom((1, 8, 8)))
    dataset.SliceThickness = thickness
    with pytest.raises(GeometryError, match="how thick"):
        SourceSeries.from_files(save_series([dataset], tmp_path))
    dataset.SpacingBetweenSlices = "2.5"
    assert SourceSeries.from_files(save_series([dataset], tmp_path)).spacing_mm[0] == 2.5


@pytest.mark.parametrize(
    "keyword", ["PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "FrameOfReferenceUID"]
)
def test_mixed_patients_or_studies_are_refused_without_naming_them(tmp_path: Path, keyword: str) -> None:
    datasets = make_series(body_phantom((4, 8, 8)))
    setattr(datasets[1], keyword, "20000101" if keyword == "PatientBirthDate" else "1.2.3.4")

    with pytest.raises(ConflictError, match=keyword) as caught:
        SourceSeries.from_files(save_series(datasets, tmp_path))
    assert "1.2.3.4" not in str(caught.value)
    assert "SYN-1" not in str(caught.value)


@pytest.mark.parametrize("keyword", ["IssuerOfPatientID", "PatientSex", "AccessionNumber"])
def test_what_only_some_files_say_is_refused_where_they_contradict_each_other(tmp_path: Path, keyword: str) -> None:
    datasets = make_series(body_phantom((4, 8, 8)))
    for ds, value in zip(datasets, ("F", "", "F", "F"), strict=True):
        setattr(ds, keyword, value)
    assert SourceSeries.from_files(save_series(datasets, tmp_path / "some")).shape == (4, 8, 8)
    setattr(datasets[1], keyword, "M")
    with pytest.raises(ConflictError, match=keyword):
        SourceSeries.from_files(save_series(datasets, tmp_path / "other"))


@pytest.mark.parametrize(
    ("character_sets", "names"),
    [
        (("ISO_IR 192", "ISO_IR 192"), ("Doe^John", "Doe^John^^^")),
        (("ISO_IR 192", "ISO_IR 192"), ("Doe^John", "DOE ^John")),
        (("ISO_IR 192", ["", "ISO 2022 IR 87"]), ("Yamada^Tarou=山田^太郎=やまだ^たろう",) * 2),
    ],
)
def test_one_name_written_in_two_ways_is_one_name(tmp_path: Path, character_sets: tuple, names: tuple) -> None:
    datasets = make_series(body_phantom((4, 8, 8)))
    for k, ds in enumerate(datasets):
        ds.SpecificCharacterSet, ds.PatientName = character_sets[k % 2], names[k % 2]
    assert SourceSeries.from_files(save_series(datasets, tmp_path)).shape == (4, 8, 8)


@pytest.mark.parametrize("sex", ["M", "F"])
def test_sex_contradicts_only_as_female_and_male(tmp_path: Path, sex: str) -> None:
    datasets = make_series(body_phantom((4, 8, 8)))
    for ds, value in zip(datasets, (sex, "O", "U", ""), strict=True):
        ds.PatientSex = value
    assert SourceSeries.from_files(save_series(datasets, tmp_path)).shape == (4, 8, 8)


def test_one_sop_instance_uid_twice_is_refused(tmp_path: Path) -> None:
    datasets = make_series(body_phantom((4, 8, 8)))
    datasets[1].SOPInstanceUID = datasets[0].SOPInstanceUID
    with pytest.raises(ConflictError, match="SOP Instance UID"):
        SourceSeries.from_files(save_series(datasets, tmp_path))


def test_other_objects_of_the_series_are_passed_over_but_named(tmp_path: Path) -> None:
    datasets = make_series(body_phantom((4, 8, 8)))
    datasets[3].SOPClassUID = "1.2.840.10008.5.1.4.1.1.11.1"  # a presentation state without position
    paths = save_series(datasets, tmp_path)

    series = SourceSeries.from_files(paths)

    assert series.shape == (3, 8, 8)
    assert series.ignored_paths == (paths[3],)


def test_a_folder_of_two_series_is_refused_and_lists_both(tmp_path: Path) -> None:
    first, second = make_series(body_phantom((3, 8, 8))), make_series(body_phantom((3, 8, 8)))
    save_series(first, tmp_path / "a")
    save_series(second, tmp_path / "b")
    with pytest.raises(ConflictError) as caught:
        read_volume(tmp_path)
    assert first[0].SeriesInstanceUID in str(caught.value)
    assert second[0].SeriesInstanceUID in str(caught.value)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(NotFoundError, match="no image series"):
        read_volume(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not DICOM at all", b"\0" * 128 + b"DICM" + b"\xff" * 64])
def test_damaged_files_are_refused_by_file_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.dcm"
    path.write_bytes(content)
    with pytest.raises(BadDicomError, match=r"broken\.dcm"):
        SourceSeries.from_files([path])


@pytest.mark.parametrize("name", ["{:04d}.dcm", "IM{:04d}", "1.2.840.99.{}", "{:04d}.ima"])
@pytest.mark.parametrize("damage", [lambda _data: b"", lambda data: data[:128] + b"XXXX" + data[132:]])
def test_a_slice_that_lost_its_prefix_is_not_left_out(tmp_path: Path, name: str, damage) -> None:
    paths = save_series(make_series(body_phantom((4, 8, 8))), tmp_path)
    paths = [path.rename(tmp_path / name.format(number)) for number, path in enumerate(paths)]
    paths[3].write_bytes(damage(paths[3].read_bytes()))  # the last: no gap shows that it is missing

    with pytest.raises(BadDicomError, match=paths[3].name):
        read_volume(tmp_path)


@pytest.mark.parametrize(("name", "words"), [("more/0005", "without the file meta"), ("0005.dcm.gz", "prefix DICM")])
def test_a_slice_that_cannot_be_read_is_not_left_out_under_any_name(tmp_path: Path, name: str, words: str) -> None:
    paths = save_series(make_series(body_phantom((5, 8, 8))), tmp_path)
    content = paths[-1].read_bytes()
    paths[-1].unlink()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(
        content[content.index(b"\x08\0\x05\0") :] if words.startswith("without") else b"\x1f\x8b"
    )
    with pytest.raises(BadDicomError, match=words):
        read_volume(tmp_path)


@pytest.mark.parametrize("name", ["{:04d}.dcm", "IM{:04d}"])
def test_what_never_was_a_slice_may_lie_beside_them(tmp_path: Path, name: str) -> None:
    voxels = body_phantom((4, 8, 8))
    for number, path in enumerate(save_series(make_series(voxels), tmp_path)):
        path.rename(tmp_path / name.format(number))
    for other in ("notes.txt", ".DS_Store", "._0001.dcm", "Thumbs.db"):
        (tmp_path / other).write_text("no image")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "README").write_text("no image")

    np.testing.assert_array_equal(read_volume(tmp_path).voxels, voxels)


def _deflated_report(dataset: Dataset) -> None:
    dataset.SOPClassUID = BasicTextSRStorage
    del dataset.PixelData
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def _palette(dataset: Dataset) -> None:
    dataset.SOPClassUID = ColorPaletteStorage
    del dataset.PixelData, dataset.StudyInstanceUID, dataset.SeriesInstanceUID


@pytest.mark.parametrize("make", [_deflated_report, _palette])
def test_objects_that_say_they_are_no_images_need_not_be_readable(tmp_path: Path, make) -> None:
    datasets = make_series(body_phantom((4, 8, 8)))
    make(datasets[3])
    paths = save_series(datasets, tmp_path)
    assert read_volume(tmp_path).voxels.shape == (3, 8, 8)
    assert SourceSeries.from_files(paths).ignored_paths == (paths[3],)
    with pytest.raises(NotFoundError, match="no image series"):
        SourceSeries.from_files(paths[3:])


def test_a_slice_that_cannot_be_read_is_no_such_object(tmp_path: Path) -> None:
    datasets = make_series(body_phantom((4, 8, 8)))
    del datasets[3].StudyInstanceUID
    paths = save_series(datasets, tmp_path)
    for read in (lambda: read_volume(tmp_path), lambda: SourceSeries.from_files(paths)):
        with pytest.raises(BadDicomError, match="StudyInstanceUID"):
            read()


def test_the_table_of_contents_of_a_cd_is_passed_over(tmp_path: Path) -> None:
    voxels = body_phantom((3, 8, 8))
    contents = FileSet()
    for dataset in make_series(voxels):
        contents.add(dataset)
    contents.write(tmp_path / "cd")

    assert not is_part10_file(tmp_path / "cd" / "DICOMDIR")
    np.testing.assert_array_equal(read_volume(tmp_path / "cd").voxels, voxels)


@pytest.mark.parametrize("keyword", ["Rows", "Columns"])
@pytest.mark.parametrize(("vr", "value"), [("US", [8, 8]), ("LO", "many"), ("IS", "a"), ("OB", b"abc")])
def test_a_damaged_size_is_refused_by_name(tmp_path: Path, keyword: str, vr: str, value) -> None:
    datasets = make_series(body_phantom((3, 8, 8)))
    for dataset in datasets:
        dataset[keyword] = DataElement(dataset[keyword].tag, vr, value, already_converted=True)

    with pytest.raises(BadDicomError, match=keyword):
        SourceSeries.from_files(save_series(datasets, tmp_path))


def test_a_file_without_its_transfer_syntax_is_refused_by_name(tmp_path: Path) -> None:
    path = save_series(make_series(body_phantom((1, 8, 8))), tmp_path)[0]
    path.write_bytes(path.read_bytes().replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI"))

    with pytest.raises(BadDicomError, match=r"0001\.dcm has no valid TransferSyntaxUID"):
        read_volume(path)


@pytest.mark.parametrize(("size", "words"), [(65535, "65535 x 65535 is not accepted"), (8192, "truncated")])
def test_a_declared_size_is_believed_only_with_its_pixels(tmp_path: Path, size: int, words: str) -> None:
    datasets = make_series(body_phantom((40, 8, 8)))
    for dataset in datasets:
        dataset.Rows = dataset.Columns = size  # 320 or 5 GiB of voxels

    with pytest.raises(PixelError, match=words):
        read_volume(save_series(datasets, tmp_path))
