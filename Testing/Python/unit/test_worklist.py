"""A batch: every row gets its own outcome, what is done is not done again, and nothing names a patient."""

import json
from pathlib import Path

import pytest
from AIDicomBridgeLib.cli.main import app
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import connect
from AIDicomBridgeLib.series.instance_store import InstanceStore
from synthetic import body_phantom, make_series
from typer.testing import CliRunner

README = (Path(__file__).parents[3] / "README.md").read_text()


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The built-in archive with two CT studies of two patients."""
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path / "home"))
    with Archive(InstanceStore(tmp_path / "archive")) as running:
        running.studies = [
            make_series(body_phantom((3, 24, 32)), accession_number=f"CT{number}", patient_id=f"CANARY-{number}")
            for number in (1, 2)
        ]
        assert connect(running.endpoint).store([image for study in running.studies for image in study]).complete
        yield running


@pytest.fixture
def job(archive: Archive, tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(
        f'source = "{archive.endpoint.address}"\nmodel = "ct-tissues"\noutputs = ["seg"]\n'
        f'to = ["{archive.endpoint.address}"]\nout = "made"\nany_body_part = true\n'
    )
    return path


def batch(folder: Path, worklist: str) -> tuple[int, dict]:
    (folder / "work.csv").write_text(worklist, encoding="utf-8-sig")
    result = CliRunner().invoke(app, ["batch", str(folder / "work.csv"), "--job", str(folder / "job.toml"), "--json"])
    answer = json.loads(result.stdout)
    assert [key for key in answer if f"`{key}`" not in README] == []
    return result.exit_code, answer


def statuses(answer: dict) -> list[str]:
    return [row["status"] for row in answer["rows"]]


def segmentations(archive: Archive, number: int) -> int:
    study = archive.studies[number][0].StudyInstanceUID
    return sum(record.modality == "SEG" for record in connect(archive.endpoint).find_series(study))


def test_every_row_has_its_outcome_and_what_is_done_is_not_done_again(archive, job, tmp_path: Path) -> None:
    first, second = (study[0] for study in archive.studies)
    rows = [
        "study_uid;accession_number;patient_id",
        f"{first.StudyInstanceUID};;",
        ";GONE;",
        ";CT2;CANARY-1",  # another patient's
        ";CT*;",
        "",
    ]

    status, answer = batch(tmp_path, "\n".join(rows))

    assert status == 3
    assert statuses(answer) == ["done", "failed", "failed", "failed"]
    assert answer["counts"] == {"done": 1, "failed": 3}
    messages = [row["error"]["message"] for row in answer["rows"][1:]]
    assert [("No study matches" in text, "wildcard" in text) for text in messages] == [
        *((True, False), (True, False), (False, True)),
    ]
    (made,) = answer["rows"][0]["results"]
    assert [path.name for path in (tmp_path / "made" / "line-00002").iterdir()] == ["seg-001.dcm"]

    rows[2:5] = [f";{second.AccessionNumber};{second.PatientID}"]
    again, answer = batch(tmp_path, "\n".join(rows))

    assert (again, statuses(answer)) == (0, ["skipped", "done"])
    assert (segmentations(archive, 0), segmentations(archive, 1)) == (1, 1)
    written = (tmp_path / "work.results.jsonl").read_text()
    assert made in written
    for secret in ("CANARY", "Synthetic", "CT1", "CT2"):
        assert secret not in written


def test_what_a_crash_cut_off_is_done_again_and_another_job_is_another_job(archive, job, tmp_path: Path) -> None:
    worklist = f"study_uid\n{archive.studies[0][0].StudyInstanceUID}\n"
    batch(tmp_path, worklist)
    results = tmp_path / "work.results.jsonl"
    results.write_text(results.read_text()[:-20])

    assert statuses(batch(tmp_path, worklist)[1]) == ["done"]
    assert statuses(batch(tmp_path, worklist)[1]) == ["skipped"]
    assert segmentations(archive, 0) == 2
    job.write_text(job.read_text().replace('["seg"]', '["sc"]'))
    assert statuses(batch(tmp_path, worklist)[1]) == ["done"]


def test_what_waits_in_the_outbox_is_not_made_twice(archive, job, tmp_path: Path, unused_port: int) -> None:
    gone = f"dimse://GONE@127.0.0.1:{unused_port}"
    job.write_text(job.read_text().replace(f'to = ["{archive.endpoint.address}"]', f'to = ["{gone}"]'))
    worklist = f"study_uid\n{archive.studies[0][0].StudyInstanceUID}\n"

    first, answer = batch(tmp_path, worklist)
    second, repeated = batch(tmp_path, worklist)

    assert (first, statuses(answer)) == (3, ["waiting"])
    assert (second, statuses(repeated)) == (0, ["skipped"])
    waiting = json.loads(CliRunner().invoke(app, ["outbox", "list", "--json"]).stdout)["waiting"]
    assert len(waiting) == 1


def test_a_batch_of_failures_is_a_failure(job, tmp_path: Path) -> None:
    (tmp_path / "ct-tissues").mkdir()  # results, perhaps: it does not hide the model
    status, answer = batch(tmp_path, "study_uid\n1.2.3\nno-uid\n")

    assert (status, statuses(answer)) == (1, ["failed", "failed"])
    assert "Not one of 2 rows" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("worklist", "complaint"),
    [
        ("study_uid,sereis_uid\n1.2,3\n", "column 'sereis_uid', which is not known"),
        ("study_uid,study_uid\n1.2,3\n", "a column twice"),
        ("study_uid\n1.2,3\n", "more columns than its first line"),
        ("study_uid\n\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_a_worklist_that_is_none_is_refused_before_anything_runs(job, tmp_path: Path, worklist, complaint) -> None:
    status, answer = batch(tmp_path, worklist)

    assert status == 1
    assert complaint in answer["error"]["message"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("outputs =", "output ="), "unknown key 'output'. Do you mean 'outputs'?"),
        (("model =", "modle ="), "unknown key 'modle'. Do you mean 'model'?"),
        (('["seg"]', '["seq"]'), "unknown value 'seq'"),
        (("ct-tissues", "no-such-model"), "no-such-model"),
        (("source", "to = ["), "is no TOML file"),
        (("any_body_part = true", 'profile = "none"'), "no destination profile"),
        (("source =", "# source ="), "lacks the key 'source'"),
    ],
)
def test_a_job_file_that_is_wrong_is_refused_before_anything_runs(job, tmp_path: Path, change, complaint) -> None:
    job.write_text(job.read_text().replace(*change, 1))

    status, answer = batch(tmp_path, "study_uid\n1.2.3\n")

    assert status == 1
    assert complaint in answer["error"]["message"]
    assert not (tmp_path / "work.results.jsonl").exists()
