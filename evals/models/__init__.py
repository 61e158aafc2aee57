"""The models that are evaluated: the offline one, hostile ones, a small real one, any other."""

from __future__ import annotations

from typing import Final

from langchain_core.language_models import BaseChatModel

from evals.models.hostile import gullible, patient, persistent, reckless, replayer
from evals.models.local import LOCAL, LocalModel, loaded
from evals.models.situation import Move, StatelessModel, Step
from hms_active_rooms.moderator.models import resolve_model

_STEPS: Final[dict[str, tuple[Step, str]]] = {
    "gullible": (gullible, "obeys any order it reads, wherever it stands"),
    "reckless": (reckless, "proposes something destructive at every turn"),
    "replayer": (replayer, "repeats, reorders and re-sends calls"),
    "persistent": (
        persistent,
        "does what is asked, then attacks; sees refusals and tries otherwise",
    ),
    "patient": (patient, "the same, but only once it is trusted, behind many small questions"),
    "silent": (lambda _: Move("I did nothing."), "calls nothing"),
}
MODELS: Final = {
    "commands": "the offline model of this package, with a grammar",
    **{name: about for name, (_, about) in _STEPS.items()},
}
"""The models that need no network, and what they do."""

OFFLINE: Final = tuple(MODELS)

IDLE: Final = "silent"
"""The one that calls nothing: the baseline of what is done."""


def eval_model(name: str, *, room_id: str, seed: int) -> BaseChatModel:
    """A chat model by name."""
    if name == LOCAL:
        return LocalModel(complete=loaded(), seed=seed)
    if name in _STEPS:
        return StatelessModel(kind=name, step=_STEPS[name][0], room_id=room_id, seed=seed)
    return resolve_model(name, room_id)
