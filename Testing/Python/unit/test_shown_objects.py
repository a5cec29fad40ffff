"""What a notebook or a traceback shows of an object is one line, and names no patient."""

import traceback
from pathlib import Path

from AIDicomBridgeLib.cli.worklist import WorklistRow
from AIDicomBridgeLib.job import Job, run_job
from AIDicomBridgeLib.models.loading import load_model
from AIDicomBridgeLib.pacs.records import PatientRecord, StudyRecord
from AIDicomBridgeLib.series.source_series import read_slices
from AIDicomBridgeLib.series.source_slice import SourceSlice
from AIDicomBridgeLib.series.stacks import find_stacks
from AIDicomBridgeLib.series.volume import ImageVolume, read_volume
from synthetic import body_phantom, make_pet, make_series, save_series

NAME, NUMBER, BIRTH = "Canary^Name", "CANARY-ID", "19700101"


def _save(folder: Path) -> list[Path]:
    return save_series(make_series(body_phantom(), patient_name=NAME, patient_id=NUMBER), folder / NAME)


def _refuse_patient(text: str) -> None:
    assert not [word for word in (NAME, NUMBER, BIRTH) if word in text]


def test_volumes_series_and_labels_are_shown_in_one_line(tmp_path: Path) -> None:
    volume = read_volume(_save(tmp_path))
    labels = load_model("ct-tissues", "cpu").segment(volume, any_body_part=True)

    assert repr(volume) == "<ImageVolume CT 12x64x72, 3.0x0.8x0.6 mm, HU>"
    assert repr(volume.source) == "<SourceSeries CT 12x64x72, 3.0x0.8x0.6 mm>"
    assert repr(labels).startswith("<LabelVolume ct-tissues ")
    assert repr(labels).endswith(", 12x64x72, 3.0x0.8x0.6 mm, 4 segments>")
    pet = ImageVolume(volume.voxels, volume.ijk_to_lps, volume.source, suv=object())  # type: ignore[arg-type]
    assert repr(pet).endswith(" mm, SUV>")
    assert repr(read_volume(save_series(make_pet(body_phantom((3, 8, 8))), tmp_path / "pet"))).startswith(
        "<ImageVolume PT 3x8x8, "
    )


def test_no_object_shows_the_patient_neither_alone_nor_in_a_traceback(tmp_path: Path) -> None:
    paths = _save(tmp_path)
    done = run_job(Job(read_volume(paths).source, "ct-tissues", outputs=("seg",), any_body_part=True, device="cpu"))
    slices: list[SourceSlice] = read_slices(paths)
    shown = [
        *(done, done.volume, done.labels, done.results, slices, find_stacks(slices)),
        PatientRecord(NUMBER, NAME, BIRTH),
        StudyRecord("1.2", NUMBER, NAME, BIRTH),
        WorklistRow(1, patient_id=NUMBER),
    ]
    for item in shown:
        assert "\n" not in repr(item)
        _refuse_patient(repr(item))
    try:
        raise ValueError(shown)
    except ValueError as error:
        del paths, item  # the folder's name is the test's own
        _refuse_patient("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
