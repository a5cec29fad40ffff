"""Label arrays that cover a part of the grid become one label array; what was edited in it is known again."""

from dataclasses import replace

import numpy as np
import pytest
from AIDicomBridgeLib import read_volume
from AIDicomBridgeLib.errors import EncodingError, GeometryError
from AIDicomBridgeLib.results.edited_segments import mark_edited, with_fingerprints
from AIDicomBridgeLib.results.label_layers import LabelLayer, put_layers_together
from AIDicomBridgeLib.results.labels import Code, Segment
from synthetic import body_phantom, make_series, save_series

TISSUE = Code("85756007", "SCT", "Tissue")
ONE, TWO, THREE = (Segment(n, f"Part {n}", TISSUE, TISSUE, algorithm_name="Test") for n in (1, 2, 3))
SHAPE = (6, 8, 10)


@pytest.fixture
def source(tmp_path):
    return read_volume(save_series(make_series(body_phantom(SHAPE)), tmp_path / "series")).source


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_layers_of_any_type_land_where_they_lie(source, dtype):
    part = np.zeros((2, 3, 4), dtype)
    part[0, 0, 0], part[1, 2, 3], part[0, 1, 1] = 7, 120, 90  # 90 belongs to no segment: background
    other = np.ones((1, 1, 1), dtype)
    layers = [LabelLayer(part, (4, 5, 6), (7, 120), (ONE, THREE)), LabelLayer(other, (0, 0, 0), (1,), (TWO,))]
    labels = put_layers_together(layers, source)
    expected = np.zeros(SHAPE, np.uint8)
    expected[4, 5, 6], expected[5, 7, 9], expected[0, 0, 0] = 1, 3, 2
    np.testing.assert_array_equal(labels.labels, expected)
    assert labels.segments == (ONE, TWO, THREE)


def test_one_layer_that_is_the_grid_is_not_copied(source):
    array = np.zeros(SHAPE, np.uint8)
    array[1] = 2
    labels = put_layers_together([LabelLayer(array, (0, 0, 0), (1, 2), (ONE, TWO))], source)
    assert labels.labels is array


def test_an_emptied_layer_is_an_empty_segment(source):
    labels = put_layers_together([LabelLayer(np.zeros((0, 0, 0), np.uint8), (0, 0, 0), (1,), (ONE,))], source)
    assert not labels.labels.any()


def test_segments_that_overlap_are_in_arrays_of_their_own(source):
    block = np.ones((2, 2, 2), np.uint8)
    layers = [LabelLayer(block, (n, n, n), (1,), (segment,)) for n, segment in enumerate((ONE, TWO, THREE))]
    labels = put_layers_together(layers, source)
    assert len(labels.layers) == 2  # the third touches the second only
    for n, segment in enumerate((ONE, TWO, THREE)):
        expected = np.zeros(SHAPE, bool)
        expected[n : n + 2, n : n + 2, n : n + 2] = True
        np.testing.assert_array_equal(labels.mask(segment), expected)
    marked = with_fingerprints(labels)
    assert {segment.algorithm_type for segment in mark_edited(marked).segments} == {"AUTOMATIC"}
    moved = replace(marked, further_layers=(np.roll(marked.layers[1], 1, axis=2),))
    assert [segment.algorithm_type for segment in mark_edited(moved).segments] == [
        "AUTOMATIC",
        "SEMIAUTOMATIC",
        "AUTOMATIC",
    ]


def test_what_cannot_be_written_is_refused_by_name(source):
    block = np.ones((2, 2, 2), np.uint8)
    with pytest.raises(GeometryError, match="'Part 2' reaches outside"):
        put_layers_together([LabelLayer(block, (5, 0, 0), (1,), (TWO,))], source)
    with pytest.raises(EncodingError, match="distinct values"):
        put_layers_together([LabelLayer(block, (0, 0, 0), (1, 1), (ONE, TWO))], source)


def types_after(labels, edit):
    array = labels.labels.copy()
    edit(array)
    return [segment.algorithm_type for segment in mark_edited(replace(labels, labels=array)).segments]


def test_only_segments_that_were_edited_are_semiautomatic(source):
    array = np.zeros(SHAPE, np.uint16)
    array[:2], array[3, 2:4, 2:4] = 1, 2
    by_hand = replace(THREE, algorithm_type="MANUAL")
    plain = put_layers_together([LabelLayer(array, (0, 0, 0), (1, 2, 3), (ONE, TWO, by_hand))], source)
    assert mark_edited(plain) is plain
    labels = with_fingerprints(plain)
    assert types_after(labels, lambda array: None) == ["AUTOMATIC", "AUTOMATIC", "MANUAL"]

    def paint(array):
        array[4, 0, 0] = 2

    def move(array):  # as many voxels as before, in every slice, row and column sum but one
        array[3, 2, 2], array[3, 4, 4] = 0, 2

    def draw_anew(array):
        array[5, 5, 5] = 3

    for edit in (paint, move):
        assert types_after(labels, edit) == ["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]
    assert types_after(labels, draw_anew) == ["AUTOMATIC", "AUTOMATIC", "MANUAL"]


def test_a_fingerprint_does_not_depend_on_label_value_and_type(source):
    array = np.zeros(SHAPE, np.uint8)
    array[1:3, 2:6, 3] = 1
    first = with_fingerprints(put_layers_together([LabelLayer(array, (0, 0, 0), (1,), (ONE,))], source))
    layer = LabelLayer(array.astype(np.uint16) * 2, (0, 0, 0), (2,), (TWO,))
    second = with_fingerprints(put_layers_together([layer], source))
    assert first.segments[0].fingerprint == second.segments[0].fingerprint
