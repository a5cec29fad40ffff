"""SUV by body weight comes from the header's factors, every one of them, or is refused by the factor's name."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from AIDicomBridgeLib.cli.main import app
from AIDicomBridgeLib.cli.worklist import read_batch_job
from AIDicomBridgeLib.errors import ModelError, PixelError
from AIDicomBridgeLib.job import Job, run_job
from AIDicomBridgeLib.models.loading import load_model
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.endpoint import parse_endpoint
from AIDicomBridgeLib.results.equipment import read_provenance
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Segment
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.segmentation import read_segmentation
from AIDicomBridgeLib.series.instance_store import InstanceStore
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
from pydicom import Dataset, dcmread
from pydicom.uid import PositronEmissionTomographyImageStorage
from synthetic import make_enhanced, make_series, save_series
from typer.testing import CliRunner

CATALOGUE = Path(__file__).parents[3] / "AIDicomBridge" / "Resources" / "Models"
ACTIVITY = np.arange(3 * 8 * 9, dtype=np.int16).reshape(3, 8, 9) * 50  # stored; each slice has a slope of its own
SLOPES = np.array([1.0, 1.5, 2.0])[:, None, None]
# 70 kg, 370 MBq of F-18 an hour before the scan: what is left is 0.6846 of it.
EXPECTED = 70_000 / (370e6 * 0.5 ** (3600 / 6586.2))


@pytest.fixture
def images() -> list[Dataset]:
    datasets = make_series(ACTIVITY)
    for slope, ds in zip(SLOPES.ravel(), datasets, strict=True):
        ds.Modality, ds.SOPClassUID = "PT", PositronEmissionTomographyImageStorage
        ds.RescaleSlope, ds.RescaleIntercept = str(slope), "0"
        del ds.RescaleType
        ds.Units, ds.DecayCorrection, ds.CorrectedImage = "BQML", "START", ["DECY", "ATTN", "SCAT"]
        ds.SeriesTime, ds.AcquisitionTime = "101112", "101112.00"
        ds.PatientWeight = "70"
        drug = Dataset()
        drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = "370000000", "6586.2"
        drug.RadiopharmaceuticalStartDateTime = "20260102091112"
        ds.RadiopharmaceuticalInformationSequence = [drug]
    return datasets


@pytest.fixture
def read(tmp_path: Path) -> Callable[[list[Dataset]], ImageVolume]:
    return lambda images: read_volume(save_series(images, tmp_path / "pet"), suv=True)


def test_the_values_are_grams_per_milliliter(images, read) -> None:
    volume = read(images)
    assert volume.voxels.dtype == np.float32
    np.testing.assert_allclose(volume.voxels, ACTIVITY * SLOPES * EXPECTED, rtol=1e-5)
    assert volume.suv.describe() == (
        f"SUVbw scale {EXPECTED:.8g} weight 70 kg dose 3.7e+08 Bq half-life 6586.2 s decay 3600 s"
    )
    np.testing.assert_allclose(read_volume(volume.source).voxels, ACTIVITY * SLOPES)  # nobody asked for SUV


def _by_time(drug: Dataset) -> None:
    del drug.RadiopharmaceuticalStartDateTime
    drug.RadiopharmaceuticalStartTime = "091112"


def _in_another_zone(drug: Dataset) -> None:
    drug.RadiopharmaceuticalStartDateTime = "20260102101112+0200"


@pytest.mark.parametrize("change", [_by_time, _in_another_zone])
def test_the_injection_may_be_told_in_several_ways(images, read, change) -> None:
    for ds in images:
        ds.TimezoneOffsetFromUTC = "+0100"
        change(ds.RadiopharmaceuticalInformationSequence[0])
    assert read(images).suv.scale == pytest.approx(EXPECTED, rel=1e-6)


def test_values_corrected_to_the_injection_and_stored_suv_need_no_decay(images, read) -> None:
    for ds in images:
        ds.DecayCorrection = "ADMIN"
    assert read(images).suv.scale == pytest.approx(70_000 / 370e6)
    for ds in images:
        ds.Units, ds.SUVType = "GML", "BW"
        del ds.PatientWeight
    volume = read(images)
    np.testing.assert_allclose(volume.voxels, ACTIVITY * SLOPES)
    assert volume.suv.describe() == "SUVbw as stored"


def test_enhanced_pet_names_the_moment_that_it_is_corrected_to(images, read) -> None:
    enhanced = _enhanced(images, "20260102091112", "20260102101112.5")
    assert read([enhanced]).suv.decay_s == 3600.5


@pytest.mark.parametrize(
    ("injected", "corrected", "here"),
    [
        ("20260102081112+0000", "20260102101112+0100", None),
        ("20260102081112+0000", "20260102101112", "+0100"),
        ("20260102101112", "20260102101112+0100", "+0200"),
        ("20260102233000-0500", "20260103063000+0100", "-0800"),
    ],
)
def test_moments_in_two_time_zones_are_compared_in_one(images, read, injected, corrected, here) -> None:
    enhanced = _enhanced(images, injected, corrected)
    if here:
        enhanced.TimezoneOffsetFromUTC = here
    assert read([enhanced]).suv.decay_s == 3600.0


@pytest.mark.parametrize(
    ("injected", "corrected", "words"),
    [
        ("20260102091112", "20260102101112+0100", "RadiopharmaceuticalStartDateTime has no time zone"),
        ("20260102091112+0100", "20260102101112", "the moment of decay correction has no time zone"),
        ("20260102091112+0100", "20260102101112+9999", "damaged"),
    ],
)
def test_a_time_zone_that_only_one_moment_has_is_refused(images, read, injected, corrected, words) -> None:
    with pytest.raises(PixelError, match=f"SUV cannot be computed: .*{words}"):
        read([_enhanced(images, injected, corrected)])


BODY_WEIGHT = "126401"


@pytest.mark.parametrize(
    ("unit", "quantity", "slope", "words"),
    [
        ("Bq/ml", "", None, ""),
        ("{SUVbw}g/ml", "", None, ""),
        ("g/ml{SUVbw}", "", None, ""),
        ("g/ml", BODY_WEIGHT, None, ""),
        ("Bq/ml", "", 100.0, "RealWorldValueSlope .*differ from Rescale"),
        ("g/ml", "", None, "the unit g/ml is neither"),
        ("g/ml", "126402", None, "the unit g/ml is neither"),
        ("{SUVlbm}g/ml", "", None, r"GML \(LBM\)"),
        ("{counts}/s", "", None, "the unit {counts}/s is neither"),
    ],
)
def test_the_unit_of_enhanced_pet_is_that_of_its_rescaled_values(images, read, unit, quantity, slope, words) -> None:
    enhanced = _enhanced(images, "20260102091112", "20260102101112")
    del enhanced.Units
    for frame, rescale in zip(enhanced.PerFrameFunctionalGroupsSequence, SLOPES.ravel(), strict=True):
        mapping, code, concept, item = Dataset(), Dataset(), Dataset(), Dataset()
        mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope or float(rescale), 0.0
        code.CodeValue, code.CodingSchemeDesignator = unit, "UCUM"
        mapping.MeasurementUnitsCodeSequence = [code]
        if quantity:
            concept.CodeValue, concept.CodingSchemeDesignator = quantity, "DCM"
            item.ConceptCodeSequence = [concept]
            mapping.QuantityDefinitionSequence = [item]
        frame.RealWorldValueMappingSequence = [mapping]
    if words:
        with pytest.raises(PixelError, match=f"SUV cannot be computed: .*{words}"):
            read([enhanced])
    else:
        scale = EXPECTED if unit == "Bq/ml" else 1.0
        np.testing.assert_allclose(read([enhanced]).voxels, ACTIVITY * SLOPES * scale, rtol=1e-5)


def _enhanced(images: list[Dataset], injected: str, corrected: str) -> Dataset:
    enhanced = make_enhanced(images)
    for keyword in ("PatientWeight", "RadiopharmaceuticalInformationSequence", "Units"):
        enhanced[keyword] = images[0][keyword]
    enhanced.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = injected
    enhanced.DecayCorrected, enhanced.DecayCorrectionDateTime = "YES", corrected
    return enhanced


DRUG = "RadiopharmaceuticalInformationSequence"
FAULTS = {
    "no weight": ({"PatientWeight": None}, "PatientWeight is missing"),
    "grams": ({"PatientWeight": "70000"}, "PatientWeight is 70000"),
    "no dose": ({"RadionuclideTotalDose": None}, "RadionuclideTotalDose is missing"),
    "megabecquerels": ({"RadionuclideTotalDose": "370"}, "RadionuclideTotalDose is 370"),
    "no half-life": ({"RadionuclideHalfLife": None}, "RadionuclideHalfLife is missing"),
    "minutes": ({"RadionuclideHalfLife": "1"}, "RadionuclideHalfLife is 1"),
    "no injection": ({"RadiopharmaceuticalStartDateTime": None}, "RadiopharmaceuticalStartDateTime and .* missing"),
    "no time of day": ({"RadiopharmaceuticalStartDateTime": "20260102"}, "no date with its time"),
    "two injections": ({"RadiopharmaceuticalStartTime": "080000"}, "StartDateTime and .*StartTime differ"),
    "injection after the scan": ({"RadiopharmaceuticalStartDateTime": "20260102111112"}, "the injection lies -3600 s"),
    "injection last week": ({"RadiopharmaceuticalStartDateTime": "20251227091112"}, "the injection lies"),
    "no decay correction": ({"DecayCorrection": "NONE"}, "DecayCorrection is NONE"),
    "not said to be corrected": ({"CorrectedImage": ["ATTN"]}, "does not name DECY"),
    "counts": ({"Units": "CNTS"}, "Units is CNTS, not BQML"),
    "other SUV": ({"Units": "GML", "SUVType": "LBM"}, r"Units is GML \(LBM\)"),
    "later reconstruction": ({"SeriesTime": "120000"}, "SeriesTime lies after AcquisitionTime"),
    "no drug": ({DRUG: None}, "has 0 items"),
}


@pytest.mark.parametrize(("change", "words"), FAULTS.values(), ids=FAULTS)
def test_a_missing_or_contradictory_factor_is_refused_by_name(images, read, change: dict, words: str) -> None:
    for ds in images:
        for keyword, value in change.items():
            target = ds[DRUG][0] if keyword.startswith("Radio") and keyword != DRUG else ds
            if value is None:
                del target[keyword]
            else:
                setattr(target, keyword, value)
    with pytest.raises(PixelError, match=f"SUV cannot be computed: .*{words}") as caught:
        read(images)
    assert caught.value.uid == images[0].SeriesInstanceUID


def test_slices_must_agree_and_only_pet_has_suv(images, read) -> None:
    images[2].PatientWeight = "71"
    with pytest.raises(PixelError, match="the slices differ in its factors"):
        read(images)
    with pytest.raises(PixelError, match="the series is CT, not PT"):
        read(make_series(ACTIVITY))


def test_measurements_and_results_are_in_suv_and_keep_the_factors(images, read, tmp_path: Path) -> None:
    volume = read(images)
    code = Code("52988006", "SCT", "Lesion")
    labels = LabelVolume(np.ones(ACTIVITY.shape, np.uint8), (Segment(1, "All", code, code),), source=volume.source)
    measured = measure(labels, volume)[0]
    assert measured.mean == pytest.approx((ACTIVITY * SLOPES * EXPECTED).mean(), rel=1e-4)
    assert measured.intensity_unit.value == "g/ml{SUVbw}"

    card = tmp_path / "pet.toml"  # rules for CT, run on PET: what they find does not matter here
    card.write_text((CATALOGUE / "ct-tissues.toml").read_text().replace('modalities = ["CT"]', 'modalities = ["PT"]'))
    done = run_job(Job(tmp_path / "pet", card, outputs=("seg",), suv=True, any_body_part=True, out=tmp_path / "out"))
    assert json.loads(json.dumps(done.to_dict()))["suv"]["dose_bq"] == 370e6
    segmentation = done.results[0].dataset
    item = segmentation.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert read_provenance(item).suv == volume.suv.describe()


SEGMENT = """
[[segments]]
label = 1
name = "Lesion"
category = { value = "49755003", scheme = "SCT", meaning = "Morphologically Altered Structure" }
type = { value = "52988006", scheme = "SCT", meaning = "Lesion" }
"""
CARD = f"""
name = "hot"
version = "1.0"
title = "Hot"
description = "Everything above SUV 1."
citation = "none"
licence = "CC0-1.0"
learned = true
not_for_diagnostic_use = true
[conditions]
modalities = ["PT"]
[input]
suv = true
[network]
classes = 2
[weights]
file = "hot.pt"
format = "torchscript"
{SEGMENT}
color_rgb = [255, 0, 0]
"""


class AboveOne(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([1 - x, x - 1], 1)


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The card of a network that was trained on SUV and may run."""
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path / "home"))
    path = tmp_path / "hot.toml"
    path.write_text(CARD)
    torch.jit.trace(AboveOne(), torch.zeros(1, 1, 4, 4, 4)).save(tmp_path / "hot.pt")
    assert CliRunner().invoke(app, ["models", "trust", str(path), "--yes"]).exit_code == 0
    return path


