"""The pictures show the result where it is, whoever draws them."""

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.mrml import pictures
from AIDicomBridgeLib.mrml.core_scene import has_slicer_core
from AIDicomBridgeLib.mrml.pictures import PILLOW, SLICER, Pictures, render_pictures
from AIDicomBridgeLib.results.labels import LabelVolume
from AIDicomBridgeLib.series.regular_grid import labels_between_slices
from AIDicomBridgeLib.series.volume import read_volume
from PIL import Image
from synthetic import AXIAL, OBLIQUE, SAGITTAL, body_phantom, make_series, save_series

from .conftest import organ_labels

BONE, RIGHT_LUNG = (241, 214, 145), (1, 128, 255)
SIZE = 320


def needs_slicer_rendering():
    if not has_slicer_core():
        pytest.skip("slicer-core is not installed")
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        pytest.skip("libEGL.so.1 is not installed")


@pytest.fixture
def without_egl(monkeypatch):
    def refuse(name):
        raise OSError(name)

    monkeypatch.setattr(pictures.ctypes, "CDLL", refuse)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def middle_of(path: Path, color: tuple[int, int, int]) -> tuple[float, float]:
    """Return (x, y) of the middle of all pixels nearly of that colour."""
    y, x = np.nonzero(np.abs(pixels_of(path) - color).max(axis=2) <= 12)
    assert len(x) > 20, f"{path.name} shows nothing in {color}"
    return (x.min() + x.max()) / 2, (y.min() + y.max()) / 2


def blue_middle(path: Path) -> np.ndarray:
    """Return (y, x) of the middle of everything blue, light or shaded."""
    y, x = np.nonzero(pixels_of(path)[..., 2] - pixels_of(path)[..., 0] > 40)
    return np.array([(y.min() + y.max()) / 2, (x.min() + x.max()) / 2])


def assert_radiological(drawn: Pictures) -> None:
    """The phantom's right lung lies left of its bone in the picture, both lungs lie in front of it."""
    bone, right = middle_of(drawn.axial, BONE), middle_of(drawn.axial, RIGHT_LUNG)
    assert right[0] < bone[0] - 10
    assert right[1] < bone[1] - 10  # anterior is up


def test_pillow_draws_where_opengl_is_missing(volume_of, tmp_path, without_egl):
    volume = volume_of(orientation=AXIAL)
    drawn = render_pictures(volume, organ_labels(volume), tmp_path / "out", size=SIZE)
    assert drawn.renderer == PILLOW
    if has_slicer_core():
        assert "libEGL.so.1" in drawn.remark
    assert_radiological(drawn)
    for path in (drawn.axial, drawn.coronal, drawn.sagittal, drawn.three_d):
        assert pixels_of(path).shape == (SIZE, SIZE, 3)
        assert (pixels_of(path)[0, 0] == 0).all()


def test_slicer_draws_in_a_process_of_its_own(volume_of, tmp_path):
    needs_slicer_rendering()
    loaded = set(sys.modules)
    volume = volume_of(orientation=AXIAL)
    drawn = render_pictures(volume, organ_labels(volume), tmp_path, size=SIZE)
    assert (drawn.renderer, drawn.remark) == (SLICER, "")
    assert_radiological(drawn)
    assert not {name for name in set(sys.modules) - loaded if name.startswith("vtk")}


@pytest.mark.parametrize("orientation", [OBLIQUE, SAGITTAL], ids=["oblique", "sagittal"])
def test_both_renderers_show_the_same(volume_of, tmp_path, orientation, monkeypatch):
    needs_slicer_rendering()
    volume = volume_of(orientation=orientation, spacing_mm=(3.0, 0.8, 0.6))
    labels = organ_labels(volume)
    by_slicer = render_pictures(volume, labels, tmp_path / "slicer", size=SIZE)
    monkeypatch.setattr(pictures, "_missing_for_slicer", lambda: "left out")
    by_pillow = render_pictures(volume, labels, tmp_path / "pillow", size=SIZE)
    assert (by_slicer.renderer, by_pillow.renderer) == (SLICER, PILLOW)
    for name in ("axial", "coronal", "sagittal"):
        ours, theirs = pixels_of(getattr(by_pillow, name)), pixels_of(getattr(by_slicer, name))
        # Outlines and edges may lie a pixel apart; a flipped, shifted or stretched picture differs everywhere.
        assert np.abs(ours - theirs).mean() < 6
    shown = [blue_middle(drawn.three_d) for drawn in (by_slicer, by_pillow)]
    np.testing.assert_allclose(shown[0], shown[1], atol=SIZE / 60)


def test_a_child_that_fails_is_replaced_and_named(volume_of, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "_missing_for_slicer", lambda: "")
    monkeypatch.setattr(pictures.sys, "executable", "/bin/false")
    volume = volume_of()
    drawn = render_pictures(volume, organ_labels(volume), tmp_path, size=SIZE)
    assert drawn.renderer == PILLOW
    assert "status 1" in drawn.remark
    assert_radiological(drawn)


@pytest.mark.parametrize("renderer", [SLICER, PILLOW])
def test_an_empty_result_shows_the_source(volume_of, tmp_path, renderer, monkeypatch):
    if renderer == SLICER:
        needs_slicer_rendering()
    else:
        monkeypatch.setattr(pictures, "_missing_for_slicer", lambda: "left out")
    volume = volume_of()
    empty = LabelVolume(np.zeros_like(volume.voxels, np.uint8), organ_labels(volume).segments, source=volume.source)
    drawn = render_pictures(volume, empty, tmp_path, size=SIZE)
    assert drawn.renderer == renderer
    assert pixels_of(drawn.axial).mean() > 20


def test_slices_after_a_gap_are_drawn_where_they_are(volume_of, tmp_path):
    datasets = make_series(body_phantom((8, 40, 48)), spacing_mm=(3.0, 0.8, 0.6))
    for ds in datasets[4:]:
        ds.ImagePositionPatient[2] += 7.5
    volume = read_volume(save_series(datasets, tmp_path), resample=True)
    array = np.zeros(volume.voxels.shape, np.uint8)
    array[5, 10:30, 10:30] = 2
    labels = LabelVolume(array, organ_labels(volume).segments, source=volume.source)
    subject = pictures._subject(volume, labels, SIZE)
    assert subject.labels.shape == subject.voxels.shape
    k, j, i = np.nonzero(subject.labels == 2)
    z_mm = (subject.ijk_to_lps @ np.stack([i, j, k, np.ones_like(i)]))[2]
    assert abs(z_mm.mean() - volume.source.positions_mm[5][2]) <= 1.5  # half a slice; the source's own affine: 4 mm
    np.testing.assert_array_equal(subject.labels, labels_between_slices(array, volume.source))  # as the scene shows it


def test_nothing_about_the_patient_reaches_the_child(volume_of, tmp_path):
    volume = volume_of(patient_name="Secret^Person", patient_id="SECRET-7")
    subject = pictures._subject(volume, organ_labels(volume), SIZE)
    subject.save(tmp_path)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"Secret" not in content
    assert b"SECRET" not in content
    assert volume.source.study_uid.encode() not in content
