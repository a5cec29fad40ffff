"""What the repository says about itself in several places is the same everywhere."""

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import AIDicomBridgeLib
import pytest

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required_packages() -> set[str]:
    """Return the canonical names of all dependencies of pyproject.toml, extras included."""
    requirements = chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    return {canonical(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in requirements}


def locked_packages() -> dict[str, str]:
    """Return the versions of constraints.txt by canonical name."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return {canonical(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)}


@pytest.fixture(scope="module")
def extension() -> dict[str, str]:
    """Return the EXTENSION_* values of CMakeLists.txt by their lower-case names."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    values = re.findall(r'^set\(EXTENSION_(\w+) "([^"]+)"\)$', text, re.MULTILINE)
    return {name.lower(): value for name, value in values}


@pytest.fixture(scope="module")
def s4ext() -> dict[str, str]:
    lines = (ROOT / "AIDicomBridge.s4ext").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return {keyword: value for keyword, _, value in pairs}


@pytest.fixture(scope="module")
def catalogue_entry() -> dict[str, object]:
    return json.loads((ROOT / "AIDicomBridge.json").read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[?(\d+\.\d+\.\d+)\b", changelog, re.MULTILINE)
    assert PROJECT["version"] == AIDicomBridgeLib.__version__ == released[0]


def test_the_s4ext_file_repeats_cmake(extension: dict[str, str], s4ext: dict[str, str]):
    assert {key: s4ext.get(key) for key in extension} == extension


def test_the_catalogue_entry_agrees_with_cmake_and_s4ext(
    extension: dict[str, str], s4ext: dict[str, str], catalogue_entry: dict[str, object]
):
    assert catalogue_entry["category"] == extension["category"]
    assert catalogue_entry["scm_url"] == s4ext["scmurl"] == extension["homepage"]
    assert catalogue_entry["scm_revision"] == s4ext["scmrevision"]
    assert catalogue_entry["build_dependencies"] == extension["depends"].split()
    assert catalogue_entry["build_subdirectory"] == s4ext["build_subdirectory"]
    assert str(catalogue_entry["tier"]) == s4ext["tier"]


def test_the_catalogue_entry_has_only_keys_that_the_index_accepts(catalogue_entry: dict[str, object]):
    required = {"$schema", "category", "scm_url"}
    optional = {"scm_revision", "scm_type", "build_dependencies", "build_subdirectory", "dicom_support_rule", "enabled"}
    assert required <= catalogue_entry.keys() <= required | optional | {"tier"}


def test_pictures_that_the_index_shows_are_in_the_repository(extension: dict[str, str]):
    branch = extension["homepage"].replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
    for url in [extension["iconurl"], *extension["screenshoturls"].split()]:
        assert url.startswith(branch)
        assert (ROOT / url.removeprefix(branch)).is_file(), url


def test_every_required_package_is_locked():
    assert required_packages() - locked_packages().keys() == set()


def test_packages_that_slicer_bundles_are_locked_to_its_versions():
    bundled = {"numpy": "2.4.6", "pydicom": "3.0.2", "highdicom": "0.27.0", "dicomweb-client": "0.61.0"}
    locked = locked_packages()
    assert {name: locked[name] for name in bundled} == bundled


def test_the_other_project_called_slicer_is_kept_out():
    """It writes the same ``slicer/__init__.py`` as slicer-core; its constraint excludes every version."""
    assert "slicer<0" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert set(packages_distributions().get("slicer", [])) <= {"slicer-core"}


def test_every_imported_package_is_declared():
    """What the library imports is a dependency in its own right, not something another package happens to bring."""
    allowed = required_packages() | {"vtk"}  # part of Slicer and of slicer-core
    names = set()
    for path in (ROOT / "AIDicomBridge/AIDicomBridgeLib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    provided_by = packages_distributions()
    third_party = names - set(sys.stdlib_module_names) - {"AIDicomBridgeLib", "qt", "ctk", "PyTorchUtils"}
    undeclared = {
        name for name in third_party if not {canonical(found) for found in provided_by.get(name, [name])} & allowed
    }
    assert undeclared == set()


def test_a_copy_installed_by_pip_has_every_room_and_the_model_cards() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    library = ROOT / "AIDicomBridge" / "AIDicomBridgeLib"
    rooms = {f"AIDicomBridgeLib.{path.parent.name}" for path in library.glob("*/__init__.py")}
    assert set(settings["packages"]) == rooms | {"AIDicomBridgeLib", "AIDicomBridgeLib.models.shipped"}
    assert settings["package-dir"]["AIDicomBridgeLib.models.shipped"] == "AIDicomBridge/Resources/Models"


def test_every_test_is_run_once() -> None:
    (suites,) = re.findall(r"^suites=\((.*)\)$", (ROOT / ".ci/checks").read_text(encoding="utf-8"), re.MULTILINE)
    tests = ROOT / "Testing" / "Python"
    patterns = [name if "/" in name else f"{name}/test_*" for name in suites.replace('"', "").split()]
    assert sorted(path for pattern in patterns for path in tests.glob(pattern)) == sorted(tests.glob("*/test_*.py"))
