"""A job keeps its promises between its stages: what is owed to every destination survives whatever happens to one."""

from pathlib import Path

import pytest
from AIDicomBridgeLib import Job, JobCancelled, LabelVolume, Outbox, run_job
from AIDicomBridgeLib import job as job_module
from AIDicomBridgeLib.errors import ConflictError, EncodingError, NotFoundError
from AIDicomBridgeLib.pacs.endpoint import parse_endpoint
from AIDicomBridgeLib.progress import CancelToken

FIRST = parse_endpoint("dimse://FIRST@127.0.0.1:1")
SECOND = parse_endpoint("dimse://SECOND@127.0.0.1:2")


def test_results_for_every_destination_are_safe_before_the_first_is_sent(
    ct_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job_module, "deliver", crash)
    outbox = Outbox(tmp_path / "outbox")
    job = Job(ct_files[0].parent, "ct-tissues", outputs=("seg", "sr"), destinations=(FIRST, SECOND), outbox=outbox)

    with pytest.raises(KeyboardInterrupt):
        run_job(job)

    owed = [delivery.destination for delivery in outbox.deliveries()]
    assert owed == [FIRST.address] * 2 + [SECOND.address] * 2


def test_a_reviewed_label_volume_is_what_is_encoded(ct_files: list[Path]) -> None:
    def keep_bone(volume, labels: LabelVolume) -> LabelVolume:
        edited = labels.labels.copy()
        edited[edited != 4] = 0
        return LabelVolume(edited, labels.segments[3:], source=labels.source, provenance=labels.provenance)

    done = run_job(Job(ct_files[0].parent, "ct-tissues", outputs=("seg",), review=keep_bone))

    assert [item.SegmentLabel for item in done.results[0].dataset.SegmentSequence] == ["Bone"]


def test_all_objects_of_one_result_track_the_same_segments(ct_files: list[Path]) -> None:
    done = run_job(Job(ct_files[0].parent, "ct-tissues", outputs=("seg", "sr"), encodings=("BINARY", "LABELMAP")))
    binary, labelmap, report = (result.dataset for result in done.results)
    tracked = {item.TrackingUID for item in binary.SegmentSequence}
    assert len(tracked) == 4
    assert {item.TrackingUID for item in labelmap.SegmentSequence if "TrackingUID" in item} == tracked
    assert all(uid in str(report) for uid in tracked)


def test_a_taken_folder_is_refused_before_anything_runs(ct_files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "seg-001.dcm").touch()
    with pytest.raises(ConflictError, match=r"seg-001\.dcm"):
        run_job(Job(ct_files[0].parent, "no-such-model", out=tmp_path))


def test_a_folder_without_images_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no image series"):
        run_job(Job(tmp_path, "no-such-model"))


def test_other_files_of_the_folder_are_left_alone(ct_files: list[Path], tmp_path: Path) -> None:
    for name in ("0.part", "notes.txt"):
        (tmp_path / name).write_text("mine")
    run_job(Job(ct_files[0].parent, "ct-tissues", outputs=("seg",), out=tmp_path))
    assert (tmp_path / "0.part").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["0.part", "notes.txt", "seg-001.dcm"]


def test_cancel_ends_the_job_without_results(ct_files: list[Path], tmp_path: Path) -> None:
    cancel = CancelToken()

    def cancel_in_segment(event) -> None:
        if event.stage == "segment":
            cancel.cancel()

    with pytest.raises(JobCancelled):
        run_job(Job(ct_files[0].parent, "ct-tissues", out=tmp_path / "out"), progress=cancel_in_segment, cancel=cancel)
    assert not (tmp_path / "out").exists()


def test_a_hand_made_segment_without_algorithm_name_is_refused_by_name(ct_files: list[Path]) -> None:
    from dataclasses import replace

    def spoil(volume, labels: LabelVolume) -> LabelVolume:
        segments = tuple(replace(segment, algorithm_type="GUESSED") for segment in labels.segments)
        return replace(labels, segments=segments)

    with pytest.raises(EncodingError, match="GUESSED"):
        run_job(Job(ct_files[0].parent, "ct-tissues", outputs=("seg",), review=spoil))
