"""Look-alike of ``slicer.parameterNodeWrapper`` for str, int, float, bool, Path, Enum and node parameters.

Values are kept as text and references in a vtkMRMLScriptedModuleNode and are read from it every time (Slicer keeps a
copy). No parameter packs, lists, Union types or custom serialisers; of the validators the ranges and ``Choice``. A
widget is connected only if its class is exactly the one that Slicer connects to that type.
"""

import enum
import typing
from dataclasses import dataclass
from pathlib import PurePath


@dataclass
class WithinRange:
    minimum: float
    maximum: float

    def check(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within {self.minimum} to {self.maximum}")


@dataclass
class Minimum:
    minimum: float

    def check(self, value):
        if value < self.minimum:
            raise ValueError(f"{value} is less than {self.minimum}")


@dataclass
class Maximum:
    maximum: float

    def check(self, value):
        if value > self.maximum:
            raise ValueError(f"{value} is more than {self.maximum}")


@dataclass
class Choice:
    choices: typing.Sequence

    def check(self, value):
        if value not in self.choices:
            raise ValueError(f"{value!r} is none of {self.choices}")


@dataclass
class Default:
    value: object


def parameterNodeWrapper(cls=None):
    """Give a class whose annotations are parameters an ``__init__(parameterNode)`` and properties that store there."""
    if cls is None:
        return parameterNodeWrapper
    parameters = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        kind, *notes = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
        default = next((note.value for note in notes if isinstance(note, Default)), _first_value(kind))
        checks = [note for note in notes if hasattr(note, "check")]
        parameters[name] = _Parameter(name, kind, vars(cls).get(name, default), checks)
        setattr(cls, name, property(parameters[name].read, parameters[name].write))
    own = {name: value for name, value in vars(_Wrapper).items() if callable(value)}
    for name, value in {**own, "allParameters": parameters}.items():
        setattr(cls, name, value)
    return cls


def _first_value(kind):
    if issubclass(kind, enum.Enum):
        return next(iter(kind))
    return None if hasattr(kind, "IsTypeOf") else kind()


@dataclass
class _Parameter:
    name: str
    kind: type
    default: object
    checks: list

    @property
    def is_node(self):
        return hasattr(self.kind, "IsTypeOf")

    def read(self, wrapper):
        node = wrapper.parameterNode
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if issubclass(self.kind, bool):
            return text == "True"
        return self.kind[text] if issubclass(self.kind, enum.Enum) else self.kind(text)

    def write(self, wrapper, value):
        if self.is_node:
            if value is not None and not isinstance(value, self.kind):
                raise TypeError(f"{self.name} takes a {self.kind.__name__}, not a {type(value).__name__}")
            wrapper.parameterNode.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        if not isinstance(value, int if self.kind is float else self.kind) and not isinstance(value, self.kind):
            raise TypeError(f"{self.name} takes a {self.kind.__name__}, not a {type(value).__name__}")
        for check in self.checks:
            check.check(value)
        wrapper.parameterNode.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))


class _Wrapper:
    """What every wrapped class has."""

    def __init__(self, parameterNode):
        self.parameterNode = parameterNode
        self._connected = {}
        self._writing = False
        for parameter in self.allParameters.values():
            stored = parameterNode.GetParameterNamesAsCommaSeparatedList().split(",")
            if not parameter.is_node and parameter.name not in stored:
                parameter.write(self, parameter.default)

    def default(self, name):
        return Default(self.allParameters[name].default)

    def getValue(self, name):
        return self.allParameters[name].read(self)

    def setValue(self, name, value):
        self.allParameters[name].write(self, value)

    def dataType(self, name):
        return self.allParameters[name].kind

    def connectGui(self, gui):
        """Connect the widgets that have the dynamic property SlicerParameterName; return the tag to disconnect them."""
        import qt

        widgets = gui.findChildren(qt.QWidget) if isinstance(gui, qt.QWidget) else vars(gui).values()
        named = {widget.property("SlicerParameterName"): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping):
        unknown = set(mapping) - set(self.allParameters)
        if unknown:
            raise ValueError(f"No parameter is called {', '.join(sorted(unknown))}")
        links = [_Link(self, self.allParameters[name], widget) for name, widget in mapping.items()]
        tag = max(self._connected, default=-1) + 1
        observer = self.parameterNode.AddObserver("ModifiedEvent", lambda *_: self._show(tag))
        self._connected[tag] = (links, observer)
        self._show(tag)
        for link in links:
            link.start()
        return tag

    def disconnectGui(self, tag):
        links, observer = self._connected.pop(tag, ((), None))
        if observer is not None:
            self.parameterNode.RemoveObserver(observer)
        for link in links:
            link.stop()

    def _show(self, tag):
        if self._writing:
            return
        self._writing = True
        try:
            for link in self._connected[tag][0]:
                link.show()
        finally:
            self._writing = False

    def StartModify(self):
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified):
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, *arguments):
        return self.parameterNode.AddObserver(*arguments)

    def RemoveObserver(self, tag):
        self.parameterNode.RemoveObserver(tag)

    def Modified(self):
        self.parameterNode.Modified()


