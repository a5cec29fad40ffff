"""The node tests hold on another slicer-core than the locked one: on what ``.ci/newest-slicer-core`` installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(sys.prefix) / "newest-slicer-core"
HERE = Path(__file__).parent
SUITE = (
    *("volume_node", "subject_hierarchy", "source_files", "segmentation_node", "edited_node"),
    *("mirrored_volume", "moved_volume", "round_trip"),
)


@pytest.mark.skipif(not FOLDER.exists(), reason="no other slicer-core is installed (.ci/newest-slicer-core)")
def test_nodes_on_the_newest_slicer_core() -> None:
    search_path = os.pathsep.join(str(folder) for folder in (FOLDER, HERE.parents[2] / "AIDicomBridge", HERE.parent))
    environment = {**os.environ, "PYTHONPATH": search_path}
    found = subprocess.run(
        [sys.executable, "-c", "from importlib.metadata import version; print(version('slicer-core'))"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert found == (FOLDER / "installed").read_text().strip()
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(HERE / f"test_{name}.py" for name in SUITE)],
        env=environment,
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    last_line = (run.stdout.strip().splitlines() or [run.stderr])[-1]
    print(f"slicer-core {found}: {last_line}")  # noqa: T201
    assert run.returncode == 0, f"slicer-core {found}\n{run.stdout[-6000:]}{run.stderr[-2000:]}"
