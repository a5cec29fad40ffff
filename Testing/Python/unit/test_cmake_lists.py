"""What Slicer packages is what the folder holds: AIDicomBridge/CMakeLists.txt against AIDicomBridge/."""

import re
from pathlib import Path

MODULE = Path(__file__).parents[3] / "AIDicomBridge"
MADE_BY_TOOLS = ("__pycache__/", ".egg-info/")


def listed(variable: str) -> list[str]:
    text = re.sub(r"#.*", "", (MODULE / "CMakeLists.txt").read_text(encoding="utf-8"))
    (files,) = re.findall(rf"set\({variable}\s+([^)]*)\)", text)
    return files.split()


def in_folder() -> set[str]:
    paths = {path.relative_to(MODULE).as_posix() for path in MODULE.rglob("*") if path.is_file()}
    return {path for path in paths if not any(part in path for part in MADE_BY_TOOLS)} - {"CMakeLists.txt"}


def test_every_python_file_is_listed_under_scripts():
    missing = {path for path in in_folder() if path.endswith(".py")} - set(listed("MODULE_PYTHON_SCRIPTS"))
    assert sorted(missing) == [], "add these to MODULE_PYTHON_SCRIPTS in AIDicomBridge/CMakeLists.txt"


def test_every_other_file_is_listed_under_resources():
    missing = {path for path in in_folder() if not path.endswith(".py")} - set(listed("MODULE_PYTHON_RESOURCES"))
    assert sorted(missing) == [], "add these to MODULE_PYTHON_RESOURCES in AIDicomBridge/CMakeLists.txt"


def test_every_listed_file_exists_once():
    files = listed("MODULE_PYTHON_SCRIPTS") + listed("MODULE_PYTHON_RESOURCES")
    assert sorted(set(files) - in_folder()) == [], "AIDicomBridge/CMakeLists.txt names files that are not there"
    assert len(files) == len(set(files))