class _Link:
    """One parameter and its widget."""

    def __init__(self, wrapper, parameter, widget):
        self.wrapper, self.parameter, self.widget = wrapper, parameter, widget
        self.items = None
        self.attribute, self.signal = self._attribute_and_signal()

    def _attribute_and_signal(self):
        import ctk
        import qt
        import slicer

        kind, widget = self.parameter.kind, type(self.widget)
        if self.parameter.is_node and widget is slicer.qMRMLNodeComboBox:
            self.widget.nodeTypes = [kind.__name__]
            return "currentNode", "currentNodeChanged"
        if widget in {qt.QComboBox, ctk.ctkComboBox} and not self.parameter.is_node:
            self._fill()
            return "currentIndex", "currentIndexChanged"
        known = {
            (bool, qt.QCheckBox): ("checked", "stateChanged"),
            (bool, qt.QPushButton): ("checked", "toggled"),
            (int, qt.QSpinBox): ("value", "valueChanged"),
            (int, qt.QSlider): ("value", "valueChanged"),
            (float, qt.QDoubleSpinBox): ("value", "valueChanged"),
            (int, qt.QDoubleSpinBox): ("value", "valueChanged"),
            (str, qt.QLineEdit): ("text", "textChanged"),
            (str, qt.QLabel): ("text", None),
            (str, qt.QTextEdit): ("plainText", "textChanged"),
            (PurePath, ctk.ctkPathLineEdit): ("currentPath", "currentPathChanged"),
        }
        for (taken, taken_widget), found in known.items():
            exact = kind is taken or (taken is PurePath and issubclass(kind, PurePath))
            if exact and widget is taken_widget:
                self._limit()
                return found
        raise RuntimeError(f"A parameter of type {kind.__name__} cannot be shown by a {widget.__name__}")

    def _fill(self):
        """Slicer replaces what the combo box had by the names or labels of the enumeration, or by the choices."""
        kind = self.parameter.kind
        if issubclass(kind, enum.Enum):
            label = getattr(kind, "label", lambda member: member.name)
            self.items = {label(member): member for member in kind}
        else:
            choices = [check.choices for check in self.parameter.checks if isinstance(check, Choice)]
            if not choices:
                raise RuntimeError(f"{self.parameter.name} needs the annotation Choice to be shown by a combo box")
            self.items = {str(choice): choice for choice in choices[0]}
        self.widget.clear()
        self.widget.addItems(list(self.items))

    def _limit(self):
        """Slicer sets the limits of a number's widget: those annotated, else the widest."""
        if self.parameter.kind not in {int, float}:
            return
        widest = 2**31 - 1 if self.parameter.kind is int else float("inf")
        lows = [c.minimum for c in self.parameter.checks if hasattr(c, "minimum")]
        highs = [c.maximum for c in self.parameter.checks if hasattr(c, "maximum")]
        self.widget.setRange(max(lows, default=-widest), min(highs, default=widest))

    def start(self):
        if self.signal is not None:
            getattr(self.widget, self.signal).connect(self.store)

    def stop(self):
        if self.signal is not None:
            getattr(self.widget, self.signal).disconnect(self.store)

    def store(self):
        if self.wrapper._writing:
            return
        if self.items is not None:
            value = list(self.items.values())[self.widget.currentIndex]
        elif self.parameter.is_node:
            value = self.widget.currentNode()
        else:
            value = self.parameter.kind(getattr(self.widget, self.attribute))
        self.parameter.write(self.wrapper, value)

    def show(self):
        value = self.parameter.read(self.wrapper)
        if self.items is not None:
            self.widget.currentIndex = list(self.items.values()).index(value)
        elif self.parameter.is_node:
            self.widget.setCurrentNode(value)
        elif getattr(self.widget, self.attribute) != value:  # else the text cursor would jump to the end
            setattr(self.widget, self.attribute, str(value) if isinstance(value, PurePath) else value)
