"""Statements that are compiled once and then run by the database's driver: SQLAlchemy's own work at
each execution costs several times what SQLite does for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

Row = dict[str, Any]
"""Values by name."""

_Convert = Callable[[Any], Any]


@dataclass(frozen=True)
class _Compiled:
    """A statement in the words of one database.

    Attributes:
        fixed: the values that stand in the statement, as the driver takes them.
        bound: by parameter, the function that turns our value into the driver's.
        names: its columns.
        read: by column, the function that turns the driver's value into ours.
    """

    text: str
    fixed: Row
    bound: Mapping[str, _Convert]
    names: tuple[str, ...]
    read: Mapping[str, _Convert]


@lru_cache(maxsize=512)
def _compiled(
    statement: sa.ClauseElement, dialect: sa.Dialect, columns: tuple[str, ...]
) -> _Compiled:
    made: Any = statement.compile(dialect=dialect, column_keys=list(columns) or None)
    kinds = {name: bind.type.dialect_impl(dialect) for name, bind in made.binds.items()}
    converts = {name: kind.bind_processor(dialect) for name, kind in kinds.items()}
    bound = {name: convert for name, convert in converts.items() if convert}
    fixed = {
        name: bound[name](value) if name in bound else value
        for name, value in made.params.items()
        if not made.binds[name].required
    }
    found = statement.selected_columns if isinstance(statement, sa.Select) else ()
    read = {
        column.name: convert
        for column in found
        if (convert := column.type.dialect_impl(dialect).result_processor(dialect, None))
    }
    return _Compiled(made.string, fixed, bound, tuple(column.name for column in found), read)


def execute(
    db: sa.Connection, statement: sa.ClauseElement, given: Row, columns: Row | None = None
) -> Any:
    """The driver's cursor after a statement that is kept, with these values for its parameters and
    for the columns that it writes."""
    compiled = _compiled(statement, db.dialect, tuple(columns or ()))
    values = given | (columns or {})
    for name in compiled.bound.keys() & values.keys():
        values[name] = compiled.bound[name](values[name])
    cursor = db.connection.cursor()
    cursor.execute(compiled.text, compiled.fixed | values)
    return cursor


def rows(db: sa.Connection, query: sa.ClauseElement, given: Row) -> list[Row]:
    """What a query that is kept finds."""
    compiled = _compiled(query, db.dialect, ())
    found = []
    for values in execute(db, query, given).fetchall():
        row = dict(zip(compiled.names, values, strict=True))
        if bytes in map(type, values):
            row = {name: text(value) for name, value in row.items()}
        for name, convert in compiled.read.items():
            row[name] = convert(row[name])
        found.append(row)
    return found


def text(value: object) -> object:
    """The value, with bytes decoded: SQLite keeps bytes in a text column if somebody wrote them."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
