"""Nothing leaves the outbox before the destination has shown that it holds it; nothing is lost or doubled."""

import errno
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from AIDicomBridgeLib.delivery.deliver import deliver
from AIDicomBridgeLib.delivery.outbox import DeliveryState, Outbox
from AIDicomBridgeLib.errors import (
    ConflictError,
    DeliveryError,
    DiskSpaceError,
    NotOfferedError,
    RetrieveError,
    UnreachableError,
)
from AIDicomBridgeLib.pacs.endpoint import parse_endpoint
from AIDicomBridgeLib.pacs.records import InstanceOutcome, InstanceRecord, Outcome, RetrieveReport, StoreReport
from AIDicomBridgeLib.series.dicom_file import read_dicom
from pydicom import Dataset
from synthetic import body_phantom, make_series

ENDPOINT = parse_endpoint("dimse://PACS@127.0.0.1:104")
SECOND = parse_endpoint("dimse://OTHER@127.0.0.1:105")


@dataclass
class FaultyPacs:
    """A PACS client whose answers a test chooses; everything else behaves as a PACS should."""

    held: dict[str, Dataset] = field(default_factory=dict)
    statuses: dict[str, InstanceOutcome] = field(default_factory=dict)
    stored_calls: list[list[str]] = field(default_factory=list)
    lies_about: set[str] = field(default_factory=set)
    unreachable: bool = False
    retrieve_error: Exception | None = None
    endpoint = ENDPOINT

    def __enter__(self) -> "FaultyPacs":
        if self.unreachable:
            raise UnreachableError("the peer does not answer", peer="PACS")
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Nothing to close."""

    def store(self, paths, *, progress=None, cancel=None) -> StoreReport:
        datasets = [read_dicom(path) for path in paths]
        self.stored_calls.append([ds.SOPInstanceUID for ds in datasets])
        outcomes = []
        for ds in datasets:
            outcome = self.statuses.get(ds.SOPInstanceUID, InstanceOutcome(ds.SOPInstanceUID, Outcome.STORED, "0x0000"))
            if outcome.outcome is Outcome.STORED and ds.SOPInstanceUID not in self.lies_about:
                self.held.setdefault(ds.SOPInstanceUID, ds)
            outcomes.append(outcome)
        return StoreReport("PACS", tuple(outcomes))

    def find_instances(self, study_uid: str, series_uid: str) -> list[InstanceRecord]:
        found = [ds for ds in self.held.values() if ds.SeriesInstanceUID == series_uid]
        return [InstanceRecord(study_uid, series_uid, ds.SOPInstanceUID) for ds in found]

    def retrieve(self, study_uid: str, series_uid: str, *, into, progress=None, cancel=None) -> RetrieveReport:
        if self.retrieve_error:
            raise self.retrieve_error
        from io import BytesIO

        outcomes = []
        for ds in (ds for ds in self.held.values() if ds.SeriesInstanceUID == series_uid):
            buffer = BytesIO()
            ds.save_as(buffer, enforce_file_format=True)
            into.add_file(buffer.getvalue())
            outcomes.append(InstanceOutcome(ds.SOPInstanceUID, Outcome.RECEIVED))
        return RetrieveReport("PACS", tuple(outcomes))


@pytest.fixture
def results() -> list[Dataset]:
    return make_series(body_phantom((3, 8, 8)))


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox")


def test_results_are_on_disk_and_in_the_journal_before_anything_is_sent(outbox: Outbox, results: list[Dataset]) -> None:
    outbox.put(results, ENDPOINT.address)

    reopened = Outbox(outbox.folder).deliveries()

    assert [d.sop_instance_uid for d in reopened] == [ds.SOPInstanceUID for ds in results]
    assert all(d.state is DeliveryState.WAITING and d.attempts == 0 for d in reopened)
    assert [read_dicom(d.path) for d in reopened] == results
    assert not list(outbox.folder.rglob("*.part"))
    assert outbox.folder.stat().st_mode & 0o077 == 0
    assert not any(results[0].PatientID in path.name for path in outbox.folder.rglob("*"))


def test_putting_the_same_result_twice_keeps_one(outbox: Outbox, results: list[Dataset]) -> None:
    outbox.put(results, ENDPOINT.address)
    outbox.put(results, ENDPOINT.address)
    assert len(outbox.deliveries()) == 3


def test_what_arrived_is_compared_receipted_and_removed(outbox: Outbox, results: list[Dataset]) -> None:
    outbox.put(results, ENDPOINT.address)

    report = deliver(outbox, ENDPOINT, open_client=lambda _: FaultyPacs())

    assert report.complete
    assert [r.proof for r in report.receipts] == ["compared"] * 3
    assert outbox.deliveries() == []
    assert len(outbox.receipts()) == 3
    assert not list((outbox.folder / "objects").iterdir())


def test_a_destination_that_accepts_but_does_not_hold_is_found_out(outbox: Outbox, results: list[Dataset]) -> None:
    outbox.put(results, ENDPOINT.address)
    liar = FaultyPacs(lies_about={results[1].SOPInstanceUID})

    report = deliver(outbox, ENDPOINT, open_client=lambda _: liar)

    assert [d.sop_instance_uid for d in report.remaining] == [results[1].SOPInstanceUID]
    assert "does not list it" in report.remaining[0].reason
    assert report.remaining[0].path.exists()


def test_another_object_under_the_same_uid_is_found_out(outbox: Outbox, results: list[Dataset]) -> None:
    other = make_series(body_phantom((3, 8, 8)) + 1)[0]
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        setattr(other, name, results[0][name].value)
    outbox.put(results, ENDPOINT.address)

    report = deliver(outbox, ENDPOINT, open_client=lambda _: FaultyPacs(held={other.SOPInstanceUID: other}))

    assert [d.sop_instance_uid for d in report.remaining] == [other.SOPInstanceUID]
    assert "another object under this UID (differs in PixelData)" in report.remaining[0].reason


def test_refused_instances_stay_with_the_status_and_the_rest_arrives(outbox: Outbox, results: list[Dataset]) -> None:
    uid = results[2].SOPInstanceUID
    outbox.put(results, ENDPOINT.address)
    refusing = FaultyPacs(statuses={uid: InstanceOutcome(uid, Outcome.REFUSED, "0xA700", "Out of resources")})

    report = deliver(outbox, ENDPOINT, open_client=lambda _: refusing)

    assert len(report.receipts) == 2
    (left,) = report.remaining
    assert (left.state, left.status, left.reason) == (DeliveryState.REFUSED, "0xA700", "Out of resources")


def test_an_unreachable_destination_keeps_everything(outbox: Outbox, results: list[Dataset]) -> None:
    outbox.put(results, ENDPOINT.address)
    report = deliver(outbox, ENDPOINT, open_client=lambda _: FaultyPacs(unreachable=True))
    assert isinstance(report.error, UnreachableError)
    assert len(report.remaining) == 3


def test_a_second_try_sends_only_what_the_destination_does_not_hold(outbox: Outbox, results: list[Dataset]) -> None:
    outbox.put(results, ENDPOINT.address)
    outbox.mark_attempt(outbox.deliveries())  # a first try, cut off after the first object
    pacs = FaultyPacs(held={results[0].SOPInstanceUID: results[0]})

    report = deliver(outbox, ENDPOINT, open_client=lambda _: pacs)

    assert report.complete
    assert pacs.stored_calls == [[ds.SOPInstanceUID for ds in results[1:]]]


def test_a_destination_that_lists_but_does_not_hand_out_is_noted(outbox: Outbox, results: list[Dataset]) -> None:
    outbox.put(results, ENDPOINT.address)
    pacs = FaultyPacs(retrieve_error=NotOfferedError("the peer does not offer C-GET to us"))
    report = deliver(outbox, ENDPOINT, open_client=lambda _: pacs)
    assert report.complete
    assert {r.proof for r in report.receipts} == {"listed"}
    assert "does not offer C-GET" in report.receipts[0].note


@pytest.mark.parametrize("error", [RetrieveError("the peer fell silent"), DiskSpaceError("the disk is full")])
def test_a_comparison_that_fails_proves_nothing(outbox: Outbox, results: list[Dataset], error: Exception) -> None:
    outbox.put(results, ENDPOINT.address)
    pacs = FaultyPacs(retrieve_error=error)

    report = deliver(outbox, ENDPOINT, open_client=lambda _: pacs)

    assert len(report.remaining) == 3
    assert all(d.state is DeliveryState.SENT and d.path.exists() for d in report.remaining)
    pacs.retrieve_error = None
    assert deliver(outbox, ENDPOINT, open_client=lambda _: pacs).complete
    assert len(pacs.stored_calls) == 1, "what is listed is compared again, not sent again"


def test_one_damaged_file_does_not_keep_the_others_back(outbox: Outbox, results: list[Dataset]) -> None:
    damaged = outbox.put(results, ENDPOINT.address)[1]
    damaged.path.write_bytes(b"damaged")

    report = deliver(outbox, ENDPOINT, open_client=lambda _: FaultyPacs())

    assert len(report.receipts) == 2
    (left,) = report.remaining
    assert left.state is DeliveryState.REFUSED
    assert "damaged" in left.reason


def test_another_object_with_a_waiting_uid_is_refused(outbox: Outbox, results: list[Dataset]) -> None:
    outbox.put(results[:1], ENDPOINT.address)
    corrected = make_series(body_phantom((3, 8, 8)))[0]
    corrected.SOPInstanceUID = results[0].SOPInstanceUID
    with pytest.raises(ConflictError):
        outbox.put([corrected], "dimse://OTHER@127.0.0.1:105")
    assert read_dicom(outbox.deliveries()[0].path) == results[0]


def test_what_a_crash_left_behind_is_swept_but_not_what_is_on_its_way(outbox: Outbox, results: list[Dataset]) -> None:
    (waiting,) = outbox.put(results[:1], ENDPOINT.address)
    old, young = (outbox.folder / "objects" / name for name in ("old.part", "young.part"))
    for path in (old, young):
        path.write_bytes(b"half")
    for path in (old, waiting.path):
        os.utime(path, (0, 0))

    Outbox(outbox.folder)

    assert not old.exists()
    assert young.exists()
    assert waiting.path.exists()


def test_attributes_that_an_archive_adds_are_noted_not_refused(outbox: Outbox, results: list[Dataset]) -> None:
    outbox.put(results[:1], ENDPOINT.address)
    coerced = read_dicom(outbox.deliveries()[0].path)
    coerced.StudyDescription = "Coerced"
    report = deliver(outbox, ENDPOINT, open_client=lambda _: FaultyPacs(held={coerced.SOPInstanceUID: coerced}))
    assert report.complete
    assert report.receipts[0].note == "the destination changed StudyDescription"


def test_one_object_for_two_destinations_stays_until_both_hold_it(outbox: Outbox, results: list[Dataset]) -> None:
    outbox.put(results[:1], ENDPOINT.address)
    outbox.put(results[:1], SECOND.address)

    deliver(outbox, ENDPOINT, open_client=lambda _: FaultyPacs())
    (left,) = outbox.deliveries()
    assert left.destination == SECOND.address
    assert left.path.exists()
    deliver(outbox, SECOND, open_client=lambda _: FaultyPacs())
    assert not left.path.exists()


def test_what_is_discarded_is_gone_unless_it_goes_elsewhere_too(outbox: Outbox, results: list[Dataset]) -> None:
    first = outbox.put(results, "dimse://ONE@one.example.org:104")
    outbox.put(results[:1], "dimse://TWO@two.example.org:104")
    outbox.discard(first)
    (kept,) = outbox.deliveries()
    assert kept.destination == "dimse://TWO@two.example.org:104"
    assert kept.path.is_file()
    assert [delivery.path.is_file() for delivery in first[1:]] == [False] * (len(results) - 1)
    assert outbox.receipts() == []


def test_a_full_disk_leaves_nothing_half_written(
    outbox: Outbox, results: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskSpaceError, match="No space left"):
        outbox.put(results, ENDPOINT.address)
    assert outbox.deliveries() == []
    assert not list((outbox.folder / "objects").iterdir())


@pytest.mark.parametrize("leaving", ["settled", "discarded", "swept"])
def test_an_object_that_leaves_while_another_process_puts_it_in_stays(
    outbox: Outbox, results: list[Dataset], monkeypatch: pytest.MonkeyPatch, leaving: str
) -> None:
    (first,) = outbox.put(results[:1], ENDPOINT.address)
    if leaving == "swept":  # what a crash after the row was taken out leaves
        first_content = first.path.read_bytes()
        outbox.discard([first])
        first.path.write_bytes(first_content)
        os.utime(first.path, (0, 0))
    other = Outbox.__new__(Outbox)
    other.__dict__.update(vars(outbox))  # opened before; its sweep is over
    leave: list[Callable[[], object]] = [
        {
            "settled": lambda: outbox.settle(first, proof="compared"),
            "discarded": lambda: outbox.discard([first]),
            "swept": lambda: Outbox(outbox.folder),
        }[leaving]
    ]
    connect = sqlite3.connect

    def connect_later(*arguments, **options) -> sqlite3.Connection:
        if leave:
            leave.pop()()
        return connect(*arguments, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_later)
    (second,) = other.put(results[:1], SECOND.address)

    assert read_dicom(second.path) == results[0]


def test_an_object_put_in_while_another_process_removes_it_stays(
    outbox: Outbox, results: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = outbox.put(results[:1], ENDPOINT.address)
    other, tries, held_off = Outbox(outbox.folder), [1], []
    connect, unlink = sqlite3.connect, Path.unlink

    def unlink_later(path: Path, missing_ok: bool = False) -> None:
        if path == first.path and tries:
            tries.pop()
            try:
                other.put(results[:1], SECOND.address)
            except DeliveryError as error:  # the journal is held: a real process waits until it is free
                held_off.append(error)
        unlink(path, missing_ok)

    monkeypatch.setattr(sqlite3, "connect", lambda path, **_options: connect(path, timeout=0))
    monkeypatch.setattr(Path, "unlink", unlink_later)
    outbox.settle(first, proof="compared")
    if held_off:
        other.put(results[:1], SECOND.address)

    (second,) = outbox.deliveries()
    assert not tries
    assert read_dicom(second.path) == results[0]


def test_what_two_processes_settle_at_once_takes_no_other_result_with_it(
    outbox: Outbox, results: list[Dataset]
) -> None:
    (first,) = outbox.put(results[:1], ENDPOINT.address)
    outbox.settle(first, proof="compared")
    (later,) = outbox.put(results[1:2], ENDPOINT.address)

    outbox.settle(first, proof="compared")  # by the process that was slower

    assert outbox.deliveries() == [later]
    assert len(outbox.receipts()) == 1


def test_a_file_left_behind_by_a_crash_does_not_keep_a_result_out(outbox: Outbox, results: list[Dataset]) -> None:
    (first,) = outbox.put(results[:1], ENDPOINT.address)
    outbox.discard([first])
    first.path.write_bytes(b"left behind")
    (again,) = outbox.put(results[:1], ENDPOINT.address)
    assert read_dicom(again.path) == results[0]
