"""The command line: one sentence and the right exit status for people, one JSON object for machines."""

import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest
from AIDicomBridgeLib import errors
from AIDicomBridgeLib.cli.progress_lines import counted
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.endpoint import DIMSE_OPTIONS, WEB_OPTIONS
from AIDicomBridgeLib.series.dicom_file import read_dicom
from command_line import README, answer_of, run
from peers.fault_pacs import DimseFaults, faulty_pacs
from synthetic import body_phantom, make_series, save_series

pytestmark = pytest.mark.usefixtures("own_home")


def test_every_command_has_help_worth_reading() -> None:
    for words in (
        [],
        ["demo"],
        ["echo"],
        ["doctor"],
        ["encode"],
        ["find"],
        ["get"],
        ["segment"],
        ["send"],
        ["run"],
        ["batch"],
        ["endpoints"],
        ["endpoints", "list"],
        ["endpoints", "add"],
        ["endpoints", "remove"],
        ["models"],
        ["models", "list"],
        ["models", "show"],
        ["models", "fetch"],
        ["models", "verify"],
        ["outbox"],
        ["outbox", "list"],
        ["outbox", "retry"],
    ):
        result = run(*words, "--help")
        assert result.exit_code == 0
        assert len(result.output) > 200


def test_the_readme_lists_the_options_of_an_address() -> None:
    rows = README.split("| option | meaning |\n|---|---|\n")[1].split("\n\n")[0].splitlines()
    listed = [name for row in rows for name in re.findall(r"`([a-z_]+)[=`]", row.split("|")[1])]
    assert sorted(set(listed) - {"move"}) == sorted({*DIMSE_OPTIONS, *WEB_OPTIONS})


def test_the_readme_lists_the_kinds_of_errors() -> None:
    kinds = {
        kind.__name__ for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__
    }
    assert kinds - {"JobCancelled"} == set(re.findall(r"`(\w+Error)`", README))


def test_one_is_no_plural() -> None:
    assert [counted(number, "object") for number in (0, 1, 2)] == ["0 objects", "1 object", "2 objects"]


def test_find_get_segment_send_walk_through(archive: Archive, tmp_path: Path) -> None:
    address = archive.endpoint.address
    assert answer_of("echo", address)["status"] == "ok"
    assert answer_of("doctor", address)["healthy"]
    (study,) = answer_of("find", address, "--accession", "CT1")["studies"]
    assert study["study_uid"] == archive.ct[0].StudyInstanceUID
    (series,) = answer_of("find", address, "--study", study["study_uid"])["series"]
    assert (series["modality"], series["instance_count"]) == ("CT", 12)

    got = answer_of("get", address, "--study", study["study_uid"], "--out", tmp_path / "ct")
    assert got["counts"] == {"received": 12}
    made = answer_of("segment", tmp_path / "ct", "--model", "ct-tissues", "--out", tmp_path / "results")
    files = [Path(result["path"]) for result in made["results"]]
    assert {path.name.split("-")[0] for path in files} == {"seg", "sr", "sc"}
    assert all(read_dicom(path).StudyInstanceUID == study["study_uid"] for path in files)

    sent = answer_of("send", address, tmp_path / "results")
    assert sent["counts"] == {"stored": len(files)}
    modalities = {s["modality"] for s in answer_of("find", address, "--study", study["study_uid"])["series"]}
    assert modalities == {"CT", "SEG", "SR", "OT"}


def test_run_pulls_segments_pushes_and_proves(archive: Archive) -> None:
    study = archive.ct[0].StudyInstanceUID
    done = answer_of(
        "run", archive.endpoint.address, "--study", study, "--model", "ct-tissues", "--to", archive.endpoint.address,
        "--outputs", "seg,sr", "--encoding", "labelmap",
    )  # fmt: skip
    assert [result["kind"] for result in done["results"]] == ["seg", "sr"]
    (delivery,) = done["deliveries"]
    assert delivery["complete"]
    assert {arrived["proof"] for arrived in delivery["arrived"]} == {"compared"}
    assert answer_of("outbox", "list")["waiting"] == []
    assert len(answer_of("outbox", "list", "--receipts")["receipts"]) == 2


def test_unreachable_destination_is_partial_and_waits_in_the_outbox(archive: Archive, unused_port: int) -> None:
    study = archive.ct[0].StudyInstanceUID
    arguments = ["run", archive.endpoint.address, "--study", study, "--model", "ct-tissues", "--outputs", "seg"]
    result = run(*arguments, "--to", f"dimse://GONE@127.0.0.1:{unused_port}", "--json")
    assert result.exit_code == 3
    answer = json.loads(result.stdout)
    assert answer["status"] == "partial"
    assert answer["deliveries"][0]["error"]["kind"] == "UnreachableError"
    assert len(answer_of("outbox", "list")["waiting"]) == 1
    (waiting,) = answer_of("outbox", "list")["waiting"]
    assert "refused" in waiting["reason"]
    retried = run("outbox", "retry", "--json")
    assert retried.exit_code == 3
    assert json.loads(retried.stdout)["status"] == "partial"
    assert answer_of("outbox", "list")["waiting"][0]["attempts"] == 2
    instead = ["--to", f"dimse://GONE@127.0.0.1:{unused_port}", "--instead", archive.endpoint.address]
    assert answer_of("outbox", "retry", *instead)["deliveries"][0]["complete"]
    assert answer_of("outbox", "list")["waiting"] == []


