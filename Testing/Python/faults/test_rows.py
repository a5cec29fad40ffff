"""Every failure that the project knows of has its test."""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = tomllib.loads(Path(__file__).with_name("rows.toml").read_text())


def test_every_row_names_tests_that_exist() -> None:
    numbers = [int(row.partition(" ")[0]) for row in ROWS]
    assert numbers == [*range(1, 38)]
    for row, tests in ROWS.items():
        assert tests, row
        for place in tests:
            path, _, name = place.partition("::")
            tree = ast.parse((ROOT / path).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, place
