"""DIMSE peers that refuse, withhold, fall silent and lie while we ask or retrieve: nothing is silently lost."""

import dataclasses
import socket

import pytest
from AIDicomBridgeLib.errors import (
    AssociationError,
    DiskSpaceError,
    EndpointError,
    IncompleteError,
    JobCancelled,
    NotFoundError,
    QueryError,
    RetrieveError,
)
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.endpoint import DimseEndpoint
from AIDicomBridgeLib.pacs.records import Outcome
from AIDicomBridgeLib.progress import CancelToken, Progress
from AIDicomBridgeLib.series.instance_store import InstanceStore
from peers import free_port
from peers.fault_pacs import DimseFaults, faulty_pacs
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from synthetic import body_phantom, make_series, part10

pytestmark = pytest.mark.usefixtures("dimse_way")


def test_the_called_ae_title_is_wrong(images) -> None:
    with faulty_pacs(images) as pacs, pytest.raises(AssociationError) as caught:
        connect(dataclasses.replace(pacs.endpoint, ae_title="OTHER")).verify()

    for part in ("called AE title not recogni", "'OTHER'", "'AIDICOMBRIDGE'", "faulty"):
        assert part in str(caught.value)
    assert "Correct the AE title" in caught.value.advice


def test_our_ae_title_is_not_known(images, monkeypatch) -> None:
    monkeypatch.setattr(AE, "require_calling_aet", ["SOMEBODY"])

    with faulty_pacs(images) as pacs, pytest.raises(AssociationError, match="calling AE title not recogni") as caught:
        connect(pacs.endpoint).verify()

    assert "register our AE title 'AIDICOMBRIDGE'" in caught.value.advice


def test_a_refused_query_gives_its_status(images) -> None:
    with faulty_pacs(images, DimseFaults(find_status=0xA700)) as pacs, pytest.raises(QueryError) as caught:
        connect(pacs.endpoint).find_studies()

    assert caught.value.status == 0xA700
    assert "0xA700" in str(caught.value)


def test_a_list_that_the_peer_breaks_off_is_not_taken_for_the_whole(images) -> None:
    with (
        faulty_pacs(images, DimseFaults(find_status=0xFE00)) as pacs,
        pytest.raises(QueryError, match="broke its list"),
    ):
        connect(pacs.endpoint).find_studies()


def test_a_peer_that_counts_more_than_it_lists(images, received) -> None:
    with faulty_pacs(images, DimseFaults(counted=6)) as pacs:
        report = connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, images[0].SeriesInstanceUID, into=received)

    assert len(received) == len(report.succeeded) == 4
    assert not report.complete
    with pytest.raises(IncompleteError, match="counts 2 more instances than the 4 that it lists"):
        report.raise_if_incomplete()


def test_a_silent_peer_ends_the_query(images) -> None:
    with faulty_pacs(images, DimseFaults(silent=True)) as pacs, pytest.raises(QueryError, match="did not answer"):
        connect(dataclasses.replace(pacs.endpoint, dimse_timeout_s=1)).find_studies()


def test_a_peer_that_ends_the_association_between_two_queries(images, received, monkeypatch) -> None:
    send, calls = Association.send_c_find, []

    def end_before_the_second(association: Association, *arguments, **keywords):
        calls.append(1)
        if len(calls) == 2:
            association.abort()  # as if the peer's own abort had just been read
        return send(association, *arguments, **keywords)

    monkeypatch.setattr(Association, "send_c_find", end_before_the_second)

    with faulty_pacs(images) as pacs, pytest.raises(QueryError, match="broke the connection off"):
        connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, into=received)
    assert len(calls) == 2


def test_a_peer_that_falls_silent_with_requests_still_to_send(images, received, monkeypatch) -> None:
    monkeypatch.setattr("AIDicomBridgeLib.pacs.dimse_retrieve._UIDS_PER_REQUEST", 1)
    received.add_file(part10(images[0]))  # not the whole series then, but instance by instance
    with faulty_pacs(images, DimseFaults(silent_get=True)) as pacs:
        endpoint = dataclasses.replace(pacs.endpoint, dimse_timeout_s=0.5)
        report = connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert [outcome.outcome for outcome in report.outcomes] == [Outcome.PRESENT] + [Outcome.MISSING] * 3
    assert all("fell silent" in outcome.reason for outcome in report.failed)


def test_a_peer_that_answers_too_much_is_filtered(images) -> None:
    other = make_series(body_phantom((2, 8, 8)), patient_id="SYN-2")
    with faulty_pacs(images + other) as pacs:
        client = connect(pacs.endpoint)
        studies = client.find_studies(patient_id="SYN-1")
        instances = client.find_instances(images[0].StudyInstanceUID, images[0].SeriesInstanceUID)

    assert [study.study_uid for study in studies] == [images[0].StudyInstanceUID]
    assert [record.sop_instance_uid for record in instances] == [dataset.SOPInstanceUID for dataset in images]


