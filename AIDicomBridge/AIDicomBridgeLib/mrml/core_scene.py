"""A MRML scene with Slicer's module logics on slicer-core, for headless use outside the Slicer application.

Inside Slicer nothing here is needed: the scene is ``slicer.mrmlScene``, and the application made its logics.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from ..errors import DependencyError

# In this order. The segmentation logic registers the labelmap-to-surface conversions that every segmentation node made
# afterwards copies: a node made before it can never show a closed surface. The terminologies logic is left out: it
# looks for files that slicer-core does not ship, and nothing here reads them.
_MODULE_LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
}


@dataclass(frozen=True, eq=False)
class CoreScene:
    """A scene together with the logics that observe it.

    Attributes
    ----------
    scene
        The vtkMRMLScene; make nodes in it.
    application_logic
        The vtkSlicerApplicationLogic that owns the colour tables.
    module_logics
        The logics by module name, kept alive here: MRML itself holds no reference to them.
    """

    scene: Any
    application_logic: Any
    module_logics: dict[str, Any]

    def close(self) -> None:
        """Remove all nodes, so that their memory is freed; the scene cannot be used afterwards."""
        self.scene.Clear(True)


def open_core_scene() -> CoreScene:
    """Return a new scene with colour tables, subject hierarchy, volume and segmentation logics. Main thread only.

    Raises
    ------
    DependencyError
        slicer-core is not installed, or another package named ``slicer`` hides it.
    """
    if not has_slicer_core():
        raise DependencyError(
            "Slicer's nodes are not available: slicer-core is not installed",
            advice="Install it with: pip install slicer-core.",
        )
    import slicer
    import vtk

    scene = slicer.vtkMRMLScene()
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetMRMLScene(scene)
    application_logic.GetColorLogic().SetMRMLScene(scene)
    application_logic.GetColorLogic().AddDefaultColorNodes()
    application_logic.SetSliceLogics(vtk.vtkCollection())
    application_logic.SetViewLogics(vtk.vtkCollection())
    module_logics = {}
    for name, class_name in _MODULE_LOGICS.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        application_logic.SetModuleLogic(name, logic)
        module_logics[name] = logic
    return CoreScene(scene, application_logic, module_logics)


def has_slicer_core() -> bool:
    """Return True if slicer-core (or Slicer itself) is there, without importing it.

    An unrelated package on PyPI is called ``slicer`` too; only Slicer's comes with a second package ``slicer_core``
    or, in the application, with vtkMRMLScene already loaded.
    """
    import sys

    if "slicer" in sys.modules:
        return hasattr(sys.modules["slicer"], "vtkMRMLScene")
    return find_spec("slicer") is not None and find_spec("slicer_core") is not None
