"""Volumes that the headers tell apart are never one, wherever their slices lie; packages of one volume are."""

from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import GeometryError
from AIDicomBridgeLib.series.offered_stacks import offered_stacks
from AIDicomBridgeLib.series.source_series import SourceSeries
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import Dataset
from synthetic import make_enhanced, make_pet, make_series, save_series


def _phase(number: int, z_mm: float = 0.0, *, slices: int = 6, modality: str = "MR", **attributes) -> list[Dataset]:
    """Return axial slices, 5 mm apart from ``z_mm`` on, of voxels 100 * number."""
    voxels = np.full((slices, 4, 5), 100 * number, np.int16)
    uids = {"study_uid": "1.2", "series_uid": "1.2.3", "frame_of_reference_uid": "1.4"}
    place = {"spacing_mm": (5.0, 0.7, 0.7), "origin": (0.0, 0.0, z_mm)}
    datasets = make_pet(voxels) if modality == "PT" else make_series(voxels, modality=modality, **uids, **place)
    for k, ds in enumerate(datasets):
        for keyword, value in attributes.items():
            setattr(ds, keyword, value(k) if callable(value) else value)
    return datasets


def _volumes(paths: list[Path]) -> list[tuple[int, int]]:
    """Return of each stack how many slices it has, and whose voxels they are."""
    found = []
    for stack in offered_stacks(paths):
        assert (stack.problem, stack.irregularity) == ("", "")
        (value,) = np.unique(read_volume(paths, stack=stack.number).voxels)
        found.append((stack.slice_count, int(value)))
    return sorted(found)


@pytest.mark.parametrize(
    ("keyword", "values", "z_mm"),
    [
        *(("TemporalPositionIdentifier", (1, 2), z_mm) for z_mm in (30.0, 2.5, 1.0, 0.02)),
        ("TemporalPositionIndex", (1, 2), 2.5),
        ("NominalPercentageOfCardiacPhase", (0.0, 50.0), 30.0),
        ("NominalPercentageOfRespiratoryPhase", (0.0, 50.0), 30.0),
        ("DiffusionBValue", (0.0, 1000.0), 30.0),
        ("VelocityEncodingDirection", ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]), 2.5),
        ("SUVType", ("BW", "LBM"), 30.0),
    ],
)
def test_what_the_headers_name_apart_is_no_volume(tmp_path: Path, keyword: str, values: tuple, z_mm: float) -> None:
    first, second = (_phase(number, number * z_mm, **{keyword: values[number]}) for number in (0, 1))
    paths = save_series(first + second, tmp_path)
    for resample in (False, True):
        with pytest.raises(GeometryError, match="holds 2 stacks"):
            SourceSeries.from_files(paths, resample=resample)
    assert _volumes(paths) == [(6, 0), (6, 100)]


@pytest.mark.parametrize("z_mm", [0.02, 1.0, 2.0])
@pytest.mark.parametrize(
    ("keyword", "values"), [("AcquisitionNumber", (1, 2)), ("AcquisitionTime", ("101010", "1012"))]
)
def test_acquisitions_between_each_other_are_not_resampled_into_one(
    tmp_path: Path, keyword: str, values: tuple, z_mm: float
) -> None:
    first, second = (_phase(number, number * z_mm, **{keyword: values[number]}) for number in (0, 1))
    paths = save_series(first + second, tmp_path)
    with pytest.raises(GeometryError, match="holds 2 stacks"):
        SourceSeries.from_files(paths, resample=True)
    assert _volumes(paths) == [(6, 0), (6, 100)]


@pytest.mark.parametrize("lost", [None, 4])
def test_packages_of_odd_and_even_slices_are_one_volume(tmp_path: Path, lost: int | None) -> None:
    datasets = _phase(0, slices=12, AcquisitionNumber=lambda k: 1 + k % 2, AcquisitionTime=lambda k: f"10101{k % 2}")
    datasets = [ds for k, ds in enumerate(datasets) if k != lost]
    series = SourceSeries.from_files(save_series(datasets, tmp_path), resample=lost is not None)
    assert len(series.slices) == len(datasets)
    assert bool(series.irregularity) == (lost is not None)


