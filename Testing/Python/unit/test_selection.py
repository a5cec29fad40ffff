"""The series that a model is meant for is found in a study, and each is told why or why not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from AIDicomBridgeLib.cli.main import app
from AIDicomBridgeLib.errors import ConflictError, NotFoundError, RetrieveError
from AIDicomBridgeLib.job import Job, run_job
from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.pacs.client import PacsClient, connect
from AIDicomBridgeLib.pacs.records import SeriesRecord
from AIDicomBridgeLib.pacs.selection import best_series, rank_series
from AIDicomBridgeLib.pacs.series_samples import rank_series_of_study
from AIDicomBridgeLib.series.instance_store import InstanceStore
from AIDicomBridgeLib.series.series_traits import SeriesTraits
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage
from synthetic import CORONAL, body_phantom, make_enhanced, make_series, save_series
from typer.testing import CliRunner


def study_of_series(study_uid: str) -> dict[str, list[Dataset]]:
    """Return a study: thick slices, thin, thin and derived, coronal, a scout, long. No description gives them away."""

    def make(number: str, slices: int, kind: str = "ORIGINAL\\PRIMARY\\AXIAL", **keywords: object) -> list[Dataset]:
        datasets = make_series(
            body_phantom((slices, 40, 48)), study_uid=study_uid, series_uid=f"{study_uid}.{number}", **keywords
        )
        for ds in datasets:
            ds.ImageType, ds.SeriesDescription = kind.split("\\"), ""
            ds.ContrastBolusAgent = "X"
        return datasets

    return {
        "1": make("1", 6, spacing_mm=(6.0, 0.8, 0.6)),
        "2": make("2", 12),
        "3": make("3", 14, "DERIVED\\SECONDARY\\MPR"),
        "4": make("4", 15, orientation=CORONAL),
        "5": make("5", 16, "ORIGINAL\\PRIMARY\\LOCALIZER", orientation=CORONAL),
        "6": make("6", 17),
    }


def record(uid: str, description: str, count: int | None, modality: str = "CT", body_part: str = "") -> SeriesRecord:
    return SeriesRecord("1", uid, modality, "1", description, "", body_part, count)


STUDY = [
    record("1.1", "Topogram 0.6", 600),
    record("1.2", "Abdomen MIP cor", 500),
    record("1.3", "Abdomen 5 mm", 60, body_part="ABDOMEN"),
    record("1.4", "Abdomen 1 mm", 300, body_part="ABDOMEN"),
    record("1.5", "Head", 400, body_part="HEAD"),
    record("1.6", "T1", 900, modality="MR"),
]


def test_the_thinnest_original_series_of_the_right_part_is_first() -> None:
    ranked = rank_series(STUDY, ["CT"], ["ABDOMEN"])
    assert [item.record.series_uid for item in ranked if item.fits] == ["1.4", "1.3", "1.2"]
    why = {item.record.series_uid: " ".join(item.reasons) for item in ranked}
    assert "localizer" in why["1.1"]
    assert "derived" in why["1.2"]
    assert "HEAD, not ABDOMEN" in why["1.5"]
    assert "MR, not CT" in why["1.6"]
    assert best_series(ranked).record.series_uid == "1.4"


def test_no_choice_is_guessed() -> None:
    with pytest.raises(NotFoundError, match=r"1\.6: it is MR, not PT"):
        best_series(rank_series(STUDY, ["PT"]), study_uid="1")
    with pytest.raises(ConflictError, match=r"1\.7.*1\.8"):
        best_series(rank_series([record("1.7", "a", None), record("1.8", "b", None)], ["CT"]))


@pytest.fixture
def study_on_disk(tmp_path: Path) -> Path:
    """Return a folder with the series of a study, one with a gap."""
    for name, datasets in study_of_series("1.2").items():
        if name == "6":
            del datasets[3]
        save_series(datasets, tmp_path / name)
    return tmp_path


WHY = {
    "1": "axial slices, 6 mm apart",
    "2": "axial slices, 3 mm apart with contrast agent",
    "3": "derived",
    "4": "coronal slices",
    "5": "its image type says that it is a localizer",
}


def test_the_model_chooses_among_the_series_of_a_folder_and_says_why(study_on_disk: Path) -> None:
    with pytest.raises(ConflictError, match=r"6 image series.*--series auto"):
        run_job(Job(study_on_disk, "ct-tissues", outputs=("seg",), any_body_part=True))
    done = run_job(Job(study_on_disk, "ct-tissues", outputs=("seg",), any_body_part=True, series_uid="auto"))
    assert done.to_dict()["series_uid"] == "1.2.2"
    ranking = done.to_dict()["series_ranking"]
    assert [item["series_uid"] for item in ranking if item["fits"]] == ["1.2.2", "1.2.1", "1.2.4", "1.2.3"]
    why = {item["series_uid"].rpartition(".")[2]: " ".join(item["reasons"]) for item in ranking}
    assert {name: words for name, words in WHY.items() if words not in why[name]} == {}
    assert "no volume: slices are missing" in why["6"]


class Watched:
    """A client that notes how many instances of each series were fetched."""

    def __init__(self, client: PacsClient) -> None:
        self.client, self.endpoint, self.fetched = client, client.endpoint, {}

    def __getattr__(self, name: str) -> object:
        return getattr(self.client, name)

    def retrieve(self, study_uid: str, series_uid: str, **keywords: object) -> object:
        self.fetched[series_uid] = len(keywords["sop_instance_uids"])
        return self.client.retrieve(study_uid, series_uid, **keywords)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Return the built-in archive with the series of the study, screenshots and an Enhanced image."""
    with Archive(InstanceStore(tmp_path_factory.mktemp("archive"))) as running:
        study = study_of_series("1.2")
        study["6"] = make_series(body_phantom((20, 8, 8)), study_uid="1.2", series_uid="1.2.6")
        for ds in study["6"]:
            ds.SOPClassUID = SecondaryCaptureImageStorage
        study["7"] = [make_enhanced(make_series(body_phantom((5, 40, 48)), study_uid="1.2", series_uid="1.2.7"))]
        assert connect(running.endpoint).store([ds for series in study.values() for ds in series]).complete
        yield running


