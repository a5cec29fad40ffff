"""Measurement reports that others wrote, read into the same table as ours."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.results.labels import Code, LabelVolume
from AIDicomBridgeLib.results.report_table import read_measurement_report
from AIDicomBridgeLib.results.segmentation import build_segmentation
from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    FindingSite,
    ImageRegion3D,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    TrackingIdentifier,
)
from peers.validators import program, save
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from segmented import make_labels


@pytest.fixture
def labels(tmp_path: Path) -> LabelVolume:
    return make_labels(tmp_path / "ct")


def _item(value: str, scheme: str, meaning: str) -> dict[str, str]:
    return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}


@pytest.mark.parametrize("scheme", ["SCT", "SRT"])
def test_a_report_by_dcmqi(tmp_path: Path, labels: LabelVolume, scheme: str) -> None:
    segmentation = build_segmentation(labels)
    path = save(segmentation, tmp_path / "seg")
    lung = ("39607008", "SCT", "Lung") if scheme == "SCT" else ("T-28000", "SRT", "Lung")
    mean = ("373098007", "SCT", "Mean") if scheme == "SCT" else ("R-00317", "SRT", "Mean")
    group = {
        "TrackingIdentifier": "Right lung",
        "TrackingUniqueIdentifier": str(segmentation.SegmentSequence[0].TrackingUID),
        "ReferencedSegment": 1,
        "SourceSeriesForImageSegmentation": labels.source.series_uid,
        "segmentationSOPInstanceUID": str(segmentation.SOPInstanceUID),
        "Finding": _item(*lung),
        "FindingSite": _item("T-D3000", "SRT", "Chest"),
        "measurementItems": [
            {
                "value": "-849.5",
                "quantity": _item("112031", "DCM", "Attenuation Coefficient"),
                "units": _item("[hnsf'U]", "UCUM", "Hounsfield unit"),
                "derivationModifier": _item(*mean),
            },
            {
                "value": "1.25",
                "quantity": _item("118565006", "SCT", "Volume"),
                "units": _item("ml", "UCUM", "milliliter"),
            },
        ],
    }
    description = {
        "SeriesDescription": "Measurements",
        "SeriesNumber": "1001",
        "InstanceNumber": "1",
        "compositeContext": [path.name],
        "imageLibrary": [file.name for file in labels.source.paths],
        "observerContext": {"ObserverType": "PERSON", "PersonObserverName": "Reader^One"},
        "VerificationFlag": "UNVERIFIED",
        "CompletionFlag": "COMPLETE",
        "activitySession": "1",
        "timePoint": "1",
        "Measurements": [group],
    }
    (tmp_path / "meta.json").write_text(json.dumps(description))
    command = [program("tid1500writer"), "--inputMetadata", tmp_path / "meta.json"]
    command += ["--inputImageLibraryDirectory", tmp_path / "ct", "--inputCompositeContextDirectory", tmp_path / "seg"]
    done = subprocess.run(
        [*map(str, command), "--outputDICOM", str(tmp_path / "sr.dcm")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (tmp_path / "sr.dcm").exists(), done.stdout + done.stderr
    (row,) = read_measurement_report(tmp_path / "sr.dcm")
    assert (row.name, row.tracking_uid) == ("Right lung", segmentation.SegmentSequence[0].TrackingUID)
    assert (row.finding, row.site) == (Code(*lung), Code("T-D3000", "SRT", "Chest"))
    assert (row.segmentation_uid, row.segment_number) == (segmentation.SOPInstanceUID, 1)
    assert row.series_uid == labels.source.series_uid
    assert row.value("Volume") == 1.25
    assert row.value("Attenuation Coefficient", "Mean") == -849.5


def test_a_planar_report_by_highdicom(tmp_path: Path, labels: LabelVolume) -> None:
    source = labels.source
    corners = [(source.ijk_to_lps @ (i, j, 3, 1))[:3] for i, j in ((5, 5), (15, 5), (15, 12), (5, 5))]
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid="1.2.3.4", identifier="Cord"),
        referenced_region=ImageRegion3D("POLYGON", np.array(corners), source.frame_of_reference_uid),
        finding_type=codes.SCT.SpinalCord,
        finding_sites=[
            FindingSite(
                anatomic_location=CodedConcept("122494005", "SCT", "Cervical spine"),
                topographical_modifier=CodedConcept("45289007", "SCT", "Vertebral foramen"),
            )
        ],
        measurements=[Measurement(name=codes.SCT.Area, value=1.7, unit=codes.UCUM.SquareMillimeter)],
        qualitative_evaluations=[QualitativeEvaluation(codes.DCM.LevelOfSignificance, codes.SCT.NotSignificant)],
    )
    person = ObserverContext(codes.DCM.Person, PersonObserverIdentifyingAttributes(name="Reader^One"))
    report = Comprehensive3DSR(
        evidence=list(source.headers),
        content=MeasurementReport(
            observation_context=ObservationContext(observer_person_context=person),
            procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
            imaging_measurements=[group],
        ),
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Other",
    )
    report.save_as(tmp_path / "sr.dcm")
    (row,) = read_measurement_report(tmp_path / "sr.dcm")
    assert (row.name, row.tracking_uid, row.finding.meaning) == ("Cord", "1.2.3.4", "Spinal cord")
    assert (row.site.meaning, row.site_modifier.meaning) == ("Cervical spine", "Vertebral foramen")
    assert row.value("Area") == 1.7
    assert row.evaluations[0].answer.meaning == "Not significant"
    assert len(row.regions[0].points) == 4
