"""DIMSE peers that refuse, warn and break off while we store: every instance has its own outcome."""

import copy
import dataclasses
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.delivery.deliver import deliver
from AIDicomBridgeLib.delivery.outbox import DeliveryState, Outbox
from AIDicomBridgeLib.errors import BadDicomError
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.pacs.dimse import public_storage_classes
from AIDicomBridgeLib.pacs.records import Outcome
from AIDicomBridgeLib.pacs.scp_guard import ScpLimits
from AIDicomBridgeLib.series.instance_store import InstanceStore
from peers.dcmtk import storescp
from peers.fault_pacs import DimseFaults, faulty_pacs
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless
from synthetic import body_phantom, make_series, save_series

pytestmark = pytest.mark.usefixtures("dimse_way")


def test_every_status_of_a_store_is_looked_at(images) -> None:
    uids = [str(dataset.SOPInstanceUID) for dataset in images]
    with faulty_pacs([], DimseFaults(store_status={uids[1]: 0xA700, uids[2]: 0xB007, uids[3]: 0x0107})) as pacs:
        report = connect(pacs.endpoint).store(images)

    assert [outcome.outcome for outcome in report.outcomes] == [
        *(Outcome.STORED, Outcome.REFUSED, Outcome.WARNED, Outcome.WARNED),
    ]
    assert [outcome.status for outcome in report.outcomes] == ["0x0000", "0xA700", "0xB007", "0x0107"]
    assert "Out of Resources" in report.failed[0].reason


def test_a_connection_that_breaks_during_a_store_is_taken_up_again(images) -> None:
    with faulty_pacs([], DimseFaults(abort_at_store=3)) as pacs:
        report = connect(pacs.endpoint).store(images)

    assert report.complete
    assert sorted(pacs.stored) == sorted(str(dataset.SOPInstanceUID) for dataset in images)


def test_a_refused_context_concerns_only_its_instances(images) -> None:
    images[1].SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    images[2].file_meta.TransferSyntaxUID = JPEG2000Lossless
    images[2].PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00" + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    images[2]["PixelData"].is_undefined_length = True
    with faulty_pacs([]) as pacs:
        report = connect(pacs.endpoint).store(images)

    first, segmentation, compressed, last = report.outcomes
    assert (first.outcome, last.outcome) == (Outcome.STORED, Outcome.STORED)
    assert (segmentation.outcome, compressed.outcome) == (Outcome.REFUSED, Outcome.REFUSED)
    assert "no presentation context for Segmentation Storage" in segmentation.reason
    assert "cannot be converted" in compressed.reason


def test_dcmtk_as_the_strict_receiver(images, tmp_path) -> None:
    images[1].SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"
    with storescp(tmp_path / "dcmtk") as endpoint:
        report = connect(endpoint).store(save_series(images, tmp_path / "images"))

    assert [outcome.outcome for outcome in report.outcomes] == [
        *(Outcome.STORED, Outcome.REFUSED, Outcome.STORED, Outcome.STORED),
    ]
    written = [path for path in (tmp_path / "dcmtk").iterdir() if images[0].SOPInstanceUID in path.name]
    assert len(written) == 1


def test_a_file_that_vanishes_while_others_are_sent_concerns_only_itself(images, tmp_path) -> None:
    paths = save_series(images, tmp_path / "images")
    with faulty_pacs([]) as pacs:
        report = connect(pacs.endpoint).store(paths, progress=lambda _step: paths[2].unlink(missing_ok=True))

    assert [outcome.outcome for outcome in report.outcomes] == [
        *(Outcome.STORED, Outcome.STORED, Outcome.REFUSED, Outcome.STORED),
    ]
    assert "cannot be read" in report.failed[0].reason


def test_a_bad_file_is_refused_before_anything_is_sent(images, tmp_path) -> None:
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"no DICOM")
    with faulty_pacs([]) as pacs, pytest.raises(BadDicomError, match=r"bad\.dcm"):
        connect(pacs.endpoint).store([*images, bad])

    assert pacs.stored == []


