"""The look-alike window itself: what a panel's test can rely on."""

import enum
from typing import Annotated

import numpy as np
import pytest

UI = """<ui version="4.0">
 <class>Small</class>
 <widget class="qMRMLWidget" name="Small">
  <layout class="QVBoxLayout" name="rows">
   <item><widget class="ctkCollapsibleButton" name="section">
    <property name="text"><string>Section</string></property>
    <layout class="QVBoxLayout" name="inside">
     <item><widget class="QLineEdit" name="nameLine">
      <property name="SlicerParameterName" stdset="0"><string>title</string></property></widget></item>
     <item><widget class="QSpinBox" name="countBox">
      <property name="SlicerParameterName" stdset="0"><string>count</string></property></widget></item>
     <item><widget class="QDoubleSpinBox" name="shareBox">
      <property name="SlicerParameterName" stdset="0"><string>share</string></property></widget></item>
     <item><widget class="QCheckBox" name="yesBox">
      <property name="SlicerParameterName" stdset="0"><string>yes</string></property></widget></item>
     <item><widget class="QComboBox" name="deviceBox">
      <property name="SlicerParameterName" stdset="0"><string>device</string></property></widget></item>
    </layout>
   </widget></item>
   <item><widget class="qMRMLNodeComboBox" name="volumeBox">
    <property name="SlicerParameterName" stdset="0"><string>volume</string></property>
    <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
    <property name="noneEnabled"><bool>true</bool></property>
    <property name="addEnabled"><bool>false</bool></property></widget></item>
   <item><widget class="QPushButton" name="goButton">
    <property name="text"><string>Go</string></property></widget></item>
  </layout>
 </widget>
 <customwidgets>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><container>1</container></customwidget>
  <customwidget><class>ctkCollapsibleButton</class><extends>QWidget</extends><container>1</container></customwidget>
  <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends></customwidget>
 </customwidgets>
 <connections>
  <connection><sender>Small</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
   <receiver>volumeBox</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>
 </connections>
</ui>"""


@pytest.fixture
def qt(shell):
    import qt

    return qt


@pytest.fixture
def small(shell, tmp_path):
    """A window of the .ui above, in place of the module's panel; gives its widgets by name."""
    import slicer

    path = tmp_path / "small.ui"
    path.write_text(UI)
    root = slicer.util.loadUI(str(path))
    root.setMRMLScene(slicer.mrmlScene)
    names = slicer.util.childWidgetVariables(root)
    names.root = root
    shell.show(root)
    return names


class Device(enum.Enum):
    AUTO = "auto"
    CPU = "cpu"


@pytest.fixture
def parameters(shell):
    import slicer
    from slicer import vtkMRMLScalarVolumeNode
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

    @parameterNodeWrapper
    class Parameters:
        title: str = "first"
        count: int = 2
        share: Annotated[float, WithinRange(0, 1)] = 0.5
        yes: bool
        device: Device = Device.CPU
        volume: vtkMRMLScalarVolumeNode

    node = ScriptedLoadableModuleLogic().getParameterNode()
    assert node.GetScene() is slicer.mrmlScene
    return Parameters(node)


def add_volume(name):
    import slicer

    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def test_widgets_of_a_ui_file(shell, small):
    import ctk
    import slicer

    assert isinstance(small.section, ctk.ctkCollapsibleButton)
    assert isinstance(small.volumeBox, slicer.qMRMLNodeComboBox)
    assert small.section.text == "Section"
    assert small.volumeBox.noneEnabled is True
    assert small.volumeBox.addEnabled is False
    assert small.volumeBox.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert small.volumeBox.mrmlScene() is slicer.mrmlScene, "handed on by the connection in the .ui"


def test_a_widget_without_look_alike_is_a_fault(shell, tmp_path):
    import slicer

    path = tmp_path / "odd.ui"
    path.write_text(UI.replace("ctkCollapsibleButton", "ctkUnheardOf"))
    with shell.expected_fault(Exception, "ctkUnheardOf"):
        slicer.util.loadUI(str(path))


