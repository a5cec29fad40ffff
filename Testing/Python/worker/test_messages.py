"""What may cross the pipe: known types by name, arrays as files of one folder, lines of bounded length."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib import errors
from AIDicomBridgeLib.delivery.deliver import DeliveryReport
from AIDicomBridgeLib.delivery.outbox import Delivery, DeliveryState, Receipt
from AIDicomBridgeLib.errors import BridgeError, EndpointError, RetrieveError
from AIDicomBridgeLib.inference.memory_plan import MemoryPlan
from AIDicomBridgeLib.models.catalogue import Catalogue
from AIDicomBridgeLib.pacs.endpoint import DicomWebEndpoint, DimseEndpoint, TlsFiles
from AIDicomBridgeLib.pacs.records import InstanceOutcome, Outcome, RetrieveReport, StudyRecord
from AIDicomBridgeLib.worker.messages import Codec, Lines, MessageError, from_line, to_line
from pydicom.uid import UID
from segmented import PROVENANCE, SEGMENTS


@pytest.fixture
def codec(tmp_path: Path) -> Codec:
    return Codec(tmp_path, "a")


def there_and_back(codec: Codec, value: object) -> object:
    return codec.decode(from_line(to_line({"value": codec.encode(value)}).rstrip(b"\n"))["value"])


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1, 2.5, "Ä\udc80\n", True, (Path("/a/b"), ("x",))],
        DimseEndpoint("PACS", "pacs", 104, "AET", tls=TlsFiles(key_file="k"), move_port=11112, move_host="10.0.0.1"),
        StudyRecord("1.2", patient_name="Doe^Jane", modalities=("CT", "SR"), series_count=3),
        RetrieveReport("p", (InstanceOutcome("1.2", Outcome.MISSING, "0xA700", "why"),), "C-GET", 0.25, study_uid="1"),
        Delivery(1, "1", "2", "3", "4", "dimse://A@b:1", DeliveryState.SENT, 2, "0x0000", "", "t", Path("/o")),
        (*SEGMENTS, PROVENANCE),
        Catalogue.load()["mindgrab"],
        MemoryPlan("cuda:0", "bfloat16", 4, "cpu", "float16", (9, 9, 9), (3, 3, 3), 27, 5, 6, None, 8, ("a note",)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_comes_back_equal(codec: Codec, value: object):
    assert there_and_back(codec, value) == value


def test_credentials_arrive(codec: Codec):
    endpoint = DicomWebEndpoint("", "https://pacs.example/dicom-web", ("user", "secret"))
    assert there_and_back(codec, endpoint).auth == ("user", "secret")


def test_texts_of_pydicom_arrive_as_texts(codec: Codec):
    assert type(there_and_back(codec, UID("1.2.3"))) is str


@pytest.mark.parametrize("name", sorted(name for name in vars(errors) if name.endswith("Error")))
def test_every_error_keeps_its_class_fields_and_text(codec: Codec, name: str):
    error = getattr(errors, name)("it failed", uid="1.2", peer="PACS", status=0xA700, advice="Do this.")
    back = there_and_back(codec, error)
    assert type(back) is type(error)
    assert (str(back), back.to_dict()) == (str(error), error.to_dict())


def test_a_report_with_an_error_inside_comes_back(codec: Codec):
    receipt = Receipt("1", "2", "3", "4", "d", "compared", "", "t")
    back = there_and_back(codec, DeliveryReport("d", (receipt,), (), RetrieveError("lost", peer="PACS")))
    assert back.receipts == (receipt,)
    assert str(back.error) == "Lost (at PACS)."


@pytest.mark.parametrize("turn", [lambda a: np.flip(a, (0, 2)), lambda a: a.transpose(2, 0, 1), lambda a: a[:, 3:9]])
def test_an_array_that_was_handed_over_in_steps_is_the_one_that_comes_back(codec: Codec, tmp_path: Path, turn):
    array = turn(np.random.default_rng(1).integers(0, 9, (20, 30, 40)).astype(np.uint16))
    assert sum(1 for _ in codec.file_in_steps(array)) == len(array)
    (file,) = tmp_path.iterdir()
    message = codec.encode([array])
    assert message == [{"@": "ndarray", "file": file.name}]
    np.testing.assert_array_equal(codec.decode(message)[0], array)
    assert list(tmp_path.iterdir()) == []


def test_what_was_handed_over_in_vain_leaves_no_file(codec: Codec, tmp_path: Path):
    broken_off = codec.file_in_steps(np.ones((20, 30, 40)))
    next(broken_off)
    broken_off.close()
    assert list(tmp_path.iterdir()) == []
    assert len(list(codec.file_in_steps(np.ones((20, 30, 40))))) == 20
    codec.drop_filed()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(4, 4), (20, 30, 40)])
def test_arrays_come_back_writable_and_leave_no_file(codec: Codec, tmp_path: Path, shape: tuple[int, ...]):
    array = np.random.default_rng(1).normal(size=shape)
    back = there_and_back(codec, array)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(back, array)
    back[0] = 0  # a view that cannot be written would end Slicer when a person edits the node


def test_two_arrays_on_their_way_do_not_share_a_file(codec: Codec):
    first, second = codec.encode(np.full((10, 200), 1)), codec.encode(np.full((10, 200), 2))
    assert (codec.decode(first)[0, 0], codec.decode(second)[0, 0]) == (1, 2)


@dataclass
class Foreign:
    field: int = 1


@pytest.mark.parametrize("value", [object(), Foreign(), {"a": 1}, {1, 2}, b"bytes", ValueError("x"), [Foreign()]])
def test_other_values_are_not_sent(codec: Codec, value: object):
    with pytest.raises(TypeError):
        codec.encode(value)


@pytest.mark.parametrize(
    "value",
    [
        {"@": "os.system", "command": "true"},
        {"@": "InstanceStore", "folder": "x"},
        {"@": "Codec", "folder": "x"},
        {"@": ["Path"]},
        {"a": 1},
        {"@": "Path"},
        {"@": "Progress", "stage": "read", "completed": 1, "extra": 2},
        {"@": "StudyRecord"},
        {"@": "Outcome", "value": "invented"},
        {"@": "ndarray", "file": "../a.npy"},
        {"@": "ndarray", "file": "/etc/passwd"},
        {"@": "ndarray", "file": "missing.npy"},
        {"@": "SourceSlice", "path": {"@": "Path", "path": "a"}, "header": "1.2", "frame_number": None},
    ],
    ids=str,
)
def test_what_is_unknown_or_malformed_is_refused(codec: Codec, value: object):
    with pytest.raises(MessageError):
        codec.decode(value)


def test_a_pickled_array_is_refused(codec: Codec, tmp_path: Path):
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(MessageError):
        codec.decode({"@": "ndarray", "file": "evil.npy"})


def test_a_types_own_checks_apply(codec: Codec):
    encoded = codec.encode(DimseEndpoint("", "pacs", 104, "AET"))
    with pytest.raises(EndpointError):
        codec.decode(encoded | {"port": 0})


@pytest.mark.parametrize("line", [b"", b"hello", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_line_that_is_no_message_is_refused(line: bytes):
    with pytest.raises(MessageError):
        from_line(line)


def test_lines_are_put_together_from_pieces():
    lines = Lines()
    pieces = [b'{"a"', b":1}\n{", b"}\n\n{}", b"\n"]
    assert [line for piece in pieces for line in lines.feed(piece)] == [b'{"a":1}', b"{}", b"", b"{}"]


@pytest.mark.parametrize("pieces", [[b"12345678901"], [b"123456", b"78901"], [b"12345678901\n"]])
def test_a_line_without_end_is_refused(pieces: list[bytes]):
    lines = Lines(limit=10)
    with pytest.raises(MessageError):
        [list(lines.feed(piece)) for piece in pieces]


def test_messages_are_one_ascii_line():
    line = to_line({"text": "a\nÄ"})
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"text": "a\nÄ"}


def test_errors_of_the_engine_only():
    assert issubclass(errors.WorkerError, BridgeError)
