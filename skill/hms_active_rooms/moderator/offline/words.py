"""Reads the phrases and replies in `words.yaml`."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Final

import yaml

_FILE: Final = Path(__file__).with_name("words.yaml")

_SKIP: Final = r"((PLEASE|FRONT|ASK|AND|HERE|STOP|DET|LEAD|THAT|COMMA|DASH|NUMBER):\S+ )*"
Phrase = tuple[str, ...]
"""The words of a phrase, in lower case; "<n>" is any number."""


@cache
def section(name: str) -> Any:
    return _file()[name]


@cache
def _file() -> Any:
    return yaml.load(_FILE.read_text(encoding="utf-8"), yaml.CSafeLoader)


@cache
def listed(name: str) -> frozenset[str]:
    return frozenset(" ".join(phrase) for phrase in phrases(section(name)))


@cache
def rows(name: str) -> list[tuple[str, str]]:
    """The lines "phrases => text" of a section, each as a pair (phrases, text)."""
    lines = (line.partition(" => ") for line in section(name).splitlines())
    parts = {"<skip>": _SKIP, "<loose>": f"({section('loose')})"}
    parts |= {f"<{part}>": section(part) for part in ("events", "whole")}
    return [(re.sub("<[a-z]+>", lambda m: parts.get(m[0], m[0]), o), text) for o, _, text in lines]


def phrases(text: str) -> list[Phrase]:
    """All phrases that a text of `words.yaml` stands for. The first lines of that file explain how
    such a text is written."""
    return [way for one in text.split(",") for way in _ways(one.strip())]


def _ways(phrase: str) -> list[Phrase]:
    parts = [
        [way for one in part.strip("()[]").split("|") for way in _ways(one)]
        + [()] * (part[0] == "(")
        if part[0] in "(["
        else [(one,) for one in part.split("|")]
        for part in re.findall(r"\([^()]*\)|\[[^\[\]]*\]|[^\s()\[\]]+", phrase)
    ]
    return [sum(way, ()) for way in product(*parts)]


@cache
def lexicon() -> dict[str, list[tuple[Phrase, str]]]:
    """All phrases by their first word, each with its class. Longer phrases come first."""
    found = defaultdict[str, list[tuple[Phrase, str]]](list)
    lists = {**section("words"), "CANNOT": ",".join(cannot())}
    for kind, text in lists.items():
        for phrase in phrases(text):
            found[phrase[0]].append((phrase, kind))
    for ways in found.values():
        ways.sort(key=lambda way: -len(way[0]))
    return found


@cache
def vocabulary() -> frozenset[str]:
    """All words of all phrases."""
    return frozenset(word for ways in lexicon().values() for way, _ in ways for word in way)


@cache
def talk() -> dict[Phrase, str]:
    """Sentences that are known as a whole, with their kind ("thanks", "undo")."""
    kinds = section("talk").items()
    return {phrase: kind for kind, text in kinds for phrase in phrases(text)}


@cache
def cannot() -> dict[str, str]:
    """The words for what no tool can do, such as "mute". Each has the reply to it."""
    return {" ".join(one): why for told, why in rows("cannot") for one in phrases(told)}


def say(reply: str, **parts: object) -> str:
    """The reply with this name. Any text that is not the name of a reply is returned unchanged."""
    if reply not in section("says"):
        return reply
    examples = section("examples")
    parts["shown"] = ", ".join(f'"{examples[place]}"' for place in (0, 4, 8))
    parts["examples"] = "\n".join(f"- {one}" for one in examples)
    text = str(section("says")[reply].format(**parts))
    return f"{text[:-1]}Nothing was done." if text.endswith(" -") else text


EXAMPLES: Final[tuple[str, ...]] = tuple(section("examples"))
"""Sentences that the model understands; each is tested. Replies show some of them."""

CAPABILITIES_TEXT: Final = say("help")
