"""What is received stays as it came, survives a crash, and never fills the disk."""

import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import pytest
from AIDicomBridgeLib.errors import BadDicomError, ConflictError, DiskSpaceError, FolderError
from AIDicomBridgeLib.series.instance_store import InstanceStore
from AIDicomBridgeLib.series.part10 import parse_part10_header
from pydicom import dcmread, dcmwrite
from pydicom.config import disable_value_validation
from pydicom.uid import generate_uid
from synthetic import body_phantom, encoded, make_series, part10


@pytest.fixture
def store(tmp_path: Path) -> InstanceStore:
    return InstanceStore(tmp_path / "store")


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "instances").rglob("*") if path.is_file())


def test_the_data_set_is_kept_byte_for_byte(store, images) -> None:
    data, command = encoded(images[0])

    stored = store.add_encoded(data, **command)

    written = stored.path.read_bytes()
    assert written.endswith(data)
    assert written[:132] == bytes(128) + b"DICM"
    assert dcmread(stored.path).PixelData == images[0].PixelData
    assert (stored.study_uid, stored.series_uid) == (images[0].StudyInstanceUID, images[0].SeriesInstanceUID)
    assert images[0].SOPInstanceUID in store
    assert images[1].SOPInstanceUID not in store
    assert len(store) == 1


def test_a_file_loses_its_preamble_and_nothing_else(store, images, tmp_path) -> None:
    data = b"MZ" + bytes(126) + part10(images[0])[128:]
    path = tmp_path / "polyglot.dcm"
    path.write_bytes(data)

    stored = store.add_file(path)

    written = stored.path.read_bytes()
    assert written[:128] == bytes(128)
    assert written[parse_part10_header(written).dataset_offset :] == data[parse_part10_header(data).dataset_offset :]
    assert stored.transfer_syntax_uid == images[0].file_meta.TransferSyntaxUID


def test_instances_are_listed_by_study_and_series(store, images) -> None:
    other = make_series(body_phantom((2, 16, 16)))
    for dataset in images + other:
        store.add_file(part10(dataset))

    listed = store.instances(images[0].StudyInstanceUID, images[0].SeriesInstanceUID)

    assert [item.sop_instance_uid for item in listed] == [dataset.SOPInstanceUID for dataset in images]
    assert len(store.instances()) == 5
    assert store.instances(generate_uid()) == []


def test_no_name_on_disk_and_no_repr_holds_a_uid_or_patient_data(store, images) -> None:
    stored = store.add_file(part10(images[0]))

    relative = stored.path.relative_to(store.folder).as_posix()
    for secret in (images[0].SOPInstanceUID, images[0].StudyInstanceUID, "SYN-1", "Synthetic"):
        assert secret not in relative
    assert "SYN-1" not in repr(stored)
    assert stored.attributes["PatientID"] == "SYN-1"


@pytest.mark.parametrize("character_set", ["ISO_IR 192", "ISO_IR 100"])
def test_names_are_read_in_their_character_set(store, images, character_set) -> None:
    images[0].SpecificCharacterSet = character_set
    images[0].PatientName = "Müller^Jörg"

    assert store.add_file(part10(images[0])).attributes["PatientName"] == "Müller^Jörg"


def test_the_same_again_is_one_instance(store, images) -> None:
    first = store.add_file(part10(images[0]))

    assert store.add_file(part10(images[0])) == first
    assert len(store) == 1


def test_other_content_under_the_same_uid_is_refused(store, images) -> None:
    first = store.add_file(part10(images[0]))
    before = first.path.read_bytes()
    images[0].WindowCenter = "41"

    with pytest.raises(ConflictError) as caught:
        store.add_file(part10(images[0]))

    assert caught.value.uid == images[0].SOPInstanceUID
    assert first.path.read_bytes() == before
    assert files_below(store.folder) == [first.path]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length")
@pytest.mark.parametrize("uid", ["../../../etc/x", "/etc/passwd", "1.2/3", "1." + "2" * 300, "", "1.2.x", "1..2"])
@pytest.mark.parametrize("name", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_what_is_no_uid_never_reaches_a_path(store, images, uid, name, tmp_path) -> None:
    _data, command = encoded(images[0])
    del images[0].file_meta
    buffer = BytesIO()
    with disable_value_validation():
        images[0][name].value = uid
        dcmwrite(buffer, images[0], implicit_vr=False, little_endian=True)
    if name == "SOPInstanceUID":
        command["sop_instance_uid"] = uid

    with pytest.raises(BadDicomError):
        store.add_encoded(buffer.getvalue(), **command)

    assert files_below(store.folder) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_data_set_that_contradicts_its_command_is_refused(store, images) -> None:
    data, command = encoded(images[0])

    with pytest.raises(BadDicomError, match="another SOP"):
        store.add_encoded(data, **{**command, "sop_instance_uid": str(images[1].SOPInstanceUID)})
    with pytest.raises(BadDicomError, match="another study"):
        store.add_encoded(data, **command, study_uid=generate_uid())
    assert files_below(store.folder) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda _data: b"",
        lambda data: data[:200],
        lambda _data: b"<html>not found</html>" * 50,
        lambda data: data[:132] + b"\x02\x00\x10\x00UI\xff\xff" + data[140:],
        lambda data: data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20]),
    ],
)
def test_what_is_no_dicom_is_refused(store, images, damage) -> None:
    with pytest.raises(BadDicomError):
        store.add_file(damage(part10(images[0])))
    assert files_below(store.folder) == []


