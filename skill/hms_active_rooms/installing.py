"""Makes the command that installs an extra of this package, from where the package itself came from.

The public package index does not have this package. Somebody could publish another one there under
its name. So the command never has the name alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata, util
from typing import Final
from urllib.request import url2pathname

from hms_active_rooms.errors import ConfigurationError

NAME: Final = "hms-active-rooms"


def how_to_install(extra: str) -> str:
    """Return words for an error: how to add an extra (optional packages) to this installation."""
    try:
        dist = metadata.distribution(NAME)
    except metadata.PackageNotFoundError:
        # This is a copy of the skill. Its launcher lists the packages that uv has to install.
        return "start the skill with uv run --script scripts/hms-active-rooms"
    # An environment made by uv has no pip; a pip on the path belongs to another Python.
    install = "pip install" if util.find_spec("pip") else "uv pip install"
    source = json.loads(dist.read_text("direct_url.json") or "{}")
    url = str(source.get("url", ""))
    if (folder := source.get("dir_info")) is not None:
        place = url2pathname(url.removeprefix("file://"))
        return f"{install} {'-e ' if folder.get('editable') else ''}'{place}[{extra}]'"
    if vcs := source.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    if url:
        return f"{install} '{NAME}[{extra}] @ {url}'"
    # It came from an index; name the installed version.
    return f"{install} '{NAME}[{extra}]=={dist.version}', from the same index as before"


@contextmanager
def extra(name: str, what: str, *modules: str) -> Iterator[None]:
    """Raise ConfigurationError if the `with` block cannot import one of `modules`.

    Args:
        name: the set of optional packages that has them.
        what: the part of this package that needs them.
        modules: their names.
    """
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] not in modules:
            raise
        raise ConfigurationError(
            f"The {what} needs packages that are missing or have the wrong version. "
            f"To install them: {how_to_install(name)}."
        ) from None
