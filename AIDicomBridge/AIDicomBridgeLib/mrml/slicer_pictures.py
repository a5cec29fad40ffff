"""The four pictures drawn by Slicer's own displayable managers. Runs in :mod:`.picture_process` only."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .coordinates import lps_to_ras
from .core_scene import CoreScene, open_core_scene
from .picture_annotation import draw_axes, draw_edge_letters
from .picture_views import (
    CAMERA_DIRECTION,
    SLICE_VIEWS,
    PictureSubject,
    SliceView,
    field_of_view,
    surface_view,
)
from .segmentation_node import layer_node
from .volume_node import scalar_volume_node

if TYPE_CHECKING:
    from PIL.Image import Image

_ORIENTATIONS = {"axial": "Axial", "coronal": "Coronal", "sagittal": "Sagittal"}
_OUTLINE_WIDTH = 3  # pixels


def render_with_slicer(subject: PictureSubject, folder: Path) -> None:
    """Write axial.png, coronal.png, sagittal.png and three_d.png into an existing folder."""
    core = open_core_scene()
    window_level = (subject.window, subject.level)
    volume = scalar_volume_node(subject.voxels, subject.ijk_to_lps, core.scene, "Image", window_level)
    segmentation = layer_node((subject.labels,), subject.ijk_to_lps, subject.segments, core.scene, "Result")
    display = segmentation.GetDisplayNode()
    display.SetVisibility2DFill(False)
    display.SetSliceIntersectionThickness(_OUTLINE_WIDTH)
    for view in SLICE_VIEWS:
        picture = _slice_picture(subject, view, volume, core)
        draw_edge_letters(picture, view)
        picture.save(folder / f"{view.name}.png")
    segmentation.CreateClosedSurfaceRepresentation()
    picture = _surface_picture(subject, core)
    draw_axes(picture)
    picture.save(folder / "three_d.png")


def _slice_picture(subject: PictureSubject, view: SliceView, volume: Any, core: CoreScene) -> "Image":
    import slicer
    import vtk

    scene, size = core.scene, subject.size
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(core.application_logic)
    logic.SetMRMLScene(scene)
    slice_node = logic.AddSliceNode(view.name)
    slice_node.SetOrientation(_ORIENTATIONS[view.name])
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    logic.ResizeSliceNode(size, size)
    middle, edge_mm = field_of_view(subject, view)
    slice_node.SetFieldOfView(edge_mm, edge_mm, slice_node.GetFieldOfView()[2])
    to_ras = slice_node.GetSliceToRAS()
    for row, value in enumerate((lps_to_ras()[:3, :3] @ middle).tolist()):
        to_ras.SetElement(row, 3, value)
    slice_node.UpdateMatrices()

    renderer, window = _window(size)
    # No displayable manager draws the image itself: in Slicer the slice widget does, with this same mapper.
    mapper = vtk.vtkImageMapper()
    mapper.SetInputConnection(logic.GetImageDataConnection())
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    image_actor = vtk.vtkActor2D()
    image_actor.SetMapper(mapper)
    image_actor.GetProperty().SetDisplayLocationToBackground()
    renderer.AddActor2D(image_actor)
    group = _managers(
        slicer.vtkMRMLSliceViewDisplayableManagerFactory,
        ["vtkMRMLSegmentationsDisplayableManager2D"],
        slice_node,
        renderer,
        core,
    )
    picture = _grab(window)
    group.SetMRMLDisplayableNode(None)
    return picture


def _surface_picture(subject: PictureSubject, core: CoreScene) -> "Image":
    import slicer

    logic = slicer.vtkMRMLViewLogic()
    logic.SetMRMLApplicationLogic(core.application_logic)
    logic.SetMRMLScene(core.scene)
    view_node = logic.AddViewNode("1")
    view_node.SetBackgroundColor(0, 0, 0)
    view_node.SetBackgroundColor2(0, 0, 0)
    view_node.SetBoxVisible(False)
    view_node.SetAxisLabelsVisible(False)
    renderer, window = _window(subject.size)
    group = _managers(
        slicer.vtkMRMLThreeDViewDisplayableManagerFactory,
        [
            "vtkMRMLCameraDisplayableManager",
            "vtkMRMLViewDisplayableManager",
            "vtkMRMLSegmentationsDisplayableManager3D",
        ],
        view_node,
        renderer,
        core,
    )
    to_ras = lps_to_ras()[:3, :3]
    centre, edge_mm, depth_mm = surface_view(subject)
    focus, towards = to_ras @ centre, to_ras @ CAMERA_DIRECTION
    camera = renderer.GetActiveCamera()
    camera.ParallelProjectionOn()
    camera.SetParallelScale(edge_mm / 2)
    camera.SetFocalPoint(*focus)
    camera.SetPosition(*(focus + towards * depth_mm))
    camera.SetViewUp(0, 0, 1)
    renderer.ResetCameraClippingRange()
    picture = _grab(window)
    group.SetMRMLDisplayableNode(None)
    return picture


def _window(size: int) -> tuple[Any, Any]:
    import vtk

    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetMultiSamples(8)
    window.SetSize(size, size)
    renderer = vtk.vtkRenderer()
    renderer.SetBackground(0, 0, 0)
    window.AddRenderer(renderer)
    # Displayable managers ask the renderer's window for its interactor.
    interactor = vtk.vtkGenericRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    return renderer, window


def _managers(factory_class: Any, names: list[str], view_node: Any, renderer: Any, core: CoreScene) -> Any:
    import slicer

    factory = factory_class.GetInstance()
    factory.SetMRMLApplicationLogic(core.application_logic)
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.Initialize(factory, renderer)
    group.SetMRMLDisplayableNode(view_node)
    return group


def _grab(window: Any) -> "Image":
    import vtk
    from PIL import Image
    from vtk.util.numpy_support import vtk_to_numpy

    window.Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.ReadFrontBufferOff()
    grabber.Update()
    image = grabber.GetOutput()
    width, height, _ = image.GetDimensions()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
    return Image.fromarray(pixels[::-1, :, :3].copy(), "RGB")
