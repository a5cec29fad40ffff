"""PySide6 with the habits of PythonQt: what goes wrong in Slicer in silence is an error here."""

import pytest


@pytest.fixture
def qt(shell):
    import qt

    return qt


# PythonQt


def test_properties_are_attributes_and_have_methods(qt):
    label = qt.QLabel("one")
    label.text = "two"
    assert label.text == "two"
    label.setText("three")
    assert label.text == "three"
    assert label.enabled is label.isEnabled() is True
    with pytest.raises(TypeError):
        label.text()
    box = qt.QComboBox()
    box.addItems(["a", "b"])
    assert (box.count, box.currentText) == (2, "a")
    with pytest.raises(AttributeError, match="read-only"):
        box.count = 3


def test_objects_that_qt_made_have_the_same_habits(qt):
    table = qt.QTableWidget(2, 3)
    header = table.horizontalHeader()
    header.stretchLastSection = True
    assert header.stretchLastSection is True
    assert header.connect("sectionClicked(int)", print)


def test_a_property_that_is_also_a_static_method(qt):
    timer = qt.QTimer()
    timer.singleShot = True
    assert timer.singleShot is timer.isSingleShot() is True
    assert callable(qt.QTimer.singleShot)


def test_a_misspelt_attribute_is_an_error(qt):
    with pytest.raises(AttributeError, match="txt"):
        qt.QLabel().txt = "x"
    with pytest.raises(AttributeError, match="txt"):
        qt.QLabel().txt  # noqa: B018

    class Own(qt.QLabel):
        pass

    Own().txt = "x"


def test_both_ways_to_connect(qt):
    button, calls = qt.QPushButton(), []
    button.checkable = True
    button.connect("clicked()", lambda: calls.append("none"))
    button.connect("clicked(bool)", lambda on: calls.append(("old", on)))
    button.clicked.connect(lambda on: calls.append(("new", on)))
    button.clicked.connect(lambda: calls.append("trimmed"))
    button.clicked.connect(lambda *all_of_them: calls.append(all_of_them))
    button.click()
    assert calls == ["none", ("old", True), ("new", True), "trimmed", (True,)]


def test_disconnect(qt):
    class Counter:
        calls = 0

        def count(self):
            self.calls += 1

    button, counter = qt.QPushButton(), Counter()
    button.connect("clicked(bool)", counter.count)
    button.clicked.connect(counter.count)
    button.click()
    assert counter.calls == 2
    assert button.disconnect("clicked(bool)", counter.count)
    button.click()
    assert counter.calls == 2
    assert not button.disconnect("clicked(bool)", counter.count)


def test_a_signal_can_set_off_a_slot_of_qt(qt):
    first, second, calls = qt.QPushButton(), qt.QPushButton(), []
    first.clicked.connect(second.click)
    first.connect("clicked()", second, "toggle()")
    second.checkable = True
    second.clicked.connect(calls.append)
    first.click()
    assert calls == [True]
    assert second.checked is False


def test_an_unknown_signal_is_false_and_a_fault(shell, qt, capsys):
    with shell.expected_fault(Exception, "klicked()"):
        assert qt.QPushButton().connect("klicked()", print) is False
    assert "klicked()" in capsys.readouterr().err


def test_an_exception_in_a_slot_fails_the_test(shell, qt):
    def break_down():
        raise ValueError("in a slot")

    button = qt.QPushButton()
    button.clicked.connect(break_down)
    button.click()
    with pytest.raises(ValueError, match="in a slot"):
        shell.check()
    qt.QTimer.singleShot(0, break_down)
    with pytest.raises(ValueError, match="in a slot"):
        shell.wait_until(lambda: False, what="never")


def test_an_exception_in_an_observer_fails_the_test(shell):
    import slicer

    def break_down(*_):
        raise ValueError("in an observer")

    slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, break_down)
    with shell.expected_fault(ValueError, "in an observer"):
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")


def test_a_warning_of_qt_fails_the_test(shell, qt):
    with shell.expected_fault(Exception, "QLayout"):
        widget = qt.QWidget()
        qt.QVBoxLayout(widget)
        qt.QVBoxLayout(widget)