def test_packages_whose_slices_lie_as_far_from_their_places_as_a_volume_s_may_are_one_volume(tmp_path: Path) -> None:
    datasets = _phase(0, slices=12, AcquisitionNumber=lambda k: 1 + k % 2)
    for k, moved in ((4, 0.045), (5, -0.045)):
        x, y, z = datasets[k].ImagePositionPatient
        datasets[k].ImagePositionPatient = [x, y, f"{float(z) + moved:.3f}"]
    series = SourceSeries.from_files(save_series(datasets, tmp_path))
    assert (len(series.slices), series.irregularity) == (12, "")


def test_a_number_that_counts_the_slices_names_no_phase(tmp_path: Path) -> None:
    counted = {"TemporalPositionIdentifier": lambda k: k + 1, "NominalPercentageOfCardiacPhase": lambda k: 70 + k / 10}
    assert SourceSeries.from_files(save_series(_phase(0, **counted), tmp_path)).shape == (6, 4, 5)


def test_a_number_counts_the_slices_of_each_kind(tmp_path: Path) -> None:
    counted = {"TemporalPositionIdentifier": lambda k: k + 1}
    echoes = [_phase(number, EchoTime=f"{4 * number}", **counted) for number in (1, 2)]
    localizer = _phase(3, 100.0, slices=1, ImageType=r"ORIGINAL\PRIMARY\LOCALIZER", TemporalPositionIdentifier=1)
    paths = save_series([*echoes[0], *echoes[1], *localizer], tmp_path)
    assert _volumes(paths) == [(1, 300), (6, 100), (6, 200)]


def test_a_number_that_occurs_twice_still_counts_the_slices(tmp_path: Path) -> None:
    datasets = _phase(0, TemporalPositionIdentifier=lambda k: max(k, 1))
    assert SourceSeries.from_files(save_series(datasets, tmp_path)).shape == (6, 4, 5)


@pytest.mark.parametrize("lost", [{1}, {1, 2}, {1, 6}])
@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "AcquisitionTime"])
def test_short_packages_that_miss_slices_are_no_volumes(tmp_path: Path, keyword: str, lost: set[int]) -> None:
    # Odd and even slices lie evenly, each on its own: nothing would say that some between them are missing.
    datasets = _phase(0, slices=8 if 6 in lost else 6, **{keyword: lambda k: f"{101010 + k % 2}"})
    paths = save_series([ds for k, ds in enumerate(datasets) if k not in lost], tmp_path)
    with pytest.raises(GeometryError, match=r"(?i)slices are missing"):
        SourceSeries.from_files(paths)
    assert len(SourceSeries.from_files(paths, resample=True).slices) == len(paths)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("DiffusionBValue", (1000.0, 1000.4)),
        ("DiffusionBValue", (0.0, 4.0)),
        ("EchoTime", ("80", "80.4")),
        ("NominalPercentageOfCardiacPhase", (75.0, 75.3)),
        ("NominalPercentageOfRespiratoryPhase", (0.0, 0.4)),
    ],
)
def test_values_that_jitter_cut_no_volume(tmp_path: Path, keyword: str, values: tuple) -> None:
    datasets = _phase(0, **{keyword: lambda k: values[k >= 3]})
    assert SourceSeries.from_files(save_series(datasets, tmp_path / "halves")).shape == (6, 4, 5)
    datasets = _phase(0, **{keyword: lambda k: values[k == 4]})
    assert SourceSeries.from_files(save_series(datasets, tmp_path / "one")).shape == (6, 4, 5)


@pytest.mark.parametrize(
    ("keyword", "values", "name"),
    [
        ("DiffusionBValue", (0.0, 4.0), "b-value 4"),
        ("NominalPercentageOfCardiacPhase", (75.0, 75.3), "cardiac phase 75.3"),
    ],
)
def test_close_values_tell_images_of_one_place_apart(tmp_path: Path, keyword: str, values: tuple, name: str) -> None:
    first, second = (_phase(number, **{keyword: values[number]}) for number in (0, 1))
    paths = save_series(first + second, tmp_path)
    assert _volumes(paths) == [(6, 0), (6, 100)]
    assert offered_stacks(paths)[1].name.endswith(f", {name}")


