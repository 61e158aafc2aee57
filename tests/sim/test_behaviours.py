"""The table of behaviours, and that every row of it has a test."""

from __future__ import annotations

import ast
from pathlib import Path

from docs import behaviours, behaviours_table

IDS = [row["id"] for row in behaviours()["behaviours"]]


def shown() -> set[str]:
    """The ids in the `behaviour` marks of all test files beside this one."""
    found: set[str] = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "behaviour"
            ):
                values = (a.value for a in node.args if isinstance(a, ast.Constant))
                found |= {value for value in values if isinstance(value, str)}
    return found


def test_every_behaviour_has_a_test_and_no_test_shows_another() -> None:
    assert shown() == set(IDS)


def test_ids_are_unique_and_grades_are_the_tables() -> None:
    assert len(IDS) == len(set(IDS))
    rows = behaviours()["behaviours"]
    assert {row["grade"] for row in rows} == {*behaviours()["grades"]}
    elsewhere = [row for row in rows if "sibling" in row["source"]]
    assert {row["grade"] for row in elsewhere} == {"inferred"}, "recorded means at this endpoint"


def test_the_markdown_has_a_row_for_each_behaviour_and_a_line_for_each_grade() -> None:
    lines = behaviours_table().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert len(rows) == len(IDS)
    assert all(row.count(" | ") == 3 for row in rows)
    assert [line.split("**")[1] for line in lines if line.startswith("- **")] == list(
        behaviours()["grades"]
    )
