"""Results of any program as DICOM objects, by the README's own commands and descriptions."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from AIDicomBridgeLib.cli.main import app
from AIDicomBridgeLib.errors import EncodingError, GeometryError
from AIDicomBridgeLib.results.codes import PRESENCE
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.encode_files import encode_files
from AIDicomBridgeLib.results.grid_file import read_grid, read_labels, read_pictures
from AIDicomBridgeLib.results.labels import Code
from AIDicomBridgeLib.results.observations import Classification, Evaluation
from AIDicomBridgeLib.results.report_table import read_measurement_report
from AIDicomBridgeLib.results.segmentation import build_segmentation, read_segmentation
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import find_series
from PIL import Image
from pydicom import Dataset, dcmread
from segmented import make_source, phantom_labels
from synthetic import OBLIQUE, body_phantom, make_enhanced, make_series, save_series
from typer.testing import CliRunner

PRESENT = Evaluation(PRESENCE, Code("52101004", "SCT", "Present"))
README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
COMMANDS = {command.split()[4]: command for command in re.findall(r"`(aidicombridge encode [^`]*)`", README)}
DESCRIPTIONS = dict(re.findall(r"```toml\n# (\S+\.toml)\n(.*?)```", README, re.DOTALL))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all the files that the README's commands name; the working folder of the test."""
    source = make_source(tmp_path / "ct", orientation=OBLIQUE)
    labels = np.where(phantom_labels() == 1, 1, 0).astype(np.uint8)
    probabilities = np.random.default_rng(0).random(labels.shape).astype(np.float32)
    sitk.WriteImage(_image(labels, source), tmp_path / "labels.nii.gz")
    sitk.WriteImage(_image(probabilities, source), tmp_path / "heat.nrrd")
    np.save(tmp_path / "probabilities.npy", probabilities[None])
    Image.fromarray(np.full((30, 40, 3), 77, np.uint8)).save(tmp_path / "attention.png")
    for name, text in DESCRIPTIONS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _image(array: np.ndarray, source: SourceSeries) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(source.spacing_mm[::-1])
    image.SetDirection((source.ijk_to_lps[:3, :3] / source.spacing_mm[::-1]).ravel())
    image.SetOrigin(source.ijk_to_lps[:3, 3])
    return image