def test_find_takes_every_key_at_every_level(archive: Archive) -> None:
    def found(*keys: str) -> list[dict]:
        answer = answer_of("find", archive.endpoint.address, *keys)
        return answer[next(key for key in answer if key not in ("command", "status"))]

    ct, mr = archive.ct[0], archive.mr[0]
    for keys in (
        ["--patient-name", "synth*", "--birth-date", "19000101-", "--accession", "CT1"],
        ["--time", f"{ct.StudyTime[:6]}-235959", "--modality", "CT"],
        ["--study-description", ct.get("StudyDescription", "") + "*", "--modality", "PT", "--modality", "CT"],
        ["--study-id", str(ct.get("StudyID", "*")), "--date", f"{ct.StudyDate}-", "--accession", "CT?"],
    ):
        assert [study["study_uid"] for study in found(*keys)] == [ct.StudyInstanceUID], keys
    assert len(found("--limit", "1")) == 1
    assert [patient["patient_id"] for patient in found("--patients", "--patient-id", "SYN-2")] == ["SYN-2"]
    (series,) = found("--study", mr.StudyInstanceUID, "--modality", "MR", "--series-number", str(mr.SeriesNumber))
    assert series["series_uid"] == mr.SeriesInstanceUID
    instances = found("--study", mr.StudyInstanceUID, "--series", mr.SeriesInstanceUID, "--sop-class", mr.SOPClassUID)
    assert {item["sop_instance_uid"] for item in instances} == {image.SOPInstanceUID for image in archive.mr}
    assert run("find", archive.endpoint.address, "--study", ct.StudyInstanceUID, "--modality", "MR").exit_code == 1


def test_ctrl_c_ends_a_query_that_nobody_answers(archive: Archive) -> None:
    with faulty_pacs(archive.ct, DimseFaults(silent=True)) as pacs:

        def press() -> None:
            pacs.asked.wait(30)
            os.kill(os.getpid(), signal.SIGINT)

        pressing = threading.Thread(target=press)
        pressing.start()
        result = run("find", pacs.endpoint.address, "--json")
        pressing.join(30)

    assert result.exit_code == 1
    assert json.loads(result.stdout)["status"] == "cancelled"


def test_wrong_usage_is_status_2() -> None:
    assert run("find").exit_code == 2
    address = "dimse://A@127.0.0.1:104"
    for keys in (
        ["--study", "1.2.3", "--accession", "X"],
        ["--study", "1.2.3", "--limit", "2"],
        ["--study", "1.2.3", "--patients"],
        ["--series", "1.2.3"],
        ["--sex", "F"],
        ["--patients", "--date", "20260101"],
        ["--limit", "0"],
    ):
        assert run("find", address, *keys).exit_code == 2, keys
    assert run("segment", ".", "--model", "ct-tissues", "--out", "x", "--outputs", "pdf").exit_code == 2
    assert run("no-such-command").exit_code == 2


def test_models_are_listed_with_their_weights(own_home: Path) -> None:
    models = {model["name"]: model for model in answer_of("models", "list")["models"]}
    assert models["ct-tissues"]["weights_present"]
    assert not models["mindgrab"]["weights_present"]
    wrong = own_home / "wrong.safetensors"
    own_home.mkdir(exist_ok=True)
    wrong.write_bytes(b"not these")
    refused = run("models", "fetch", "mindgrab", "--from", wrong)
    assert refused.exit_code == 1
    assert "SHA-256" in refused.stderr


def test_one_series_of_several_in_a_folder_is_chosen_by_its_uid(tmp_path: Path) -> None:
    first, second = make_series(body_phantom()), make_series(body_phantom((3, 64, 72)))
    save_series(first, tmp_path / "in" / "a")
    save_series(second, tmp_path / "in" / "b")
    arguments = ["segment", tmp_path / "in", "--model", "ct-tissues", "--outputs", "seg", "--out", tmp_path / "out"]
    assert run(*arguments).exit_code == 1
    done = answer_of(*arguments, "--series", second[0].SeriesInstanceUID)
    assert done["series_uid"] == second[0].SeriesInstanceUID


def test_one_file_of_a_series_that_lies_there_whole_is_noted(tmp_path: Path) -> None:
    paths = save_series(make_series(body_phantom((2, 16, 16))), tmp_path / "ct")
    (tmp_path / "ct" / "damaged.dcm").write_bytes(paths[1].read_bytes()[:300])
    paths[1].rename(tmp_path / "other.dcm")
    (tmp_path / "ct" / "copy.dcm").write_bytes(paths[0].read_bytes())
    arguments = ["segment", paths[0], "--model", "ct-tissues", "--any-body-part", "--outputs", "seg", "--out"]
    assert answer_of(*arguments, tmp_path / "one")["warnings"] == []
    (tmp_path / "other.dcm").rename(paths[1])
    (note,) = answer_of(*arguments, tmp_path / "two")["warnings"]
    assert (
        note == "Only the file that was named was taken; more of its series lie beside it. Name the folder to take all."
    )
    result = run(*arguments, tmp_path / "three")
    assert "more of its series lie beside it" in result.output


def test_what_does_not_fit_a_narrow_terminal_becomes_lines_with_whole_uids(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("AIDicomBridgeLib.cli.command.FILE_WIDTH", 80)
    output = run("find", archive.endpoint.address, "--accession", "CT1").output
    assert f"Study UID    {archive.ct[0].StudyInstanceUID}\n" in output
