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
import importlib.util, runpy, sys, types
slicer = types.ModuleType("slicer")
slicer.__path__ = []
slicer.__spec__ = types.SimpleNamespace()
slicer.app = object()
slicer.util = types.SimpleNamespace(
    exit=lambda status: print("slicer.util.exit", status), mainWindow=lambda: {{window}}
)
slicer.packaging = types.ModuleType("slicer.packaging")
slicer.packaging.__spec__ = types.SimpleNamespace()
slicer.packaging.load_requirements = lambda path: path.read_text().split()
def pip_ensure(requirements, requester):
    print("asked for", *requirements)
    if not {{window}} or not {{agrees}}:
        raise RuntimeError("User declined package installation")
    for name in "{{hidden}}".split():
        sys.modules.pop(name, None)
slicer.packaging.pip_ensure = pip_ensure
sys.modules.update({{"slicer": slicer, "slicer.packaging": slicer.packaging}})
find_spec = importlib.util.find_spec
def find_what_is_not_hidden(name, package=None):
    return None if name in sys.modules and sys.modules[name] is None else find_spec(name, package)
importlib.util.find_spec = find_what_is_not_hidden
for name in "{{hidden}}".split():
    sys.modules[name] = None
sys.argv = [{str(BATCH)!r}, *sys.argv[1:]]
runpy.run_path({str(BATCH)!r}, run_name="__main__")
print("Slicer goes on")
"""


def run(
    *arguments: str, slicer: bool, hidden: str = "", window: bool = False, agrees: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the script; ``hidden`` is not there until Slicer's question is agreed to, which takes its ``window``."""
    script = IN_SLICER.replace("{hidden}", hidden).replace("{window}", str(window or None))
    program = ["-c", script.replace("{agrees}", str(agrees))] if slicer else [str(BATCH)]
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


def test_without_a_window_nobody_is_asked_and_the_line_that_prepares_slicer_is_printed():
    fresh = run("--version", slicer=True, hidden="typer rich")
    requirements = BATCH.parents[1] / "Resources" / "requirements.txt"
    assert f'PythonSlicer -m pip install -r "{requirements}"' in fresh.stderr
    assert "Traceback" not in fresh.stderr
    assert fresh.stdout.splitlines()[-2:] == ["slicer.util.exit 1", "Slicer goes on"]
    assert {"typer>=0.15", "rich>=13"} <= set(requirements.read_text().split())


@pytest.mark.parametrize(("agrees", "status"), [(True, 0), (False, 1)])
def test_with_a_window_the_person_is_asked(agrees: bool, status: int):
    done = run("--version", slicer=True, hidden="typer rich", window=True, agrees=agrees)
    assert "asked for" in done.stdout
    assert f"slicer.util.exit {status}" in done.stdout
    assert ("agree to the installation" in done.stderr) is not agrees
    assert "Traceback" not in done.stderr


def test_a_command_that_runs_a_model_names_the_way_to_torch(tmp_path: Path):
    arguments = ("segment", str(tmp_path), "--model", "ct-tissues", "--out", str(tmp_path))
    done = run(*arguments, slicer=True, hidden="torch")
    assert "slicer.util.exit 1" in done.stdout
    assert "Install the PyTorch extension in Slicer's Extensions Manager" in done.stderr
