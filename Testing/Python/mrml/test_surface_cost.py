"""Which surfaces may be made unasked: decided by how much surface there is, not by the volume's size."""

import numpy as np
import pytest
from AIDicomBridgeLib.mrml.surface_cost import may_take_longer
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Segment
from AIDicomBridgeLib.series.volume import read_volume
from synthetic import make_series, save_series

ANATOMY = Code("123037004", "SCT", "Anatomical Structure")


@pytest.fixture(scope="module")
def labels_of(tmp_path_factory):
    voxels = np.zeros((4, 128, 128), np.int16)
    source = read_volume(save_series(make_series(voxels), tmp_path_factory.mktemp("flat"))).source
    segments = [Segment(n, f"{n}", ANATOMY, Code("39607008", "SCT", "Lung")) for n in (1, 2, 3)]

    def make(labels: np.ndarray) -> LabelVolume:
        return LabelVolume(labels, segments, source=source)

    return make


def test_noise_takes_long_and_a_block_of_the_same_size_does_not(labels_of):
    block = np.zeros((4, 128, 128), np.uint8)
    block[1:3, 30:90, 30:90] = 1
    noise = np.random.default_rng(1).integers(0, 4, block.shape).astype(np.uint8)
    assert not may_take_longer(labels_of(block), 0.2)
    assert may_take_longer(labels_of(noise), 0.2)
    between_planes_only = np.zeros_like(block)
    between_planes_only[1::2] = 2
    assert may_take_longer(labels_of(between_planes_only), 0.2)
