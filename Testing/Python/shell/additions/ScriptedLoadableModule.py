"""Look-alike of ``slicer.ScriptedLoadableModule``: the four base classes with what modules use of them."""

import unittest
from pathlib import Path


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, filename):
        return _resource_path(self.moduleName, filename)


class ScriptedLoadableModuleWidget:
    """Its parent is a qMRMLWidget with a vertical layout, made here if none is given."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent or _own_parent()
        self.layout = self.parent.layout()
        if parent is None:
            self.setup()
            self.parent.show()

    def resourcePath(self, filename):
        return _resource_path(self.moduleName, filename)

    def setup(self):
        """Do nothing: the developer's section is not shown."""

    def cleanup(self):
        """Do nothing, as do :meth:`enter` and :meth:`exit`, until a module has its own."""

    def enter(self):
        pass

    def exit(self):
        pass

    def onReload(self):
        import slicer

        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    """Its parameter node is the one node of the scene that carries the module's name."""

    def __init__(self, parent=None):
        self.parent = parent
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        nodes = self.getAllParameterNodes()
        return nodes[0] if nodes else self.createParameterNode()

    def getAllParameterNodes(self):
        import slicer

        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetModuleName() == self.moduleName]

    def createParameterNode(self):
        import slicer

        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        node.SetModuleName(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetName(self.moduleName)
        return slicer.mrmlScene.AddNode(node)


class ScriptedLoadableModuleTest(unittest.TestCase):
    def runTest(self):
        for name in dir(self):
            if name.startswith("test"):
                getattr(self, name)()


def _own_parent():
    import qt
    import slicer

    parent = slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    parent.setMRMLScene(slicer.mrmlScene)
    return parent


def _resource_path(module_name, filename):
    import slicer

    return str(Path(slicer.util.modulePath(module_name)).parent / "Resources" / filename)
