"""The public names are typed for programs that know nothing of our settings: what stands in
`typing/api.py`, and the snippets of README and embedding.md, one after the other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

MODEL = """\
from langchain_core.language_models import BaseChatModel, FakeListChatModel

model: BaseChatModel = FakeListChatModel(responses=[])
"""

ROOM = 'room_id = "64f0c1a5500de00000000001"\n'

# Strict, but for "partially unknown": LangGraph's own types leave their parameters out.
PYRIGHT = """\
{
  "typeCheckingMode": "strict",
  "reportUnknownArgumentType": false,
  "reportUnknownMemberType": false,
  "reportUnknownVariableType": false
}
"""

CHECKERS = {
    "mypy": ["mypy", "--strict", "--config-file=", "--follow-imports=silent", "."],
    "pyright": ["basedpyright", "--pythonpath", sys.executable, "."],
}


@pytest.mark.parametrize(
    "checker",
    [
        pytest.param("mypy", marks=pytest.mark.nightly),  # a minute, without our cache
        pytest.param("pyright", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(600)
def test_strict_programs_without_plugins_type_check(checker: str, tmp_path: Path) -> None:
    for page, before in (("README.md", MODEL), ("skill/references/embedding.md", ROOM)):
        told = (TESTS.parent / page).read_text(encoding="utf-8")
        snippets = re.findall(r"```python\n(.*?)```", told, re.DOTALL)
        program = tmp_path / f"{Path(page).stem}.py"
        program.write_text(before + "".join(snippets), encoding="utf-8")
    (tmp_path / "api.py").write_bytes((TESTS / "typing" / "api.py").read_bytes())
    (tmp_path / "pyrightconfig.json").write_text(PYRIGHT, encoding="utf-8")
    command = [sys.executable, "-m", *CHECKERS[checker]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
