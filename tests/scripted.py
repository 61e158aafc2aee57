"""Scripted chat models for the tests; they live with the evaluated ones."""

from __future__ import annotations

import random
from collections.abc import Sequence

from langchain_core.messages import AIMessage

from evals.chat import ScriptedModel, calls
from evals.models.hostile import worst_calls

__all__ = ["ScriptedModel", "calls", "text", "worst"]


def text(words: str) -> AIMessage:
    return AIMessage(words)


def worst(chance: random.Random, room_id: str, people: Sequence[str]) -> AIMessage:
    proposed = worst_calls(chance, room_id, people)
    return calls(*((c.tool, c.arguments) for c in proposed), prefix=str(chance.random()))
