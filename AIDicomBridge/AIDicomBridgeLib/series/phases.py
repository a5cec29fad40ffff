"""What tells volumes of one orientation apart: kinds of images, phases, and acquisitions whose slices mingle."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from .geometry import position_tolerance_mm
from .slice_geometry import SliceGeometry
from .stack_attributes import TRIGGER_RANK, StackAttributes

# Slices that differ in one of these, by more than it jitters, are of two volumes, wherever they lie.
_KINDS = (
    *("StackID", "ImageKind", "ConvolutionKernel", "EchoTime", "RescaleType", "Units", "SUVType"),
    *("ComplexImageComponent", "DiffusionBValue", "VelocityEncodingDirection"),
)
# So are those of two phases, unless most slices have a number of their own: that counts slices then.
_PHASE_NUMBERS = (
    *("TemporalPositionIdentifier", "TemporalPositionIndex"),
    *("NominalPercentageOfCardiacPhase", "NominalPercentageOfRespiratoryPhase"),
)
# These may change within a volume too. They are asked, alone or in pairs, where slices lie over or between each other.
_PHASES = (
    *(*_PHASE_NUMBERS, "TriggerTime", "TemporalPositionTimeOffset", "FrameReferenceTime"),
    *("EchoTime", "DiffusionBValue"),  # by less than they jitter elsewhere
    *("DiffusionGradientOrientation", "InversionTime", "FlipAngle", "EchoNumbers", "KVP", "SequenceName", "ImageType"),
)
# Numbers and times of acquisition may count packages of slices as well as phases, so they are asked last.
_ACQUISITIONS = ("AcquisitionNumber", "AcquisitionTime", "ContentTime")
# Slices are missing from a volume, and not of several ones, where most of its places are taken.
_MOST = 0.75

# Indices of slices, what tells them from the others, and a problem.
Volume = tuple[list[int], tuple[str, ...], str]


def volumes_of(attributes: StackAttributes, geometry: SliceGeometry, group: Sequence[int]) -> list[Volume]:
    """Return the volumes that parallel slices form.

    Parameters
    ----------
    attributes, geometry
        Of all slices of the series.
    group
        The indices of the parallel ones.

    Returns
    -------
    For each volume its slices' indices, the attributes that tell them from the others, and a problem: why they are no
    one volume, as a clause; empty where they may be.
    """
    told_by = attributes.differing(group, _KINDS, roughly=True)
    found: list[Volume] = []
    for kind in attributes.parts(group, told_by, roughly=True):  # a number may count the slices of each
        phase_numbers = [keyword for keyword in _PHASE_NUMBERS if not attributes.counts(kind, keyword)]
        numbers = attributes.differing(kind, phase_numbers, roughly=True)
        for phase in attributes.parts(kind, numbers, roughly=True):
            found += [
                (part, tuple(dict.fromkeys((*told_by, *numbers, *keywords))), problem)
                for part, keywords, problem in _phases_of(attributes, geometry.part(phase), phase)
            ]
    return found


def _phases_of(attributes: StackAttributes, geometry: SliceGeometry, group: list[int]) -> Iterator[Volume]:
    planes = geometry.planes
    depth = int(np.bincount(planes).max())
    if depth == 1 and _is_one_grid(geometry.distances):
        yield group, (), ""
        return
    named, counted = (attributes.differing(group, keywords) for keywords in (_PHASES, _ACQUISITIONS))
    tiers: list[list[tuple[str, ...]]] = [
        [(keyword,) for keyword in named],
        [(keyword,) for keyword in counted],
        [*combinations((*named, *counted), 2)],
    ]
    for fits in (_fill_the_deepest_place, _are_phases):
        for tier in tiers:
            numbered = [(keywords, attributes.numbers(group, keywords)) for keywords in tier]
            found = [item for item in numbered if fits(item[1], planes, depth)]
            if not found:
                continue
            keywords, parts = min(found, key=lambda item: int(item[1].max()))
            others = (k for k, numbers in found if numbers.max() == parts.max() and (numbers != parts).any())
            if other := next(others, None):
                names = " and by ".join(attributes.name(*names) for names in (keywords, other))
                yield group, (), f"the slices of one position are told apart differently by {names}"
            else:
                yield from ((part, keywords, "") for part in attributes.parts(group, keywords))
            return
    keywords = (TRIGGER_RANK,) if depth > 1 and attributes.rank(group, planes, "TriggerTime") else ()
    yield from ((part, keywords, "") for part in attributes.parts(group, keywords))


def _is_one_grid(distances: np.ndarray) -> bool:
    """Return True if slices lie as those of one volume do, a few of which may be missing: at one place, or of many.

    All gaps are whole multiples of the smallest then. Acquisitions that lie between each other have many wider ones.
    """
    gaps = np.diff(np.sort(distances))
    if not gaps.size:
        return True
    typical = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    ratios = gaps / typical
    tolerance = 2 * position_tolerance_mm(typical) / typical  # of either slice beside a gap
    whole = (np.abs(ratios - np.round(ratios)) <= tolerance) & (ratios > 0.5)
    wide = int((ratios >= 1.5).sum())
    taken = len(distances) / (np.round(ratios).sum() + 1)
    return bool(whole.all() and (wide <= max(1, (1 - _MOST) * len(gaps)) or taken >= _MOST))


def _fill_the_deepest_place(parts: np.ndarray, planes: np.ndarray, depth: int) -> bool:
    """Return True if there are as many parts as the deepest place has slices, each with one at most in any place."""
    return depth > 1 and parts.max() + 1 == depth and _has_no_place_twice(parts, planes)


def _are_phases(parts: np.ndarray, planes: np.ndarray, depth: int) -> bool:
    """Return True if the parts look like volumes of their own, and not like packages of slices of one volume."""
    count = int(parts.max()) + 1
    sizes = np.bincount(parts)
    if count == 1 or sizes.min() < 2 or not _has_no_place_twice(parts, planes):
        return False
    first, last = np.full(count, planes.max()), np.zeros(count, int)
    np.minimum.at(first, parts, planes)
    np.maximum.at(last, parts, planes)
    if depth == 1:  # each reaches over one place
        return bool(first.max() < last.min())
    return bool((sizes > _MOST * (last - first + 1)).all())  # none leaves out the places of another


def _has_no_place_twice(parts: np.ndarray, planes: np.ndarray) -> bool:
    return len(np.unique(parts * (planes.max() + 1) + planes)) == len(planes)