def test_a_section_is_closed_by_a_click_on_its_title(shell, small):
    states = []
    small.yesBox.hide()
    small.section.connect("contentsCollapsed(bool)", states.append)
    shell.click(small.section)
    assert small.section.collapsed is True
    assert not small.nameLine.isVisible()
    with pytest.raises(AssertionError, match="not shown"):
        shell.type(small.nameLine, "x")
    small.section.collapsed = False
    assert states == [True, False]
    assert small.nameLine.isVisible()
    assert not small.yesBox.isVisible(), "what the panel had hidden stays hidden"


def test_hands_reach_only_what_is_enabled(shell, small):
    clicks = []
    small.goButton.clicked.connect(lambda: clicks.append(1))
    shell.click(small.goButton)
    small.goButton.enabled = False
    with pytest.raises(AssertionError, match="disabled"):
        shell.click(small.goButton)
    assert clicks == [1]


def test_parameters_to_widgets_and_back(shell, small, parameters):
    tag = parameters.connectGui(small)
    assert (small.nameLine.text, small.countBox.value, small.shareBox.value) == ("first", 2, 0.5)
    assert (small.yesBox.checked, small.deviceBox.currentText) == (False, "CPU")
    parameters.title, parameters.count, parameters.yes = "second", 7, True
    parameters.device = Device.AUTO
    parameters.volume = volume = add_volume("CT")
    assert (small.nameLine.text, small.countBox.value, small.yesBox.checked) == ("second", 7, True)
    assert small.deviceBox.currentText == "AUTO"
    assert small.volumeBox.currentNode() is volume

    shell.type(small.nameLine, "third")
    shell.type(small.countBox, "12")
    shell.type(small.shareBox, "0.25", enter=True)
    shell.click(small.yesBox)
    shell.choose(small.deviceBox, "CPU")
    shell.choose(small.volumeBox, "None")
    assert (parameters.title, parameters.count, parameters.share) == ("third", 12, 0.25)
    assert (parameters.yes, parameters.device, parameters.volume) == (False, Device.CPU, None)

    parameters.disconnectGui(tag)
    shell.type(small.nameLine, "fourth")
    assert parameters.title == "third"


def test_parameters_check_their_values(parameters):
    with pytest.raises(ValueError, match="not within"):
        parameters.share = 2.0
    with pytest.raises(TypeError):
        parameters.count = "3"


def test_parameters_stay_with_the_node(parameters):
    parameters.title = "kept"
    assert type(parameters)(parameters.parameterNode).title == "kept"


def test_the_node_selector_follows_the_scene(shell, small):
    import slicer

    chosen, valid = [], []
    small.volumeBox.connect("currentNodeChanged(bool)", valid.append)
    small.volumeBox.connect("currentNodeChanged(vtkMRMLNode*)", chosen.append)
    first, second = add_volume("first"), add_volume("second")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    assert small.volumeBox.nodeCount() == 2
    assert small.volumeBox.currentNode() is None
    shell.choose(small.volumeBox, "second")
    assert chosen == [second]
    second.SetName("renamed")
    assert small.volumeBox.comboBox().currentText == "renamed"
    slicer.mrmlScene.RemoveNode(second)
    assert chosen == [second, first], "Slicer's selector takes a neighbour of the node that went, not None"
    assert valid == [True, True]
    shell.choose(small.volumeBox, "None")
    assert valid[-1] is False
    small.volumeBox.noneEnabled = False
    assert small.volumeBox.currentNode() is first, "without None, Slicer's selector takes the first node"
    slicer.mrmlScene.Clear(False)
    assert small.volumeBox.nodeCount() == 0
    assert small.volumeBox.currentNode() is None


