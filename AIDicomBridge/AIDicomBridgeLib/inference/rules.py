"""What a model may ask of the engine: how its input is made, its network run, and its outputs made labels."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class IntensityStep:
    """One step of :func:`.normalisation.normalise`: a rule, its numbers, and the modalities that it is for.

    Attributes
    ----------
    low, high, mean, std
        The rule's numbers, those that it takes.
    nonzero_only
        For z-score: only the voxels that are not 0 count and change.
    holes_too
        With ``nonzero_only``: voxels of 0 that others enclose count and change too.
    modalities
        The step is left out for others; empty for all.
    channels
        Input channels, from 0, that it is for; empty for all, one by one.
    """

    rule: str
    low: float = 0.0
    high: float = 1.0
    mean: float = 0.0
    std: float = 1.0
    nonzero_only: bool = False
    holes_too: bool = False
    modalities: tuple[str, ...] = ()
    channels: tuple[int, ...] = ()


@dataclass(frozen=True)
class InputRules:
    """What a network wants to see.

    Attributes
    ----------
    orientation
        Direction of increasing index along the tensor's D, H, W, as three of L R A P S I: ``"LIA"``. Of a series'
        own axes as three of k j i (slices, rows, columns): ``"kji"``, which empty stands for too.
    spacing_mm
        Voxel spacing along D, H, W in millimetres, 0 for the source's own along that axis; empty for the source's own.
    intensity
        Applied in order, before the volume is resampled.
    resampled_first
        Applied after that: for rules like percentiles the result then depends on the grid, as some models expect.
    channels
        Input channels; a series is one. A model of several takes that many series on one grid.
    channel_names
        What they are, in order: ``("T1", "FLAIR")``; empty where nothing is known.
    resampling
        ``"linear"``, ``"cubic"``, or ``"nnunet"`` (cubic; the nearest slice along a much coarser axis).
    crop
        ``"none"``; ``"nonzero"``, the box of the voxels that are not 0; ``"body"``, the box of a CT's body.
    suv
        True for PET as SUV by body weight, False for PET in its series' own unit; None where nobody has said it: PET
        is then refused unless the person asks for SUV.
    """

    orientation: str
    spacing_mm: tuple[float, ...] = ()
    intensity: tuple[IntensityStep, ...] = ()
    channels: int = 1
    channel_names: tuple[str, ...] = ()
    resampling: str = "linear"
    crop: str = "none"
    resampled_first: bool = False
    suv: bool | None = None


@dataclass(frozen=True)
class WindowRules:
    """How a network is run over a volume.

    Attributes
    ----------
    patch
        (D, H, W) of a window; (H, W) for a 2D network, which then runs slice by slice; empty for the whole volume.
    overlap
        Share of a window that the next one covers again.
    tiling
        ``"nnunet"`` or ``"monai"``, see :func:`.windows.window_starts`.
    importance
        ``"gaussian"`` or ``"constant"``.
    padding_value
        What surrounds a volume smaller than a window, after normalisation.
    mirror_axes
        Axes, among those of the patch, along which mirrored windows are averaged in: 2 to 8 times the work; None for
        those that an nnU-Net checkpoint names.
    skip_empty_up_to
        Windows without a larger value are background and not run; None to run all.
    """

    patch: tuple[int, ...] = ()
    overlap: float = 0.5
    tiling: str = "nnunet"
    importance: str = "gaussian"
    padding_value: float = 0.0
    mirror_axes: tuple[int, ...] | None = ()
    skip_empty_up_to: float | None = None


@dataclass(frozen=True)
class Decision:
    """How outputs become labels.

    Attributes
    ----------
    values
        The label of every output channel; 0 is background.
    activation
        ``"softmax"``: the channels compete, the largest wins. ``"sigmoid"``: each channel is a segment of its own.
    outputs_are_probabilities
        The network applies its activation itself.
    threshold
        For sigmoid: the probability from which a voxel belongs to a segment.
    overlap_rule
        For sigmoid, where several segments claim a voxel: ``"highest"`` probability, or the ``"last"`` channel.
    """

    values: tuple[int, ...]
    activation: str = "softmax"
    outputs_are_probabilities: bool = False
    threshold: float = 0.5
    overlap_rule: str = "highest"

    @property
    def cut(self) -> float:
        """The output from which a sigmoid channel claims a voxel."""
        if self.outputs_are_probabilities:
            return self.threshold
        return math.log(self.threshold / (1 - self.threshold))


@dataclass(frozen=True)
class Cleanup:
    """What is done to one label at the end, in this order.

    With ``by_corners``, what touches by an edge or a corner is one component; else only what shares a face.
    """

    label: int
    fill_holes: bool = False
    keep_largest_component: bool = False
    minimum_ml: float = 0.0
    by_corners: bool = False
