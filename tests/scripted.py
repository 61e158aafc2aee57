"""Scripted chat models for the tests; they live with the evaluated ones."""

from __future__ import annotations

from evals.chat import ScriptedModel, calls, text
from evals.models.reckless import worst

__all__ = ["ScriptedModel", "calls", "text", "worst"]
