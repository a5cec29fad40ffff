"""Showing nodes in Slicer's views, where there are any."""

from typing import Any

import slicer


def show_in_slices(volume_node: Any) -> None:
    """Show a volume in the slice views, fitted; nothing without a main window."""
    if slicer.app.layoutManager() is not None:
        slicer.util.setSliceViewerLayers(background=volume_node, fit=True)


def show_surfaces(segmentation_node: Any, shown: bool) -> None:
    """Show a segmentation's surfaces in the 3D views, or hide them.

    Making them takes 1 to 3 s for large segments of 512x512x200 voxels, on the main thread: Slicer offers no other.
    """
    if slicer.app.layoutManager() is None:
        return
    if shown:
        segmentation_node.CreateClosedSurfaceRepresentation()
    display = segmentation_node.GetDisplayNode()
    if display is not None:
        display.SetVisibility3D(shown)


def open_segment_editor(segmentation_node: Any) -> None:
    """Go to Slicer's Segment Editor, on a segmentation and the volume that it belongs to."""
    slicer.util.selectModule("SegmentEditor")
    volume_node = segmentation_node.GetNodeReference(segmentation_node.GetReferenceImageGeometryReferenceRole())
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    editor.setSegmentationNode(segmentation_node)
    if volume_node is not None:
        editor.setSourceVolumeNode(volume_node)
