"""No run takes more memory than its plan says: measured in a process of its own, one way of running after another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from memory_of_runs import PEAK_IS_RESET_BY

PROGRAM = Path(__file__).parents[1] / "memory_of_runs.py"
# Blocks of a megabyte or more are taken from the system and given back to it, each by itself.
NO_ARRAYS = 8e6  # bytes of threads, gaps and small objects: the volume is a small one
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "0", "OMP_WAIT_POLICY": "passive"}


@pytest.mark.skipif(not os.access(PEAK_IS_RESET_BY, os.W_OK), reason=f"{PEAK_IS_RESET_BY} is not there to be written")
def test_no_run_takes_more_memory_than_its_plan_says(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(PROGRAM.parent), *sys.path])
    ran = subprocess.run(
        [sys.executable, PROGRAM, tmp_path],
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(rows) >= 12
    too_much = [row for row in rows if row["measured"] > 1.15 * row["planned"] + NO_ARRAYS]
    assert not too_much
