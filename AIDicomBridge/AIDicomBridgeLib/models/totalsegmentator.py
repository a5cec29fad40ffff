"""TotalSegmentator's networks, where its own program has put their weights; nothing of it is needed or run."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import BridgeError
from .card import ModelCard
from .joined import joined_card
from .nnunet_folder import is_nnunet_folder, nnunet_card

# Its images are turned to RAS before training, and nnU-Net reads the slowest axis first.
ORIENTATION = "SAR"
# Tasks that several networks share, which are joined in the order of its program's numbers.
TOTALS = {
    "totalsegmentator-total": range(291, 296),  # organs, vertebrae, heart, muscles, ribs
    "totalsegmentator-total-v3": range(831, 836),
    "totalsegmentator-total-mr": range(850, 852),  # organs, muscles
}
# The datasets whose networks its program shows the whole series. The others it shows only an organ that another network
# has found first, such as the liver for its vessels: elsewhere in a series they find what is not there.
WHOLE_SERIES = frozenset(
    [
        *(*range(291, 296), 297, 298, *range(831, 838)),  # total, of CT
        *(*range(730, 734), *range(850, 854)),  # total, of MR
        *(299, 300, 597, 598, 343, 527),  # body, cavities of the trunk, breasts
        *(302, 305, 756, 803, 304, 855, 857),  # vertebrae, bones of the limbs, muscles of thigh and shoulder
        *(303, 737, 856, 481, 485, 734, 925, 615),  # face, tissues, aneurysms of the brain
    ]
)
CITATION = "Wasserthal et al. TotalSegmentator. Radiology: Artificial Intelligence 5(5), 2023, doi 10.1148/ryai.230024"


def weights_folder() -> Path:
    """Return the folder that TotalSegmentator keeps its weights in: as its own environment variables say, or usual."""
    if named := os.environ.get("TOTALSEG_WEIGHTS_PATH"):
        return Path(named)
    return Path(os.environ.get("TOTALSEG_HOME_DIR", Path.home() / ".totalsegmentator")) / "nnunet" / "results"


def totalsegmentator_cards(folder: Path | None = None) -> Iterator[ModelCard]:
    """Yield a card for every task whose weights are there, named ``totalsegmentator-291`` after its dataset.

    Only those of :data:`WHOLE_SERIES`: a task that is meant for a part of the body would be run on all of it.

    The full set of structures comes as several datasets: where all of :data:`TOTALS` are there, they are also one
    model, with its program's own numbers. Each has its own class map, read from its files. As in its program, no
    mirrored windows are averaged in. A folder that cannot be used is passed over; asked for by its path, it says why.
    """
    found: dict[int, ModelCard] = {}
    root = folder or weights_folder()
    for path in sorted(root.glob("Dataset*/*__*__*")) if root.is_dir() else []:
        number = path.parent.name.removeprefix("Dataset").partition("_")[0]
        if not number.isdecimal() or int(number) not in WHOLE_SERIES:
            continue
        try:
            if not is_nnunet_folder(path):
                continue
            named = path.name.rpartition("__")[2]  # no checkpoint is read for a list
            card = nnunet_card(path, name=f"totalsegmentator-{number}", orientation=ORIENTATION, configuration=named)
        except (BridgeError, OSError):
            continue
        windows = card.windows and replace(card.windows, mirror_axes=())
        task = path.parent.name.partition("_")[2].replace("_", " ")
        card = replace(
            card,
            title=task,
            description=f"{task}, by nnU-Net.",
            citation=CITATION,
            licence=_licence(card),
            windows=windows,
        )
        found.setdefault(int(number), card)
        yield card
    for name, numbers in TOTALS.items():
        if all(number in found for number in numbers):
            title = f"all structures of the {name.removeprefix('totalsegmentator-').replace('-', ' ')} task"
            yield joined_card(
                [found[number] for number in numbers],
                name=name,
                title=title,
                description=f"{title}, by the {len(numbers)} networks of TotalSegmentator that share them.",
            )


def _licence(card: ModelCard) -> str:
    """Return the licence that the files name; TotalSegmentator's open tasks and its licensed ones look alike."""
    return card.licence if card.licence != "not stated" else "see TotalSegmentator: most tasks are Apache-2.0"
