"""What naming the tools costs: nothing that only a call needs."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded_by(statement: str) -> set[str]:
    """The packages that are there after the statement."""
    script = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split())


@pytest.mark.slow
def test_naming_the_toolkit_loads_no_package_that_langchains_own_tools_do_not() -> None:
    ours = loaded_by("from hms_active_rooms import ActiveRoomsToolkit")
    plain = loaded_by("from langchain_core.tools import StructuredTool")
    more = {name for name in ours - plain if not name.startswith("_")}
    assert more - sys.stdlib_module_names == {"hms_active_rooms"}
