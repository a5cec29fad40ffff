"""Secondary captures: what a person sees in a viewer that shows nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import EncodingError, GeometryError
from AIDicomBridgeLib.results.overlay import PictureSize, opposite, outline, patient_orientation
from AIDicomBridgeLib.results.secondary_capture import build_secondary_captures
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from segmented import make_labels
from synthetic import CORONAL, OBLIQUE, SAGITTAL


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
        assert capture.SeriesNumber == 30001


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
