"""The store takes whole instances only, each once, whoever else writes into its folder."""

import struct
import sys
import threading
from io import BytesIO
from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import BadDicomError, ConflictError, DiskSpaceError
from AIDicomBridgeLib.series.dataset_end import check_whole
from AIDicomBridgeLib.series.instance_store import InstanceStore
from pydicom import Dataset, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless
from synthetic import body_phantom, make_series

EXPLICIT, IMPLICIT, BIG = "explicit", "implicit", "big endian"


def encoded(dataset: Dataset, form: str = EXPLICIT) -> bytes:
    buffer = BytesIO()
    del dataset.file_meta
    dcmwrite(buffer, dataset, implicit_vr=form == IMPLICIT, little_endian=form != BIG)
    return buffer.getvalue()


@pytest.fixture
def image() -> Dataset:
    image = make_series(body_phantom((1, 16, 16)))[0]
    nested, inner = Dataset(), Dataset()
    inner.CodeMeaning = "inner"
    nested.PurposeOfReferenceCodeSequence = [inner, inner]
    image.ReferencedImageSequence = [nested, Dataset()]
    image.ReferencedImageSequence.is_undefined_length = True
    nested.is_undefined_length_sequence_item = True
    return image


def check(data: bytes, form: str = EXPLICIT) -> None:
    check_whole(BytesIO(b"head" + data), len(data) + 4, 4, big_endian=form == BIG, uid="1.2")


@pytest.mark.parametrize("form", [EXPLICIT, IMPLICIT, BIG])
def test_a_whole_data_set_ends_where_its_elements_end(image, form) -> None:
    data = encoded(image, form)

    check(data, form)
    check(data + bytes(6), form)  # padding
    for cut in (1, 2, 100, 512, len(data) // 2, len(data) - 5):
        with pytest.raises(BadDicomError, match="cut off"):
            check(data[:-cut], form)


def test_encapsulated_pixel_data_ends_with_its_delimiter(image) -> None:
    image.PixelData = encapsulate([b"frame" * 7, b"another" * 8])
    image["PixelData"].is_undefined_length = True
    image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    buffer = BytesIO()
    dcmwrite(buffer, image, enforce_file_format=True)
    data = buffer.getvalue()[132:]

    check(data)
    for cut in (1, 8, 12, 40):
        with pytest.raises(BadDicomError, match="cut off"):
            check(data[:-cut])


def test_endless_nesting_is_damage() -> None:
    one = struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)

    with pytest.raises(BadDicomError):
        check(one * 1000)


def test_a_data_set_that_was_cut_off_is_refused_and_the_whole_one_is_then_taken(tmp_path, image) -> None:
    command = {
        "sop_class_uid": str(image.SOPClassUID),
        "sop_instance_uid": str(image.SOPInstanceUID),
        "transfer_syntax_uid": str(image.file_meta.TransferSyntaxUID),
    }
    data = encoded(image)
    with InstanceStore(tmp_path) as store:
        with pytest.raises(BadDicomError, match="cut off"):
            store.add_encoded(data[:-100], **command)
        assert len(store) == 0

        stored = store.add_encoded(data, **command)

        assert stored.path.read_bytes().endswith(data)


def test_an_instance_that_outgrows_the_quota_is_refused_while_it_comes(tmp_path, image) -> None:
    with InstanceStore(tmp_path, quota_bytes=10_000) as store:
        incoming = store.receiving(
            sop_class_uid=str(image.SOPClassUID),
            sop_instance_uid=str(image.SOPInstanceUID),
            transfer_syntax_uid=str(image.file_meta.TransferSyntaxUID),
        )
        incoming.write(bytes(9000))
        with pytest.raises(DiskSpaceError):
            incoming.write(bytes(1000))

    assert not [path for path in (tmp_path / "instances").rglob("*") if path.is_file()]


def test_of_two_stores_over_one_folder_only_one_takes_conflicting_content(tmp_path) -> None:
    originals = make_series(body_phantom((8, 8, 8)))
    files: list[list[bytes]] = [[], []]
    for dataset in originals:
        for side, name in enumerate(("One^Name", "Other^Name")):
            dataset.PatientName = name
            buffer = BytesIO()
            dcmwrite(buffer, dataset, enforce_file_format=True)
            files[side].append(buffer.getvalue())
    taken: list[dict[str, Path]] = [{}, {}]
    unexpected: list[BaseException] = []
    together = threading.Barrier(2)

    def add(side: int) -> None:
        with InstanceStore(tmp_path) as store:
            for dataset, data in zip(originals, files[side], strict=True):
                together.wait(60)
                try:
                    taken[side][dataset.SOPInstanceUID] = store.add_file(data).path
                except ConflictError:
                    continue
                except Exception as error:  # noqa: BLE001 - shown by the assertion below
                    unexpected.append(error)

    threads = [threading.Thread(target=add, args=(side,)) for side in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert unexpected == []
    assert not taken[0].keys() & taken[1].keys()
    assert taken[0].keys() | taken[1].keys() == {dataset.SOPInstanceUID for dataset in originals}
    for side, name in enumerate((b"One^Name", b"Other^Name")):
        assert all(name in path.read_bytes() for path in taken[side].values())


def test_a_new_folder_is_opened_by_several_at_once(tmp_path, caplog) -> None:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns within the opening
    try:
        for number in range(40):
            folder, together, failed = tmp_path / str(number), threading.Barrier(4), []
            folder.mkdir()

            def open_it(folder: Path = folder, together=together, failed=failed) -> None:
                together.wait(60)
                try:
                    InstanceStore(folder).close()
                except Exception as error:  # noqa: BLE001 - shown by the assertion below
                    failed.append(error)

            threads = [threading.Thread(target=open_it) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert failed == []
    finally:
        sys.setswitchinterval(usual)
    assert not caplog.records  # none took the others' half-made index for a damaged one


def test_an_index_of_another_version_is_made_anew(tmp_path, image) -> None:
    import sqlite3

    buffer = BytesIO()
    dcmwrite(buffer, image, enforce_file_format=True)
    with InstanceStore(tmp_path) as store:
        store.add_file(buffer.getvalue())
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    connection.executescript("DROP TABLE instances; CREATE TABLE instances (sha256 TEXT); PRAGMA user_version = 0;")
    connection.close()

    with InstanceStore(tmp_path) as reopened:
        assert [item.sop_instance_uid for item in reopened] == [image.SOPInstanceUID]