def test_more_kinds_than_one_association_has_contexts_for(images, tmp_path) -> None:
    """128 presentation contexts are the most; each kind takes two."""
    kinds = public_storage_classes()[:70]
    many = make_series(body_phantom((len(kinds), 8, 8)))
    for dataset, kind in zip(many, kinds, strict=True):
        dataset.SOPClassUID = kind
    with InstanceStore(tmp_path / "archive") as store, Archive(store) as archive:
        report = connect(archive.endpoint).store(many)

    assert report.complete
    assert len(report.outcomes) == len(kinds)


def test_compressed_pixels_are_decompressed_for_a_peer_that_takes_no_others(images, tmp_path) -> None:
    before = [dataset.pixel_array.copy() for dataset in images]
    for dataset in images:
        dataset.compress(RLELossless, generate_instance_uid=False)
    with faulty_pacs([]) as pacs:
        sent: list[Dataset] = []
        pacs.keep = sent
        report = connect(pacs.endpoint).store(images)

    assert report.complete
    assert {dataset.file_meta.TransferSyntaxUID for dataset in sent} <= {ExplicitVRLittleEndian, ImplicitVRLittleEndian}
    assert all(np.array_equal(one.pixel_array, pixels) for one, pixels in zip(sent, before, strict=True))


def test_a_duplicate_that_is_accepted_but_dropped_has_not_arrived(images, tmp_path) -> None:
    """The peer answers 0x0000 to each C-STORE, and keeps what it had under the UID."""
    corrected = copy.deepcopy(images)
    pixels = corrected[1].pixel_array.copy()
    pixels[0, 0] += 1
    corrected[1].PixelData = pixels.tobytes()
    outbox = Outbox(tmp_path / "outbox")
    with faulty_pacs(images, DimseFaults(lists_late=True)) as pacs:
        outbox.put(corrected, pacs.endpoint.address)
        report = deliver(outbox, pacs.endpoint)

    assert len(pacs.stored) == len(images)
    assert len(report.receipts) == len(images) - 1
    (left,) = report.remaining
    assert (left.sop_instance_uid, left.state) == (corrected[1].SOPInstanceUID, DeliveryState.REFUSED)
    assert "another object under this UID (differs in PixelData)" in left.reason
    assert left.path.is_file()


def test_private_value_representations_survive(images, tmp_path) -> None:
    block = images[0].private_block(0x0099, "AIDB TEST", create=True)
    block.add_new(0x01, "LO", "kept")
    with InstanceStore(tmp_path / "archive") as store, Archive(store) as archive:
        assert connect(archive.endpoint).store(images[:1]).complete
        kept = dcmread(store.instances()[0].path)

    assert kept[0x0099, 0x1001].VR == "LO"
    assert kept[0x0099, 0x1001].value == "kept"


def test_a_peer_that_accepts_fewer_associations_than_asked_for_gets_all(tmp_path) -> None:
    images = make_series(body_phantom((60, 8, 8)))
    with InstanceStore(tmp_path) as store, Archive(store, limits=ScpLimits(associations=2)) as archive:
        report = connect(dataclasses.replace(archive.endpoint, associations=6)).store(images)

    assert report.complete
    assert len(report.outcomes) == 60


def test_many_associations_leave_nothing_behind(images) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with faulty_pacs(images) as pacs:
        connect(pacs.endpoint).verify()
        threads, files = threading.active_count(), open_files()
        for _ in range(100):
            connect(pacs.endpoint).verify()
        deadline = time.monotonic() + 20
        while (threading.active_count() > threads + 3 or open_files() > files + 3) and time.monotonic() < deadline:
            time.sleep(0.02)  # the last threads and sockets are on their way out

        assert threading.active_count() <= threads + 3
        assert open_files() <= files + 3
