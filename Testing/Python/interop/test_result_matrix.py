"""Every kind of result from every kind of source, in the hands of independent programs.

The one exception that is named: a report that refers to the segments of a label map. dciodvfy does not know yet that
this is allowed, and dsrdump before DCMTK 3.6.9 does not know label maps at all; dcmqi and highdicom read such reports.
"""

from dataclasses import dataclass, field
from pathlib import Path

import highdicom
import numpy as np
import pytest
from AIDicomBridgeLib.results.classification_report import build_classification_report
from AIDicomBridgeLib.results.codes import PRESENCE
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.detection_report import build_detection_report
from AIDicomBridgeLib.results.labels import Code, LabelVolume
from AIDicomBridgeLib.results.measurement_report import build_measurement_report
from AIDicomBridgeLib.results.measurements import SegmentMeasurements, measure
from AIDicomBridgeLib.results.observations import Classification, Detection, Evaluation
from AIDicomBridgeLib.results.parametric_map import build_parametric_map
from AIDicomBridgeLib.results.regions import Region
from AIDicomBridgeLib.results.report_table import read_measurement_report
from AIDicomBridgeLib.results.secondary_capture import (
    build_picture_captures,
    build_secondary_captures,
    build_summary_capture,
)
from AIDicomBridgeLib.results.segment_description import with_tracking_uids
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.series.volume import read_volume
from peers.validators import (
    dciodvfy_errors,
    dcmtk_complaints,
    import_segmentation_as_slicer,
    on_grid,
    read_labels_with_dcmqi,
    read_map_with_dcmqi,
    read_report_with_dcmqi,
    save,
)
from pydicom import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage, generate_uid
from segmented import LEFT, LUNG, PROVENANCE, SEGMENTS, phantom_labels
from synthetic import OBLIQUE, SAGITTAL, body_phantom, make_enhanced, make_series, save_series

SHAPE = (9, 32, 36)
NODULE = Code("27925004", "SCT", "Nodule")
PRESENT = Evaluation(PRESENCE, Code("52101004", "SCT", "Present"))


def _pet() -> list[Dataset]:
    datasets = make_series(np.abs(body_phantom(SHAPE)))
    for number, ds in enumerate(datasets, start=1):
        ds.SOPClassUID, ds.Modality, ds.Units = PositronEmissionTomographyImageStorage, "PT", "BQML"
        ds.ImageType = ["ORIGINAL", "PRIMARY"]
        ds.CountsSource, ds.SeriesType, ds.NumberOfSlices = "EMISSION", ["STATIC", "IMAGE"], len(datasets)
        ds.CorrectedImage, ds.DecayCorrection, ds.CollimatorType = ["ATTN", "DECY"], "START", "NONE"
        ds.FrameReferenceTime, ds.ImageIndex, ds.ActualFrameDuration = "0", number, "60000"
        del ds.KVP, ds.RescaleType
    return datasets


def _dirty() -> list[Dataset]:
    datasets = make_series(body_phantom(SHAPE))
    for ds in datasets:
        ds.SpecificCharacterSet, ds.PatientName = ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"
        for name in ("StudyID", "AccessionNumber", "PatientBirthDate", "SliceThickness", "BodyPartExamined"):
            del ds[name]
        with pytest.warns(UserWarning, match="Invalid value"):
            ds.StudyTime, ds.PatientSex = "10:11:12", "male"
        ds.ProcedureCodeSequence = [Dataset()]
    return datasets


def _with_lying_spacing() -> list[Dataset]:
    datasets = make_series(body_phantom(SHAPE), modality="MR")
    for ds in datasets:
        ds.SpacingBetweenSlices = "1.5"  # slices were left out on export: they lie 3 mm apart
    return datasets


SOURCES = {
    "CT": lambda: make_series(body_phantom(SHAPE)),
    "MR": lambda: make_series(body_phantom(SHAPE), modality="MR", orientation=SAGITTAL),
    "PT": _pet,
    "Enhanced CT": lambda: [make_enhanced(make_series(body_phantom(SHAPE), reverse=True))],
    "oblique, anisotropic": lambda: make_series(
        body_phantom(SHAPE), orientation=OBLIQUE, spacing_mm=(5.0, 0.4, 1.1), reverse=True
    ),
    "dirty header": _dirty,
    "lying spacing": _with_lying_spacing,
}


