"""Destination profiles: what a name stands for, what an address carries, and who gets which objects."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib import Job, Outbox, run_job
from AIDicomBridgeLib.delivery.agreement import agree_on_profile
from AIDicomBridgeLib.errors import EncodingError, EndpointError
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint, parse_endpoint
from AIDicomBridgeLib.results.conformance import check_conformance
from AIDicomBridgeLib.results.measurements import measure
from AIDicomBridgeLib.results.profiles import DEFAULT_PROFILE, PROFILES, DestinationProfile, find_profile
from AIDicomBridgeLib.results.result_set import encode_results
from AIDicomBridgeLib.series.instance_store import InstanceStore
from AIDicomBridgeLib.series.volume import read_volume
from peers.dcmtk import storescp
from pydicom import dcmread
from pydicom.uid import RLELossless
from segmented import make_labels

OLD_PACS = parse_endpoint("dimse://OLD@127.0.0.1:1?profile=plain-pacs")
WORKSTATION = parse_endpoint("dimse://NEW@127.0.0.1:2?profile=slicer")


def test_without_a_profile_every_reader_takes_the_results() -> None:
    for profile in (find_profile(None), find_profile("")):
        assert (profile.encoding, profile.compression, profile.report_class) == ("BINARY", None, "COMPREHENSIVE_3D")


def test_an_unknown_profile_is_refused_with_the_choice() -> None:
    with pytest.raises(EncodingError, match="dcm4chee, default, ohif, orthanc, plain-pacs, slicer"):
        find_profile("ohfi")
    with pytest.raises(EncodingError, match="no destination profile 'ohfi'"):
        run_job(Job(Path("nowhere"), "no-such-model", profile="ohfi"))


@pytest.mark.parametrize(
    "wrong", [{"encoding": "binary"}, {"compression": "ZIP"}, {"empty": "skip"}, {"outputs": ()}, {"largest_bytes": 0}]
)
def test_a_profile_with_an_unknown_choice_cannot_be_made(wrong: dict) -> None:
    with pytest.raises(EncodingError):
        DestinationProfile("mine", **wrong)


@pytest.mark.parametrize("address", ["dimse://AE@127.0.0.1:104?profile=ohif", "https://host/dicom-web?profile=ohif"])
def test_an_address_names_its_profile(address: str) -> None:
    endpoint = parse_endpoint(address)
    assert agree_on_profile(endpoint) == PROFILES["ohif"]
    assert agree_on_profile(endpoint, "slicer") == PROFILES["slicer"]
    assert parse_endpoint(endpoint.address) == endpoint
    with pytest.raises(EndpointError, match="no destination profile"):
        parse_endpoint(f"{address}%20/x")


def test_fractions_of_zero_are_nothing(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    volume = read_volume(labels.source)
    fractions = np.full((3, *volume.voxels.shape), 0.001, np.float32)
    nothing = replace(labels, labels=np.zeros_like(labels.labels), probabilities=fractions)
    strict = DestinationProfile("mine", encoding="FRACTIONAL", empty="refuse")
    with pytest.raises(EncodingError, match="nothing to send"):
        encode_results(nothing, volume, [], profile=strict, outputs=("seg",))
    quiet = replace(strict, empty="report")
    reported = encode_results(nothing, volume, measure(nothing, volume), profile=quiet, outputs=("seg",))
    assert [result.kind for result in reported] == ["sr"]
    fractions[1, 3, 4, 5] = 0.3  # in no label, but in the fractions
    (made,) = encode_results(nothing, volume, [], profile=strict, outputs=("seg",))
    assert made.dataset.NumberOfFrames == 1


def test_a_dimse_peer_is_asked_whether_it_takes_label_maps(tmp_path: Path, unused_port: int) -> None:
    with InstanceStore(tmp_path / "archive") as store, Archive(store) as archive:
        agreed = agree_on_profile(archive.endpoint, "orthanc")
        assert (agreed.encoding, agreed.compression) == ("LABELMAP", "RLE")
    nobody = DimseEndpoint("", "127.0.0.1", unused_port, "NOBODY")
    for endpoint in (nobody, DicomWebEndpoint("", "https://host/dicom-web"), None):
        agreed = agree_on_profile(endpoint, "orthanc")
        assert (agreed.encoding, agreed.compression) == ("BINARY", None)


def test_a_peer_that_refuses_label_maps_gets_binary(tmp_path: Path) -> None:
    with storescp(tmp_path) as peer:
        assert agree_on_profile(peer, "orthanc").encoding == "BINARY"


def test_each_destination_gets_the_objects_of_its_profile(ct_files: list[Path], tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    destinations = (OLD_PACS, WORKSTATION)
    done = run_job(Job(ct_files[0].parent, "ct-tissues", destinations=destinations, outbox=outbox))
    assert not done.complete
    owed = {endpoint: outbox.deliveries(endpoint.address) for endpoint in destinations}
    old, new = ([dcmread(item.path) for item in owed[endpoint]] for endpoint in destinations)
    assert {item.Modality for item in old} == {"SEG", "SR", "OT"}
    assert {item.Modality for item in new} == {"SEG", "SR"}
    assert {item.SegmentationType for item in old if item.Modality == "SEG"} == {"BINARY"}
    assert {item.SegmentationType for item in new if item.Modality == "SEG"} == {"LABELMAP"}
    tracked = [
        {segment.TrackingUID for item in results if item.Modality == "SEG" for segment in item.SegmentSequence[-4:]}
        for results in (old, new)
    ]
    assert tracked[0] == tracked[1]


def test_one_profile_for_all_makes_one_set_of_objects(ct_files: list[Path]) -> None:
    done = run_job(Job(ct_files[0].parent, "ct-tissues", profile=DEFAULT_PROFILE, outputs=("seg",)))
    assert [result.dataset.SegmentationType for result in done.results] == ["BINARY"]


def test_a_segmentation_too_large_for_the_destination_comes_in_parts_with_their_reports(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    volume = read_volume(labels.source)
    small = DestinationProfile("small", outputs=("seg", "sr"), largest_bytes=11000)
    results = encode_results(labels, volume, measure(labels, volume), profile=small)
    assert [result.kind for result in results] == ["seg", "seg", "sr", "sr"]
    parts = [result.dataset for result in results]
    assert [[item.SegmentLabel for item in part.SegmentSequence] for part in parts[:2]] == [
        ["Right lung", "Left lung"],
        ["Bone"],
    ]
    assert len({part.SeriesNumber for part in parts}) == 4
    assert "part 2 of 2" in parts[1].SeriesDescription
    for part in parts:
        assert check_conformance(part, labels.source, related=parts) == []


def test_overlapping_segments_are_binary_where_label_maps_are_wanted(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    above = np.where(labels.labels == 3, 3, 0).astype(np.uint8)
    above[5, 20:40, 20:40] = 3
    lower = np.where(labels.labels == 3, 0, labels.labels).astype(np.uint8)
    overlapping = replace(labels, labels=lower, further_layers=(above,))
    volume = read_volume(labels.source)
    measured = measure(overlapping, volume)
    assert [item.voxel_count for item in measured] == [
        int(overlapping.mask(segment).sum()) for segment in labels.segments
    ]
    results = encode_results(overlapping, volume, measured, profile="slicer")
    assert results[0].dataset.SegmentationType == "BINARY"
    assert results[0].dataset.SegmentsOverlap == "YES"


@pytest.mark.parametrize("encoding", ["LABELMAP", "FRACTIONAL"])
def test_the_profile_compresses(tmp_path: Path, encoding: str) -> None:
    labels = make_labels(tmp_path)
    labels = replace(labels, probabilities=np.stack([labels.mask(s) for s in labels.segments]).astype(np.float32))
    profile = DestinationProfile("mine", outputs=("seg",), encoding=encoding, compression="RLE")
    (result,) = encode_results(labels, read_volume(labels.source), [], profile=profile)
    assert result.dataset.SegmentationType == encoding
    assert result.dataset.file_meta.TransferSyntaxUID == RLELossless