def _encoded(command: str) -> list[Dataset]:
    """Run a command as the README has it, with ``--json``, and return the objects that it wrote."""
    result = CliRunner().invoke(app, [*shlex.split(command)[1:], "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["status"], answer["warnings"]) == ("ok", [])
    return [dcmread(item["path"]) for item in answer["results"]]


def test_the_readme_shows_every_row() -> None:
    assert set(COMMANDS) == {"classification", "detection", "seg", "fractional", "sc", "pm"}
    assert set(DESCRIPTIONS) == {"lungs.toml", "answers.toml", "nodules.toml", "picture.toml"}


def test_the_readme_makes_the_arrays_that_it_encodes(folder: Path) -> None:
    section = README[README.index("### Results of any program as DICOM") :]
    (program,) = re.findall(r"```python\n(.*?)```", section[: section.index("\n## ")], re.DOTALL)
    exec(program, {})  # noqa: S102 - the README's own
    for kind, file in (("seg", "labels.npy"), ("fractional", "probabilities.npy")):
        (made,) = _encoded(COMMANDS[kind].replace("labels.nii.gz", file))
        assert made.Modality == "SEG"


def test_a_classification_becomes_a_report(folder: Path) -> None:
    (report,) = _encoded(COMMANDS["classification"])
    (row,) = read_measurement_report(report)
    assert (row.name, row.value("Probability"), row.study_uid) == ("Lung nodule", 0.93, report.StudyInstanceUID)
    assert row.evaluations[0].answer.meaning == "Present"
    assert report.ContributingEquipmentSequence[-1].ManufacturerModelName == "noduleclassifier"


def test_an_answer_about_frames_names_them(tmp_path: Path) -> None:
    enhanced = make_enhanced(make_series(body_phantom()))
    source = SourceSeries.from_files(save_series([enhanced], tmp_path / "ct"))
    text = DESCRIPTIONS["answers.toml"].replace('level = "study"', "slices = [3, 5, 3]")
    (tmp_path / "answers.toml").write_text(text)
    ((result,), _) = encode_files(source, "classification", [tmp_path / "answers.toml"])
    assert check_conformance(result.dataset, source) == []
    (group,) = result.dataset.ContentSequence[-1].ContentSequence
    (image,) = [item for item in group.ContentSequence if item.ValueType == "IMAGE"]
    reference = image.ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == enhanced.SOPInstanceUID
    assert list(reference.ReferencedFrameNumber) == [source.slices[k].frame_number for k in (3, 5)]
    with pytest.raises(EncodingError, match="frames of an image that it does not name"):
        Classification("a", (PRESENT,), frames=(("1.2", 3),))


def test_a_detection_becomes_a_report(folder: Path) -> None:
    (report,) = _encoded(COMMANDS["detection"])
    (row,) = read_measurement_report(report)
    assert (row.name, row.finding.meaning, row.value("Probability")) == ("Nodule 1", "Nodule", 0.81)
    assert [region.graphic_type for region in row.regions] == ["POLYGON", "POLYGON"]


def test_a_segmentation_becomes_a_segmentation(folder: Path) -> None:
    (segmentation,) = _encoded(COMMANDS["seg"])
    assert segmentation.SegmentationType == "BINARY"
    back = read_segmentation(segmentation, find_series(folder / "ct"))
    assert np.array_equal(back.labels == 1, phantom_labels() == 1)
    assert back.segments[0].type_modifier.meaning == "Right"
    assert (back.provenance.model, back.provenance.version) == ("lungnet", "1.2")


def test_probabilities_become_a_fractional_segmentation(folder: Path) -> None:
    (segmentation,) = _encoded(COMMANDS["fractional"])
    assert (segmentation.SegmentationType, segmentation.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    back = read_segmentation(segmentation, find_series(folder / "ct"))
    assert np.allclose(back.probabilities, np.load("probabilities.npy"), atol=0.0025)  # half a step of 1/255


def test_fractions_that_are_parts_of_voxels_are_called_so(folder: Path) -> None:
    (folder / "lungs.toml").write_text('fractional_type = "OCCUPANCY"\n' + DESCRIPTIONS["lungs.toml"])
    (segmentation,) = _encoded(COMMANDS["fractional"])
    assert segmentation.SegmentationFractionalType == "OCCUPANCY"
    files = [Path("probabilities.npy"), Path("lungs.toml")]
    with pytest.raises(EncodingError, match="unknown key 'fractional_type'"):
        encode_files(find_series(folder / "ct"), "seg", files)
    (folder / "lungs.toml").write_text('fractional_type = "FULL"\n' + DESCRIPTIONS["lungs.toml"])
    with pytest.raises(EncodingError, match='\'fractional_type\' must be one of "PROBABILITY", "OCCUPANCY"'):
        encode_files(find_series(folder / "ct"), "fractional", files)


def test_one_half_is_enough_on_both_ways(folder: Path) -> None:
    fractions = np.full((1, 12, 64, 72), 0.25, np.float32)
    fractions[0, 3, 10:20, 10:20], fractions[0, 4, 10:20, 10:20] = 0.5, 0.498
    np.save(folder / "probabilities.npy", fractions)
    files, source = [folder / "probabilities.npy", folder / "lungs.toml"], find_series(folder / "ct")
    ((result,), labels) = encode_files(source, "fractional", files)
    assert labels is not None
    assert np.array_equal(labels.labels == 1, fractions[0] == 0.5)
    assert np.array_equal(read_segmentation(result.dataset, source).labels, labels.labels)


def test_masks_that_overlap_become_segments_that_overlap(folder: Path) -> None:
    segments = DESCRIPTIONS["lungs.toml"]
    second = segments[segments.index("[[segments]]") :].replace("label = 1", "label = 2").replace("Right", "Left")
    (folder / "two.toml").write_text(segments + second)
    masks = np.zeros((2, 12, 64, 72), bool)
    masks[0, 3:8, 10:30, 20:40] = masks[1, 5:9, 20:50, 30:50] = True
    np.save(folder / "masks.npy", masks)
    (segmentation,) = _encoded("aidicombridge encode ct --as seg --from masks.npy --from two.toml --out two")
    back = read_segmentation(segmentation, find_series(folder / "ct"))
    assert [np.array_equal(back.mask(segment), mask) for segment, mask in zip(back.segments, masks, strict=True)] == [
        True,
        True,
    ]


def test_a_picture_becomes_a_secondary_capture(folder: Path) -> None:
    (capture,) = _encoded(COMMANDS["sc"])
    assert np.array_equal(capture.pixel_array, np.full((30, 40, 3), 77))
    assert capture.DerivationDescription == "Attention of the network"
    assert capture.BurnedInAnnotation == "NO"


def test_a_picture_of_which_nobody_says_so_may_show_the_patients_name(folder: Path) -> None:
    (folder / "picture.toml").write_text(DESCRIPTIONS["picture.toml"].replace("burned_in_annotation", "# "))
    (capture,) = _encoded(COMMANDS["sc"])
    assert capture.BurnedInAnnotation == "YES"


def test_a_map_becomes_a_parametric_map(folder: Path) -> None:
    (result,) = _encoded(COMMANDS["pm"])
    assert np.array_equal(result.pixel_array, np.load("probabilities.npy")[0])


def test_labels_become_measurements_and_outlines_too(folder: Path) -> None:
    files = "--from labels.nii.gz --from lungs.toml"
    segmentation, report = _encoded(f"aidicombridge encode ct --as sr {files} --out sr --profile plain-pacs")
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.22", "the profile's class of report"
    assert read_measurement_report(report)[0].segmentation_uid == segmentation.SOPInstanceUID
    captures = _encoded(f"aidicombridge encode ct --as sc {files} --out sc")
    slices = np.count_nonzero((phantom_labels() == 1).any(axis=(1, 2)))
    assert len(captures) == slices
    (page,) = _encoded(f"aidicombridge encode ct --as summary {files} --out summary")
    assert page.SeriesDescription.startswith("lungnet summary")
    captures = _encoded(f"aidicombridge encode ct --as sc {files} --out plain --profile plain-pacs")
    assert len(captures) == slices + 1, "for viewers that show nothing else, the page comes along"


def test_labels_without_a_voxel_become_what_the_profile_says(folder: Path) -> None:
    np.save(folder / "empty.npy", np.zeros((12, 64, 72), np.uint8))
    files = "--from empty.npy --from lungs.toml"
    (report,) = _encoded(f"aidicombridge encode ct --as seg {files} --out report --profile plain-pacs")
    assert read_measurement_report(report)[0].evaluations[0].answer.meaning == "Absent"
    (segmentation,) = _encoded(f"aidicombridge encode ct --as seg {files} --out seg")
    assert segmentation.SegmentationType == "BINARY"


@pytest.mark.parametrize("kind", ["seg", "fractional"])
def test_a_segmentation_with_other_voxels_is_not_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def damaged(*args: object, **options: object) -> Dataset:
        segmentation = build_segmentation(*args, **options)  # type: ignore[arg-type]
        segmentation.PixelData = bytes(len(segmentation.PixelData))
        return segmentation

    monkeypatch.setattr("AIDicomBridgeLib.results.result_set.build_segmentation", damaged)
    result = CliRunner().invoke(app, [*shlex.split(COMMANDS[kind])[1:], "--json"])
    assert result.exit_code == 1
    assert "voxels read back" in result.output
    assert not list(folder.rglob("seg-*.dcm"))


def test_a_description_may_be_json_and_regions_of_any_kind(folder: Path) -> None:
    nodule = {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"}
    center = (find_series(folder / "ct").ijk_to_lps @ (30, 30, 6, 1))[:3].tolist()
    regions = {
        "point_ijk": [30, 30, 6],
        "point_lps_mm": center,
        "polygon_ijk": [[5, 5, 3], [9, 5, 3], [9, 9, 3]],
        "ellipsoid_lps_mm": [center, [4, 0, 0], [0, 5, 0], [0, 0, 6]],
    }
    detections = [{"name": key, "finding": nodule, key: value} for key, value in regions.items()]
    (folder / "a.json").write_text(json.dumps({"observer": "Reader^One", "detections": detections}))
    (report,) = _encoded("aidicombridge encode ct --as detection --from a.json --out any")
    rows = read_measurement_report(report)
    assert [row.regions[0].graphic_type for row in rows] == ["POINT", "POINT", "POLYGON", "ELLIPSOID"]
    assert rows[0].regions[0].points[0] == pytest.approx(rows[1].regions[0].points[0], abs=1e-3)
    assert "Reader^One" in str(report)
    (folder / "none.json").write_text(json.dumps({"looked_for": nodule}))
    (report,) = _encoded("aidicombridge encode ct --as detection --from none.json --out none")
    assert read_measurement_report(report)[0].evaluations[0].answer.meaning == "Absent"


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        ("seg", ("version =", "versoin ="), r"\[algorithm\] has the unknown key 'versoin'. Do you mean 'version'\?"),
        (
            "seg",
            ("[algorithm] ", "colour = 1\n[algorithm] "),
            "lungs.toml has the unknown key 'colour'. Its keys are: algo",
        ),
        (
            "seg",
            ('name = "lungnet"', 'name = "a"\nfamily = 1'),
            r"\[algorithm\] has the unknown key 'family'. Its keys are: ",
        ),
        ("seg", ("label = 1", 'label = "1"'), r"\[\[segments\]\] 1: 'label' must be of type int"),
        ("seg", ("label = 1", "label = 2"), r"label values \[1\] have no segment"),
        (
            "seg",
            ('"39607008", scheme', '"39607008", schema'),
            r"1 \[type\] has the unknown key 'schema'. Do you mean 'scheme'",
        ),
        ("seg", ('meaning = "Lung"', 'meaning = ""'), r"\[type\]: 'value', 'scheme' and 'meaning' must not be empty"),
        ("seg", ("[algorithm]", "[algorithm"), "lungs.toml cannot be read"),
        ("classification", ("0.93", "93.0"), r"\[\[classifications\]\] 1: the probability of 'Lung nodule' is 93.0"),
        ("classification", ('"study"', '"patient"'), "'level' must be one of"),
        ("detection", ("box_ijk", "box_voxel"), "needs exactly one of point_lps_mm, point_ijk"),
        ("detection", ("[[20, 30, 4], [28, 37, 6]]", "[[20, 30], [28, 37]]"), "triplets"),
        ("detection", ("[[20, 30, 4], [28, 37, 6]]", "[1, 2, 3]"), r"\[\[detections\]\] 1: "),
        ("detection", ("box_ijk", "box_lps_mm"), "outside the images"),
        ("sc", ("[pictures] ", "[map] "), "lacks the key 'pictures'"),
        ("sc", ('"NO"', '"no"'), "'burned_in_annotation' must be one of"),
    ],
)
def test_a_wrong_description_is_refused_by_table_and_key(
    folder: Path, kind: str, wrong: tuple[str, str], message: str
) -> None:
    files = [Path(name) for name in re.findall(r"--from (\S+)", COMMANDS[kind])]
    path = next(file for file in files if file.suffix == ".toml")
    text = DESCRIPTIONS[path.name]
    assert wrong[0] in text
    path.write_text(text.replace(wrong[0], wrong[1], 1), encoding="utf-8")
    with pytest.raises(EncodingError) as caught:
        encode_files(find_series(folder / "ct"), kind, files)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_missing_and_surplus_files_are_refused_and_nothing_is_written(folder: Path) -> None:
    source = find_series(folder / "ct")
    for kind, names, message in (
        ("seg", ["labels.nii.gz"], "needs one description"),
        ("seg", ["lungs.toml"], "needs 1 data file, not 0"),
        ("classification", ["answers.toml", "heat.nrrd"], "needs 0 data files, not 1: heat.nrrd"),
        ("sc", ["picture.toml"], "needs a picture"),
        ("pm", [], "needs 1 data file"),
        ("report", [], "no kind of result"),
    ):
        with pytest.raises(EncodingError, match=message):
            encode_files(source, kind, [Path(name) for name in names])
    result = CliRunner().invoke(app, [*shlex.split(COMMANDS["seg"])[1:-2], "--from", "heat.nrrd", "--out", "x"])
    assert result.exit_code == 1
    assert not (folder / "x").exists()
    assert CliRunner().invoke(app, ["encode", "ct", "--as", "mesh", "--from", "a", "--out", "x"]).exit_code == 2


# Files on the grid


@pytest.mark.parametrize("flip", [(False, False, False), (True, False, True), (False, True, False)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_axes_of_another_order_come_into_the_series_own(
    folder: Path, order: tuple[int, int, int], flip: tuple[bool, bool, bool]
) -> None:
    source = find_series(folder / "ct")
    values = np.random.default_rng(1).random(source.shape).astype(np.float32)
    image = sitk.Flip(sitk.PermuteAxes(_image(values, source), order), flip)
    sitk.WriteImage(image, folder / "turned.nrrd")
    assert np.array_equal(read_grid(folder / "turned.nrrd", source), values)


def test_channels_come_first(folder: Path) -> None:
    source = find_series(folder / "ct")
    values = np.random.default_rng(1).random((2, *source.shape)).astype(np.float32)
    image = sitk.Compose([_image(channel, source) for channel in values])
    sitk.WriteImage(image, folder / "two.nrrd")
    assert np.array_equal(read_grid(folder / "two.nrrd", source), values)


def test_another_grid_is_refused(folder: Path) -> None:
    source = find_series(folder / "ct")
    moved, coarse = _image(np.zeros(source.shape, np.uint8), source), _image(np.zeros((12, 64, 36), np.uint8), source)
    moved.SetOrigin(source.ijk_to_lps[:3, 3] + 0.5)
    for image in (moved, coarse):
        sitk.WriteImage(image, folder / "other.nrrd")
        with pytest.raises(GeometryError, match="not on the grid"):
            read_grid(folder / "other.nrrd", source)
    np.save(folder / "other.npy", np.zeros((64, 72, 12), np.uint8))
    with pytest.raises(GeometryError, match="the series"):
        read_grid(folder / "other.npy", source)


def test_what_holds_no_labels_or_pictures_is_refused(folder: Path) -> None:
    source = find_series(folder / "ct")
    for name, array in (("fractions", np.full(source.shape, 0.5)), ("negative", np.full(source.shape, -1))):
        np.save(folder / f"{name}.npy", array)
        with pytest.raises(EncodingError, match="no labels"):
            read_labels(folder / f"{name}.npy", source)
    np.save(folder / "whole.npy", np.full(source.shape, 2.0))
    assert read_labels(folder / "whole.npy", source).dtype == np.uint8
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (folder / "text.nrrd").write_text("no image")
    (folder / "text.png").write_text("no picture")
    for read in (
        lambda: read_grid(folder / "objects.npy", source),
        lambda: read_grid(folder / "text.nrrd", source),
        lambda: read_grid(folder / "absent.nrrd", source),
        lambda: read_pictures(folder / "text.png"),
        lambda: read_pictures(folder / "text.nrrd"),
    ):
        with pytest.raises(EncodingError):
            read()