@dataclass
class Results:
    labels: LabelVolume
    measured: list[SegmentMeasurements]
    probabilities: np.ndarray
    objects: dict[str, Dataset] = field(default_factory=dict)


@pytest.fixture(scope="module", params=SOURCES)
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("matrix")
    volume = read_volume(save_series(SOURCES[request.param](), folder))
    source = volume.source
    rng = np.random.default_rng(0)
    probabilities = rng.random((len(SEGMENTS), *SHAPE)).astype(np.float32)
    labels = with_tracking_uids(
        LabelVolume(phantom_labels(SHAPE), SEGMENTS, source=source, provenance=PROVENANCE, probabilities=probabilities),
        generate_uid,
    )
    made = Results(labels, measure(labels, volume), probabilities[0])
    classification = Classification(
        "Nodule?", (PRESENT,), probability=0.9, level="study", site=LUNG, site_modifier=LEFT
    )
    regions = {
        "point": Region.point((10, 12, 3), ijk_to_lps=source.ijk_to_lps),
        "polygon": Region.polygon([(5, 5, 3), (15, 6, 3), (11, 20, 3)], ijk_to_lps=source.ijk_to_lps),
        "box": Region.box((5, 5, 3), (15, 12, 6), ijk_to_lps=source.ijk_to_lps),
    }
    detections = [Detection(name, NODULE, region, score=0.5, site=LUNG) for name, region in regions.items()]
    binary = build_segmentation(labels)
    labelmap = build_segmentation(labels, encoding="LABELMAP")
    made.objects = {
        "SEG BINARY": binary,
        "SEG LABELMAP": labelmap,
        "SEG FRACTIONAL": build_segmentation(labels, encoding="FRACTIONAL"),
        "SR measurements": build_measurement_report(labels, made.measured, segmentation=binary, observer_name="A^B"),
        "SR of a label map": build_measurement_report(labels, made.measured, segmentation=labelmap),
        "SR classification": build_classification_report([classification], source, provenance=PROVENANCE),
        "SR detection": build_detection_report(detections, source, provenance=PROVENANCE),
        "SC": build_secondary_captures(labels, volume, segmentation=binary, slices=[5])[0],
        "SC summary": build_summary_capture(labels, volume, made.measured, segmentation=binary),
        "SC pictures": build_picture_captures(np.zeros((8, 9, 3), np.uint8), source, description="Attention")[0],
        "PM": build_parametric_map(made.probabilities, source, provenance=PROVENANCE),
    }
    return made


def test_our_own_checks_and_dciodvfy_find_no_error(results: Results, tmp_path: Path) -> None:
    related = [results.objects["SEG BINARY"], results.objects["SEG LABELMAP"]]
    labels = results.labels
    for name, item in results.objects.items():
        assert check_conformance(item, labels.source, related=related) == [], name
        for numbers in ([], results.measured):  # without them, volumes are compared with the labels
            found = check_conformance(item, labels.source, related=related, labels=labels, measurements=numbers)
            assert found == [], name
    found = {name: dciodvfy_errors(item, tmp_path) for name, item in results.objects.items()}
    known = [error for error in found["SR of a label map"] if "ReferencedSegmentNumber" in error]
    found["SR of a label map"] = [error for error in found["SR of a label map"] if error not in known]
    assert found == {name: [] for name in results.objects}


def test_dcmtk_accepts_every_object(results: Results, tmp_path: Path) -> None:
    found = {name: dcmtk_complaints(item, tmp_path) for name, item in results.objects.items()}
    of_label_map = found.pop("SR of a label map")
    assert not any(complaint.startswith("dcmdump") for complaint in of_label_map)
    assert found == {name: [] for name in found}


