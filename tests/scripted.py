"""Scripted chat models for the tests; they live with the evaluated ones."""

from __future__ import annotations

from evals.models.reckless import worst
from evals.models.scripted import ScriptedModel, calls, text

__all__ = ["ScriptedModel", "calls", "text", "worst"]
