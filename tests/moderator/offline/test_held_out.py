"""Sentences the templates were not written against: none may propose a wrong change.

How many are understood stands in evals/MODEL_CARD.md.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from evals.sentence_sets import HELD_OUT, grade_held_out

CASES: list[dict[str, Any]] = yaml.safe_load(HELD_OUT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["say"])
def test_a_change_is_proposed_only_where_it_was_ordered_and_to_whom(case: dict[str, str]) -> None:
    graded = grade_held_out(case)
    assert not graded.wrong_change, graded
