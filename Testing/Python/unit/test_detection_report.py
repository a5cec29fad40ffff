"""Detections: regions in space or on slices, with score, finding and site."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import EncodingError
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.detection_report import build_detection_report
from AIDicomBridgeLib.results.labels import Code
from AIDicomBridgeLib.results.measurements import Measurement
from AIDicomBridgeLib.results.observations import Detection, Evaluation
from AIDicomBridgeLib.results.quantities import MILLIMETER
from AIDicomBridgeLib.results.regions import Region
from AIDicomBridgeLib.results.report_table import ReportGroup, read_measurement_report
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import Dataset
from segmented import LUNG, PROVENANCE, RIGHT, make_source
from synthetic import OBLIQUE, body_phantom, make_enhanced, make_series, save_series

NODULE = Code("27925004", "SCT", "Nodule")
PRESENT = Evaluation(Code("705057003", "SCT", "Presence"), Code("52101004", "SCT", "Present"))


@pytest.fixture
def source(tmp_path: Path) -> SourceSeries:
    return make_source(tmp_path / "ct", orientation=OBLIQUE)


def _ijk(points: np.ndarray, source: SourceSeries) -> np.ndarray:
    return (np.linalg.inv(source.ijk_to_lps) @ np.c_[points, np.ones(len(points))].T)[:3].T


def _read(report: Dataset, folder: Path) -> list[ReportGroup]:
    report.save_as(folder / "sr.dcm", enforce_file_format=True)
    return read_measurement_report(folder / "sr.dcm")


def test_everything_said_of_a_detection_comes_back(tmp_path: Path, source: SourceSeries) -> None:
    diameter = Measurement(Code("81827009", "SCT", "Diameter"), 6.5, MILLIMETER)
    detection = Detection(
        "Nodule 1",
        NODULE,
        Region.point((10, 20, 3), ijk_to_lps=source.ijk_to_lps),
        score=0.75,
        site=LUNG,
        site_modifier=RIGHT,
        evaluations=(PRESENT,),
        measurements=(diameter,),
        tracking_uid="1.2.3.4",
    )
    report = build_detection_report([detection], source, provenance=PROVENANCE)
    assert check_conformance(report, source) == []
    assert report.SeriesNumber // 10000 == 16
    found = _read(report, tmp_path)[0]
    assert (found.name, found.tracking_uid, found.finding) == ("Nodule 1", "1.2.3.4", NODULE)
    assert (found.site, found.site_modifier, found.evaluations) == (LUNG, RIGHT, (PRESENT,))
    assert found.value("Probability") == 0.75
    assert found.value("Diameter") == 6.5
    assert _ijk(np.array(found.regions[0].points), source) == pytest.approx(np.array([[10, 20, 3]]), abs=1e-3)


def test_regions_are_where_their_voxels_are(tmp_path: Path, source: SourceSeries) -> None:
    corners, affine = [(5, 5, 3), (15, 6, 3), (11, 20, 3)], source.ijk_to_lps
    center = affine @ (30, 30, 6, 1)
    regions = {
        "polygon": Region.polygon([*corners, corners[0]], ijk_to_lps=affine),
        "box": Region.box((15, 5, 6), (5, 12, 3), ijk_to_lps=affine),
        "flat box": Region.box((5, 5, 3), (15, 12, 3), ijk_to_lps=affine),
        "ellipsoid": Region.ellipsoid(center[:3], [(5, 0, 0), (0, 6, 0), (0, 0, 7)]),
    }
    detections = [Detection(name, NODULE, region) for name, region in regions.items()]
    report = build_detection_report(detections, source)
    assert check_conformance(report, source) == []
    found = {group.name: group.regions for group in _read(report, tmp_path)}
    ring = np.array([*corners, corners[0]])
    assert _ijk(np.array(found["polygon"][0].points), source) == pytest.approx(ring, abs=1e-3)
    assert [region.graphic_type for region in found["box"]] == ["POLYGON", "POLYGON"]
    box = _ijk(np.concatenate([region.points for region in found["box"]]), source)
    assert box.min(axis=0) == pytest.approx([4.5, 4.5, 3], abs=1e-3)
    assert box.max(axis=0) == pytest.approx([15.5, 12.5, 6], abs=1e-3)
    assert len(found["flat box"]) == 1
    assert found["ellipsoid"][0].graphic_type == "ELLIPSOID"
    assert np.mean(found["ellipsoid"][0].points, axis=0) == pytest.approx(center[:3], abs=1e-3)


def _enhanced_source(folder: Path) -> SourceSeries:
    datasets = make_series(body_phantom(), orientation=OBLIQUE)
    return read_volume(save_series([make_enhanced(datasets)], folder)).source


@pytest.mark.parametrize("sr_class", ["COMPREHENSIVE", "ENHANCED"])
@pytest.mark.parametrize("make", [lambda folder: make_source(folder, orientation=OBLIQUE), _enhanced_source])
def test_reports_without_space_have_regions_on_the_slices(
    tmp_path: Path, sr_class: str, make: Callable[[Path], SourceSeries]
) -> None:
    source = make(tmp_path / "in")
    affine = source.ijk_to_lps
    detections = [
        Detection("point", NODULE, Region.point((10, 20, 3), ijk_to_lps=affine)),
        Detection("box", NODULE, Region.box((5, 5, 3), (15, 12, 5), ijk_to_lps=affine)),
    ]
    report = build_detection_report(detections, source, sr_class=sr_class)
    assert check_conformance(report, source) == []
    point, box = _read(report, tmp_path)
    assert point.regions[0].points[0] == pytest.approx((10.5, 20.5))
    assert point.regions[0].image_uid == source.slices[3].sop_instance_uid
    assert [region.image_uid for region in box.regions] == [source.slices[k].sop_instance_uid for k in (3, 4, 5)]
    ring = np.array([(5.0, 5.0), (16.0, 5.0), (16.0, 13.0), (5.0, 13.0), (5.0, 5.0)])
    assert all(np.allclose(region.points, ring, atol=1e-3) for region in box.regions)


def test_what_lies_across_slices_needs_space(source: SourceSeries) -> None:
    affine = source.ijk_to_lps
    across = Region.polygon([(5, 5, 3), (15, 5, 3), (15, 5, 9)], ijk_to_lps=affine)
    for region in (across, Region.ellipsoid((affine @ (30, 30, 6, 1))[:3], np.eye(3) * 5)):
        build_detection_report([Detection("a", NODULE, region)], source)
        with pytest.raises(EncodingError, match="needs a Comprehensive 3D SR"):
            build_detection_report([Detection("a", NODULE, region)], source, sr_class="ENHANCED")


def test_nothing_found_is_said_to_be_absent(tmp_path: Path, source: SourceSeries) -> None:
    report = build_detection_report([], source, looked_for=NODULE)
    assert check_conformance(report, source) == []
    found = _read(report, tmp_path)[0]
    assert (found.finding, found.evaluations[0].answer.meaning) == (NODULE, "Absent")
    with pytest.raises(EncodingError, match="no detection"):
        build_detection_report([], source)


def test_regions_outside_the_images_are_refused(source: SourceSeries) -> None:
    # Voxel indices given as millimetres, the usual mistake.
    with pytest.raises(EncodingError, match="outside the images") as caught:
        build_detection_report([Detection("a", NODULE, Region.point((10, 20, 3)))], source)
    assert "LPS millimetres" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Region.polygon([(0, 0, 0), (1, 0, 0)]), "cannot have 2 points"),
        (lambda: Region.polygon([(0, 0, 0), (9, 0, 0), (9, 9, 0), (0, 9, 5)]), "one plane"),
        (lambda: Region.point((0, float("nan"), 0)), "finite"),
        (lambda: Region.point((0, 0)), "triplets"),
        (lambda: Region.point(("a", "b", "c")), "numbers"),
        (lambda: Region.box((0, 0, 0), (0, 5, 5)), "no extent"),
        (lambda: Region.ellipsoid((0, 0, 0), [(1, 0, 0), (1, 1, 0), (0, 0, 1)]), "perpendicular"),
        (lambda: Region("BALL", ((0.0, 0.0, 0.0),)), "'BALL' cannot"),
        (lambda: Detection("a", NODULE, Region.point((0, 0, 0)), score=2.0), "not between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        make()