def test_two_slices_of_a_series_in_an_archive_tell_what_the_list_does_not(archive: Archive) -> None:
    client = Watched(connect(archive.endpoint))
    ranking = rank_series_of_study(client, "1.2", ["CT"])
    assert [item.record.series_uid for item in ranking if item.fits] == [f"1.2.{n}" for n in (2, 1, 7, 4, 3)]
    why = {item.record.series_uid.rpartition(".")[2]: " ".join(item.reasons) for item in ranking}
    assert {name: words for name, words in WHY.items() if words not in why[name]} == {}
    assert why["6"] == "it holds no slices of CT, MR or PET"
    assert "5 instances" in why["7"]
    assert "one instance holds many slices" in why["7"]
    assert client.fetched == {f"1.2.{number}": 2 for number in (1, 2, 3, 4, 5)}


def test_the_command_says_which_series_was_chosen_and_why(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path))
    line = ["run", archive.endpoint.address, "--study", "1.2", "--to", archive.endpoint.address]
    said = CliRunner().invoke(app, [*line, "--model", "ct-tissues", "--outputs", "seg", "--any-body-part"]).stdout
    said = " ".join(said.split())
    assert "Series 1.2.2 was chosen: it is CT, 12 instances, axial slices, 3 mm apart, with contrast agent." in said
    assert "Series 1.2.5 does not fit: its image type says that it is a localizer." in said


def test_headers_that_cannot_be_had_are_a_reason_and_no_failure(archive: Archive) -> None:
    client = Watched(connect(archive.endpoint))

    def refuse(*_: object, **__: object) -> object:
        raise RetrieveError("the peer sends nothing")

    client.retrieve = refuse
    ranking = rank_series_of_study(client, "1.2", ["CT"])
    assert ranking[0].record.series_uid == "1.2.5"  # the largest, as nothing is known of it
    assert ranking[0].reasons[-1] == "its headers could not be looked at: the peer sends nothing"
    client.find_instances = lambda *_, **__: []
    ranking = rank_series_of_study(client, "1.2", ["CT"])
    assert ranking[0].record.series_uid == "1.2.6"
    assert ranking[0].reasons[-1].endswith("the peer lists no instance of it")


@pytest.mark.parametrize("change", ["one place", "other orientation"])
def test_neighbours_in_number_need_not_be_neighbours_in_space(tmp_path: Path, change: str) -> None:
    first, second = make_series(body_phantom((2, 8, 8)), spacing_mm=(3.0, 0.8, 0.6))
    if change == "one place":
        second.ImagePositionPatient = first.ImagePositionPatient
    else:
        second.ImageOrientationPatient = list(CORONAL)
    traits = SeriesTraits.of_neighbours(save_series([first, second], tmp_path), 40)
    assert (traits.problem, traits.orientation, traits.slice_spacing_mm, traits.slice_count) == ("", "axial", 3.0, 40)
