"""Says in plain words what pydantic refuses. Its own words speak of Python types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from hms_active_rooms.untrusted import quoted, shortened

_WORDS: Final = {
    "string": "give a text",
    "string_too_long": "give at most {max_length} characters",
    "string_pattern_mismatch": "it does not have the documented form",
    "string_unicode": "it has a broken character (a lone surrogate), which cannot be sent",
    "int": "give a whole number",
    "float": "give a number",
    "bool": "give true or false",
    "literal": "give {expected}",
    "greater_than": "give more than {gt}",
    "greater_than_equal": "give at least {ge}",
    "less_than_equal": "give at most {le}",
    "union_tag_invalid": "give one of {expected_tags}",
    "value_error": "{error}",
    **dict.fromkeys(("missing", "union_tag_not_found"), "it is missing"),
    **dict.fromkeys(("too_short", "string_too_short"), "it is empty"),
    **dict.fromkeys(("list", "tuple"), "give a list"),
    **dict.fromkeys(("dict", "model", "dataclass"), "give an object"),
    **dict.fromkeys(("extra_forbidden", "unexpected_keyword_argument"), "there is no such {kind}"),
}
"""Our words for an error. The key is pydantic's name of the error, or that name's first word."""


def plain(problem: Mapping[str, Any], kind: str = "argument") -> str:
    """Return in plain words what is wrong with one value.

    Args:
        problem: an item of pydantic's `ValidationError.errors()`.
        kind: what a key is called, as in "there is no such argument".
    """
    name = problem["type"]
    words = _WORDS.get(name) or _WORDS.get(name.split("_")[0]) or "it cannot be used"
    of = {
        name: f"{value:.10g}" if isinstance(value, float | int) else value
        for name, value in problem.get("ctx", {}).items()
    }
    return words.format(kind=kind, **of).rstrip(".")


def explain(error: ValidationError | Sequence[Mapping[str, Any]], kind: str = "argument") -> str:
    """Return one line about the first five wrong values. `kind` is what to call a key that does not exist."""
    told = []
    for one in (error.errors() if isinstance(error, ValidationError) else error)[:5]:
        tag = one.get("ctx", {}).get("discriminator", "").strip("'")
        names = [shortened(str(part), 40) for part in (*one["loc"], *filter(None, [tag]))]
        place = ".".join(name if name.strip(".") else quoted(name) for name in names)
        told.append(f"{place or f'{kind}s'}: {plain(one, kind)}")
    return "; ".join(told)
