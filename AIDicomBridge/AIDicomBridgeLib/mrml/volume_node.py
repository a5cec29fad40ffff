"""ImageVolume to vtkMRMLScalarVolumeNode and back, sharing the voxels."""

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GeometryError
from ..series.frame_ranges import frame_ranges
from ..series.image_files import ImageFiles
from ..series.regular_grid import regular_grid, regular_volume
from ..series.same_voxels import refuse_other_voxels
from ..series.source_series import SourceSeries
from ..series.suv import suv_factors
from ..series.volume import ImageVolume
from ..series.window import window_of
from .coordinates import ijk_to_lps_affine, ijk_to_ras_matrix, refuse_parent_transform
from .grid_place import GridPlace, place_on_grid
from .subject_hierarchy import Patients, patient_uid_of, place_series

# As Slicer's DICOM loader writes it: SOP Instance UIDs in slice order, separated by spaces.
INSTANCE_UIDS_ATTRIBUTE = "DICOM.instanceUIDs"
_FRAMES_ATTRIBUTE = "AIDicomBridge.Frames"
# How its voxels came from what the files hold, in the words "resampled" and "SUV".
_READ_AS_ATTRIBUTE = "AIDicomBridge.ReadAs"
_RESAMPLED, _SUV = "resampled", "SUV"


def volume_node_from(volume: ImageVolume, scene: Any, name: str | None = None, patients: Patients | None = None) -> Any:
    """Return a new vtkMRMLScalarVolumeNode that shows the volume's own voxels. Main thread only.

    Parameters
    ----------
    volume
        Its voxels are shared, not copied: writing into one writes into the other. An array that is not C-contiguous
        is copied first. An irregular one is shown on its regular grid: it is resampled first, if it is not yet.
    scene
        The vtkMRMLScene: ``slicer.mrmlScene`` in Slicer, :func:`~.core_scene.open_core_scene` elsewhere.
    name
        The node's name; by default modality, series number and description, never the patient's name.
    patients
        Who the patient items of the subject hierarchy are, which do not say so themselves; what is learned is noted.
        Without it every study has a patient item of its own.

    Raises
    ------
    ConflictError
        The scene has the study of another patient, or the series in another study.
    """
    volume = regular_volume(volume)
    patient_uid = patient_uid_of(volume.source, scene, {} if patients is None else patients)
    read_as = [word for word, holds in ((_RESAMPLED, volume.resampled), (_SUV, volume.suv is not None)) if holds]
    name = name or " ".join([_series_title(volume.source), *(f"({word})" for word in read_as)])
    node = scalar_volume_node(volume.voxels, volume.ijk_to_lps, scene, name, window_of(volume))
    node.SetAttribute(INSTANCE_UIDS_ATTRIBUTE, " ".join(volume.source.sop_instance_uids))
    if volume.source.frames:
        node.SetAttribute(_FRAMES_ATTRIBUTE, volume.source.frames)
    if read_as:
        node.SetAttribute(_READ_AS_ATTRIBUTE, " ".join(read_as))
    place_series(node, volume.source, patient_uid)
    return node


def image_volume_from(node: Any, source: SourceSeries) -> ImageVolume:
    """Return the node's voxels as a volume on the grid of its source, whoever loaded the node.

    Slicer's own loader may have reversed slices, rows or columns; here they come in the source's order.

    Returns
    -------
    ImageVolume
        ``voxels`` is a view of the node's memory where that is int16 or float32 and in the source's order, else a copy
        as int16 (whole numbers that fit) or float32.

    Raises
    ------
    GeometryError
        As :func:`place_of_volume`.
    PixelError
        The node shows SUV, and the source's header does not say how it came about.
    """
    suv = suv_factors(source) if is_shown_as_suv(node) else None
    voxels = np.ascontiguousarray(place_of_volume(node, source).view(image_array(node.GetImageData())))
    return ImageVolume(
        _as_image_type(voxels),
        regular_grid(source).ijk_to_lps,
        source,
        suv=suv,
        resampled=bool(source.irregularity),
    )


def compared_planes(node: Any, volume: ImageVolume) -> Generator[int, None, None]:
    """Compare the node's voxels with those of its files, a plane a step, and yield how many are done.

    Parameters
    ----------
    volume
        As it is shown: see :func:`~..series.regular_grid.regular_volume`.

    Raises
    ------
    ConflictError
        As :func:`~..series.same_voxels.refuse_other_voxels`.
    GeometryError
        As :func:`place_of_volume`; also where the node's voxels are replaced by others between two steps.
    """
    place, image = place_of_volume(node, volume.source), node.GetImageData()
    for number, own in enumerate(volume.voxels):
        if node.GetImageData() is not image or image.GetNumberOfPoints() != volume.voxels.size:
            raise GeometryError("the voxels of the volume node were replaced meanwhile", uid=volume.source.series_uid)
        refuse_other_voxels(place.view(image_array(image))[number], own, volume.source.series_uid)
        yield number + 1


