"""The peer a person means by an id or by a name. Pure.

A name counts only when it is the one name that looks like it: strangers choose names,
and taking the name of somebody else is the oldest trick in a room.
"""

from __future__ import annotations

from collections.abc import Sequence

from hms_active_rooms.api.ids import parse_peer_ref
from hms_active_rooms.api.models import Peer
from hms_active_rooms.errors import InvalidCall, PeerNotFound
from hms_active_rooms.gate.actions.impact import person_of
from hms_active_rooms.untrusted import lookalikes, quoted, short_ids

_SHOWN = 10


def peer_ref(wanted: str, peers: Sequence[Peer] | None = None) -> str | None:
    """The short or full id in `wanted`, or the id of the one of the peers with that name, whose case
    does not matter; None when it is no id and there are no `peers`.

    Raises:
        PeerNotFound: nobody has that name, or one like it, or one that it is a part of.
        InvalidCall: several peers have it, or only such ones; all are named.
    """
    wanted = wanted.strip()  # it was copied, or typed
    try:
        return parse_peer_ref(wanted)
    except InvalidCall:
        if peers is None:
            return None
    if not wanted:
        raise InvalidCall("The peer is empty.", hint="Give a peer id or a name.")
    same = [p for p in peers if p.name.casefold() == wanted.casefold()]
    alike = set(lookalikes(wanted, [p.name for p in peers]))
    fit = [*same, *(p for p in peers if p.name in alike and p not in same)]
    if len(fit) == 1 and same:
        return fit[0].id
    name = quoted(wanted)
    if len(fit) > 1:
        head = f"{len(fit)} peers have the name {name} or one that looks like it:"
    elif fit:
        head = f"Nobody has exactly the name {name}; this one looks like it:"
    else:
        fit = [p for p in peers if wanted.casefold() in p.name.casefold()]
        head = f"Nobody has exactly the name {name}; it is part of these:"
    if not fit:
        raise PeerNotFound(
            f"Nobody in the room has the name {name}.",
            hint="List them with: hms-active-rooms peers ROOM",
        )
    shorts = short_ids([p.id for p in peers])
    rows = [f"  {person_of(p, shorts[p.id]).line()}" for p in fit[:_SHOWN]]
    more = [f"  ... and {len(fit) - _SHOWN} more"] if len(fit) > _SHOWN else []
    raise InvalidCall("\n".join([head, *rows, *more]), hint="Give the id of the one you mean.")
