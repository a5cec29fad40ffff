"""The tree of what was found: patients, their studies, and of each study that is looked at its series."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from ..pacs.records import SeriesRecord, StudyRecord

TITLE, DATE, MODALITY, SERIES_COUNT, IMAGE_COUNT = range(5)
_COLUMN_WIDTHS = {DATE: 80, MODALITY: 62, SERIES_COUNT: 50, IMAGE_COUNT: 55}  # the title takes what is left
# Series of results, not of images: never chosen for the person.
_RESULT_MODALITIES = {"SEG", "SR", "OT", "PR", "KO", "RTSTRUCT", "RTDOSE", "RTPLAN", "DOC", "REG", "SC"}


class StudyTree:
    """Shows records as a tree, sorted by any column, of which several lines can be chosen.

    Parameters
    ----------
    tree
        The QTreeWidget.
    on_choice
        Called when other lines are chosen.
    """

    def __init__(self, tree: Any, on_choice: Callable[[], None]) -> None:
        self._tree = tree
        self._studies: dict[str, StudyRecord] = {}
        self._series: dict[str, SeriesRecord] = {}
        self._items: dict[str, Any] = {}  # of studies and series, by UID
        header = tree.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(TITLE, qt.QHeaderView.Stretch)
        for column, width in _COLUMN_WIDTHS.items():
            tree.setColumnWidth(column, width)
        tree.setToolTip(_("Choose a study to list its series. With Ctrl or Shift several series can be chosen."))
        tree.connect("itemSelectionChanged()", on_choice)

    @property
    def chosen_studies(self) -> list[StudyRecord]:
        """The studies whose own lines are chosen."""
        return [self._studies[uid] for uid in self._chosen_uids() if uid in self._studies]

    @property
    def chosen_series(self) -> list[tuple[StudyRecord, SeriesRecord]]:
        """The series whose lines are chosen, each with its study, from top to bottom."""
        chosen = [self._series[uid] for uid in self._chosen_uids() if uid in self._series]
        return [(self._studies[series.study_uid], series) for series in chosen]

    def clear(self) -> None:
        """Forget everything."""
        self._studies, self._series, self._items = {}, {}, {}
        self._tree.clear()

    def show_studies(self, studies: Sequence[StudyRecord]) -> None:
        """List studies below their patients; a single one is chosen."""
        self.clear()
        # Without a Patient ID nothing proves that two studies are of one patient.
        by_patient = defaultdict(list)
        for study in studies:
            patient = (study.patient_id, study.patient_name, study.patient_birth_date)
            by_patient[patient if study.patient_id else study.study_uid].append(study)
        with _Unsorted(self._tree):
            for of_one_patient in by_patient.values():
                self._add_patient(of_one_patient)
        self._tree.expandAll()
        if len(studies) == 1:
            self._tree.setCurrentItem(self._items[studies[0].study_uid])

    def show_series(self, study_uid: str, listed: Sequence[SeriesRecord]) -> None:
        """List the series of a study; its only image series is chosen, if the study was."""
        study_item = self._items.get(study_uid)
        if study_item is None:  # found by an earlier query
            return
        was_chosen = self._chosen_uids() == [study_uid]
        with _Unsorted(self._tree):
            for series in listed:
                self._add_series(study_item, series)
        study_item.setExpanded(True)
        images = [series for series in listed if series.modality not in _RESULT_MODALITIES]
        if len(images) == 1 and was_chosen:
            self._tree.setCurrentItem(self._items[images[0].series_uid])

    def _add_patient(self, studies: list[StudyRecord]) -> None:
        first = studies[0]
        item = qt.QTreeWidgetItem(self._tree)
        title = f"{first.patient_name} ({first.patient_id})" if first.patient_id else first.patient_name
        birth_date = iso_date(first.patient_birth_date) or "-"
        _fill(
            item,
            "",
            title or _("Patient without a name"),
            modality="/".join(sorted({modality for study in studies for modality in study.modalities})),
            series_count=_total(study.series_count for study in studies),
            image_count=_total(study.instance_count for study in studies),
            tip=_("Born: {date}\nStudies: {count}").format(date=birth_date, count=len(studies)),
        )
        for study in studies:
            child = qt.QTreeWidgetItem(item)
            _fill(
                child,
                study.study_uid,
                study.study_description or _("Study"),
                date=iso_date(study.study_date),
                modality="/".join(study.modalities),
                series_count=study.series_count,
                image_count=study.instance_count,
                tip=_("Accession number: {accession}\nStudy UID: {uid}").format(
                    accession=study.accession_number or "-", uid=study.study_uid
                ),
            )
            self._studies[study.study_uid] = study
            self._items[study.study_uid] = child

    def _add_series(self, study_item: Any, series: SeriesRecord) -> None:
        item = qt.QTreeWidgetItem(study_item)
        _fill(
            item,
            series.series_uid,
            f"{series.series_number}: {series.series_description}".strip(": ") or _("Series"),
            date=iso_date(series.series_date),
            modality=series.modality,
            image_count=series.instance_count,
            tip=_("Body part: {part}\nSeries UID: {uid}").format(part=series.body_part or "-", uid=series.series_uid),
        )
        self._series[series.series_uid] = series
        self._items[series.series_uid] = item

    def _chosen_uids(self) -> list[str]:
        # Qt lists the chosen lines in the order in which they were chosen; a person reads them from top to bottom.
        chosen = {str(item.data(TITLE, qt.Qt.UserRole)) for item in self._tree.selectedItems()}
        return [uid for uid in self._uids_in_order() if uid in chosen]

    def _uids_in_order(self) -> list[str]:
        found = []
        waiting = [self._tree.topLevelItem(row) for row in reversed(range(self._tree.topLevelItemCount))]
        while waiting:
            item = waiting.pop()
            found.append(str(item.data(TITLE, qt.Qt.UserRole)))
            waiting += [item.child(row) for row in reversed(range(item.childCount()))]
        return found


class _Unsorted:
    """Keeps a tree from sorting while lines are added and filled."""

    def __init__(self, tree: Any) -> None:
        self._tree = tree

    def __enter__(self) -> None:
        self._tree.setSortingEnabled(False)

    def __exit__(self, *_exception: object) -> None:
        self._tree.setSortingEnabled(True)


def _fill(
    item: Any,
    uid: str,
    title: str,
    *,
    date: str = "",
    modality: str = "",
    series_count: int | None = None,
    image_count: int | None = None,
    tip: str,
) -> None:
    item.setData(TITLE, qt.Qt.UserRole, uid)
    for column, text in ((TITLE, title), (DATE, date), (MODALITY, modality)):
        item.setText(column, text)
    for column, count in ((SERIES_COUNT, series_count), (IMAGE_COUNT, image_count)):
        if count is not None:
            item.setData(column, qt.Qt.DisplayRole, count)  # as a number, so that it sorts as one
        item.setTextAlignment(column, qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    for column in (TITLE, *_COLUMN_WIDTHS):
        item.setToolTip(column, f"{title}\n{tip}")  # the column may be too narrow for it


def _total(counts: Any) -> int | None:
    """Return the sum; None if one of the counts is not known."""
    known = list(counts)
    return None if None in known else sum(known)


def iso_date(text: str) -> str:
    """Return a DICOM date as 2026-01-02; anything else as it is."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text
