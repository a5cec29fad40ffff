"""What ``import AIDicomBridgeLib`` costs: nothing until a name is used."""

import subprocess
import sys

import AIDicomBridgeLib
import pytest


def modules_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after the statement."""
    show = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run(
        [sys.executable, "-c", f"{statement}; {show}"], capture_output=True, text=True, check=True, timeout=60
    )
    return set(run.stdout.split())


def test_importing_the_library_imports_no_other_package():
    third_party = modules_after("import AIDicomBridgeLib") - set(sys.stdlib_module_names) - modules_after("pass")
    assert third_party == {"AIDicomBridgeLib"}


def test_naming_an_endpoint_does_not_load_torch_or_slicer():
    heavy = {"torch", "highdicom", "pydicom", "pynetdicom", "SimpleITK", "dicomweb_client", "requests", "slicer", "vtk"}
    loaded = modules_after("from AIDicomBridgeLib import DimseEndpoint, SourceSeries, Outbox, run_job")
    assert loaded & heavy == set()


@pytest.mark.parametrize("name", AIDicomBridgeLib.__all__)
def test_every_public_name_is_there(name: str):
    found = getattr(AIDicomBridgeLib, name)
    assert found.__module__.startswith("AIDicomBridgeLib.")
    assert found.__doc__
