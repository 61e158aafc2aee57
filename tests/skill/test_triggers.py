"""The trigger sentences beside the evals are usable: both kinds, each with its reason."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml

from docs import PROJECT

SENTENCES: list[dict[str, Any]] = yaml.safe_load(
    (PROJECT / "evals" / "triggers.yaml").read_text(encoding="utf-8")
)["sentences"]


def test_each_sentence_has_an_expectation_and_a_reason() -> None:
    for sentence in SENTENCES:
        assert set(sentence) == {"text", "expect", "why"}
        assert sentence["expect"] in ("load", "leave")
        assert all(sentence.values())


def test_there_are_enough_of_both_kinds() -> None:
    kinds = Counter(sentence["expect"] for sentence in SENTENCES)
    assert kinds["load"] >= 8
    assert kinds["leave"] >= 8
    assert len({sentence["text"] for sentence in SENTENCES}) == len(SENTENCES)
