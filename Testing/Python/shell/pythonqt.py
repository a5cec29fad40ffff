"""PySide6 with the habits of PythonQt, which is how Slicer gives Qt to Python.

:func:`install` patches the classes of PySide6 themselves, so that objects which Qt makes (headers, viewports, widgets
of a .ui file) have the habits too. It cannot be undone: what uses it needs a process of its own.

- A Qt property is an attribute: ``label.text`` and ``label.text = "x"``; ``label.text()`` is a TypeError as in Slicer.
  The methods ``setText`` and ``isEnabled`` stay.
- ``button.connect("clicked(bool)", f)`` and ``button.clicked.connect(f)``; a function gets only as many arguments as
  it takes; ``disconnect`` likewise. An unknown signal gives False and a message, which is also noted in :data:`faults`.
- Setting an attribute that the class has not is an AttributeError, except on classes written in Python.
- ``exec_``, ``className``, ``name``, ``delete``; dynamic properties can be read as attributes.

Not shown: PythonQt's own conversions and overload choice, QStringList as tuple, ownership, children as attributes.
"""

import inspect
import sys
from collections.abc import Callable
from types import BuiltinMethodType, ModuleType
from typing import Any

# Enumerations that are integers, as in PythonQt. Read by PySide6 when it is imported first.
sys.pyside6_option_python_enum = 0x02

import shiboken6  # noqa: E402
from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets  # noqa: E402

QObject = QtCore.QObject

#: What went wrong where no caller could see it: exceptions in slots, unknown signals, warnings of Qt.
faults: list[BaseException] = []

_CONNECTIONS = "_pythonqt_connections"
_modules = (QtCore, QtGui, QtWidgets, QtNetwork, QtUiTools)
_closed: set[type] = set()  # classes that take no new attributes
_set_attribute = QObject.__mro__[1].__setattr__
_get_attribute = QObject.__getattribute__


class PythonQtMistake(Exception):  # noqa: N818 - the name of what the author of the panel made
    """Code that Slicer would let pass in silence and that does not work there."""


def install() -> ModuleType:
    """Patch PySide6, once, and return the module ``qt``."""
    if "qt" in sys.modules:
        return sys.modules["qt"]
    classes = {name: getattr(module, name) for module in _modules for name in dir(module) if name[0] == "Q"}
    for cls in classes.values():
        if inspect.isclass(cls) and issubclass(cls, QObject):
            _add_properties(cls)
            close_class(cls)
        if hasattr(cls, "exec") and not hasattr(cls, "exec_"):
            cls.exec_ = cls.exec
    QObject.__getattribute__ = _look_up
    QObject.className = lambda self: self.metaObject().className()
    QObject.delete = shiboken6.delete
    QObject.name = property(lambda self: self.objectName, lambda self, name: self.setObjectName(name))
    qt = ModuleType("qt", "Look-alike of Slicer's module qt.")
    vars(qt).update(classes)
    sys.modules["qt"] = qt
    return qt


def close_class(cls: type) -> type:
    """Make setting an unknown attribute on objects of exactly this class an error; names with "_" stay allowed."""
    cls.__setattr__ = _refuse_unknown
    _closed.add(cls)
    return cls


def disconnect_all(sender: QObject) -> None:
    """End the connections that Python code made from this object."""
    while _connections_of(sender):
        QObject.disconnect(_connections_of(sender).pop()[2])


# Attributes


class _Property:
    """A Qt property as an attribute; on the class it is still PySide6's method, which may be static too."""

    def __init__(self, name: str, method: Any, getter: Callable, setter: Callable | None) -> None:
        self.name, self.method, self.getter, self.setter = name, method, getter, setter

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self if self.method is None else self.method
        return self.getter(instance)

    def __set__(self, instance: Any, value: Any) -> None:
        if self.setter is None:
            raise AttributeError(f"Property {self.name!r} of {type(instance).__name__} is read-only")
        self.setter(instance, value)


def _add_properties(cls: type) -> None:
    description = cls.staticMetaObject
    for number in range(description.propertyCount()):
        found = description.property(number)
        name = found.name()
        # A class that has its own version of an inherited property's method would otherwise hide the attribute.
        if number < description.propertyOffset() and name not in vars(cls):
            continue
        capital = name[0].upper() + name[1:]
        method = inspect.getattr_static(cls, name, None)
        if isinstance(method, _Property):
            continue
        readers = [getattr(cls, reader, None) for reader in (name, "is" + capital)]
        getter = next(
            (r for r in readers if inspect.ismethoddescriptor(r)), lambda self, name=name: self.property(name)
        )
        setter = getattr(cls, "set" + capital, None)
        if setter is None and found.isWritable():
            setter = lambda self, value, name=name: self.setProperty(name, value)  # noqa: E731
        setattr(cls, name, _Property(name, None if method is None else getattr(cls, name), getter, setter))


