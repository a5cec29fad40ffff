"""Our clients against a real Orthanc: DIMSE with C-GET and C-MOVE, and DICOMweb over HTTP and HTTPS."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from AIDicomBridgeLib.delivery.agreement import agree_on_profile
from AIDicomBridgeLib.errors import AssociationError, NotFoundError, UnreachableError
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.endpoint import Endpoint
from AIDicomBridgeLib.pacs.records import Outcome
from AIDicomBridgeLib.pacs.series_samples import rank_series_of_study
from AIDicomBridgeLib.progress import Progress
from AIDicomBridgeLib.series.instance_store import InstanceStore
from peers.orthanc import Orthanc, orthanc
from pydicom import Dataset, dcmread
from pydicom.uid import RLELossless, generate_uid
from synthetic import CORONAL, body_phantom, make_series

LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"


@pytest.fixture(scope="module")
def peer(tmp_path_factory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc") / "peer") as running:
        yield running


@pytest.fixture(scope="module")
def peer_https(tmp_path_factory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc") / "peer", https=True) as running:
        yield running


@pytest.fixture
def received(tmp_path: Path) -> Iterator[InstanceStore]:
    with InstanceStore(tmp_path / "received") as store:
        yield store


@pytest.fixture(params=["C-GET", "C-MOVE", "http", "https"])
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    """Return each way to reach Orthanc in turn."""
    if request.param == "https":
        return request.getfixturevalue("peer_https").dicomweb
    peer: Orthanc = request.getfixturevalue("peer")
    if request.param == "http":
        return peer.dicomweb
    return dataclasses.replace(peer.dimse, retrieve=request.param, move_port=peer.move_port)


def a_series(**changes: object) -> list[Dataset]:
    accession = generate_uid()[-12:].replace(".", "0")
    return make_series(body_phantom((6, 40, 48)), accession_number=accession, **changes)


def assert_the_same(received: InstanceStore, sent: list[Dataset]) -> None:
    """Every element of every instance is as it was sent."""
    arrived = {item.sop_instance_uid: dcmread(item.path) for item in received}
    assert arrived.keys() == {dataset.SOPInstanceUID for dataset in sent}
    for dataset in sent:
        twin = arrived[dataset.SOPInstanceUID]
        assert twin.file_meta.TransferSyntaxUID == dataset.file_meta.TransferSyntaxUID
        for element in dataset:
            assert twin[element.tag].value == element.value, element.keyword


def test_a_study_is_stored_found_and_retrieved_unchanged(endpoint, received) -> None:
    sent = a_series()
    steps: list[Progress] = []
    with connect(endpoint) as client:
        client.verify()
        stored = client.store(sent)
        (study,) = client.find_studies(accession_number=sent[0].AccessionNumber)
        (series,) = client.find_series(study.study_uid)
        instances = client.find_instances(study.study_uid, series.series_uid)
        report = client.retrieve(study.study_uid, into=received, progress=steps.append)

    assert {outcome.outcome for outcome in stored.outcomes} == {Outcome.STORED}
    assert stored.complete
    assert (study.study_uid, study.patient_name, study.patient_id) == (
        *(sent[0].StudyInstanceUID, "Synthetic^Sample", "SYN-1"),
    )
    assert (study.modalities, study.series_count, study.instance_count) == (("CT",), 1, 6)
    assert (series.modality, series.instance_count, series.body_part) == ("CT", 6, "ABDOMEN")
    assert {record.sop_instance_uid for record in instances} == {dataset.SOPInstanceUID for dataset in sent}
    assert report.complete
    assert len(report.outcomes) == 6
    assert_the_same(received, sent)
    assert (steps[-1].completed, steps[-1].total) == (6, 6)


def test_two_slices_of_each_series_tell_for_which_one_a_model_is_meant(endpoint) -> None:
    """The largest series are a localizer and a derived one, and nothing that the archive lists gives them away."""
    study_uid, kinds = generate_uid(), {}
    for image_type, slices, keywords in (
        ("ORIGINAL\\PRIMARY\\LOCALIZER", 9, {"orientation": CORONAL}),
        ("DERIVED\\SECONDARY\\MPR", 8, {}),
        ("ORIGINAL\\PRIMARY\\AXIAL", 6, {"spacing_mm": (2.5, 0.8, 0.6)}),
    ):
        datasets = make_series(body_phantom((slices, 8, 8)), study_uid=study_uid, **keywords)
        for dataset in datasets:
            dataset.ImageType = image_type.split("\\")
        kinds[datasets[0].SeriesInstanceUID] = image_type.rpartition("\\")[2]
        assert connect(endpoint).store(datasets).complete
    ranking = rank_series_of_study(connect(endpoint), study_uid, ["CT"])
    assert [(kinds[item.record.series_uid], item.fits) for item in ranking] == [
        *(("AXIAL", True), ("MPR", True), ("LOCALIZER", False)),
    ]
    assert "axial slices, 2.5 mm apart" in ranking[0].reasons


def test_compressed_and_uncompressed_series_of_one_study_come_as_stored(endpoint, received) -> None:
    plain = a_series()
    packed = a_series(study_uid=plain[0].StudyInstanceUID, series_number=2)
    for dataset in packed:
        dataset.AccessionNumber = plain[0].AccessionNumber
        dataset.compress(RLELossless, generate_instance_uid=False)
    with connect(endpoint) as client:
        assert client.store(plain + packed).complete

        report = client.retrieve(plain[0].StudyInstanceUID, into=received)

    assert report.complete
    assert_the_same(received, plain + packed)


@pytest.mark.parametrize("way", ["auto", "web"])
def test_a_label_map_segmentation_goes_in_and_out(peer, received, way) -> None:
    sent = a_series()[:2]
    sent[1].SOPClassUID = LABEL_MAP_SEGMENTATION
    endpoint = peer.dicomweb if way == "web" else dataclasses.replace(peer.dimse, move_port=peer.move_port)
    with connect(endpoint) as client:
        stored = client.store(sent)
        report = client.retrieve(sent[0].StudyInstanceUID, into=received)

    assert stored.complete
    assert report.complete
    assert report.method == {"auto": "C-GET, C-MOVE", "web": "WADO-RS"}[way]
    assert_the_same(received, sent)


def test_a_label_map_that_orthanc_does_not_send_by_c_get_is_listed_as_missing(peer, received) -> None:
    sent = a_series()[:3]
    sent[1].SOPClassUID = LABEL_MAP_SEGMENTATION
    client = connect(dataclasses.replace(peer.dimse, retrieve="C-GET"))
    client.store(sent)

    report = client.retrieve(sent[0].StudyInstanceUID, into=received)

    assert not report.complete
    (missing,) = report.failed
    assert (missing.sop_instance_uid, missing.outcome) == (sent[1].SOPInstanceUID, Outcome.MISSING)
    assert "no presentation context to send us Label Map Segmentation Storage" in missing.reason
    assert len(received) == 2


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("patient_name", "SYNTHETIC*", True),
        ("patient_name", "Somebody*", False),
        ("patient_id", "SYN-?", True),
        ("study_date", "20260101-20260131", True),
        ("study_date", "20260103-", False),
        ("modalities", ["CT", "PT"], True),
        ("modalities", "MR", False),
    ],
)
def test_studies_are_found_by_wildcard_range_and_modality(endpoint, key, value, found) -> None:
    sent = a_series()[:1]
    with connect(endpoint) as client:
        client.store(sent)

        records = client.find_studies(accession_number=sent[0].AccessionNumber[:-2] + "*", **{key: value})

    assert [record.study_uid for record in records] == ([sent[0].StudyInstanceUID] if found else [])


def test_only_what_is_missing_is_asked_for(endpoint, received) -> None:
    sent = a_series()
    with connect(endpoint) as client:
        client.store(sent)
        client.retrieve(sent[0].StudyInstanceUID, into=received)
        lost = received.instances()[2]
        with received._index.writing():
            received._index.remove_paths([received._index.relative(lost.path)])

        report = client.retrieve(sent[0].StudyInstanceUID, sent[0].SeriesInstanceUID, into=received)

    assert report.complete
    (fetched,) = [outcome for outcome in report.outcomes if outcome.outcome is Outcome.RECEIVED]
    assert fetched.sop_instance_uid == lost.sop_instance_uid
    assert_the_same(received, sent)


def test_nothing_found_is_an_empty_list_and_nothing_to_retrieve_an_error(endpoint, received) -> None:
    with connect(endpoint) as client:
        assert client.find_studies(patient_id="NOBODY") == []
        with pytest.raises(NotFoundError):
            client.retrieve(generate_uid(), into=received)


def test_storing_again_is_no_failure(endpoint) -> None:
    sent = a_series()[:2]
    with connect(endpoint) as client:
        client.store(sent)

        assert client.store(sent).complete


def test_another_ae_title_is_rejected(peer) -> None:
    with pytest.raises(AssociationError, match="called AE title not recogni"):
        connect(dataclasses.replace(peer.dimse, ae_title="SOMEBODY")).verify()


def test_c_move_to_an_ae_title_that_orthanc_does_not_know_names_the_causes(peer, received) -> None:
    sent = a_series()[:2]
    client = connect(peer.dimse)
    client.store(sent)
    stranger = dataclasses.replace(peer.dimse, calling_ae_title="STRANGER", retrieve="C-MOVE", move_port=peer.move_port)

    with pytest.raises(Exception, match="may not know our AE title 'STRANGER'"):
        connect(stranger).retrieve(sent[0].StudyInstanceUID, into=received)
    assert len(received) == 0


def test_a_certificate_of_an_unknown_authority_is_not_trusted(peer_https) -> None:
    endpoint = dataclasses.replace(peer_https.dicomweb, ca_file=None)

    with pytest.raises(UnreachableError, match="certificate is not trusted"), connect(endpoint) as client:
        client.verify()


def test_a_stock_orthanc_refuses_label_maps_by_name(tmp_path) -> None:
    with orthanc(tmp_path / "stock", unknown_sop_classes=False) as stock:
        sent = a_series()[:2]
        sent[1].SOPClassUID = LABEL_MAP_SEGMENTATION
        both = connect(stock.dimse).store(sent)
        alone = connect(stock.dimse).store(sent[1:])
        with connect(stock.dicomweb) as client:
            by_web = client.store(sent[1:])

    assert [outcome.outcome for outcome in both.outcomes] == [Outcome.STORED, Outcome.REFUSED]
    assert "accepts no presentation context for Label Map Segmentation Storage" in both.outcomes[1].reason
    assert alone.outcomes == both.outcomes[1:]
    assert by_web.complete


def test_what_we_stored_by_stow_is_read_by_dicomweb_client(peer: Orthanc) -> None:
    from dicomweb_client import DICOMwebClient

    sent = a_series()
    with connect(peer.dicomweb) as client:
        assert client.store(sent).complete
    other = DICOMwebClient(peer.dicomweb.url)
    found = other.search_for_series(sent[0].StudyInstanceUID)
    assert [series["0020000E"]["Value"][0] for series in found] == [sent[0].SeriesInstanceUID]
    read = other.retrieve_series(sent[0].StudyInstanceUID, sent[0].SeriesInstanceUID)
    assert {ds.SOPInstanceUID: ds.PixelData for ds in read} == {ds.SOPInstanceUID: ds.PixelData for ds in sent}


@pytest.mark.parametrize("takes_unknown_classes", [True, False])
def test_it_is_asked_whether_it_takes_label_maps(tmp_path: Path, takes_unknown_classes: bool) -> None:
    with orthanc(tmp_path / "peer", unknown_sop_classes=takes_unknown_classes) as peer:
        agreed = agree_on_profile(peer.dimse, "orthanc")
    assert (agreed.encoding, agreed.compression) == (("LABELMAP", "RLE") if takes_unknown_classes else ("BINARY", None))
