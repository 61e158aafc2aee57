"""Makes `hms_active_rooms/confusables.txt` from Unicode's table of look-alike characters.

The table is https://www.unicode.org/Public/security/16.0.0/confusables.txt; the sources of ICU
76 hold the same file as icu/source/data/unidata/confusables.txt. Its licence is ICU's LICENSE,
up to the first rule. Run: python tests/confusables.py confusables.txt LICENSE
"""

from __future__ import annotations

import sys
from pathlib import Path

import hms_active_rooms

TARGET = Path(hms_active_rooms.__file__).with_name("confusables.txt")
HEADER = """\
Made by tests/confusables.py from Unicode's confusables.txt (UTS #39), whose own header is:

{header}
A line is a prototype (code points joined by "+") and the characters that look like it.

{licence}"""


def compact(table: str, licence: str) -> str:
    """The file's text: a comment with source, version and licence, then a line a prototype."""
    lines = table.removeprefix("\ufeff").splitlines()
    header = "\n".join(line[2:] for line in lines[:8] if line.startswith("# "))
    groups: dict[str, list[str]] = {}
    for line in lines:
        source, _, rest = line.partition("#")[0].partition(";")
        if rest:
            groups.setdefault("+".join(rest.split(";")[0].split()), []).append(source.strip())
    words = HEADER.format(header=header, licence=licence.partition("\n---")[0].strip())
    comment = [f"# {line}".rstrip() for line in words.splitlines()]
    return "\n".join([*comment, *(" ".join([to, *of]) for to, of in sorted(groups.items()))]) + "\n"


if __name__ == "__main__":
    table, licence = (Path(name).read_text(encoding="utf-8") for name in sys.argv[1:])
    TARGET.write_text(compact(table, licence), encoding="utf-8")