def test_no_match_is_an_empty_list_and_nothing_to_retrieve_an_error(received) -> None:
    with faulty_pacs([]) as pacs:
        client = connect(pacs.endpoint)

        assert client.find_studies(patient_id="NOBODY") == []
        with pytest.raises(NotFoundError):
            client.retrieve(generate_uid(), into=received)


def test_c_get_that_claims_success_without_sending_everything(images, received) -> None:
    withheld = {str(dataset.SOPInstanceUID) for dataset in images[1:3]}
    with faulty_pacs(images, DimseFaults(withheld=withheld)) as pacs:
        report = connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert not report.complete
    assert {outcome.sop_instance_uid for outcome in report.failed} == withheld
    assert {outcome.outcome for outcome in report.failed} == {Outcome.MISSING}
    assert len(report.succeeded) == len(received) == 2
    assert pacs.get_requests == 3


def test_what_a_peer_sends_late_is_asked_for_again(images, received) -> None:
    faults = DimseFaults(withheld={str(images[1].SOPInstanceUID)})
    with faulty_pacs(images, faults) as pacs:
        report = connect(pacs.endpoint).retrieve(
            images[0].StudyInstanceUID,
            into=received,
            progress=lambda step: faults.withheld.clear() if step.completed == 3 else None,
        )

    assert report.complete
    assert pacs.get_requests == 2


def test_a_peer_without_c_get_sends_by_c_move(images, received) -> None:
    port = free_port()
    with faulty_pacs(images, DimseFaults(offers_get=False, move_port=port)) as pacs:
        endpoint = dataclasses.replace(pacs.endpoint, move_port=port)

        report = connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert report.complete
    assert report.method == "C-MOVE"
    assert len(received) == 4


def test_a_peer_without_c_get_and_no_way_to_move(images, received) -> None:
    with (
        faulty_pacs(images, DimseFaults(offers_get=False)) as pacs,
        pytest.raises(RetrieveError, match="does not offer C-GET") as caught,
    ):
        connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert "move_port" in caught.value.advice


def test_c_move_to_a_place_where_nobody_listens_names_the_causes(images, received) -> None:
    faults = DimseFaults(move_port=free_port())
    with faulty_pacs(images, faults) as pacs:
        endpoint = dataclasses.replace(pacs.endpoint, retrieve="C-MOVE", move_port=free_port())

        with pytest.raises(RetrieveError, match=r"may have another address than 127\.0\.0\.1") as caught:
            connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert "0xA801" in str(caught.value)


def test_a_move_port_that_is_taken(images, received) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, faulty_pacs(images) as pacs:
        endpoint = dataclasses.replace(pacs.endpoint, retrieve="C-MOVE", move_port=taken.getsockname()[1])

        with pytest.raises(EndpointError, match="cannot receive on"):
            connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)


def test_instances_of_another_study_are_not_taken(images, received) -> None:
    foreign = make_series(body_phantom((1, 8, 8)))[0]
    faults = DimseFaults(listed_uid=str(foreign.SOPInstanceUID))
    with faulty_pacs([*images[:2], foreign], faults) as pacs:
        report = connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert foreign.SOPInstanceUID not in received
    assert images[1].SOPInstanceUID in received
    assert not report.complete
    assert "another study" in report.failed[0].reason


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_listed_uid_that_is_none_is_refused(images, received) -> None:
    with (
        faulty_pacs(images, DimseFaults(listed_uid="../../../etc/x")) as pacs,
        pytest.raises(QueryError, match="without a valid SOPInstanceUID"),
    ):
        connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, into=received)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("method", ["C-GET", "C-MOVE"])
def test_a_listed_sop_class_that_is_none_is_refused(images, received, method) -> None:
    faults = DimseFaults(listed_class="1.2 nonsense", move_port=free_port())
    with faulty_pacs(images, faults) as pacs, pytest.raises(QueryError, match="without a valid SOPClassUID"):
        connect(by_method(pacs, method)).retrieve(images[0].StudyInstanceUID, into=received)


def test_a_full_disk_ends_the_retrieve(images, tmp_path) -> None:
    with InstanceStore(tmp_path / "small", quota_bytes=2500) as store, faulty_pacs(images) as pacs:
        with pytest.raises(DiskSpaceError, match="quota"):
            connect(pacs.endpoint).retrieve(images[0].StudyInstanceUID, into=store)

        assert len(store) == 1


# Each of these ends before all has come, whatever its final status says.


@pytest.fixture(params=["C-GET", "C-MOVE"])
def faults_of_method(request: pytest.FixtureRequest) -> tuple[str, DimseFaults]:
    return request.param, DimseFaults(move_port=free_port())