def place_of_volume(node: Any, source: SourceSeries) -> GridPlace:
    """Return how the node's voxels lie on the grid of its source, all of it; no voxel is looked at.

    Raises
    ------
    GeometryError
        The node has no voxels, is under a transform, is not on the source's grid (cropped, resampled), or names other
        instances or frames than the source's, or in another order than its slices lie.
    """
    refuse_parent_transform(node)
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfScalarComponents() != 1:
        raise GeometryError("the volume node holds no grey-value voxels", uid=source.series_uid)
    shape = tuple(reversed(image.GetDimensions()))
    ijk_to_ras = ijk_to_ras_matrix(np.eye(4))
    node.GetIJKToRASMatrix(ijk_to_ras)
    whole = regular_grid(source).shape
    if _has_all_voxels(node, source):
        what = "the volume node was moved or turned: it is not on the grid of its source any more"
        advice = (
            "Undo what moved it (another origin, a hardened transform) or load the series again, and look whether what "
            "was drawn meanwhile lies right."
        )
    else:
        what = f"the volume node {shape} is not on the grid of its source {whole}"
        advice = "Use the volume as it was loaded; a cropped or resampled one has no source frames."
    place = place_on_grid(ijk_to_lps_affine(ijk_to_ras), shape, source, what=what, advice=advice)
    if place.offset != (0, 0, 0) or tuple(shape[axis] for axis in place.axes) != whole:
        raise GeometryError(what, uid=source.series_uid, advice=advice)
    in_node_order = source.slices[::-1] if 0 in place.reversed_axes else source.slices
    expected = tuple(dict.fromkeys(piece.sop_instance_uid for piece in in_node_order))
    if shown_instances(node) != expected or shown_frames(node) not in ("", frame_ranges(in_node_order)):
        raise GeometryError(
            "the volume node names other instances than its source's, or in another order than its slices lie in the "
            "patient",
            uid=source.series_uid,
            advice="Load the series again.",
        )
    return place


def refuse_moved_volume(node: Any, source: SourceSeries) -> None:
    """Raise GeometryError if a volume node of the source lies elsewhere than its files do: so does what is drawn on it.

    A cropped, padded or resampled one may lie anywhere: nothing tells where it came from.
    """
    refuse_parent_transform(node)
    if _has_all_voxels(node, source):
        place_of_volume(node, source)


def _has_all_voxels(node: Any, source: SourceSeries) -> bool:
    """Return True if a volume node has as many slices, rows and columns as its source, whichever way it is turned."""
    image = node.GetImageData()
    return image is not None and sorted(image.GetDimensions()) == sorted(regular_grid(source).shape)


def shown_instances(node: Any) -> tuple[str, ...]:
    """Return the SOP Instance UIDs that a volume node shows, in slice order; empty if it does not say."""
    return tuple((node.GetAttribute(INSTANCE_UIDS_ATTRIBUTE) or "").split())


def shown_frames(node: Any) -> str:
    """Return which frames of them, as :attr:`~..series.source_series.SourceSeries.frames` has it; empty for all."""
    return node.GetAttribute(_FRAMES_ATTRIBUTE) or ""


def is_shown_resampled(node: Any) -> bool:
    """Return True if a volume node shows an irregular series on a regular grid."""
    return _RESAMPLED in (node.GetAttribute(_READ_AS_ATTRIBUTE) or "").split()


def is_shown_as_suv(node: Any) -> bool:
    """Return True if a volume node shows PET as SUV."""
    return _SUV in (node.GetAttribute(_READ_AS_ATTRIBUTE) or "").split()


def image_files(node: Any, paths: Iterable[Path], frames: str) -> ImageFiles:
    """Return what is to be read of the files behind a volume node to get its own voxels again."""
    return ImageFiles(tuple(paths), frames, resample=is_shown_resampled(node), suv=is_shown_as_suv(node))


def scalar_volume_node(
    voxels: np.ndarray, ijk_to_lps: np.ndarray, scene: Any, name: str, window_level: tuple[float, float] | None = None
) -> Any:
    """Return a new scalar volume node over (k, j, i) voxels, shared, with its default display.

    ``window_level`` is (window, level); without it Slicer chooses by the voxels, which takes 0.5 s for 512x512x200.
    """
    import slicer
    import vtk

    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(scene.GenerateUniqueName(name))
    node.SetIJKToRASMatrix(ijk_to_ras_matrix(ijk_to_lps))
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    if window_level is not None:
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevel(*window_level)
    node.SetAndObserveImageData(fill_image(vtk.vtkImageData(), voxels))
    return node


def fill_image(image: Any, voxels: np.ndarray) -> Any:
    """Make a (k, j, i) array the scalars of a vtkImageData, sharing memory, and return the image.

    The VTK array keeps the numpy array alive. int16 512x512x300: 0.1-0.4 ms, against 90 ms for a copy.
    """
    from vtk.util.numpy_support import numpy_to_vtk

    depth, height, width = voxels.shape
    image.SetDimensions(width, height, depth)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(voxels).ravel(), deep=False))
    return image


def image_array(image: Any) -> np.ndarray:
    """Return the scalars of a vtkImageData as a (k, j, i) view."""
    from vtk.util.numpy_support import vtk_to_numpy

    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(tuple(reversed(image.GetDimensions())))


def _series_title(source: SourceSeries) -> str:
    header = source.headers[0]
    parts = [source.modality, str(header.get("SeriesNumber", "") or ""), str(header.get("SeriesDescription", "") or "")]
    return ": ".join(part for part in parts if part) or "Series"


def _as_image_type(voxels: np.ndarray) -> np.ndarray:
    if voxels.dtype in (np.int16, np.float32):
        return voxels
    if voxels.dtype.kind in "iu" and voxels.min() >= -32768 and voxels.max() <= 32767:
        return voxels.astype(np.int16)
    return voxels.astype(np.float32)
