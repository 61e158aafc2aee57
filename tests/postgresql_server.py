"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa


def as_nobody_special(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return command
    return ["su", "postgres", "-s", "/bin/sh", "-c", " ".join(command)]


@contextmanager
def running_postgresql() -> Iterator[str]:
    """The URL of a server on a socket in a folder of its own, which its user can reach."""
    home = Path(tempfile.mkdtemp(prefix="hms-pg-"))
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")

    def run(*command: str) -> None:
        subprocess.run(as_nobody_special([*command]), check=True, capture_output=True)

    data = str(home / "data")
    run("initdb", "-D", data, "-A", "trust", "-U", "journal")
    options = f"\"-c listen_addresses='' -c unix_socket_directories={home}\""
    if os.geteuid() != 0:
        options = options.strip('"')
    run("pg_ctl", "-D", data, "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://journal@/postgres?host={home}"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(home)


def new_database(url: str) -> str:
    """The URL of an empty database on the same server."""
    name = f"j{uuid4().hex}"
    admin = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as db:
        db.exec_driver_sql(f"CREATE DATABASE {name}")
    return url.replace("/postgres?", f"/{name}?")
