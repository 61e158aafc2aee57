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
    """Return what `words.yaml` has under the key `name`: a text, a list or a dict."""
    return _file()[name]


@cache
def _file() -> Any:
    return yaml.load(_FILE.read_text(encoding="utf-8"), yaml.CSafeLoader)


@cache
def listed(name: str) -> frozenset[str]:
    """Return the phrases under the key `name` of `words.yaml`, each as one text."""
    return frozenset(" ".join(phrase) for phrase in phrases(section(name)))


@cache
def rows(name: str) -> list[tuple[str, str]]:
    """Return the lines "phrases => text" under the key `name` of `words.yaml`, as pairs."""
    lines = (line.partition(" => ") for line in section(name).splitlines())
    parts = {"<skip>": _SKIP, "<loose>": f"({section('loose')})"}
    parts |= {f"<{part}>": section(part) for part in ("events", "whole")}
    return [(re.sub("<[a-z]+>", lambda m: parts.get(m[0], m[0]), o), text) for o, _, text in lines]


def phrases(text: str) -> list[Phrase]:
    """Return all phrases that a text in the notation of `words.yaml` stands for. "kick (out|off)" stands
    for ("kick", "out"), ("kick", "off") and ("kick",)."""
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
    """Return all phrases under their first word, longer ones first. Each has its class, such as KICK."""
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
    """Return all words that occur in a phrase of `lexicon()`."""
    return frozenset(word for ways in lexicon().values() for way, _ in ways for word in way)


@cache
def talk() -> dict[Phrase, str]:
    """Return sentences that are known as a whole, each with its kind, such as "thanks" or "undo"."""
    kinds = section("talk").items()
    return {phrase: kind for kind, text in kinds for phrase in phrases(text)}


@cache
def cannot() -> dict[str, str]:
    """Return words for what no tool can do, such as "mute", each with a value that `say` makes a reply of."""
    return {" ".join(one): why for told, why in rows("cannot") for one in phrases(told)}


def say(reply: str, **parts: object) -> str:
    """Return the text of the reply `reply` in `words.yaml`, with `parts` in its braces. If there is no such
    reply, return `reply` itself."""
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