def test_dcmqi_reads_segmentations_and_map_voxel_by_voxel(results: Results, tmp_path: Path) -> None:
    labels = results.labels
    shape, affine = labels.labels.shape, labels.ijk_to_lps
    images, _ = read_labels_with_dcmqi(results.objects["SEG BINARY"], tmp_path)
    for image, segment in zip(images, labels.segments, strict=True):
        assert np.array_equal(on_grid(image, shape, affine) > 0, labels.labels == segment.label)
    (image,), _ = read_labels_with_dcmqi(results.objects["SEG LABELMAP"], tmp_path)
    assert np.array_equal(on_grid(image, shape, affine), labels.labels)
    # dcmqi gives fractions as they are stored: whole numbers, of which 255 (Maximum Fractional Value) stands for 1.
    images, _ = read_labels_with_dcmqi(results.objects["SEG FRACTIONAL"], tmp_path)
    for image, fractions in zip(images, labels.probabilities, strict=True):
        assert np.array_equal(on_grid(image, shape, affine), np.rint(fractions * np.float32(255)))
    image, meta = read_map_with_dcmqi(results.objects["PM"], tmp_path)
    assert np.array_equal(on_grid(image, shape, affine), results.probabilities)
    assert meta["QuantityValueCode"]["CodeMeaning"] == "Probability"


@pytest.mark.parametrize("report", ["SR measurements", "SR of a label map"])
def test_dcmqi_reads_the_reports_values(results: Results, tmp_path: Path, report: str) -> None:
    # The very call of Slicer's importer of TID 1500 reports.
    groups = read_report_with_dcmqi(results.objects[report], tmp_path)["Measurements"]
    for group, measured in zip(groups, results.measured, strict=True):
        assert group["TrackingUniqueIdentifier"] == measured.segment.tracking_uid
        expected = [(number.quantity.value, number.unit.value, number.value) for number in measured.coded()]
        found = [
            (item["quantity"]["CodeValue"], item["units"]["CodeValue"], float(item["value"]))
            for item in group["measurementItems"]
        ]
        assert [entry[:2] for entry in found] == [entry[:2] for entry in expected]
        assert [entry[2] for entry in found] == pytest.approx([entry[2] for entry in expected], rel=1e-6)


@pytest.mark.parametrize("encoding", ["SEG BINARY", "SEG LABELMAP"])
def test_slicers_importer_gets_every_segment(results: Results, tmp_path: Path, encoding: str) -> None:
    labels = results.labels
    parts = import_segmentation_as_slicer(results.objects[encoding], tmp_path)
    by_uid = {segment.tracking_uid: segment for segment in labels.segments}
    found = set()
    for image, segments in parts:
        values = on_grid(image, labels.labels.shape, labels.ijk_to_lps)
        for item in segments:
            segment = by_uid[item["TrackingUniqueIdentifier"]]
            assert item["SegmentLabel"] == segment.name
            assert np.array_equal(values == item["labelID"], labels.labels == segment.label)
            found.add(segment.tracking_uid)
    assert found == set(by_uid)


def test_highdicom_reads_the_regions_as_slicers_importer_asks_for_them(results: Results, tmp_path: Path) -> None:
    report = highdicom.sr.srread(save(results.objects["SR detection"], tmp_path))
    planar = report.content.get_planar_roi_measurement_groups()
    assert [group.tracking_identifier for group in planar] == ["point", "polygon"]
    assert [group.roi.graphic_type.value for group in planar] == ["POINT", "POLYGON"]
    (box,) = report.content.get_volumetric_roi_measurement_groups()
    assert box.finding_type.meaning == "Nodule"
    mine = read_measurement_report(report)
    assert [group.name for group in mine] == ["point", "polygon", "box"]
    assert [region.points for region in mine[0].regions] == [tuple(map(tuple, planar[0].roi.value.tolist()))]


@pytest.mark.parametrize("laterality", [None, "L"])
@pytest.mark.parametrize("body_part", ["KIDNEY", "ABDOMEN", None])
def test_captures_say_the_side_only_where_dicom_asks_for_it(
    tmp_path: Path, body_part: str | None, laterality: str | None
) -> None:
    datasets = make_series(body_phantom(SHAPE))
    for ds in datasets:
        ds.BodyPartExamined, ds.Laterality = body_part, laterality
    source = read_volume(save_series(datasets, tmp_path / "ct")).source
    (capture,) = build_picture_captures(np.zeros((8, 9, 3), np.uint8), source, description="Attention")
    assert dciodvfy_errors(capture, tmp_path) == []
