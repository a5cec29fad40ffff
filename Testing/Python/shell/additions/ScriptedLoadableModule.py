"""Look-alike of ``slicer.ScriptedLoadableModule``: the four base classes with the attributes that modules use."""

import unittest


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        self.parent = parent
        self.layout = parent.layout() if parent else None

    def setup(self):
        pass


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        self.parent = parent


class ScriptedLoadableModuleTest(unittest.TestCase):
    def runTest(self):  # noqa: N802
        for name in dir(self):
            if name.startswith("test"):
                getattr(self, name)()
