"""What it would take Slicer to make surfaces of labels, which it does on the main thread."""

from ..results.labels import LabelVolume

# Measured with slicer-core 5.12 on one core, seconds: smooth balls and noise of 1 to 60 segments, 0.1 to 79 M voxels.
_PER_FACE, _PER_VOXEL, _PER_SEGMENT = 7e-6, 4.6e-9, 6e-3


def may_take_longer(labels: LabelVolume, seconds: float) -> bool:
    """Return whether making closed surfaces of all segments may hold the main thread for longer than this.

    A face lies between two neighbour voxels of different labels. They are counted plane by plane and no further than
    need be: 30 ms at most for 0.2 s.
    """
    left = seconds - len(labels.segments) * _PER_SEGMENT
    for layer in labels.layers:
        left -= layer.size * len(labels.segments) / len(labels.layers) * _PER_VOXEL
    if left < 0:
        return True
    for layer in labels.layers:
        before = layer[0]
        for plane in layer:
            faces = (plane != before).sum() + (plane[1:] != plane[:-1]).sum() + (plane[:, 1:] != plane[:, :-1]).sum()
            left -= int(faces) * _PER_FACE
            if left < 0:
                return True
            before = plane
    return False
