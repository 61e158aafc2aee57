"""Who speaks REST: a caller, who may ask for actions, or an approver, who may decide on them.

Threat: the token an agent holds leaks, or the agent itself wants to approve what it asked
for. Invariant: nobody is both. A caller never decides, an approver never calls what changes
a room, and a token that would be both is a caller's.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.serve.guard import MIN_TOKEN_CHARS, principal
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from starlette.requests import Request

TOKEN_VARIABLE: Final = "HMS_APPROVER_TOKEN"  # noqa: S105  # a variable's name
DEFAULT_NAME: Final = "approver"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")


@dataclass(frozen=True)
class RestSettings:
    """Who may approve by REST, and where else people do.

    Attributes:
        approvers: name for the record to the SHA-256 of that person's token. Empty: nobody.
        page: address of the approvals page, told to those who wait; "" when there is none.
    """

    approvers: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    page: str = ""


@dataclass(frozen=True)
class Approver:
    """Somebody who may decide, by the name that goes on record."""

    name: str


@dataclass(frozen=True)
class CallingProgram:
    """Somebody who may call tools."""


Who = Approver | CallingProgram


def rest_settings(tokens: Mapping[str, str], *, page: str = "") -> RestSettings:
    """Settings from names and their tokens, which are not kept.

    Raises:
        ConfigurationError: a malformed name, a weak token, or two people with one token.
    """
    hashes: dict[str, bytes] = {}
    for name, token in tokens.items():
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{quoted(name, 40)} is no approver's name.",
                hint="Up to 40 lower-case letters, digits, dots, dashes and underscores.",
            )
        if len(token) < MIN_TOKEN_CHARS or not token.isascii() or " " in token:
            raise ConfigurationError(
                f"The token of approver {quoted(name)} needs at least {MIN_TOKEN_CHARS} "
                "ASCII characters, no spaces."
            )
        hashes[name] = _hash(token)
    if len(set(hashes.values())) < len(hashes):
        raise ConfigurationError(
            "Two approvers have the same token.",
            hint="The record tells them apart by it: give each their own.",
        )
    return RestSettings(approvers=hashes, page=page)


def tokens_from(environ: Mapping[str, str]) -> dict[str, str]:
    """Approvers' names and tokens: `HMS_APPROVER_TOKEN`, and `HMS_APPROVER_TOKEN_<NAME>` each.

    Raises:
        ConfigurationError: two variables for one name; one of the tokens would open nothing.
    """
    found: dict[str, str] = {}
    for variable, token in environ.items():
        name = ""
        if variable == TOKEN_VARIABLE:
            name = DEFAULT_NAME
        elif variable.startswith(f"{TOKEN_VARIABLE}_"):
            name = variable.removeprefix(f"{TOKEN_VARIABLE}_").lower()
        if not name or not token:
            continue
        if name in found:
            raise ConfigurationError(
                f"Two variables {TOKEN_VARIABLE}... are for the approver {quoted(name, 40)}.",
                hint="Names are compared without case. Keep one of them.",
            )
        found[name] = token
    return found


def who(request: Request, settings: RestSettings) -> Who:
    """Whose request it is, by its token; the guard has let it through before."""
    role = principal(request.scope)
    if role == "caller":
        return CallingProgram()
    given = _hash(_bearer(request))
    name = ""
    for known, wanted in settings.approvers.items():  # all are compared: time tells nothing
        if hmac.compare_digest(given, wanted):
            name = known
    if name:
        return Approver(name)
    return Approver(DEFAULT_NAME) if role == "approver" else CallingProgram()


def _bearer(request: Request) -> str:
    values = request.headers.getlist("authorization")
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