def by_method(pacs, method: str, **changes: object) -> DimseEndpoint:
    return dataclasses.replace(pacs.endpoint, retrieve=method, move_port=pacs.faults.move_port, **changes)


def test_a_retrieve_that_withholds_some_names_them(images, received, faults_of_method) -> None:
    method, faults = faults_of_method
    faults.withheld = {str(dataset.SOPInstanceUID) for dataset in images[:2]}
    with faulty_pacs(images, faults) as pacs:
        report = connect(by_method(pacs, method)).retrieve(images[0].StudyInstanceUID, into=received)

    assert not report.complete
    assert {outcome.sop_instance_uid for outcome in report.failed} == faults.withheld
    assert len(report.succeeded) == len(received) == 2


def test_a_peer_that_breaks_off_in_the_middle_is_asked_for_the_rest(images, received, faults_of_method) -> None:
    method, faults = faults_of_method
    faults.abort_after = 2
    with faulty_pacs(images, faults) as pacs:
        report = connect(by_method(pacs, method)).retrieve(images[0].StudyInstanceUID, into=received)

    assert report.complete
    assert len(received) == 4


def test_a_peer_that_falls_silent_in_the_middle_is_asked_for_the_rest(images, received, faults_of_method) -> None:
    method, faults = faults_of_method
    faults.silent_after = 3
    with faulty_pacs(images, faults) as pacs:
        endpoint = by_method(pacs, method, dimse_timeout_s=1.0)
        report = connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert report.complete
    assert len(received) == 4


def test_a_cancel_is_heard_while_the_peer_is_silent(images, received, faults_of_method) -> None:
    method, faults = faults_of_method
    faults.silent_after = 3
    cancel = CancelToken()

    def cancel_after_three(step: Progress) -> None:
        if step.completed >= 3:
            cancel.cancel()

    with faulty_pacs(images, faults) as pacs, pytest.raises(JobCancelled):
        connect(by_method(pacs, method)).retrieve(
            images[0].StudyInstanceUID, into=received, progress=cancel_after_three, cancel=cancel
        )
    assert len(received) == 3


def test_a_slow_peer_is_given_time_as_long_as_it_shows_life(images, received, faults_of_method) -> None:
    method, faults = faults_of_method
    faults.pause_s = 0.4
    with faulty_pacs(images, faults) as pacs:
        endpoint = by_method(pacs, method, dimse_timeout_s=1.0)  # shorter than the whole
        assert connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received).complete
    assert pacs.get_requests in (0, 1)


def test_a_retrieve_has_a_deadline_for_all_of_it(images, received, faults_of_method) -> None:
    method, faults = faults_of_method
    faults.pause_s = 1.0
    with faulty_pacs(images, faults) as pacs:
        endpoint = by_method(pacs, method, total_timeout_s=3.0)
        report = connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert 1 <= len(report.succeeded) < 4
    assert all("longer than 3 s in all" in outcome.reason for outcome in report.failed)


def test_a_peer_that_refuses_our_role_sends_by_c_move(images, received) -> None:
    with faulty_pacs(images, DimseFaults(refuses_role=True, move_port=free_port())) as pacs:
        report = connect(by_method(pacs, "auto")).retrieve(images[0].StudyInstanceUID, into=received)

    assert report.complete
    assert report.method == "C-MOVE"


def test_a_move_from_another_host_is_turned_away(images, received) -> None:
    with faulty_pacs(images, DimseFaults(move_port=free_port())) as pacs:
        endpoint = by_method(pacs, "C-MOVE", move_from="127.0.0.2")
        with pytest.raises(RetrieveError, match=r"turned a connection from 127\.0\.0\.1.* away"):
            connect(endpoint).retrieve(images[0].StudyInstanceUID, into=received)

    assert len(received) == 0


def test_a_private_sop_class_comes_by_c_move(images, received, tmp_path) -> None:
    images[1].SOPClassUID = "1.3.46.670589.11.0.0.12.4"
    port = free_port()
    destinations = {"AIDICOMBRIDGE": ("127.0.0.1", port)}
    with (
        InstanceStore(tmp_path / "archive") as store,
        Archive(store, move_destinations=destinations) as archive,
    ):
        for dataset in images:
            store.add_file(part10(dataset))
        report = connect(dataclasses.replace(archive.endpoint, move_port=port)).retrieve(
            images[0].StudyInstanceUID, into=received
        )

    assert report.complete
    assert report.method == "C-GET, C-MOVE"
    assert images[1].SOPInstanceUID in received


def test_a_limit_aborts_a_peer_that_does_not_heed_the_cancel(images) -> None:
    many = [dataset for _ in range(3) for dataset in make_series(body_phantom((1, 8, 8)))]
    with faulty_pacs(many) as pacs:
        assert len(connect(pacs.endpoint).find_studies(limit=1)) == 1
