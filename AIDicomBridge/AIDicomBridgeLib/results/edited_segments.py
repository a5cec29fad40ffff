"""Telling which segments a person has changed since an algorithm made them, by a fingerprint of their voxels."""

from dataclasses import replace

import numpy as np

from .labels import LabelVolume

_GOLDEN = 0x9E3779B1  # an odd number without a pattern
_WORD = 2**64 - 1


def with_fingerprints(labels: LabelVolume) -> LabelVolume:
    """Return the labels with a fingerprint of its voxels on every segment, as they are now; the array is shared."""
    found = {label: text for layer in labels.layers for label, text in _fingerprints(layer).items()}
    segments = tuple(replace(segment, fingerprint=found.get(segment.label, "0")) for segment in labels.segments)
    return replace(labels, segments=segments)


def mark_edited(labels: LabelVolume) -> LabelVolume:
    """Return the labels with every AUTOMATIC segment whose voxels have another fingerprint as SEMIAUTOMATIC.

    A segment without a fingerprint stays as it is.
    """
    if not any(segment.fingerprint and segment.algorithm_type == "AUTOMATIC" for segment in labels.segments):
        return labels
    found = {label: text for layer in labels.layers for label, text in _fingerprints(layer).items()}
    segments = tuple(
        replace(segment, algorithm_type="SEMIAUTOMATIC")
        if segment.algorithm_type == "AUTOMATIC" and segment.fingerprint not in (None, found.get(segment.label, "0"))
        else segment
        for segment in labels.segments
    )
    return replace(labels, segments=segments)


def _fingerprints(labels: np.ndarray) -> dict[int, str]:
    """Return a number, as text, for the set of voxels of every label that occurs; it does not depend on the label.

    The sum of a weight per voxel, without a rounding error: within a slice 31 bits per weight and up to 2**22 voxels
    stay below the 2**53 of float64.
    """
    in_slice = (np.arange(1, labels[0].size + 1, dtype=np.uint64) * _GOLDEN & 0x7FFFFFFF).astype(np.float64)
    totals: dict[int, int] = {}
    for number, plane in enumerate(labels, start=1):
        sums = np.bincount(plane.ravel(), weights=in_slice)
        factor = (number * _GOLDEN | 1) & _WORD
        for label in np.flatnonzero(sums):
            totals[int(label)] = (totals.get(int(label), 0) + int(sums[label]) * factor) & _WORD
    return {label: f"{total:x}" for label, total in totals.items()}
