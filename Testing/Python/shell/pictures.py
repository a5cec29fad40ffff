"""The README's pictures of the panel: ``make pictures``, or in Testing/Python ``python -m shell.pictures FOLDER``.

The panel goes through the whole loop on a synthetic CT and the built-in archive, by clicks, and each stage is drawn.
"""

import os
import sys
import tempfile
from pathlib import Path

from AIDicomBridgeLib.pacs.archive import Archive
from AIDicomBridgeLib.series.instance_store import InstanceStore
from synthetic import body_phantom, make_series, save_series

from .steps import add_endpoint, find, load, segment, send

WIDTH = 620


def draw(shell, folder: Path, name: str, *stages: str) -> None:
    """Write the sections of some stages, one below the other, as a picture."""
    import qt

    shell.process()
    pictures = [getattr(shell.ui, f"{stage}CollapsibleButton").grab() for stage in stages]
    sheet = qt.QPixmap(pictures[0].width(), sum(picture.height() for picture in pictures))
    sheet.fill(qt.QColor(255, 255, 255))
    painter = qt.QPainter(sheet)
    top = 0
    for picture in pictures:
        painter.drawPixmap(0, top, picture)
        top += picture.height()
    painter.end()
    assert sheet.save(str(folder / f"panel-{name}.png"))


def make_pictures(folder: Path, private: Path) -> None:
    """Write ``panel-find.png``, ``panel-segment.png``, ``panel-send.png`` and ``panel-sent.png`` into a folder."""
    from .window import open_window

    datasets = make_series(body_phantom((24, 96, 112)), patient_name="Doe^Jane", patient_id="P-0001")
    with InstanceStore(private / "archive") as store, Archive(store) as archive, open_window() as shell:
        for path in save_series(datasets, private / "ct"):
            store.add_file(path)
        shell.frame.resize(WIDTH, 1400)
        add_endpoint(shell, archive.endpoint, "Archive of the department")
        find(shell)
        load(shell)
        draw(shell, folder, "find", "find", "load")
        segment(shell)
        draw(shell, folder, "segment", "segment")
        shell.click(shell.ui.scCheckBox)
        shell.click(shell.ui.sendButton)
        draw(shell, folder, "send", "send")
        send(shell)
        draw(shell, folder, "sent", "send")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        os.environ["AIDICOMBRIDGE_HOME"] = f"{name}/home"  # the outbox of the person stays out of the picture
        make_pictures(Path(sys.argv[1]).resolve(), Path(name))
