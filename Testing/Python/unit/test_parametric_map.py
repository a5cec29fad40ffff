"""Parametric maps: values, quantity and unit, and the slices that they belong to."""

from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import EncodingError, GeometryError
from AIDicomBridgeLib.results.anatomy import frame_anatomy
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.labels import Code
from AIDicomBridgeLib.results.parametric_map import build_parametric_map
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import Dataset, dcmread
from segmented import LUNG, PROVENANCE, make_source
from synthetic import OBLIQUE, body_phantom, make_enhanced, make_series, save_series

SHAPE = (12, 64, 72)


@pytest.fixture
def probabilities() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE).astype(np.float32)


def test_every_slice_has_its_values_and_names_its_source(tmp_path: Path, probabilities: np.ndarray) -> None:
    source = make_source(tmp_path / "ct", orientation=OBLIQUE, reverse=True)
    build_parametric_map(probabilities, source, provenance=PROVENANCE).save_as(tmp_path / "pm.dcm")
    read = dcmread(tmp_path / "pm.dcm")
    assert check_conformance(read, source) == []
    assert np.array_equal(read.pixel_array, probabilities)
    for group, piece in zip(read.PerFrameFunctionalGroupsSequence, source.slices, strict=True):
        assert group.PlanePositionSequence[0].ImagePositionPatient == piece.header.ImagePositionPatient
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == piece.sop_instance_uid
    assert (read.SeriesNumber // 10000, read.SeriesDescription) == (14, "phantomnet map (not for diagnostic use)")
    assert read.ContentDescription == "Probability, not for diagnostic use"
    assert read.ContributingEquipmentSequence[-1].ManufacturerModelName == "phantomnet"


def test_quantity_unit_and_window_are_those_given(tmp_path: Path) -> None:
    source = make_source(tmp_path / "mr", modality="MR")
    values = np.linspace(0, 3000, np.prod(SHAPE)).reshape(SHAPE)  # float64
    diffusion = Code("113041", "DCM", "Apparent Diffusion Coefficient")
    unit = Code("um2/s", "UCUM", "um2/s")
    result = build_parametric_map(values, source, quantity=diffusion, unit=unit, window=(1000, 800))
    assert check_conformance(result, source) == []
    shared = result.SharedFunctionalGroupsSequence[0]
    mapping = shared.RealWorldValueMappingSequence[0]
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == "113041"
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "um2/s"
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == 3000
    assert (shared.FrameVOILUTSequence[0].WindowCenter, shared.FrameVOILUTSequence[0].WindowWidth) == (1000, 800)
    assert np.frombuffer(result.FloatPixelData, "<f4") == pytest.approx(values.ravel())


def test_frames_of_an_enhanced_source_are_named(tmp_path: Path, probabilities: np.ndarray) -> None:
    source = read_volume(save_series([make_enhanced(make_series(body_phantom()))], tmp_path)).source
    result = build_parametric_map(probabilities, source)
    assert check_conformance(result, source) == []
    references = [
        group.DerivationImageSequence[0].SourceImageSequence[0] for group in result.PerFrameFunctionalGroupsSequence
    ]
    assert [item.ReferencedFrameNumber for item in references] == list(range(1, 13))
    assert len(result.SourceImageSequence) == len(result.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1


def test_values_that_are_no_map_are_refused(tmp_path: Path, probabilities: np.ndarray) -> None:
    source = make_source(tmp_path)
    with pytest.raises(GeometryError, match="not on the grid"):
        build_parametric_map(probabilities[1:], source)
    with pytest.raises(EncodingError, match="probabilities lie between 0 and 1"):
        build_parametric_map(probabilities * 2, source)
    probabilities[3, 4, 5] = np.nan
    with pytest.raises(EncodingError, match="not finite"):
        build_parametric_map(probabilities, source)


def test_values_that_float32_cannot_hold_are_refused_and_those_that_it_can_have_a_window(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    values = np.linspace(-1, 1, np.prod(SHAPE)).reshape(SHAPE)
    unit = Code("1", "UCUM", "no units")
    with pytest.raises(EncodingError, match="the limit of float32"):
        build_parametric_map(values * 1e39, source, quantity=LUNG, unit=unit)
    result = build_parametric_map(values * 3e38, source, quantity=LUNG, unit=unit)
    assert np.isfinite(result.pixel_array).all()
    window = result.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert window.WindowCenter == 0
    assert 0 < window.WindowWidth < 2**63, "what readers with integers of 64 bits can hold"
    for window in ((0, 0), (0, -5), (np.inf, 1), (0, np.nan)):
        with pytest.raises(EncodingError, match="no width"):
            build_parametric_map(values, source, quantity=LUNG, unit=unit, window=window)


def test_a_constant_map_has_a_window_and_faults_are_found(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    result = build_parametric_map(np.zeros(SHAPE), source)
    assert result.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0].WindowWidth > 0
    del result.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    del result.PerFrameFunctionalGroupsSequence[2].DerivationImageSequence
    del result.FrameOfReferenceUID
    found = " ".join(finding.message for finding in check_conformance(result, source))
    assert "no quantity or no unit" in found
    assert "does not name its source" in found
    assert "frame of reference" in found


@pytest.mark.parametrize(
    ("part", "laterality", "region", "side"),
    [
        ("CHEST", None, "Chest", "U"),
        ("KNEE", "L", "Knee", "L"),
        ("", "R", "Entire body", "R"),
        (None, "", "Entire body", "U"),
    ],
)
def test_the_region_is_what_the_header_says(part: str | None, laterality: str | None, region: str, side: str) -> None:
    header = Dataset()
    header.BodyPartExamined, header.Laterality = part, laterality
    item = frame_anatomy(header)
    assert (item.AnatomicRegionSequence[0].CodeMeaning, item.FrameLaterality) == (region, side)