def test_deflated_data_is_refused_before_anything_is_inflated(store, images) -> None:
    data, command = encoded(images[0])

    with pytest.raises(BadDicomError, match="Deflated"):
        store.add_encoded(data, **{**command, "transfer_syntax_uid": "1.2.840.10008.1.2.1.99"})


def test_deeply_nested_sequences_are_refused_by_name(store, images) -> None:
    data, command = encoded(images[0])
    sequence_and_item = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"

    with pytest.raises(BadDicomError):
        store.add_encoded(sequence_and_item * 2000 + data, **command)


def test_the_quota_is_kept(tmp_path, images) -> None:
    store = InstanceStore(tmp_path / "store", quota_bytes=3500)
    store.add_file(part10(images[0]))

    with pytest.raises(DiskSpaceError, match="quota"):
        store.add_file(part10(images[1]))

    assert len(store) == 1
    assert len(files_below(store.folder)) == 1


def test_the_free_floor_is_kept(tmp_path, images) -> None:
    store = InstanceStore(tmp_path / "store", free_floor_bytes=2**60)

    with pytest.raises(DiskSpaceError, match="must stay free"):
        store.add_file(part10(images[0]))

    assert files_below(store.folder) == []


def test_a_write_that_fails_leaves_nothing(store, images, monkeypatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(DiskSpaceError, match="full"):
        store.add_file(part10(images[0]))

    assert files_below(store.folder) == []
    assert len(store) == 0


def test_a_crash_between_file_and_index_loses_nothing(tmp_path, images) -> None:
    with InstanceStore(tmp_path / "store") as store:
        stored = [store.add_file(part10(dataset)) for dataset in images]
        with store._index.writing():
            store._index.remove_paths([store._index.relative(stored[0].path)])
    stored[1].path.unlink()
    (tmp_path / "store" / "instances" / ".receiving-abc").write_bytes(b"half")

    with InstanceStore(tmp_path / "store") as reopened:
        held = {item.sop_instance_uid for item in reopened.instances()}

    assert held == {images[0].SOPInstanceUID, images[2].SOPInstanceUID}
    assert not list((tmp_path / "store" / "instances").glob(".receiving-*"))


def test_a_damaged_index_is_rebuilt_from_the_files(tmp_path, images) -> None:
    with InstanceStore(tmp_path / "store") as store:
        for dataset in images:
            store.add_file(part10(dataset))
    for name in ("index.sqlite-wal", "index.sqlite-shm"):
        (tmp_path / "store" / name).unlink(missing_ok=True)
    (tmp_path / "store" / "index.sqlite").write_bytes(b"no database at all" * 300)

    with InstanceStore(tmp_path / "store") as reopened:
        assert len(reopened) == 3
        assert reopened.get(images[0].SOPInstanceUID).attributes["PatientID"] == "SYN-1"


def test_an_index_with_a_damaged_page_is_rebuilt_too(tmp_path) -> None:
    images = make_series(body_phantom((40, 8, 8)))
    with InstanceStore(tmp_path / "store") as store:
        for dataset in images:
            store.add_file(part10(dataset))
    index = tmp_path / "store" / "index.sqlite"
    data = bytearray(index.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)  # the first page, with header and schema, stays whole
    index.write_bytes(data)

    with InstanceStore(tmp_path / "store") as reopened:
        assert {item.sop_instance_uid for item in reopened} == {dataset.SOPInstanceUID for dataset in images}


def test_a_folder_that_cannot_be_used_is_a_named_error(tmp_path) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "other" / "index.sqlite").mkdir(parents=True)

    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/dev/null/x"), tmp_path / "other"):
        with pytest.raises(FolderError, match="cannot hold instances"):
            InstanceStore(folder)


def test_a_foreign_file_in_the_folder_is_left_out(tmp_path, images) -> None:
    with InstanceStore(tmp_path / "store") as store:
        stored = store.add_file(part10(images[0]))
    stored.path.with_name("renamed.dcm").write_bytes(part10(images[1]))
    stored.path.with_name("broken.dcm").write_bytes(b"broken")

    with InstanceStore(tmp_path / "store") as reopened:
        assert [item.sop_instance_uid for item in reopened.instances()] == [images[0].SOPInstanceUID]


_WRITER = """
import sys
from pathlib import Path
from AIDicomBridgeLib.series.instance_store import InstanceStore
store = InstanceStore(sys.argv[1])
for path in sorted(Path(sys.argv[2]).glob("*.dcm")):
    store.add_file(path)
    print("stored", flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number, dataset in enumerate(make_series(body_phantom((60, 64, 64)))):
        (source / f"{number:03d}.dcm").write_bytes(part10(dataset))
    library = Path(__file__).parents[3] / "AIDicomBridge"
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path / "store"), str(source)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(library)},
    )
    acknowledged = 0
    for _line in process.stdout:
        acknowledged += 1
        if acknowledged == 20:
            process.kill()
    process.wait(30)

    with InstanceStore(tmp_path / "store") as store:
        held = store.instances()

    assert acknowledged <= len(held) <= 60
    assert all(dcmread(item.path).SOPInstanceUID == item.sop_instance_uid for item in held)
    assert not list((tmp_path / "store" / "instances").glob(".receiving-*"))


def test_many_threads_add_the_same_and_different_instances(store) -> None:
    files = [part10(dataset) for dataset in make_series(body_phantom((12, 16, 16)))]
    failures = []

    def add_all() -> None:
        try:
            for data in files:
                store.add_file(data)
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=add_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert failures == []
    assert len(store) == 12
    assert len(files_below(store.folder)) == 12
