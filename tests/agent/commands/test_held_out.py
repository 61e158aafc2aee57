"""Sentences the templates were not written against: none may propose a wrong change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.commands.rooms_for_tests import CLASSROOM, calls, changes, peer_id, play, said

CASES: list[dict[str, str]] = yaml.safe_load(
    Path(__file__).with_name("held_out.yaml").read_text(encoding="utf-8")
)
_CHANGE = {
    "hms-send-message": "send",
    "hms-remove-peers": "remove",
}


def outcome(sentence: str) -> tuple[str, str]:
    """What the model makes of a sentence, and to whom."""
    history = play(sentence)
    changed = changes(history)
    if len(changed) > 1:
        return "several", ""
    if changed:
        tool, arguments = changed[0]
        if tool == "hms-end-active-room":
            return "end", "locked" if arguments.get("lock") else ""
        return _CHANGE[tool], _audience(arguments)
    looked = [tool for tool, _ in calls(history)]
    if "Which one do you mean?" in said(history) or "Do you mean this one?" in said(history):
        return "ask", ""
    if "hms-retrieve-active-room" in looked:
        return "status", ""
    if "Nothing was" in said(history) or not looked:
        return "nothing", ""
    return "look", ""


def _audience(arguments: dict[str, Any]) -> str:
    if "peer_id" in arguments:
        return next(name for name, _, _ in CLASSROOM if peer_id(name) == arguments["peer_id"])
    return f"role {arguments['role']}" if "role" in arguments else "everyone"


def _agrees(case: dict[str, str]) -> bool:
    then, to = outcome(case["say"])
    wanted = {"list": "look", "find": "look"}.get(case["then"], case["then"])
    return then == wanted and to == case.get("to", "")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["say"])
def test_a_change_is_proposed_only_where_it_was_ordered_and_to_whom(case: dict[str, str]) -> None:
    then, to = outcome(case["say"])
    if then in ("send", "remove", "end", "several"):
        assert (then, to) == (case["then"], case.get("to", ""))


def test_how_many_are_understood_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    missed = [case for case in CASES if not _agrees(case)]
    with capsys.disabled():
        print(f"\nheld-out sentences understood: {len(CASES) - len(missed)} of {len(CASES)}")
        for case in missed:
            print(f"  {case['say']!r}: wanted {case['then']}, got {outcome(case['say'])}")
