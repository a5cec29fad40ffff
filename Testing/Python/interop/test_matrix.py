"""Every service with every peer, for every kind of object: Orthanc, DCMTK's archive, and our own."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib import connect, measure, read_volume
from AIDicomBridgeLib.errors import AssociationError, NotOfferedError, UnreachableError
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.dimse_client import DimseClient
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint, TlsFiles
from AIDicomBridgeLib.pacs.records import Outcome, StoreReport
from AIDicomBridgeLib.results.measurement_report import build_measurement_report
from AIDicomBridgeLib.results.segmentation import build_segmentation
from AIDicomBridgeLib.series.instance_store import InstanceStore
from peers import free_port
from peers.dcmtk import dcmqrscp, storescp
from peers.orthanc import orthanc
from peers.tls_front import make_certificates, server_context, tls_front
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from segmented import SEGMENTS, make_labels
from synthetic import body_phantom, make_series

KINDS = ("uncompressed", "JPEG 2000", "RLE", "SEG BINARY", "SEG LABELMAP", "SR")
PEERS = ("orthanc", "dcmqrscp", "archive")
# What a peer does not take: DCMTK 3.6.7 does not know label maps.
REFUSED = {("dcmqrscp", "SEG LABELMAP")}


@dataclass
class Peer:
    """A running PACS that was sent every kind of object; ``web`` where it speaks DICOMweb."""

    name: str
    dimse: DimseEndpoint
    web: DicomWebEndpoint | None
    stored: dict[str, StoreReport]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, list[Dataset]]:
    """Each kind of object, in a study of its own patient."""
    folder = tmp_path_factory.mktemp("kinds")
    labels = make_labels(folder / "source")
    segmentation = build_segmentation(labels, encoding="BINARY")
    volume = read_volume(labels.source)
    report = build_measurement_report(labels, measure(labels, volume), segmentation=segmentation)
    made = {
        "uncompressed": make_series(body_phantom((3, 32, 40))),
        "JPEG 2000": make_series(body_phantom((3, 32, 40))),
        "RLE": make_series(body_phantom((3, 32, 40))),
        "SEG BINARY": [segmentation],
        "SEG LABELMAP": [build_segmentation(labels, encoding="LABELMAP")],
        "SR": [report],
    }
    assert len(SEGMENTS) == 3
    for name, syntax in (("JPEG 2000", JPEG2000Lossless), ("RLE", RLELossless)):
        for dataset in made[name]:
            dataset.compress(syntax, generate_instance_uid=False)
    return {name: [reread(dataset) for dataset in datasets] for name, datasets in made.items()}


def reread(dataset: Dataset) -> Dataset:
    """Return the data set as a reader of its file sees it, so that values can be compared."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


@pytest.fixture(scope="module", params=PEERS)
def peer(request: pytest.FixtureRequest, kinds, tmp_path_factory) -> Iterator[Peer]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "orthanc":
        with orthanc(folder / "peer") as running:
            endpoint = dataclasses.replace(running.dimse, move_port=running.move_port)
            yield filled(request.param, endpoint, running.dicomweb, kinds)
    elif request.param == "dcmqrscp":
        with dcmqrscp(folder / "peer") as endpoint:
            yield filled(request.param, endpoint, None, kinds)
    else:
        port = free_port()
        destinations = {"AIDICOMBRIDGE": ("127.0.0.1", port)}
        with InstanceStore(folder) as store, Archive(store, move_destinations=destinations) as archive:
            yield filled(request.param, dataclasses.replace(archive.endpoint, move_port=port), None, kinds)


def filled(name: str, endpoint: DimseEndpoint, web: DicomWebEndpoint | None, kinds: dict[str, list[Dataset]]) -> Peer:
    client = connect(endpoint)
    return Peer(name, endpoint, web, {kind: client.store(datasets) for kind, datasets in kinds.items()})


@pytest.fixture
def received(tmp_path: Path) -> Iterator[InstanceStore]:
    with InstanceStore(tmp_path / "received") as store:
        yield store


def assert_the_same(received: InstanceStore, sent: list[Dataset]) -> None:
    """Every element is as it was sent; pixels may have been decompressed on the way in, and are equal then."""
    arrived = {item.sop_instance_uid: dcmread(item.path) for item in received}
    assert arrived.keys() == {dataset.SOPInstanceUID for dataset in sent}
    for dataset in sent:
        twin = arrived[dataset.SOPInstanceUID]
        if twin.file_meta.TransferSyntaxUID != dataset.file_meta.TransferSyntaxUID:
            assert np.array_equal(twin.pixel_array, dataset.pixel_array)
            continue
        for element in dataset:
            assert twin[element.tag].value == element.value, element.keyword


def skip_refused(peer: Peer, kind: str) -> None:
    if (peer.name, kind) in REFUSED:
        pytest.skip(f"{peer.name} does not take {kind}; the store test shows that it says so")


