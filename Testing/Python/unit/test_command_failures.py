"""The command line on bad input: one sentence, the right exit status, nothing left half-done."""

import errno
import json
import os
import re
import socket
from pathlib import Path

import pytest
from AIDicomBridgeLib import job
from AIDicomBridgeLib.cli import encode_command
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.results import result_set
from command_line import run

pytestmark = pytest.mark.usefixtures("own_home")


def test_doctor_fails_where_nothing_answers(unused_port: int) -> None:
    result = run("doctor", f"dimse://GONE@127.0.0.1:{unused_port}", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["status"], answer["error"]["kind"]) == ("failed", "UnreachableError")
    assert socket.gethostname() in answer["administrator_text"]


def _find_nothing(archive: Archive) -> list[str]:
    return ["find", archive.endpoint.address, "--accession", "NONE"]


def _wrong_ae_title(archive: Archive) -> list[str]:
    return ["echo", f"dimse://WRONG@127.0.0.1:{archive.endpoint.port}"]


def _unknown_host(archive: Archive) -> list[str]:
    return ["echo", "dimse://PACS@no-such-host.invalid:104"]


def _unknown_study(archive: Archive) -> list[str]:
    return [
        "run",
        archive.endpoint.address,
        "--study",
        "1.2.3",
        "--model",
        "ct-tissues",
        "--to",
        archive.endpoint.address,
    ]


def _no_fitting_series(archive: Archive) -> list[str]:
    study = archive.mr[0].StudyInstanceUID
    return [
        "run",
        archive.endpoint.address,
        "--study",
        study,
        "--model",
        "ct-tissues",
        "--to",
        archive.endpoint.address,
    ]


def _bad_address(archive: Archive) -> list[str]:
    return ["echo", "pacs.example.org"]


def _unknown_model(archive: Archive) -> list[str]:
    return ["models", "show", "unknown"]


def _missing_folder(archive: Archive) -> list[str]:
    return ["segment", "no-such-folder", "--model", "ct-tissues", "--out", "results"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (_find_nothing, "No study matches"),
        (_wrong_ae_title, "WRONG"),
        (_unknown_host, "no-such-host.invalid"),
        (_unknown_study, "No such study .at .*on 1.2.3"),
        (_no_fitting_series, "it is MR, not CT"),
        (_bad_address, "dimse://"),
        (_unknown_model, "Known are: ct-tissues, deepbet, lungmask-ltrclobes"),
        (_missing_folder, "no-such-folder does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_status_1(archive: Archive, arguments, words: str) -> None:
    result = run(*arguments(archive))
    assert result.exit_code == 1
    assert re.search(words, result.stderr)
    assert result.stderr.strip().splitlines()[-1].startswith("aidicombridge: ")
    assert "Traceback" not in result.output
    assert "SYN-" not in result.output
    as_json = run(*arguments(archive), "--json")
    assert json.loads(as_json.stdout)["error"]["message"] in result.stderr.replace("\n", " ")


def test_a_corrupt_file_is_named_and_no_result_is_left(tmp_path: Path, ct_files: list[Path]) -> None:
    ct_files[3].write_bytes(ct_files[3].read_bytes()[:3000])
    result = run("segment", ct_files[0].parent, "--model", "ct-tissues", "--out", tmp_path / "results")
    assert result.exit_code == 1
    assert ct_files[3].name in result.stderr or "truncated" in result.stderr
    assert not (tmp_path / "results").exists()


def test_results_are_never_mixed_into_a_folder_that_holds_some(tmp_path: Path, ct_files: list[Path]) -> None:
    arguments = [
        "segment",
        ct_files[0].parent,
        "--model",
        "ct-tissues",
        "--outputs",
        "seg",
        "--out",
        tmp_path / "results",
    ]
    assert run(*arguments).exit_code == 0
    first = (tmp_path / "results" / "seg-001.dcm").read_bytes()
    again = run(*arguments)
    assert again.exit_code == 1
    assert "already holds seg-001.dcm" in again.stderr
    assert (tmp_path / "results" / "seg-001.dcm").read_bytes() == first


@pytest.mark.parametrize("place", ["a file", "below a file", "the images", "not writable"])
def test_a_folder_that_cannot_take_results_is_refused_before_the_work(
    tmp_path: Path, ct_files: list[Path], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    if place == "not writable":
        monkeypatch.setattr(result_set.os, "access", lambda _, mode: not mode & os.W_OK)
    out, words = {
        "a file": (tmp_path / "file", "file is a file, not a folder"),
        "below a file": (tmp_path / "file" / "results", "file is a file, not a folder"),
        "the images": (ct_files[0].parent / ".." / ct_files[0].parent.name, "holds the images themselves"),
        "not writable": (tmp_path / "results", "cannot be written"),
    }[place]

    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(job, "load_model", work)
    monkeypatch.setattr(encode_command, "encode_files", work)
    for arguments in (
        ["segment", ct_files[0].parent, "--model", "ct-tissues"],
        ["encode", ct_files[0].parent, "--as", "seg", "--from", "labels.npy"],
    ):
        result = run(*arguments, "--out", out)
        assert result.exit_code == 1, result.output
        assert words in result.stderr
        assert "Choose another folder" in result.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_the_demonstration_refuses_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    result = run("demo", "--out", tmp_path / "mine")
    assert result.exit_code == 1
    assert "holds other files" in result.stderr
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    archive: Archive, tmp_path: Path, ct_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    study, address = archive.ct[0].StudyInstanceUID, archive.endpoint.address
    for arguments in (
        ["get", address, "--study", study, "--out", tmp_path / "got"],
        ["segment", ct_files[0].parent, "--model", "ct-tissues", "--outputs", "seg", "--out", tmp_path / "results"],
    ):
        result = run(*arguments)
        assert result.exit_code == 1, result.output
        assert "No space left" in result.stderr or "space" in result.stderr
        assert "Traceback" not in result.output
    assert not list(tmp_path.rglob("*.part"))
    assert not list((tmp_path / "got").rglob("*.dcm"))
    assert not list((tmp_path / "results").iterdir())


def test_weights_with_a_wrong_hash_stop_the_run(ct_files: list[Path], own_home: Path, tmp_path: Path) -> None:
    (own_home / "weights").mkdir(parents=True)
    (own_home / "weights" / "mindgrab-0.1.16.safetensors").write_bytes(b"tampered")
    result = run("segment", ct_files[0].parent, "--model", "mindgrab", "--out", tmp_path / "results")
    assert result.exit_code == 1
    assert "not the one that the card names" in result.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("arguments", [["outbox", "list"], ["models", "fetch", "mindgrab", "--from", "README.md"]])
def test_an_unusable_data_folder_is_one_sentence(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path / "file"))
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.strip().splitlines()[-1].startswith("aidicombridge: ")


def test_two_ctrl_c_stop_at_once() -> None:
    from AIDicomBridgeLib.cli.command import Command

    command = Command("echo", as_json=True)
    command.stop()
    assert command.cancel.cancelled
    with pytest.raises(KeyboardInterrupt):
        command.stop()