def test_the_segments_table_follows_the_node(shell, qt):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.GetSegmentation().AddEmptySegment("a", "Brain")
    table = slicer.qMRMLSegmentsTableView()
    table.setSegmentationNode(node)
    shell.show(table)
    node.GetSegmentation().AddEmptySegment("b", "Bone")
    view = table.findChild(qt.QTableWidget)
    assert shell.texts(view) == ["Brain", "Bone"]
    shell.click(view.cellWidget(1, 0))
    assert not node.GetDisplayNode().GetSegmentVisibility("b")
    shell.click_item(view, "Bone")
    assert table.selectedSegmentIDs() == ("b",)


def test_settings_are_not_the_users(shell, qt):
    import slicer

    qt.QSettings().setValue("AIDicomBridge/x", 5)
    assert slicer.util.settingsValue("AIDicomBridge/x", 0, int) == 5
    assert slicer.app.settings().fileName().startswith(slicer.app.temporaryPath)
    assert slicer.app.userSettings().contains("AIDicomBridge/x")


def test_settings_are_fresh(shell):
    import slicer

    assert slicer.util.settingsValue("AIDicomBridge/x", 0, int) == 0


def test_dialogs_are_noted_and_answered(shell):
    import slicer

    shell.dialogs.answers.extend([False, True])
    assert slicer.util.confirmOkCancelDisplay("Send?") is False
    assert slicer.util.confirmYesNoDisplay("Really?") is True
    slicer.util.errorDisplay("No answer", detailedText="trace")
    kinds = [(message.kind, message.text, message.detailed_text) for message in shell.dialogs.shown]
    assert kinds == [("confirm", "Send?", ""), ("confirm", "Really?", ""), ("error", "No answer", "trace")]
    with pytest.raises(ValueError, match="x"), slicer.util.tryWithErrorDisplay("Failed", waitCursor=True):
        raise ValueError("x")
    assert shell.dialogs.shown[-1].text == "Failed\n\nx"


def test_slice_views_take_a_volume(shell):
    import slicer

    volume = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), "int16"))
    slicer.util.setSliceViewerLayers(background=volume, fit=True, rotateToVolumePlane=True)
    views = slicer.app.layoutManager()
    for name in views.sliceViewNames():
        assert views.sliceWidget(name).mrmlSliceCompositeNode().GetBackgroundVolumeID() == volume.GetID()


def test_other_modules(shell):
    import slicer

    assert slicer.modules.segmentations.logic().IsA("vtkSlicerSegmentationsModuleLogic")
    slicer.util.selectModule("SegmentEditor")
    assert shell.selected_modules == ["SegmentEditor"]
    assert slicer.util.mainWindow() is None


def test_the_module_is_found_by_its_name(shell):
    import slicer

    assert slicer.util.getModuleLogic("AIDicomBridge") is shell.logic
    assert slicer.util.getModuleWidget("AIDicomBridge") is shell.widget is slicer.modules.AIDicomBridgeWidget
    assert "AIDicomBridge" in slicer.app.moduleManager().factoryManager().loadedModuleNames()


def test_the_module_can_be_reloaded(shell):
    import slicer

    before = shell.widget
    slicer.util.reloadScriptedModule("AIDicomBridge")
    shell.process()
    assert shell.widget is not before
    assert slicer.util.getModuleLogic("AIDicomBridge") is shell.logic


def test_the_panel_bears_a_new_scene(shell):
    shell.scene.Clear(False)
    shell.process()


def test_a_picture_of_the_panel(shell, qt, tmp_path):
    image = qt.QImage(str(shell.screenshot(tmp_path / "panel.png")))
    assert image.width() >= 400
    colors = {image.pixel(x, y) for x in range(0, image.width(), 3) for y in range(0, image.height(), 3)}
    assert len(colors) > 10, "nothing is drawn"


def test_the_panel_opens_without_views():
    from shell.window import open_window

    with open_window(views=False):
        import slicer

        assert slicer.app.layoutManager() is None


def test_a_fault_is_raised_when_the_window_closes():
    from shell.window import open_window

    window = open_window()
    window.__enter__()
    import qt

    qt.QTimer.singleShot(0, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        window.__exit__(None, None, None)
