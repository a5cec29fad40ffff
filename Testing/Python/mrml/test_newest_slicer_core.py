"""The node tests hold on another slicer-core than the one that is locked: Testing/README.md says how to name it."""

import os
import subprocess
from pathlib import Path

import pytest

VARIABLE = "AIDICOMBRIDGE_SLICER_CORE_VENV"
HERE = Path(__file__).parent
SUITE = (
    *("volume_node", "subject_hierarchy", "source_files", "segmentation_node", "edited_node"),
    *("mirrored_volume", "round_trip"),
)


@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no environment with another slicer-core")
def test_nodes_on_the_slicer_core_of_another_environment() -> None:
    python = Path(os.environ[VARIABLE]).absolute() / "bin" / "python"
    search_path = os.pathsep.join(str(folder) for folder in (HERE.parents[2] / "AIDicomBridge", HERE.parent))
    version = "from importlib.metadata import version; print(version('slicer-core'))"
    found = subprocess.run([python, "-c", version], capture_output=True, text=True, check=True).stdout.strip()
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", HERE.parent]
    environment = {**os.environ, "PYTHONPATH": search_path}
    files = [HERE / f"test_{name}.py" for name in SUITE]
    run = subprocess.run(
        [*command, "--import-mode=importlib", *files],
        env=environment,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    last_line = (run.stdout.strip().splitlines() or [run.stderr])[-1]
    print(f"slicer-core {found}: {last_line}")  # noqa: T201
    assert run.returncode == 0, f"slicer-core {found}\n{run.stdout[-6000:]}{run.stderr[-2000:]}"
