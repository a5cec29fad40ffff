"""Secondary captures: what a person sees in a viewer that shows nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import EncodingError, GeometryError
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.labels import LabelVolume
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.overlay import PictureSize, opposite, outline, patient_orientation
from AIDicomBridgeLib.results.secondary_capture import (
    build_picture_captures,
    build_secondary_captures,
    build_summary_capture,
)
from AIDicomBridgeLib.results.segment_description import display_color
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.series.volume import read_volume
from PIL import ImageDraw
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from segmented import SEGMENTS, make_labels
from synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL


def test_every_slice_with_labels_becomes_an_image_of_one_new_series(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "ct")
    segmentation = build_segmentation(labels)
    captures = build_secondary_captures(labels, read_volume(labels.source), segmentation=segmentation)
    slices = [k for k, plane in enumerate(labels.labels) if plane.any()]
    assert len(captures) == len(slices)
    assert len({capture.SeriesInstanceUID for capture in captures}) == 1
    assert len({capture.SOPInstanceUID for capture in captures}) == len(captures)
    assert [int(capture.InstanceNumber) for capture in captures] == list(range(1, len(captures) + 1))
    for capture, k in zip(captures, slices, strict=True):
        referenced = [item.ReferencedSOPInstanceUID for item in capture.SourceImageSequence]
        assert referenced == [labels.source.sop_instance_uids[k], segmentation.SOPInstanceUID]
        assert capture.StudyInstanceUID == labels.source.study_uid
        assert capture.PatientID == "SYN-1"
        assert capture.ImageType == ["DERIVED", "SECONDARY"]
        assert (capture.ConversionType, capture.BurnedInAnnotation) == ("WSD", "NO")
        assert capture.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert capture.SeriesNumber // 10000 == 13


def test_the_outline_is_drawn_where_the_segment_is_and_in_its_colour(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "ct")
    only_first = replace(
        labels, labels=np.where(labels.labels == 1, labels.labels, 0).astype(np.uint8), provenance=None
    )
    capture = build_secondary_captures(only_first, read_volume(labels.source), slices=[5])[0]
    capture.save_as(tmp_path / "sc.dcm", enforce_file_format=True)
    picture = dcmread(tmp_path / "sc.dcm").pixel_array
    colored = (picture == labels.segments[0].color_rgb).all(axis=2)
    colored[-40:, :40] = False  # the legend's patch
    rows, columns = np.nonzero(colored)
    scale = np.array(picture.shape[:2]) / labels.labels.shape[1:]
    inside = np.nonzero(only_first.labels[5])
    for drawn, there, factor in zip((rows, columns), inside, scale, strict=True):
        assert drawn.min() == pytest.approx(there.min() * factor, abs=factor)
        assert drawn.max() == pytest.approx((there.max() + 1) * factor, abs=factor)
    middle = (int((inside[0].mean() + 0.5) * scale[0]), int((inside[1].mean() + 0.5) * scale[1]))
    assert not colored[middle], "an outline, not a filled area"
    assert picture[middle].max() == 0, "lung is black in the source's window"


def test_pictures_are_large_enough_and_keep_the_proportions() -> None:
    size = PictureSize.for_slice(64, 72, (0.8, 0.6))
    assert max(size.rows, size.columns) == 512
    assert size.rows / size.columns == pytest.approx(64 * 0.8 / (72 * 0.6), rel=0.01)
    assert PictureSize.for_slice(512, 512, (0.7, 0.7)) == PictureSize(512, 512, 0.7)
    thick = PictureSize.for_slice(20, 512, (10.0, 0.05))
    assert max(thick.rows, thick.columns) <= 2048


def test_a_burnt_in_name_of_the_source_stays_declared(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    for header in labels.source.headers:
        header.BurnedInAnnotation = "YES"
    assert build_secondary_captures(labels, read_volume(labels.source), slices=[5])[0].BurnedInAnnotation == "YES"


@pytest.mark.parametrize(
    ("body_part", "stated", "written"),
    [("ABDOMEN", "L", None), ("KIDNEY", "L", "L"), ("KIDNEY", None, ""), (None, None, "")],
)
def test_laterality_is_there_for_all_but_unpaired_body_parts(
    tmp_path: Path, body_part: str | None, stated: str | None, written: str | None
) -> None:
    labels = make_labels(tmp_path)
    for header in labels.source.headers:
        header.BodyPartExamined = body_part
        if stated:
            header.Laterality = stated
    capture = build_secondary_captures(labels, read_volume(labels.source), slices=[5])[0]
    assert (str(capture.Laterality or "") if "Laterality" in capture else None) == written


@pytest.mark.parametrize(
    ("orientation", "letters"), [(SAGITTAL, ("P", "F")), (CORONAL, ("L", "F")), (OBLIQUE, ("LP", "PHR"))]
)
def test_the_patients_directions_are_written(
    tmp_path: Path, orientation: tuple[float, ...], letters: tuple[str, str]
) -> None:
    labels = make_labels(tmp_path, orientation)
    assert patient_orientation(labels.ijk_to_lps) == letters
    capture = build_secondary_captures(labels, read_volume(labels.source), slices=[5])[0]
    assert tuple(capture.PatientOrientation) == letters
    assert opposite("PHR") == "AFL"


@pytest.mark.parametrize(
    ("orientation", "left", "top"), [(AXIAL, "R", "A"), (SAGITTAL, "A", "H"), (OBLIQUE, "RA", "AFL")]
)
def test_the_letters_at_the_left_and_the_top_name_the_side_that_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: tuple[float, ...], left: str, top: str
) -> None:
    written: dict[str, tuple[float, float]] = {}
    plain = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, **options: object) -> None:
        written[text] = (xy[0] / self.im.size[0], xy[1] / self.im.size[1])
        plain(self, xy, text, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    labels = make_labels(tmp_path, orientation)
    capture = build_secondary_captures(labels, read_volume(labels.source), slices=[5])[0]
    letters = {name: place for name, place in written.items() if set(name) <= set("LRAPHF")}
    assert set(letters) == {left, top}
    assert letters[left] == (pytest.approx(0, abs=0.03), pytest.approx(0.5))
    assert letters[top] == (pytest.approx(0.5), pytest.approx(0, abs=0.03))
    # What PS3.3 calls Patient Orientation is where the right and the lower edge lie: the other ends.
    assert [opposite(letters) for letters in capture.PatientOrientation] == [left, top]


def test_a_source_whose_low_values_are_white_is_drawn_so(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    volume = read_volume(labels.source)
    plain = build_secondary_captures(labels, volume, slices=[5])[0].pixel_array[200, 200]
    for header in labels.source.headers:
        header.PhotometricInterpretation = "MONOCHROME1"
    turned = build_secondary_captures(labels, volume, slices=[5])[0].pixel_array[200, 200]
    assert plain.tolist() == (255 - turned).tolist()
    assert plain.tolist() != turned.tolist()


def test_the_pixel_spacing_is_that_of_the_picture(tmp_path: Path) -> None:
    labels = make_labels(tmp_path, spacing_mm=(3.0, 0.8, 0.6))
    capture = build_secondary_captures(labels, read_volume(labels.source), slices=[5])[0]
    rows_mm, columns_mm = capture.NominalScannedPixelSpacing
    assert rows_mm * capture.Rows == pytest.approx(64 * 0.8, rel=0.01)
    assert columns_mm * capture.Columns == pytest.approx(72 * 0.6, rel=0.01)


def test_a_segment_at_the_edge_is_outlined_there() -> None:
    labels = np.ones((10, 10), np.uint8)
    lines = outline(labels)
    assert lines[0].all()
    assert lines[:, -1].all()
    assert not lines[2:-2, 2:-2].any()


def test_without_labels_there_is_nothing_to_show(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    empty = replace(labels, labels=np.zeros_like(labels.labels))
    assert build_secondary_captures(empty, read_volume(labels.source)) == []


def test_slices_and_windows_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    volume = read_volume(labels.source)
    with pytest.raises(GeometryError, match="within 0 to 11"):
        build_secondary_captures(labels, volume, slices=[12])
    with pytest.raises(EncodingError, match="no width"):
        build_secondary_captures(labels, volume, window=(40, 0))


def test_the_summary_page_shows_every_segment_and_the_key_slices(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "ct")
    volume = read_volume(labels.source)
    segmentation = build_segmentation(labels)
    page = build_summary_capture(labels, volume, measure(labels, volume), segmentation=segmentation)
    assert check_conformance(page, labels.source, related=[segmentation]) == []
    picture = page.pixel_array
    for segment in labels.segments:
        patch = (picture[:, 30:48] == display_color(segment)).all(axis=2)
        assert patch.sum() >= 18 * 18, "the segment's colour stands at the left of its row"
    referenced = [item.ReferencedSOPInstanceUID for item in page.SourceImageSequence]
    assert len(referenced) == 4
    assert set(referenced[:3]) < set(labels.source.sop_instance_uids)
    assert referenced[3] == segmentation.SOPInstanceUID
    assert (page.SeriesNumber // 10000, page.SeriesDescription) == (17, "phantomnet summary (not for diagnostic use)")
    assert not page.PatientOrientation


def test_the_summary_of_nothing_and_of_many_segments_is_a_page_too(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "ct")
    volume = read_volume(labels.source)
    name = "Segment {} with a very long name, longer than its column"
    segments = tuple(replace(SEGMENTS[0], label=n, name=name.format(n)) for n in range(1, 121))
    empty = LabelVolume(np.zeros_like(labels.labels), segments, source=labels.source)
    page = build_summary_capture(empty, volume, measure(empty, volume))
    assert page.Columns == 1200
    assert page.Rows < 4000
    with pytest.raises(EncodingError, match="not those of the labels"):
        build_summary_capture(empty, volume, measure(labels, volume))


def test_any_picture_joins_the_study(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "ct")
    source = labels.source
    pictures = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3)).astype(np.uint8)
    captures = build_picture_captures(pictures, source, description="Attention of the network", slices=[4, 5])
    for capture, picture, k in zip(captures, pictures, (4, 5), strict=True):
        assert check_conformance(capture, source) == []
        assert np.array_equal(capture.pixel_array, picture)
        assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.sop_instance_uids[k]
        assert capture.DerivationDescription == "Attention of the network"
        assert capture.StudyInstanceUID == source.study_uid
        assert capture.PatientOrientation == ["L", "P"]
    assert len({capture.SeriesInstanceUID for capture in captures}) == 1
    alone = build_picture_captures(pictures[0], source, description="Graph")[0]
    assert len(alone.SourceImageSequence) == len(source.slices)
    assert not alone.PatientOrientation


@pytest.mark.parametrize(
    ("pictures", "slices", "error"),
    [
        (np.zeros((4, 5), np.uint8), None, EncodingError),
        (np.zeros((1, 4, 5, 3), np.float32), None, EncodingError),
        (np.zeros((1, 4, 5, 4), np.uint8), None, EncodingError),
        (np.zeros((0, 4, 5, 3), np.uint8), None, EncodingError),
        (np.zeros((2, 4, 5, 3), np.uint8), [1], EncodingError),
        (np.zeros((1, 4, 5, 3), np.uint8), [12], GeometryError),
    ],
)
def test_pictures_that_are_none_are_refused(
    tmp_path: Path, pictures: np.ndarray, slices: list[int] | None, error: type[Exception]
) -> None:
    source = make_labels(tmp_path / "ct").source
    with pytest.raises(error):
        build_picture_captures(pictures, source, description="x", slices=slices)