def test_a_model_that_was_trained_on_suv_gets_it_through_every_door(images, card: Path, tmp_path: Path) -> None:
    folder = save_series(images, tmp_path / "pet")[0].parent
    hot = int((ACTIVITY * SLOPES * EXPECTED > 1).sum())
    assert 0 < hot < ACTIVITY.size
    given = ["--model", str(card), "--outputs", "seg", "--precision", "float32", "--json"]
    with Archive(InstanceStore(tmp_path / "archive")) as archive:
        address = archive.endpoint.address
        assert connect(archive.endpoint).store(images).complete
        lines = {
            "segment": ["segment", str(folder), "--out", str(tmp_path / "segmented"), *given],
            "run": ["run", address, "--study", images[0].StudyInstanceUID, "--to", address, *given],
        }
        for command, line in lines.items():
            answer = json.loads(CliRunner().invoke(app, line).stdout)
            assert answer["status"] == "ok", (command, answer["error"])
            assert answer["suv"]["scale"] == pytest.approx(EXPECTED), command
            measured = answer["measurements"][0]
            assert (measured["voxel_count"], measured["intensity_unit"]) == (hot, "g/ml{SUVbw}"), command
        (tmp_path / "work.csv").write_text(f"study_uid\n{images[0].StudyInstanceUID}\n")
        (tmp_path / "job.toml").write_text(
            f'source = "{address}"\nmodel = "hot.toml"\noutputs = ["seg"]\nout = "made"\nprecision = "float32"\n'
        )
        line = ["batch", str(tmp_path / "work.csv"), "--job", str(tmp_path / "job.toml"), "--json"]
        assert CliRunner().invoke(app, line).exit_code == 0
    made = read_segmentation(
        tmp_path / "made" / "line-00002" / "seg-001.dcm", SourceSeries.from_files(folder.iterdir())
    )
    assert int((made.labels > 0).sum()) == hot
    assert "SUVbw scale" in made.provenance.suv