@pytest.mark.parametrize(
    ("modality", "keyword", "values", "z_mm"),
    [
        ("CT", "NominalPercentageOfCardiacPhase", (74.0, 75.0), 30.0),
        ("MR", "DiffusionBValue", (50.0, 60.0), 30.0),
        ("MR", "EchoTime", ("80", "82"), 30.0),
    ],
)
def test_values_further_apart_than_jitter_are_of_two_volumes(
    tmp_path: Path, modality: str, keyword: str, values: tuple, z_mm: float
) -> None:
    first, second = (_phase(n, n * z_mm, modality=modality, **{keyword: values[n]}) for n in (0, 1))
    assert _volumes(save_series(first + second, tmp_path)) == [(6, 0), (6, 100)]


def test_names_are_short_but_times_have_their_digits(tmp_path: Path) -> None:
    shown = (("FlipAngle", ("5", "75.300003"), "75.3"), ("AcquisitionTime", ("101010.5", "101010.75"), "101010.75"))
    for keyword, values, text in shown:
        first, second = (_phase(number, **{keyword: values[number]}) for number in (0, 1))
        assert offered_stacks(save_series(first + second, tmp_path / keyword))[1].name.endswith(f" {text}")


@pytest.mark.parametrize(
    ("modality", "keyword", "values", "name"),
    [
        ("MR", "InversionTime", ("100", "200", "400"), "inversion time 100"),
        ("MR", "FlipAngle", ("5", "15"), "flip angle 15"),
        ("MR", "EchoNumbers", ("1", "2"), "echo 2"),
        ("MR", "SequenceName", ("ep_b50t", "ep_b800t"), "sequence EP_B800T"),
        ("MR", "TemporalPositionTimeOffset", (0.0, 1.5), "time offset 1.5"),
        ("CT", "KVP", ("80", "140"), "kVp 140"),
        ("CT", "NominalPercentageOfRespiratoryPhase", (0.0, 20.0, 40.0), "respiratory phase 40"),
        ("PT", "FrameReferenceTime", ("1000", "2000"), "frame time 2000"),
    ],
)
def test_images_of_one_place_are_offered_by_what_differs(
    tmp_path: Path, modality: str, keyword: str, values: tuple, name: str
) -> None:
    phases = [_phase(number, modality=modality, **{keyword: value}) for number, value in enumerate(values)]
    for ds in (ds for phase in phases for ds in phase):
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2", "1.2.3", "1.4"
    paths = save_series([ds for phase in phases for ds in phase], tmp_path)
    assert _volumes(paths) == [(6, 100 * number) for number in range(len(values))]
    assert any(stack.name.endswith(name) for stack in offered_stacks(paths))


def test_a_cine_that_follows_the_heart_is_told_by_the_order_in_each_place(tmp_path: Path) -> None:
    phases = [_phase(n, TriggerTime=lambda k, n=n: f"{40 * n + 0.7 * k:.1f}") for n in range(3)]
    paths = save_series([ds for phase in phases for ds in phase], tmp_path)
    assert _volumes(paths) == [(6, 0), (6, 100), (6, 200)]
    assert [stack.name.rpartition(", ")[2] for stack in offered_stacks(paths)] == [
        f"cardiac phase {n}" for n in (1, 2, 3)
    ]


def test_acquisitions_of_which_only_some_overlap_are_all_offered(tmp_path: Path) -> None:
    phases = [_phase(n, z_mm, AcquisitionNumber=n) for n, z_mm in ((1, 0.0), (2, 0.0), (3, 30.0))]
    paths = save_series([ds for phase in phases for ds in phase], tmp_path)
    assert _volumes(paths) == [(6, 100), (6, 200), (6, 300)]


def test_packages_of_phases_are_not_taken_for_phases(tmp_path: Path) -> None:
    # Twice the odd and the even slices, one after another: nothing says which two packages are a phase.
    phases = [_phase(n, AcquisitionNumber=lambda k, n=n: 1 + 2 * n + k % 2) for n in (0, 1)]
    (stack,) = offered_stacks(save_series([ds for phase in phases for ds in phase], tmp_path))
    assert "share one position" in stack.problem


