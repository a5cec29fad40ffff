"""The table of the worker's calls is that of the calls, and spares Slicer's process the import of the engine."""

import inspect
import subprocess
import sys

import pytest
from AIDicomBridgeLib.worker.call_table import CALLS, refuse_wrong_call
from AIDicomBridgeLib.worker.calls import Calls


def arguments_of(call) -> str:
    parameters = list(inspect.signature(call).parameters.values())[1:]
    return " ".join(
        "**" if one.kind is one.VAR_KEYWORD else one.name + ("" if one.default is one.empty else "?")
        for one in parameters
    )


def test_the_table_is_complete():
    calls = {name: found for name, found in vars(Calls).items() if inspect.isfunction(found) and name[0] != "_"}
    assert {name: arguments_of(call) for name, call in calls.items()} == CALLS


@pytest.mark.parametrize("arguments", [{}, {"files": None, "path": ""}, {"file": None}])
def test_missing_and_unknown_arguments_are_refused(arguments):
    with pytest.raises(TypeError):
        refuse_wrong_call("read", arguments)


def test_any_key_may_be_asked_for_where_the_call_takes_any():
    refuse_wrong_call("find_studies", {"endpoint": None, "patient_id": "1"})
    with pytest.raises(TypeError):
        refuse_wrong_call("find_studies", {"patient_id": "1"})


def test_asking_imports_no_engine():
    code = (
        "import sys\nfrom AIDicomBridgeLib.worker.client import Worker\n"
        "worker = Worker()\nworker.submit('outbox', outbox_folder='nowhere')\nworker.close()\n"
        "print('AIDicomBridgeLib.worker.calls' in sys.modules, 'AIDicomBridgeLib.inference' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.split() == ["False", "False"]
