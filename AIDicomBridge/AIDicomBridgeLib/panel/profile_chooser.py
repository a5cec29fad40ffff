"""For which kind of destination the results are written, and as which objects."""

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from ..pacs.endpoint import Endpoint
from ..results.profiles import DEFAULT_PROFILE, PROFILES, DestinationProfile
from .availability import set_available

_REPORT_CLASSES = {
    "COMPREHENSIVE_3D": "Comprehensive 3D SR",
    "COMPREHENSIVE": "Comprehensive SR",
    "ENHANCED": "Enhanced SR",
}


class ProfileChooser:
    """Follows the destination's own profile; a person may choose another, or other objects, for this sending.

    Parameters
    ----------
    ui
        The panel's widgets by name.
    on_change
        Called when something else is chosen.
    """

    def __init__(self, ui: Any, on_change: Callable[[], None]) -> None:
        self._ui, self._on_change = ui, on_change
        self._names = list(PROFILES)
        self._destination: str | None = None
        self.kinds = {"seg": ui.segCheckBox, "sr": ui.srCheckBox, "sc": ui.scCheckBox}
        for name in self._names:
            ui.profileComboBox.addItem(_("any archive") if name == DEFAULT_PROFILE.name else name)
        ui.segCheckBox.setToolTip(_("DICOM Segmentation (SEG): the segments, voxel by voxel."))
        ui.srCheckBox.setToolTip(_("DICOM structured report (SR) with the measurements of every segment."))
        ui.scCheckBox.setToolTip(_("Secondary captures (SC): slices with outlines, for viewers that cannot show SEG."))
        ui.profileComboBox.connect("currentIndexChanged(int)", lambda _index: self._profile_changed())
        for box in self.kinds.values():
            box.connect("toggled(bool)", lambda _checked: on_change())
        self._profile_changed()

    @property
    def profile(self) -> DestinationProfile:
        """The profile that is chosen."""
        return PROFILES[self._names[max(0, self._ui.profileComboBox.currentIndex)]]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The kinds of objects that are ticked."""
        return tuple(kind for kind, box in self.kinds.items() if box.checked)

    def follow(self, endpoint: Endpoint | None) -> None:
        """Take over the profile of a destination, if it is another one than before."""
        address = endpoint.address if endpoint else None
        if address == self._destination:
            return
        self._destination = address
        name = endpoint.profile.lower() if endpoint else ""
        # A name that only a newer version knows cannot be followed; what is shown is what is used.
        self._ui.profileComboBox.setCurrentIndex(self._names.index(name) if name in self._names else 0)
        self._profile_changed()

    def update(self) -> None:
        """Say what the profile stands for."""
        tip = _("{meaning}\nTo keep another one for this archive, change the archive in stage 1.")
        set_available(self._ui.profileComboBox, tip.format(meaning=self.describe()))

    def describe(self) -> str:
        """Return in words how the objects are written."""
        profile = self.profile
        encoding = profile.encoding
        if encoding == "AUTO":
            encoding = _("LABELMAP if the archive says that it takes it, else BINARY")
        elif profile.compression:
            encoding = f"{encoding}, {profile.compression}"
        return _("Segmentation: {encoding}. Report: {report}.").format(
            encoding=encoding, report=_REPORT_CLASSES.get(profile.report_class, profile.report_class)
        )

    def _profile_changed(self) -> None:
        for kind, box in self.kinds.items():
            box.setChecked(kind in self.profile.outputs)
        self.update()
        self._on_change()