def test_echo(peer) -> None:
    connect(peer.dimse).verify()


@pytest.mark.parametrize("root", ["study", "patient"])
def test_find_at_every_level(peer, kinds, root) -> None:
    sent = kinds["uncompressed"]
    client = connect(dataclasses.replace(peer.dimse, root=root))

    patients = client.find_patients(patient_id="SYN-*")
    (study,) = client.find_studies(study_uid=sent[0].StudyInstanceUID)
    (series,) = client.find_series(study.study_uid, modality="CT")
    instances = client.find_instances(study.study_uid, series.series_uid)

    assert {patient.patient_id for patient in patients} == {"SYN-1"}
    assert (study.patient_id, study.accession_number) == ("SYN-1", "SYN0001")
    assert series.series_uid == sent[0].SeriesInstanceUID
    assert {record.sop_instance_uid for record in instances} == {dataset.SOPInstanceUID for dataset in sent}


@pytest.mark.parametrize("kind", KINDS)
def test_store(peer, kinds, kind) -> None:
    report = peer.stored[kind]

    if (peer.name, kind) in REFUSED:
        assert {outcome.outcome for outcome in report.outcomes} == {Outcome.REFUSED}
        assert "accepts no presentation context for Label Map Segmentation" in report.outcomes[0].reason
    else:
        assert [outcome.outcome for outcome in report.outcomes] == [Outcome.STORED] * len(kinds[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["auto", "C-MOVE"])
def test_retrieve(peer, kinds, received, method, kind) -> None:
    skip_refused(peer, kind)
    sent = kinds[kind]
    client = connect(dataclasses.replace(peer.dimse, retrieve=method))

    report = client.retrieve(sent[0].StudyInstanceUID, sent[0].SeriesInstanceUID, into=received)

    assert report.complete
    # Orthanc sends SOP Classes that it does not know by C-MOVE only.
    by_move = method == "C-MOVE" or (peer.name, kind) == ("orthanc", "SEG LABELMAP")
    assert report.method == ("C-MOVE" if by_move else "C-GET")
    assert_the_same(received, sent)


@pytest.mark.parametrize("method", ["auto", "C-MOVE"])
def test_pynetdicoms_own_way_stores_and_retrieves_the_same(peer, kinds, tmp_path, method, monkeypatch) -> None:
    monkeypatch.setenv("AIDICOMBRIDGE_ORDINARY_DIMSE", "1")
    client = connect(dataclasses.replace(peer.dimse, retrieve=method))
    for kind, sent in kinds.items():
        stored = client.store(sent)
        assert [item.outcome for item in stored.outcomes] == [item.outcome for item in peer.stored[kind].outcomes]
        if stored.complete:
            with InstanceStore(tmp_path / kind) as received:
                assert client.retrieve(sent[0].StudyInstanceUID, sent[0].SeriesInstanceUID, into=received).complete
                assert_the_same(received, sent)


@pytest.mark.parametrize("root", ["study", "patient"])
def test_retrieve_on_several_associations_of_either_root(peer, kinds, received, root, monkeypatch) -> None:
    monkeypatch.setattr("AIDicomBridgeLib.pacs.dimse_retrieve._LEAST_SHARE", 1)
    sent = kinds["uncompressed"]
    client = connect(dataclasses.replace(peer.dimse, retrieve="C-GET", associations=3, root=root))

    assert client.retrieve(sent[0].StudyInstanceUID, into=received).complete
    assert_the_same(received, sent)


def test_store_on_several_associations(peer, monkeypatch) -> None:
    monkeypatch.setattr("AIDicomBridgeLib.pacs.dimse_store._LEAST_SHARE", 1)
    client = connect(dataclasses.replace(peer.dimse, associations=3))

    report = client.store(make_series(body_phantom((7, 16, 16)), patient_id="SYN-1"))

    assert report.complete
    assert len(report.outcomes) == 7


@pytest.mark.parametrize("method", ["C-GET", "C-MOVE"])
@pytest.mark.parametrize(("syntax", "options"), [(JPEG2000Lossless, ("+xv", "-xv")), (RLELossless, ("+xr", "-xr"))])
def test_dcmqrscp_that_keeps_compressed_images(tmp_path, received, syntax, options, method) -> None:
    """It sends by the first context accepted for a SOP Class, and cannot convert what is stored otherwise."""
    sent = make_series(body_phantom((2, 32, 40)))
    sent[0].compress(syntax, generate_instance_uid=False)
    with dcmqrscp(tmp_path / "peer", *options) as endpoint:
        client = connect(dataclasses.replace(endpoint, retrieve=method))
        stored = client.store(sent)
        report = client.retrieve(sent[0].StudyInstanceUID, into=received)

    assert stored.complete
    assert report.complete
    assert {item.transfer_syntax_uid for item in received} == {syntax, ExplicitVRLittleEndian}
    assert_the_same(received, [reread(dataset) for dataset in sent])


def test_storage_commitment(peer, kinds) -> None:
    sent = [(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)) for dataset in kinds["uncompressed"]]
    client = DimseClient(peer.dimse)
    if peer.name != "orthanc":
        with pytest.raises((NotOfferedError, AssociationError)):
            client.commit(sent)
        return

    report = client.commit([*sent, (sent[0][0], "1.2.3")], timeout_s=30)

    assert report.committed == tuple(uid for _sop_class, uid in sent)
    assert set(report.failed) == {"1.2.3"}
    assert "does not hold it" in report.failed["1.2.3"]


