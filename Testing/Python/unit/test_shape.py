"""Shapes against geometry's formulas, and against ITK's and Slicer's own label statistics."""

import numpy as np
import pytest
import SimpleITK as sitk
from AIDicomBridgeLib.mrml.core_scene import has_slicer_core
from AIDicomBridgeLib.results.shape import label_shapes, longest_distance
from synthetic import AXIAL, OBLIQUE

SPACINGS = [(1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (5.0, 0.4, 1.1), (0.5, 1.0, 2.0)]  # (k, j, i) mm


def _affine(orientation: tuple[float, ...], spacing_mm: tuple[float, float, float]) -> np.ndarray:
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row, column, np.cross(row, column)], axis=1) * spacing_mm[::-1]
    affine[:3, 3] = (-31.0, 17.5, 103.25)
    return affine


def _two_ellipsoids(spacing_mm: tuple[float, float, float]) -> tuple[np.ndarray, list[tuple[float, float, float]]]:
    """Return labels 1 and 3 on a grid that just holds them, and the half axes (k, j, i) in mm; 1 is a ball."""
    axes = [(18.0, 18.0, 18.0), (12.0, 16.0, 25.0)]
    shape = [int(60 / step) for step in spacing_mm]
    k, j, i = (np.arange(n) * step for n, step in zip(shape, spacing_mm, strict=True))
    labels = np.zeros((shape[0], shape[1], 2 * shape[2]), np.uint16)
    for number, (a, b, c) in enumerate(axes):
        inside = ((k[:, None, None] - 29) / a) ** 2 + ((j[:, None] - 30) / b) ** 2 + ((i - 29) / c) ** 2 <= 1
        labels[:, :, number * shape[2] :][:, :, : shape[2]][inside] = 1 + 2 * number
    return labels, axes


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_ellipsoids_have_the_sizes_of_the_formulas(
    orientation: tuple[float, ...], spacing_mm: tuple[float, float, float]
) -> None:
    labels, axes = _two_ellipsoids(spacing_mm)
    affine = _affine(orientation, spacing_mm)
    shapes = label_shapes(labels, affine)
    assert sorted(shapes) == [1, 3]
    for number, (label, (a, b, c)) in enumerate(zip((1, 3), axes, strict=True)):
        shape = shapes[label]
        volume = shape.voxel_count * np.prod(spacing_mm)
        assert volume == pytest.approx(4 / 3 * np.pi * a * b * c, rel=0.02)
        area = 4 * np.pi * np.mean([(a * b) ** 1.6075, (a * c) ** 1.6075, (b * c) ** 1.6075]) ** (1 / 1.6075)
        assert shape.surface_area_mm2 == pytest.approx(area, rel=0.01 if len(set(spacing_mm)) == 1 else 0.1)
        # From voxel centre to voxel centre: short of the true length by a voxel at most.
        assert 2 * max(a, b, c) - np.linalg.norm(spacing_mm) < shape.longest_diameter_mm < 2 * max(a, b, c) + 1e-3
        center_ijk = (29 / spacing_mm[2] + number * int(60 / spacing_mm[2]), 30 / spacing_mm[1], 29 / spacing_mm[0])
        assert shape.centroid_lps_mm == pytest.approx((affine @ [*center_ijk, 1])[:3], abs=0.25)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_itk_finds_the_same_shapes(spacing_mm: tuple[float, float, float]) -> None:
    labels, _ = _two_ellipsoids(spacing_mm)
    labels[0, :4, :5] = 3  # at the edge, and apart
    labels[-1, -1, -1] = 9
    affine = _affine(OBLIQUE, spacing_mm)
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(spacing_mm[::-1])
    image.SetDirection((affine[:3, :3] / spacing_mm[::-1]).ravel())
    image.SetOrigin(affine[:3, 3])
    itk = sitk.LabelShapeStatisticsImageFilter()
    itk.ComputeFeretDiameterOn()
    itk.ComputePerimeterOn()
    itk.Execute(image)
    for label, shape in label_shapes(labels, affine).items():
        assert shape.voxel_count == itk.GetNumberOfPixels(label)
        assert shape.centroid_lps_mm == pytest.approx(itk.GetCentroid(label), abs=1e-6)
        assert shape.longest_diameter_mm == pytest.approx(itk.GetFeretDiameter(label), rel=1e-6)
        if len(set(spacing_mm)) == 1:  # on others ITK keeps the weights of cubic voxels, and is wrong
            assert shape.surface_area_mm2 == pytest.approx(itk.GetPerimeter(label), rel=1e-3)
        i, j, k, columns, rows, slices = itk.GetBoundingBox(label)
        assert shape.box == (slice(k, k + slices), slice(j, j + rows), slice(i, i + columns))


def test_slicer_finds_the_same_shapes() -> None:
    if not has_slicer_core():
        pytest.skip("slicer-core is not installed")
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    spacing_mm = (0.9, 0.9, 0.9)
    labels, _ = _two_ellipsoids(spacing_mm)
    affine = _affine(OBLIQUE, spacing_mm)
    image = vtk.vtkImageData()
    image.SetDimensions(labels.shape[::-1])
    image.SetSpacing(spacing_mm[::-1])
    image.SetOrigin(affine[:3, 3])
    image.GetPointData().SetScalars(numpy_to_vtk(labels.ravel().astype(np.int16), deep=True))
    directions = vtk.vtkMatrix4x4()
    for row, column in np.ndindex(3, 3):
        directions.SetElement(row, column, affine[row, column] / spacing_mm[2 - column])
    statistics = slicer.vtkITKLabelShapeStatistics()
    statistics.SetInputData(image)
    statistics.SetDirections(directions)
    for name in ("Centroid", "FeretDiameter", "Perimeter"):
        statistics.SetComputeShapeStatistic(name, True)
    statistics.Update()
    table = statistics.GetOutput()

    def value(row: int, column: str) -> float:
        return table.GetValueByName(row, column).ToDouble()

    shapes = label_shapes(labels, affine)
    rows = {int(value(row, "LabelValue")): row for row in range(table.GetNumberOfRows())}
    for label, shape in shapes.items():
        row = rows[label]
        assert shape.longest_diameter_mm == pytest.approx(value(row, "FeretDiameter"), rel=1e-6)
        assert shape.surface_area_mm2 == pytest.approx(value(row, "Perimeter"), rel=1e-3)


def test_one_voxel_has_a_place_and_no_length() -> None:
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[2, 3, 4] = 7
    shape = label_shapes(labels, np.diag([1.0, 2.0, 3.0, 1.0]))[7]
    assert (shape.voxel_count, shape.longest_diameter_mm) == (1, 0.0)
    assert shape.centroid_lps_mm == (4.0, 6.0, 6.0)
    assert shape.box == (slice(2, 3), slice(3, 4), slice(4, 5))


def test_the_longest_distance_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    for points in (rng.normal(size=(700, 3)), rng.normal(size=(700, 3)) * (1, 1, 30), np.zeros((4, 3)), np.eye(3)[:1]):
        pairs = np.linalg.norm(points[:, None] - points, axis=2)
        assert longest_distance(points) == pytest.approx(pairs.max(), abs=1e-9)
    sphere = rng.normal(size=(1500, 3))
    sphere /= np.linalg.norm(sphere, axis=1)[:, None]
    assert longest_distance(sphere) == pytest.approx(np.linalg.norm(sphere[:, None] - sphere, axis=2).max())
