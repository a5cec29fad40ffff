"""Filing in Slicer's DICOM database beside rows that have no file; on the look-alike, the self test on Slicer's own."""

from pathlib import Path

import pytest
from AIDicomBridgeLib.mrml.dicom_database import Filing
from pydicom import dcmread
from shell.dicom_database import DicomDatabase


@pytest.fixture
def files(ct_files):
    return {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in ct_files}


@pytest.fixture
def series_uid(ct_files):
    return str(dcmread(ct_files[0], stop_before_pixels=True).SeriesInstanceUID)


@pytest.fixture
def database(tmp_path):
    return DicomDatabase(tmp_path / "database")


def test_instances_that_were_only_queried_are_filed(database, files, series_uid):
    for path in files.values():
        database.query(path)
    filing = Filing(database, files, series_uid)
    list(filing.steps())
    assert filing.complete
    assert filing.present == []


def test_a_filing_that_is_cut_short_takes_a_series_out_that_was_only_queried(database, files, series_uid):
    for path in files.values():
        database.query(path)
    steps = Filing(database, files, series_uid).steps()
    next(steps)
    steps.close()
    assert [path for path in database.filesForSeries(series_uid) if path] == []


def test_an_instance_whose_file_is_gone_is_filed_again_and_the_others_stay(database, files, series_uid):
    list(Filing(database, files, series_uid).steps())
    lost, *others = map(database.fileForInstance, files)
    Path(lost).unlink()
    filing = Filing(database, files, series_uid)
    list(filing.steps())
    assert list(map(str, filing.filed.values())) == [lost]
    assert len(filing.present) == len(others)
    assert Path(lost).is_file()


def test_a_filing_that_is_cut_short_leaves_what_was_there(database, files, series_uid):
    some = dict(list(files.items())[:2])
    list(Filing(database, some, series_uid).steps())
    steps = Filing(database, files, series_uid).steps()
    for _ in range(4):
        next(steps)
    steps.close()
    assert all(database.fileForInstance(uid) for uid in some)