@pytest.mark.parametrize("kind", KINDS)
def test_dicomweb(peer, kinds, received, kind) -> None:
    if peer.web is None:
        pytest.skip(f"{peer.name} has no DICOMweb service")
    sent = kinds[kind]
    with connect(peer.web) as client:
        stored = client.store(sent)
        (study,) = client.find_studies(study_uid=sent[0].StudyInstanceUID)
        (series,) = client.find_series(study.study_uid, series_uid=sent[0].SeriesInstanceUID)
        instances = client.find_instances(study.study_uid, series.series_uid)
        report = client.retrieve(study.study_uid, series.series_uid, into=received)

    assert stored.complete
    assert study.patient_id == "SYN-1"
    assert {record.sop_instance_uid for record in instances} == {dataset.SOPInstanceUID for dataset in sent}
    assert report.complete
    assert_the_same(received, sent)


# Mutual TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    return folder


@pytest.fixture(params=["orthanc", "storescp", "archive"])
def tls_peer(request: pytest.FixtureRequest, certificates, tmp_path) -> Iterator[DimseEndpoint]:
    """A peer that speaks TLS only and asks for our certificate; its endpoint has none yet."""
    if request.param == "storescp":
        with storescp(tmp_path / "peer", tls_folder=certificates) as endpoint:
            yield endpoint
    elif request.param == "archive":
        context = server_context(certificates, ask_client=True)
        with InstanceStore(tmp_path / "peer") as store, Archive(store, tls=context) as archive:
            yield archive.endpoint
    else:
        with orthanc(tmp_path / "peer", tls_folder=certificates) as running:
            yield dataclasses.replace(running.dimse, move_port=running.move_port)


def test_mutual_tls(tls_peer, certificates, received) -> None:
    files = TlsFiles(*(str(certificates / name) for name in ("ca.pem", "server.crt", "server.key")))
    sent = [reread(dataset) for dataset in make_series(body_phantom((2, 16, 16)))]

    client = connect(dataclasses.replace(tls_peer, tls=files))

    client.verify()
    assert client.store(sent).complete
    if tls_peer.name != "storescp":
        assert client.retrieve(sent[0].StudyInstanceUID, into=received).complete
        assert_the_same(received, sent)
    for wrong in (TlsFiles(files.ca_file), None):
        with pytest.raises((AssociationError, UnreachableError)):
            connect(dataclasses.replace(tls_peer, tls=wrong, association_timeout_s=3)).verify()


@pytest.mark.parametrize("tls_peer", ["orthanc"], indirect=True)
def test_what_calls_us_back_does_so_over_tls(tls_peer, certificates, received) -> None:
    """Orthanc 1.10 opens associations over TLS for C-MOVE and for the answer to storage commitment."""
    files = TlsFiles(*(str(certificates / name) for name in ("ca.pem", "server.crt", "server.key")))
    sent = [reread(dataset) for dataset in make_series(body_phantom((2, 16, 16)))]
    moving = dataclasses.replace(tls_peer, tls=files, retrieve="C-MOVE")
    client = DimseClient(moving)
    client.store(sent)

    assert client.retrieve(sent[0].StudyInstanceUID, into=received).complete
    assert_the_same(received, sent)
    committed = client.commit([(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)) for dataset in sent])
    assert len(committed.committed) == len(sent)


def test_dicomweb_with_a_client_certificate(tmp_path, certificates) -> None:
    own = [str(certificates / name) for name in ("ca.pem", "server.crt", "server.key")]
    with (
        orthanc(tmp_path / "peer") as running,
        tls_front(certificates, running.http_port, ask_client=True) as (port, _ca_file),
    ):
        own[0] = str(certificates / "ca.pem")
        url = f"https://127.0.0.1:{port}/dicom-web"
        with connect(DicomWebEndpoint("", url, ca_file=own[0], certificate_file=own[1], key_file=own[2])) as client:
            client.verify()
        with connect(DicomWebEndpoint("", url, ca_file=own[0])) as client, pytest.raises(UnreachableError):
            client.verify()