def test_diffusion_is_listed_by_b_value_and_direction(tmp_path: Path) -> None:
    phases = [_phase(0, DiffusionBValue=0.0)]
    for number in range(3):
        direction = np.eye(3)[number].tolist()
        phases.append(_phase(number + 1, DiffusionBValue=1000.0, DiffusionGradientOrientation=direction))
    paths = save_series([ds for phase in phases for ds in phase], tmp_path)
    assert [stack.name.partition(", b-value ")[2] for stack in offered_stacks(paths)] == [
        "0",
        *(f"1000, diffusion direction {direction}" for direction in ("0 0 1", "0 1 0", "1 0 0")),
    ]
    assert _volumes(paths) == [(6, 0), (6, 100), (6, 200), (6, 300)]


@pytest.mark.parametrize(
    ("group", "keyword", "values"),
    [
        ("FrameContentSequence", "TemporalPositionIndex", (1, 2)),
        ("TemporalPositionSequence", "TemporalPositionTimeOffset", (0.0, 1.0)),
        ("RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase", (0.0, 50.0)),
        ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", (0.0, 50.0)),
        ("MRImageFrameTypeSequence", "ComplexImageComponent", ("MAGNITUDE", "PHASE")),
        ("MRModifierSequence", "InversionTimes", ([100.0], [200.0])),
    ],
)
def test_the_frames_of_an_enhanced_image_are_told_apart(tmp_path: Path, group: str, keyword: str, values) -> None:
    enhanced = make_enhanced(_phase(0) + _phase(1))
    for number, frame in enumerate(enhanced.PerFrameFunctionalGroupsSequence):
        if group not in frame:
            setattr(frame, group, [Dataset()])
        setattr(frame[group][0], keyword, values[number // 6])
    assert _volumes(save_series([enhanced], tmp_path)) == [(6, 0), (6, 100)]


@pytest.mark.parametrize(
    ("modality", "sop_class", "keyword", "values", "z_mm"),
    [
        ("CT", "1.2.840.10008.5.1.4.1.1.2.2", "ConvolutionKernel", ("B30f", "B70f"), 2.5),
        ("MR", "1.2.840.10008.5.1.4.1.1.4.4", "EchoTime", ("3", "80"), 30.0),
        ("MR", "1.2.840.10008.5.1.4.1.1.4.4", "TemporalPositionIdentifier", (1, 2), 0.0),
    ],
)
def test_what_a_converter_had_no_group_for_tells_frames_apart(
    tmp_path: Path, modality: str, sop_class: str, keyword: str, values: tuple, z_mm: float
) -> None:
    enhanced = make_enhanced(_phase(0, modality=modality) + _phase(1, z_mm, modality=modality))
    enhanced.SOPClassUID = sop_class
    for number, frame in enumerate(enhanced.PerFrameFunctionalGroupsSequence):
        converted = Dataset()
        setattr(converted, keyword, values[number // 6])
        frame.UnassignedPerFrameConvertedAttributesSequence = [converted]
    assert _volumes(save_series([enhanced], tmp_path)) == [(6, 0), (6, 100)]


def test_converted_attributes_replace_nothing_that_the_image_says(tmp_path: Path) -> None:
    enhanced = make_enhanced(_phase(1))
    enhanced.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.4"
    shared, converted = Dataset(), Dataset()
    shared.EchoTime, shared.SequenceName = "7", "shared"
    converted.PatientID, converted.Rows, converted.ImagePositionPatient = "OTHER", 2, [0, 0, 0]
    converted.RescaleSlope, converted.SequenceName = "3", "own"
    converted.add_new(0x7FE00010, "OW", b"\1\0")
    enhanced.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence = [shared]
    for frame in enhanced.PerFrameFunctionalGroupsSequence:
        frame.UnassignedPerFrameConvertedAttributesSequence = [converted]
    series = SourceSeries.from_files(save_series([enhanced], tmp_path))
    assert series.shape == (6, 4, 5)
    assert np.unique(read_volume(series).voxels) == [100]
    for header in series.headers:
        assert (header.PatientID, header.EchoTime, header.SequenceName) == ("SYN-1", 7, "own")
        assert "PixelData" not in header
