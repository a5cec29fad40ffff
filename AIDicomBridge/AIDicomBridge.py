"""The Slicer module: from the PACS through a segmentation network and back. Everything is done in AIDicomBridgeLib."""

import sys
from typing import Annotated

import slicer
from AIDicomBridgeLib.mrml.console_calls import ConsoleCalls
from AIDicomBridgeLib.mrml.self_test import SelfTest
from AIDicomBridgeLib.panel.self_test import PanelSelfTest
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class AIDicomBridge(ScriptedLoadableModule):
    """What Slicer's module list shows."""

    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = "AIDicomBridge"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "DICOM")]
        self.parent.dependencies = []
        self.parent.contributors = ["The AIDicomBridge developers"]
        self.parent.helpText = _(
            "Retrieves image series from a PACS, runs a segmentation network on them, and sends the result back as "
            "DICOM Segmentation, measurement report and secondary capture. For research; not for diagnostic use.<br>"
            "1. Add your archive and find a study. 2. Load a series. 3. Choose a model and run it; correct the result "
            "in the Segment Editor. 4. Send it: nothing leaves before you confirm patient, study and destination."
        )
        self.parent.acknowledgementText = _("Built on pydicom, pynetdicom, highdicom and PyTorch.")
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Offer a synthetic CT, made in code, in Slicer's Sample Data module, if Slicer has that module."""
    if not hasattr(slicer.modules, "sampledata"):
        return
    from SampleData import SampleDataLogic

    def download(_source):
        return [slicer.util.getModuleLogic("AIDicomBridge").loadSampleSeries()]

    SampleDataLogic.registerCustomSampleDataSource(
        category="AIDicomBridge", sampleName="AIDicomBridgeSyntheticCT", nodeNames="CT", customDownloader=download
    )


@parameterNodeWrapper
class AIDicomBridgeParameterNode:
    """What a scene remembers of the panel: no address, no credentials, nothing typed in, no patient data."""

    volume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    modelName: str
    suv: bool = False
    device: Annotated[str, Choice(["auto", "cpu", "cuda"])] = "auto"
    precision: Annotated[str, Choice(["auto", "float32", "bfloat16", "float16"])] = "auto"
    memoryLimitGB: Annotated[float, WithinRange(0.0, 4096.0)] = 0.0
    mirror: bool = True
    show3D: bool = True


class AIDicomBridgeWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Puts the panel into Slicer's window and keeps it to the scene."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = None
        self._parameterNode = self._parameterNodeGuiTag = None

    def setup(self):
        """Make the panel. Works without a main window and without any package that Slicer does not bring."""
        ScriptedLoadableModuleWidget.setup(self)
        from AIDicomBridgeLib.panel.panel import Panel

        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/AIDicomBridge.ui"))
        self.layout.addWidget(self.uiWidget)
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = AIDicomBridgeLogic()
        self.panel = Panel(self.ui, self.logic.sourceFiles)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()
        # Made anew while it is shown: Slicer calls enter() only when the person comes.
        if getattr(self.parent, "isEntered", False):
            self.enter()

    def cleanup(self):
        """End the worker and let go of the scene. Safe to call twice."""
        self.removeObservers()
        self.disconnectParameterNode()
        if self.panel is not None:
            self.panel.close()
            self.panel = None
            self.uiWidget.setMRMLScene(None)

    def enter(self):
        """Take note that the person has opened the module."""
        if self.panel is not None:  # Slicer also calls it after cleanup
            self.initializeParameterNode()
            self.panel.enter()

    def exit(self):
        """Take note that the person has gone to another module."""
        if self.panel is not None:
            self.panel.leave()

    def onReload(self):
        """Load the library anew too. It is dropped whole: file by file, classes of old and new files would mix."""
        self.cleanup()
        self.uiWidget.setParent(None)  # Slicer would only hide it
        self.uiWidget.deleteLater()
        for name in [name for name in sys.modules if name.partition(".")[0] == "AIDicomBridgeLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, _caller, _event):
        """Stop what runs before the nodes go."""
        self.disconnectParameterNode()
        self.panel.scene_about_to_close()

    def onSceneEndClose(self, _caller, _event):
        """Begin anew with the empty scene, if the module is open; else when it is opened."""
        if self.panel.entered:
            self.initializeParameterNode()

    def onSceneEndImport(self, _caller, _event):
        """Take over the choices of the scene that was loaded: its parameter node has replaced ours, or its values."""
        self.disconnectParameterNode()
        if self.panel.entered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Keep the panel's choices in the scene."""
        if self._parameterNode is None:
            self._parameterNode = self.logic.getParameterNode()
            self.panel.segment.choose_model(self._parameterNode.modelName)
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.panel.segment.on_model_chosen = lambda name: setattr(self._parameterNode, "modelName", name)

    def disconnectParameterNode(self):
        """Leave the scene's node alone from now on."""
        if self._parameterNode is not None:
            self.panel.segment.on_model_chosen = None
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNode = self._parameterNodeGuiTag = None


class AIDicomBridgeLogic(ScriptedLoadableModuleLogic, ConsoleCalls):
    """The whole loop for the Python console and for scripts: nodes in, nodes out; see ``help(ConsoleCalls)``.

    >>> logic = slicer.util.getModuleLogic("AIDicomBridge")
    >>> volumeNode = logic.loadSeries("/path/to/series")
    >>> segmentationNode = logic.segment(volumeNode, "ct-tissues")
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        ConsoleCalls.__init__(self)

    def getParameterNode(self):
        """Return what the scene remembers of the panel."""
        return AIDicomBridgeParameterNode(super().getParameterNode())


class AIDicomBridgeTest(SelfTest, PanelSelfTest, ScriptedLoadableModuleTest):
    """What "Reload and Test" and ctest run inside Slicer; the tests are those of SelfTest and PanelSelfTest."""

    def makeLogic(self):
        """Return a Logic that knows no volume yet."""
        return AIDicomBridgeLogic()

    def test_terminology_navigator(self):
        """What the panel needs of Slicer's terminology navigator is there, where there is an application."""
        if hasattr(slicer, "app"):
            from AIDicomBridgeLib.panel.terminology_dialog import TerminologyDialog

            TerminologyDialog(None, "", "").close()