def _look_up(self: Any, name: str) -> Any:
    if name == "connect":
        return lambda signal, *receiver: _connect(self, signal, *receiver)
    if name == "disconnect":
        return lambda signal, *receiver: _disconnect(self, signal, *receiver)
    try:
        value = _get_attribute(self, name)
    except AttributeError:
        if name[0] != "_" and name.encode() in [bytes(key) for key in _get_attribute(self, "dynamicPropertyNames")()]:
            return _get_attribute(self, "property")(name)
        raise
    if type(value) is QtCore.SignalInstance:
        return _SignalOfObject(self, name, value)
    return value


def _refuse_unknown(self: Any, name: str, value: Any) -> None:
    cls = type(self)
    known = inspect.getattr_static(cls, name, None)
    if isinstance(known, QtCore.Property):  # of a look-alike; the root's __setattr__ knows nothing of them
        known.fset(self, value)
        return
    if cls in _closed and not hasattr(type(known), "__set__"):
        private = name[0] == "_" and cls.__module__.startswith("shell.")
        # The loader of .ui files makes children attributes of their root; in Slicer they can be read as such, too.
        child = isinstance(value, QObject) and value.objectName == name
        if not (private or child or type(value) is QtCore.SignalInstance):  # where PySide6 keeps its signals
            raise AttributeError(f"{cls.__name__} has no property {name!r} that could be set")
    _set_attribute(self, name, value)


# Signals


def _connect(sender: Any, signal: Any, *receiver: Any) -> bool:
    signature = _signature(sender, str(signal))
    if signature is None:
        text = f"{type(sender).__name__} has no signal {signal!r}: nothing is connected"
        print(text, file=sys.stderr)  # noqa: T201 - as PythonQt does
        faults.append(PythonQtMistake(text))
        return False
    if len(receiver) == 2 and isinstance(receiver[1], str):
        target, slot = receiver
        return bool(QObject.connect(sender, QtCore.SIGNAL(signature), target, QtCore.SLOT(slot)))
    function = receiver[0]
    connection = QObject.connect(sender, QtCore.SIGNAL(signature), _trimmed(function))
    _connections_of(sender).append((signature, function, connection))
    return bool(connection)


def _disconnect(sender: Any, signal: Any, *receiver: Any) -> bool:
    signature = _signature(sender, str(signal))
    if len(receiver) == 2 and isinstance(receiver[1], str):
        return bool(QObject.disconnect(sender, QtCore.SIGNAL(signature), receiver[0], QtCore.SLOT(receiver[1])))
    connections = _connections_of(sender)
    ended = [c for c in connections if c[0] == signature and (not receiver or c[1] == receiver[0])]
    for connection in ended:
        connections.remove(connection)
        QObject.disconnect(connection[2])
    return bool(ended)


def _connections_of(sender: Any) -> list[tuple[str, Callable, Any]]:
    return vars(sender).setdefault(_CONNECTIONS, [])


def _signature(sender: Any, signal: str) -> str | None:
    """Return the signal as Qt's description of the class has it, or None."""
    signal = bytes(QtCore.QMetaObject.normalizedSignature(signal)).decode()
    for cls in type(sender).__mro__:
        signal = vars(cls).get("cpp_signals", {}).get(signal, signal)
    return signal if sender.metaObject().indexOfSignal(signal) >= 0 else None


def _trimmed(function: Callable) -> Callable:
    """Return a function that takes all arguments of a signal and hands on as many as PythonQt would."""
    if isinstance(function, BuiltinMethodType) and isinstance(function.__self__, QObject):
        return function  # a slot of Qt: connected by Qt itself
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is None or code.co_flags & inspect.CO_VARARGS:
        return lambda *arguments: _call(function, arguments)
    taken = code.co_argcount - inspect.ismethod(function)
    return lambda *arguments: _call(function, arguments[:taken])


def _call(function: Callable, arguments: tuple) -> None:
    try:
        function(*arguments)
    except BaseException:  # noqa: BLE001
        # Slicer prints it to the console and goes on; here the test must learn of it too.
        sys.excepthook(*sys.exc_info())


class _SignalOfObject:
    """What ``button.clicked`` is."""

    def __init__(self, sender: Any, name: str, signal: QtCore.SignalInstance) -> None:
        self._sender, self._signal, self.emit = sender, signal, signal.emit
        described = sender.metaObject()
        methods = [described.method(number) for number in range(described.methodCount())]
        signatures = [bytes(m.methodSignature()).decode() for m in methods if bytes(m.name()).decode() == name]
        self._signature = max(signatures, key=len)

    def connect(self, function: Callable, *_: Any) -> bool:
        return _connect(self._sender, self._signature, getattr(function, "emit", function))

    def disconnect(self, *function: Callable) -> bool:
        return _disconnect(self._sender, self._signature, *function)

    def __call__(self, *arguments: Any) -> None:
        self.emit(*arguments)

    def __getitem__(self, kind: Any) -> QtCore.SignalInstance:
        return self._signal[kind]