@pytest.mark.parametrize(
    ("said", "suv", "words"),
    [
        ("suv = true", False, "trained on PET as SUV, and the volume is in its series' own unit"),
        ("suv = false", True, "in the series' own unit, and the volume is in SUV"),
        ("", False, "not known if the model hot was trained on PET as SUV"),
        ("", True, ""),
        ("suv = false", False, ""),
    ],
)
def test_a_model_never_gets_another_unit_without_a_word(images, card: Path, tmp_path: Path, said, suv, words) -> None:
    card.write_text(CARD.replace("suv = true", said))
    volume = read_volume(save_series(images, tmp_path / "pet"), suv=suv)
    model = load_model(card, "cpu", precision="float32")
    if words:
        with pytest.raises(ModelError, match=words):
            model.segment(volume)
    else:
        assert int((model.segment(volume).labels > 0).sum()) == int((volume.voxels > 1).sum())


def test_a_batch_may_ask_for_suv(images, card: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text('source = "dimse://A@127.0.0.1:1"\nmodel = "hot.toml"\nout = "made"\nsuv = true\n')
    assert read_batch_job(job, parse_endpoint).template.suv


RESULT = f"""
[algorithm]
name = "lesionnet"
version = "1"
{SEGMENT}
"""


def test_what_another_program_found_is_measured_in_suv_when_asked(images, tmp_path: Path) -> None:
    folder = save_series(images, tmp_path / "pet")[0].parent
    np.save(tmp_path / "labels.npy", np.ones(ACTIVITY.shape, np.uint8))
    (tmp_path / "result.toml").write_text(RESULT)
    files = [text for name in ("labels.npy", "result.toml") for text in ("--from", str(tmp_path / name))]
    line = ["encode", str(folder), "--as", "sr", *files, "--out", str(tmp_path / "out"), "--suv"]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    assert "g/ml{SUVbw}" in str(dcmread(tmp_path / "out" / "sr-001.dcm"))
    source = SourceSeries.from_files(folder.iterdir())
    assert "dose 3.7e+08 Bq" in read_segmentation(tmp_path / "out" / "seg-001.dcm", source).provenance.suv
