"""How long Slicer's window would be held up while the panel works: the gaps of a 20 ms timer in the look-alike window.

``PYTHONPATH=Testing/Python .venv/bin/python -m bench.window``: a CT of 512 x 512 x 200 is retrieved from an archive
and segmented by rules; with MindGrab's weights on this machine also a small head, by the network. The goal, while the
worker works: gaps of 50 ms at the median and 300 ms at most. What only the main thread may do, such as putting a result
into the scene, is printed by itself.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from AIDicomBridgeLib import BridgeError, connect
from AIDicomBridgeLib.models.catalogue import Catalogue
from AIDicomBridgeLib.models.weights import WeightsFolder
from shell import steps
from shell.beats import Beats
from shell.window import open_window
from synthetic import body_phantom, make_series, save_series

from . import archives, study


def show(what: str, gaps_ms: np.ndarray) -> None:
    """Print one line of the table."""
    if len(gaps_ms):
        seconds, median, largest = gaps_ms.sum() / 1000, np.median(gaps_ms), gaps_ms.max()
        print(f"{what:<52} {seconds:7.1f} s {median:8.0f} ms {largest:8.0f} ms")


def run(shell: Any, button: Any, status: Any, what: str) -> None:
    """Press a button, print the gaps until the panel has done, and say if it failed."""
    shell.click(button)
    while_waiting, others = Beats(steps.runner_of(shell)).run_until_idle()
    show(f"{what}: the worker works", while_waiting)
    show(f"{what}: the scene, Slicer's database", others)
    print(f"    {status.text}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.window", description=__doc__)
    parser.add_argument("--slices", type=int, default=200, help="of the CT, 512 x 512 each")
    slices = parser.parse_args().slices
    card = Catalogue.load()["mindgrab"]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, open_window() as shell:
        print(f"{'gaps of a 20 ms timer in the window':<52} {'for':>9} {'median':>11} {'largest':>11}")
        files = study.write_ct(Path(folder, "ct"), slices)
        with archives.running("built-in", Path(folder, "archive")) as endpoint:
            with connect(endpoint) as client:
                client.store(files)
            steps.add_endpoint(shell, endpoint)
            steps.find(shell)
            run(shell, shell.ui.loadButton, shell.ui.loadStatusLabel, f"retrieve and load {slices} slices")
        shell.choose(shell.ui.modelComboBox, "ct-tissues")
        run(shell, shell.ui.segmentButton, shell.ui.segmentStatusLabel, f"rules on 512 x 512 x {slices}")
        try:
            present = WeightsFolder.default().is_present(card)
        except BridgeError:
            present = False
        if not present:
            print("no network: MindGrab's weights are not here; fetch them with: aidicombridge models fetch mindgrab")
            return
        shell.scene.Clear(0)
        head = make_series(body_phantom((40, 48, 48)), modality="MR", spacing_mm=(2.0, 2.0, 2.0))
        for dataset in head:
            dataset.BodyPartExamined = "HEAD"
        node = shell.logic.loadSeries(save_series(head, Path(folder, "head")))
        shell.choose(shell.ui.volumeComboBox, node.GetName())
        shell.choose(shell.ui.modelComboBox, "mindgrab")
        run(shell, shell.ui.segmentButton, shell.ui.segmentStatusLabel, "network on a head of 80 x 96 x 96")


if __name__ == "__main__":
    main()
