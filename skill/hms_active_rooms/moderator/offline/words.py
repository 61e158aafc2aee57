"""The words of the offline model, read from `words.yaml`: patterns of whole words, and texts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).parent


@cache
def _file() -> Any:
    return yaml.load((HERE / "words.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)


@cache
def filled(text: str) -> str:
    """A pattern with its macros filled in, and its lines as alternatives.

    The groups written in the pattern itself capture; those that come from a macro do not.
    """

    def put(macro: re.Match[str]) -> str:
        return re.sub(r"(?<![\\\"])\((?!\?)", "(?:", filled(_file()["macros"][macro[1]]))

    return re.sub(r"\{([a-z_]+)\}", put, text.strip().replace("\n", "|"))


def whole(text: str) -> str:
    """A pattern for whole words."""
    return rf"(?<![\w'-])(?:{filled(text)})(?![\w'-])"


@cache
def pattern(kind: str, section: str = "words") -> re.Pattern[str]:
    """The pattern of this name."""
    told = _file()[section][kind]
    return re.compile(filled(told) if section == "macros" else whole(told), re.IGNORECASE)


def is_pronoun(name: str) -> bool:
    """Whether the words stand for somebody named before."""
    return pattern("pronoun").fullmatch(name.strip(" .!")) is not None


def slip(word: str, known: str) -> bool:
    """Whether a letter of the known word is missing, doubled or in the place of its neighbour."""
    from rapidfuzz.distance import OSA

    if len(word) < 3 or OSA.distance(word, known, score_cutoff=1) != 1:
        return False
    doubled = re.sub(r"(.)\1", r"\1", word) == re.sub(r"(.)\1", r"\1", known)
    return len(word) < len(known) or doubled or sorted(word) == sorted(known)


@cache
def rows(section: str) -> tuple[tuple[str, str], ...]:
    """The lines "pattern => text" of a section; the patterns are not filled."""
    lines = (line.partition(" =>") for line in _file()[section].splitlines())
    return tuple((told, text.strip()) for told, _, text in lines)


def kinds(section: str) -> tuple[str, ...]:
    """The names in a section, or its words."""
    told = _file()[section]
    return tuple(told.split() if isinstance(told, str) else told)


def say(reply: str, **parts: object) -> str:
    """A reply by its name; a text that is no name as it is."""
    examples = kinds("examples")
    if reply not in _file()["says"]:
        return reply
    shown = ", ".join(f'"{examples[place]}"' for place in (0, 4, 8))
    listed = "\n".join(f"- {one}" for one in examples)
    return str(_file()["says"][reply].format(shown=shown, examples=listed, **parts))
