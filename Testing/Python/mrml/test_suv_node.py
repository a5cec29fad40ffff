"""PET as SUV in Slicer's nodes: shown, known again, and measured in the unit that was asked for."""

import numpy as np
import pytest
from AIDicomBridgeLib.mrml.segmentation_node import image_files_of, segmentation_node_from
from AIDicomBridgeLib.mrml.source_files import SourceFiles
from AIDicomBridgeLib.mrml.volume_node import compared_planes, image_array, image_volume_from
from AIDicomBridgeLib.results.labels import Code, LabelVolume, Provenance, Segment
from AIDicomBridgeLib.series.volume import read_volume
from pydicom import dcmread
from synthetic import make_pet, make_series, save_series

from .test_logic import logic, module  # noqa: F401 - fixtures
from .test_volume_node import Database

VOXELS = np.arange(3 * 8 * 9, dtype=np.int16).reshape(3, 8, 9) * 50
CODE = Code("52988006", "SCT", "Lesion")


@pytest.mark.parametrize(
    ("shown", "seen", "unit"), [(True, "", "g/ml{SUVbw}"), (False, "SUVbw", "g/ml{SUVbw}"), (False, "", "Bq/ml")]
)
def test_results_are_measured_as_what_was_shown_or_what_the_model_saw(logic, tmp_path, shown, seen, unit):  # noqa: F811
    import slicer

    paths = save_series(make_pet(VOXELS), tmp_path / "pet")
    node = logic.loadSeries(tmp_path / "pet", suv=shown)
    volume = read_volume(paths, suv=shown)
    np.testing.assert_array_equal(image_array(node.GetImageData()), volume.voxels)
    assert node.GetName().endswith("(SUV)") == shown
    scale = volume.suv.scale if volume.suv else 1.0
    assert node.GetDisplayNode().GetWindow() == pytest.approx(400 * scale)
    assert sum(1 for _ in compared_planes(node, volume)) == 3
    assert image_volume_from(node, volume.source).suv == volume.suv

    labels = (volume.voxels > volume.voxels.mean()).astype(np.uint8)
    segments = (Segment(1, "Lesion", CODE, CODE, algorithm_name="Test"),)
    provenance = Provenance("Test", "1", suv=seen)
    found = LabelVolume(labels, segments, source=volume.source, provenance=provenance)
    segmentation = segmentation_node_from(found, slicer.mrmlScene, volume_node=node)
    source = SourceFiles().source_of(node, Database(volume.source))
    assert image_files_of(segmentation, source).suv == (shown or bool(seen))
    (_, report, *pictures) = logic.exportSegmentation(segmentation, tmp_path / "out", outputs=("seg", "sr", "sc"))
    assert unit in str(dcmread(report))
    assert ("g/ml{SUVbw}" in str(dcmread(report))) == (unit == "g/ml{SUVbw}")
    # As bright as the header's window says, whatever the unit.
    seen_in_unit = [dcmread(picture).pixel_array[200:312, 200:312].mean() for picture in pictures]
    assert min(seen_in_unit) > 200


def test_what_a_model_found_on_ct_with_pet_as_suv_is_measured_in_hounsfield_units(logic, tmp_path):  # noqa: F811
    import slicer

    paths = save_series(make_series(VOXELS), tmp_path / "ct")
    node = logic.loadSeries(paths)
    volume = read_volume(paths)
    provenance = Provenance("Test", "1", suv="SUVbw scale 0.0002", further_series=("1.2.3",))
    segments = (Segment(1, "Lesion", CODE, CODE, algorithm_name="Test"),)
    labels = LabelVolume((VOXELS > 5000).astype(np.uint8), segments, source=volume.source, provenance=provenance)
    segmentation = segmentation_node_from(labels, slicer.mrmlScene, volume_node=node)
    (_, report) = logic.exportSegmentation(segmentation, tmp_path / "out", outputs=("seg", "sr"))
    assert "[hnsf'U]" in str(dcmread(report))
