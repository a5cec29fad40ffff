"""What a person is asked about a series that is no one regular volume; hidden while no series asks for it."""

from collections.abc import Callable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from ..series.offered_stacks import OfferedStack


class StackChoice:
    """Lets a person choose one of several stacks, and agree to have an irregular one resampled.

    Parameters
    ----------
    ui
        The panel's widgets by name.
    on_change
        Called when something is chosen.
    """

    def __init__(self, ui: Any, on_change: Callable[[], None]) -> None:
        self._ui, self._on_change = ui, on_change
        self._stacks: Sequence[OfferedStack] = ()
        self._title = ""
        ui.resampleLabel.setTextFormat(qt.Qt.PlainText)
        ui.resampleCheckBox.setToolTip(_("Without it, an irregular series is not loaded."))
        ui.stackComboBox.connect("currentIndexChanged(int)", lambda _index: self._stack_chosen())
        ui.resampleCheckBox.connect("toggled(bool)", lambda _checked: on_change())
        self.withdraw()

    def offer(self, stacks: Sequence[OfferedStack], title: str = "") -> bool:
        """Ask about the stacks of a series; return False if there is nothing that could be chosen.

        The title says which series is meant, where it could be another one.
        """
        regular = len(stacks) == 1 and not stacks[0].irregularity
        self._stacks = () if regular or all(stack.problem for stack in stacks) else stacks
        self._title = title
        combo = self._ui.stackComboBox
        combo.blockSignals(True)
        combo.clear()
        for stack in self._stacks:
            combo.addItem(
                _("{number}: {name} ({count} slices)").format(
                    number=stack.number, name=stack.name, count=stack.slice_count
                )
            )
        combo.setCurrentIndex(0 if len(self._stacks) == 1 else -1)  # which of several is for the person to say
        combo.blockSignals(False)
        self._show()
        return bool(self._stacks)

    def withdraw(self) -> None:
        """Ask nothing any more."""
        self.offer(())

    @property
    def missing(self) -> str:
        """What has to be said before the series can be loaded; an empty text if nothing."""
        if not self._stacks:
            return ""
        stack = self._stack
        if stack is None:
            return _("Choose one of the stacks first.")
        if stack.problem:
            return _("This stack is no volume: {problem}.").format(problem=stack.problem)
        if stack.irregularity and not self._ui.resampleCheckBox.checked:
            return _("Tick 'Resample' first, or choose another series.")
        return ""

    @property
    def options(self) -> dict[str, Any]:
        """What was chosen, as :class:`~..series.image_files.ImageFiles` takes it."""
        stack = self._stack
        number = stack.number if stack is not None and len(self._stacks) > 1 else None
        return {"stack": number, "resample": stack is not None and bool(stack.irregularity)}

    @property
    def _stack(self) -> OfferedStack | None:
        index = self._ui.stackComboBox.currentIndex
        return self._stacks[index] if 0 <= index < len(self._stacks) else None

    def _stack_chosen(self) -> None:
        self._show()
        self._on_change()

    def _show(self) -> None:
        """Show what there is to say about the stack that is chosen; what was agreed to held for another one."""
        ui, stack = self._ui, self._stack
        for widget in (ui.stackLabel, ui.stackComboBox):
            widget.setVisible(len(self._stacks) > 1)
        irregularity = stack.irregularity if stack is not None and not stack.problem else ""
        ui.resampleCheckBox.blockSignals(True)
        ui.resampleCheckBox.setChecked(False)
        ui.resampleCheckBox.blockSignals(False)
        ui.resampleCheckBox.setVisible(bool(irregularity))
        lines = [_("Of {title}:").format(title=self._title)] if self._title and self._stacks else []
        if irregularity:
            lines.append(
                _(
                    "{irregularity}. Resampled, the series is shown and segmented on a regular grid, with values "
                    "interpolated between its slices and across its gaps. Results are mapped back: they lie on the "
                    "slices as they are."
                ).format(irregularity=irregularity[:1].upper() + irregularity[1:])
            )
        elif stack is not None and stack.problem:
            lines.append(self.missing)
        ui.resampleLabel.setVisible(bool(lines))
        ui.resampleLabel.setText("\n".join(lines))
