"""``Scripts/batch.py``: the command line with its exit status, in plain Python and in a stand-in for Slicer."""

import json
import subprocess
import sys
from pathlib import Path

import AIDicomBridgeLib
import pytest

BATCH = Path(AIDicomBridgeLib.__file__).parents[1] / "Scripts" / "batch.py"
# What Slicer does with --python-script: the script runs as __main__ in a process where slicer.app exists, and
# slicer.util.exit only asks the application to end.
IN_SLICER = f"""
import runpy, sys, types
slicer = types.ModuleType("slicer")
slicer.__path__ = []
slicer.app = object()
slicer.util = types.SimpleNamespace(exit=lambda status: print("slicer.util.exit", status))
slicer.packaging = types.ModuleType("slicer.packaging")
slicer.packaging.pip_ensure = lambda requirements, requester: print("asked for", *requirements)
sys.modules.update({{"slicer": slicer, "slicer.packaging": slicer.packaging}})
for name in "{{hidden}}".split():
    sys.modules[name] = None
sys.argv = [{str(BATCH)!r}, *sys.argv[1:]]
runpy.run_path({str(BATCH)!r}, run_name="__main__")
print("Slicer goes on")
"""


def run(*arguments: str, slicer: bool, hidden: str = "") -> subprocess.CompletedProcess[str]:
    program = ["-c", IN_SLICER.replace("{hidden}", hidden)] if slicer else [str(BATCH)]
    return subprocess.run(
        [sys.executable, *program, *arguments], capture_output=True, text=True, timeout=120, check=False, cwd="/"
    )


def test_plain_python_runs_the_command_and_ends_with_its_status(tmp_path: Path):
    listed = run("models", "list", "--json", slicer=False)
    assert listed.returncode == 0, listed.stderr
    assert "ct-tissues" in {model["name"] for model in json.loads(listed.stdout)["models"]}

    failed = run("segment", str(tmp_path / "nothing"), "--model", "ct-tissues", "--out", str(tmp_path), slicer=False)
    assert failed.returncode == 1
    assert "does not exist" in failed.stderr

    assert run("no-such-command", slicer=False).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "status"), [(("--version",), 0), (("models", "show", "nothing"), 1), (("x",), 2)]
)
def test_slicer_is_ended_with_the_commands_status(arguments: tuple[str, ...], status: int):
    done = run(*arguments, slicer=True)
    assert done.stdout.splitlines()[-2:] == [f"slicer.util.exit {status}", "Slicer goes on"], done.stderr


def test_an_unforeseen_failure_ends_slicer_too():
    done = run("--version", slicer=True, hidden="AIDicomBridgeLib.cli.main")
    assert "slicer.util.exit 1" in done.stdout
    assert "Traceback" in done.stderr
