"""Arrays that others computed, read from files onto the grid of their source series."""

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EncodingError, GeometryError
from ..series.source_series import SourceSeries

_TOLERANCE = 0.1  # of a voxel: NIfTI holds its affine in float32
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def read_grid(path: Path, source: SourceSeries) -> np.ndarray:
    """Return the file's values on the grid of ``source``, (k, j, i), or (channel, k, j, i) where it has channels.

    Parameters
    ----------
    path
        ``.npy``: already in that order; only its size can be checked. Any image that SimpleITK reads (NRRD, NIfTI,
        MetaImage): its voxels must be those of the source; where its axes have another order or direction, they are
        brought into the source's.

    Raises
    ------
    EncodingError
        The file cannot be read, or is of no kind that is known.
    GeometryError
        It is on another grid.
    """
    if path.suffix.lower() == ".npy":
        array = _load_array(path)
        if array.shape[-3:] != source.shape or array.ndim not in (3, 4):
            raise GeometryError(
                f"the array in {path.name} has the shape {array.shape}, the series {source.shape}",
                uid=source.series_uid,
                advice="The order is (slice, row, column), with slices along the series' normal.",
            )
        return array
    return _read_image(path, source)


def read_labels(path: Path, source: SourceSeries) -> np.ndarray:
    """Return a file's labels on the grid of ``source``, uint8 or uint16: (k, j, i), or (mask, k, j, i).

    Raises
    ------
    EncodingError
        The values are no labels: fractions, negative, or above 65535.
    GeometryError
        As :func:`read_grid`.
    """
    array = read_grid(path, source)
    low, high = array.min(), array.max()
    whole = array.dtype.kind in "biu" or (np.isfinite(low) and np.isfinite(high) and not np.any(array % 1))
    if not whole or low < 0 or high > 65535:
        raise EncodingError(
            f"the values of {path.name}, {low:g} to {high:g}, are no labels, which are whole numbers from 0 on"
        )
    return array.astype(np.uint8 if high < 256 else np.uint16, copy=False)


def read_pictures(path: Path) -> np.ndarray:
    """Return a file's pictures, (picture, row, column, RGB) uint8, from ``.npy`` or any usual picture format.

    Raises
    ------
    EncodingError
        The file cannot be read as such.
    """
    if path.suffix.lower() == ".npy":
        array = _load_array(path)
        return array[None] if array.ndim == 3 else array
    if path.suffix.lower() not in _PICTURES:
        raise EncodingError(f"the file {path.name} is no picture", advice=f"Pictures are .npy, {', '.join(_PICTURES)}.")
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))[None].copy()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise EncodingError(f"the picture {path.name} cannot be read: {error}") from error


def _load_array(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise EncodingError(f"the array {path.name} cannot be read: {error}") from error
    if array.dtype.kind not in "biuf" or 0 in array.shape:
        raise EncodingError(f"the array in {path.name} holds no numbers ({array.dtype}, {array.shape})")
    return array


def _read_image(path: Path, source: SourceSeries) -> np.ndarray:
    import SimpleITK as sitk

    if not path.is_file():
        raise EncodingError(f"the file {path.name} does not exist")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:  # its text holds paths and line numbers of ITK
        raise EncodingError(
            f"the file {path.name} cannot be read as an image", advice="Give .npy, NRRD, NIfTI or MetaImage."
        ) from error
    if not source.is_evenly_spaced:
        raise GeometryError(
            f"the file {path.name} has even slices, the series has not",
            uid=source.series_uid,
            advice="Give an .npy array with one plane per slice of the series.",
        )
    channels = image.GetNumberOfComponentsPerPixel()
    array = sitk.GetArrayFromImage(image)
    if image.GetDimension() == 4 and channels == 1:
        image = image[:, :, :, 0]  # channels as a fourth axis; the array has them first already
    elif image.GetDimension() == 3:
        array = array if channels == 1 else np.moveaxis(array, -1, 0)
    else:
        raise EncodingError(f"the file {path.name} has {image.GetDimension()} axes and {channels} values per voxel")
    axes, flips = _axes(image, source, path.name)
    array = array.transpose((*range(array.ndim - 3), *(array.ndim - 3 + axis for axis in axes)))
    return np.ascontiguousarray(np.flip(array, tuple(array.ndim - 3 + axis for axis in flips)))


def _axes(image: Any, source: SourceSeries, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which axis (k, j, i) of the image is each of the source's, and which of those run backwards."""
    own = np.eye(4)
    own[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    own[:3, 3] = image.GetOrigin()
    step = np.linalg.inv(source.ijk_to_lps) @ own  # (i, j, k) of the image to (i, j, k) of the source
    order = np.abs(step[:3, :3]).argmax(axis=1)  # by the source's axis, the image's
    size = np.array(image.GetSize())
    flipped = [int(axis) for axis in range(3) if step[axis, order[axis]] < 0]
    expected = np.zeros((4, 4))
    expected[3, 3] = 1
    for axis in range(3):
        expected[axis, order[axis]] = -1 if axis in flipped else 1
        expected[axis, 3] = size[order[axis]] - 1 if axis in flipped else 0
    corners = np.array([(i, j, k, 1) for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.append(size - 1, 1)
    apart = np.abs((step - expected) @ corners.T).max()
    if sorted(order) != [0, 1, 2] or tuple(size[order][::-1]) != source.shape or apart > _TOLERANCE:
        raise GeometryError(
            f"the file {name} is not on the grid of the series: its size is {tuple(size[::-1].tolist())} instead of "
            f"{source.shape}, or its voxels lie elsewhere",
            uid=source.series_uid,
            advice="Resample it onto the series first, labels with nearest neighbours.",
        )
    return tuple(2 - int(axis) for axis in order[::-1]), tuple(2 - axis for axis in flipped)
