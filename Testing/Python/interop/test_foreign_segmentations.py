"""Segmentations that others wrote: we read what dcmqi's own reader reads."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from AIDicomBridgeLib.errors import BadDicomError, BridgeError
from AIDicomBridgeLib.results.labels import LabelVolume
from AIDicomBridgeLib.results.segment_description import describe_segment, with_tracking_uids
from AIDicomBridgeLib.results.segmentation import build_segmentation, read_segmentation
from AIDicomBridgeLib.results.source_headers import normalised_headers
from highdicom.seg import Segmentation
from peers.validators import on_grid, read_labels_with_dcmqi, run_program
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid
from segmented import PROVENANCE, make_labels
from synthetic import OBLIQUE, SAGITTAL


@pytest.fixture(params=[SAGITTAL, OBLIQUE], ids=["sagittal", "oblique"])
def labels(request: pytest.FixtureRequest, tmp_path: Path) -> LabelVolume:
    made = make_labels(tmp_path / "source", request.param, spacing_mm=(3.0, 0.8, 0.6))
    return with_tracking_uids(made, generate_uid)


def by_dcmqi(labels: LabelVolume, folder: Path, kind: str) -> Dataset:
    """Return the SEG that dcmqi makes of the label arrays, as Slicer calls it."""
    affine, files, attributes = labels.ijk_to_lps, [], []
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    for number, layer in enumerate(labels.layers):
        image = sitk.GetImageFromArray(layer)
        image.SetOrigin(affine[:3, 3].tolist())
        image.SetSpacing(spacing.tolist())
        image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
        files.append(folder / f"layer-{number}.nrrd")
        sitk.WriteImage(image, str(files[-1]))
        attributes.append([_attributes(segment) for segment in labels.segments if (layer == segment.label).any()])
    description = {
        "ContentCreatorName": "Somebody^Else",
        "SeriesNumber": "301",
        "InstanceNumber": "1",
        "BodyPartExamined": "ABDOMEN",
        "segmentAttributes": attributes,
    }
    (folder / "description.json").write_text(json.dumps(description), encoding="utf-8")
    out = folder / "dcmqi.dcm"
    done = run_program(
        "itkimage2segimage",
        *("--inputImageList", ",".join(str(file) for file in files), "--inputDICOMDirectory", folder / "source"),
        *("--inputMetadata", folder / "description.json", "--outputDICOM", out, "--segmentationType", kind),
        *("--skip", "1"),
    )
    assert done.returncode == 0, done.stderr
    return dcmread(out)


def _attributes(segment: object) -> dict:
    code = {"CodeValue": "123037004", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Anatomical Structure"}
    kind = {"CodeValue": "39607008", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Lung"}
    return {
        "labelID": segment.label,
        "SegmentLabel": segment.name,
        "SegmentAlgorithmType": "MANUAL",
        "SegmentedPropertyCategoryCodeSequence": code,
        "SegmentedPropertyTypeCodeSequence": kind,
        "recommendedDisplayRGBValue": [200, 100, 50],
    }


def by_highdicom(labels: LabelVolume, kind: str, **options: object) -> Dataset:
    stack = np.stack([labels.mask(segment) for segment in labels.segments], axis=-1)
    return Segmentation(
        source_images=normalised_headers(labels.source)[::-1],  # in another order: the frames' positions count
        pixel_array=(labels.labels if kind == "LABELMAP" else stack)[::-1],
        segmentation_type=kind,
        segment_descriptions=[describe_segment(segment, segment.label, PROVENANCE) for segment in labels.segments],
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Somebody",
        manufacturer_model_name="Else",
        software_versions="1",
        device_serial_number="1",
        **{"transfer_syntax_uid": ExplicitVRLittleEndian, **options},
    )


def overlapping(labels: LabelVolume) -> LabelVolume:
    above = np.where(labels.labels == 3, 3, 0).astype(np.uint8)
    above[4:7, 20:40, 15:50] = 3
    return replace(
        labels, labels=np.where(labels.labels == 3, 0, labels.labels).astype(np.uint8), further_layers=(above,)
    )


def assert_read_as_by_dcmqi(dataset: Dataset, labels: LabelVolume, folder: Path) -> None:
    back = read_segmentation(dataset, labels.source)
    images, attributes = read_labels_with_dcmqi(dataset, folder)
    assert [segment.name for segment in back.segments] == [segment.name for segment in labels.segments]
    if dataset.SegmentationType == "LABELMAP":
        values = on_grid(images[0], labels.labels.shape, labels.ijk_to_lps)
        theirs = [values == segment.label for segment in back.segments]
    else:
        assert [item["SegmentLabel"] for item in attributes] == [segment.name for segment in back.segments]
        theirs = [on_grid(image, labels.labels.shape, labels.ijk_to_lps) > 0 for image in images]
    for segment, original, mask in zip(back.segments, labels.segments, theirs, strict=True):
        assert np.array_equal(back.mask(segment), mask)
        assert np.array_equal(back.mask(segment), labels.mask(original))


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_what_dcmqi_wrote(labels: LabelVolume, tmp_path: Path, kind: str) -> None:
    assert_read_as_by_dcmqi(by_dcmqi(labels, tmp_path, kind), labels, tmp_path)


def test_overlapping_segments_that_dcmqi_wrote(labels: LabelVolume, tmp_path: Path) -> None:
    lungs_and_bone = overlapping(labels)
    assert_read_as_by_dcmqi(by_dcmqi(lungs_and_bone, tmp_path, "binary"), lungs_and_bone, tmp_path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("BINARY", {}),
        ("BINARY", {"omit_empty_frames": False}),
        ("LABELMAP", {}),
        ("LABELMAP", {"transfer_syntax_uid": RLELossless}),
    ],
)
def test_what_highdicom_wrote(labels: LabelVolume, tmp_path: Path, kind: str, options: dict) -> None:
    assert_read_as_by_dcmqi(by_highdicom(labels, kind, **options), labels, tmp_path)


def test_overlapping_segments_that_highdicom_wrote(labels: LabelVolume, tmp_path: Path) -> None:
    lungs_and_bone = overlapping(labels)
    assert_read_as_by_dcmqi(by_highdicom(lungs_and_bone, "BINARY"), lungs_and_bone, tmp_path)


def test_overlapping_segments_that_we_wrote(labels: LabelVolume, tmp_path: Path) -> None:
    lungs_and_bone = overlapping(labels)
    assert_read_as_by_dcmqi(build_segmentation(lungs_and_bone), lungs_and_bone, tmp_path)


def test_fractions_that_highdicom_wrote(labels: LabelVolume) -> None:
    fractional = by_highdicom(labels, "FRACTIONAL", max_fractional_value=200)
    back = read_segmentation(fractional, labels.source)
    assert np.array_equal(back.labels, labels.labels)
    assert np.array_equal(back.probabilities == 1, np.stack([labels.mask(s) for s in labels.segments]))


def test_dcmqis_sequences_of_undefined_length_are_read(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "source")
    dataset = by_dcmqi(labels, tmp_path, "binary")
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group["PlanePositionSequence"].is_undefined_length = True
    dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    dataset.save_as(tmp_path / "undefined.dcm")
    assert np.array_equal(read_segmentation(tmp_path / "undefined.dcm", labels.source).labels, labels.labels)


@pytest.mark.parametrize("encoding", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_damaged_bytes_are_refused_by_name(tmp_path: Path, encoding: str) -> None:
    labels = make_labels(tmp_path / "source", spacing_mm=(3.0, 0.8, 0.6))
    masks = np.stack([labels.mask(segment) for segment in labels.segments]).astype(np.float32)
    build_segmentation(replace(labels, probabilities=masks), encoding=encoding).save_as(
        tmp_path / "good.dcm", enforce_file_format=True
    )
    good = (tmp_path / "good.dcm").read_bytes()
    random = np.random.default_rng(5)
    groups = good.index(b"\x00\x52\x30\x92SQ")
    for number in range(60):
        bad = bytearray(good)
        if number % 3:
            for place in random.integers(groups if number % 2 else 400, groups + 4000, 3):
                bad[place] = random.integers(256)
        else:
            del bad[random.integers(1000, len(bad)) :]
        (tmp_path / "bad.dcm").write_bytes(bad)
        try:
            read_segmentation(tmp_path / "bad.dcm", labels.source)
        except BridgeError:
            continue


def test_hostile_sizes_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "source")
    for name, value in (("Rows", 65535), ("NumberOfFrames", 2**31 - 1), ("BitsAllocated", 32), ("NumberOfFrames", 0)):
        segmentation = build_segmentation(labels)
        setattr(segmentation, name, value)
        with pytest.raises(BridgeError):
            read_segmentation(segmentation, labels.source)
    segmentation = build_segmentation(labels)
    segmentation.SegmentSequence[1].SegmentNumber = segmentation.SegmentSequence[0].SegmentNumber
    with pytest.raises(BadDicomError, match="a number of its own"):
        read_segmentation(segmentation, labels.source)
