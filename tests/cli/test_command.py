"""The command as a whole: help, start-up, streams, endings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.running import COMMAND, Open, Run, ended, process
from docs import PROJECT
from forks import WAIT_S
from hms_active_rooms import __version__
from hms_active_rooms.installing import how_to_install
from hms_active_rooms.sim.faults import Fault
from hms_active_rooms.sim.server import Simulation

COMMANDS = [
    ("room",),
    ("peers",),
    ("send",),
    ("remove",),
    ("end",),
    ("actions", "show"),
    ("actions", "export"),
    ("actions", "prune"),
    ("approve",),
    ("reject",),
    ("chat",),
    ("chats", "prune"),
    ("demo",),
    ("sim",),
]


def test_every_command_explains_itself(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in [(), ("actions",), *COMMANDS]:
        from hms_active_rooms.cli.main import main

        assert main([*command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert "Usage: hms-active-rooms" in shown
        assert max(map(len, shown.splitlines())) <= 80  # else a terminal breaks words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(run: Run, shell: str) -> None:
    variable = "_HMS_ACTIVE_ROOMS_COMPLETE"
    assert variable in run(**{variable: f"source_{shell}"}).out
    asked = {variable: f"complete_{shell}", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    asked |= {"_TYPER_COMPLETE_ARGS": "hms-active-rooms ap"}
    asked |= {"COMP_WORDS": "hms-active-rooms ap", "COMP_CWORD": "1"}
    asked |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert "approve" in run(**asked).out


def test_without_arguments_the_help_is_shown(run: Run) -> None:
    done = run()
    assert done.code == 0
    assert "Commands:" in done.out


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").out == f"hms-active-rooms {__version__}\n"


PROBE = """
import json, sys
from hms_active_rooms.cli.main import main
commands, libraries = json.loads(sys.argv[1])
for arguments in commands:
    code = main(arguments)
    loaded = {m.split(".")[0] for m in sys.modules} & set(libraries)
    sys.stderr.write(f"loaded={sorted(loaded)} code={code} {arguments}\\n")
"""
AGENT = ["langchain_core", "langgraph", "langchain"]


def loading(
    environ: dict[str, str], libraries: list[str], *commands: tuple[str, ...], given: str = ""
) -> tuple[str, list[str]]:
    """What these commands wrote, one after another in one process; and which loaded a library."""
    probe = [sys.executable, "-c", PROBE, json.dumps([commands, libraries])]
    done = process(probe, environ, given)
    lines = [line for line in done.stderr.splitlines() if line.startswith("loaded=")]
    assert len(lines) == len(commands), done.stderr
    return done.stdout, [line for line in lines if not line.startswith("loaded=[]")]


def test_plain_commands_never_load_the_agent_libraries(
    sim: Simulation, environ: dict[str, str]
) -> None:
    room = sim.room_id
    commands: list[tuple[str, ...]] = [
        ("--help",),
        ("chat", "--help"),
        ("room", room),
        ("peers", room),
        ("send", room, "hi"),
        ("remove", room, "Spam Bot"),
        ("end", room),
        ("actions",),
        ("actions", "show", "x"),
        ("approve", "x"),
        ("reject", "x"),
        ("sim", "--scene", "moon"),
    ]
    assert loading(environ, AGENT, *commands)[1] == []


def test_help_loads_neither_the_database_nor_the_http_library(environ: dict[str, str]) -> None:
    assert loading(environ, [*AGENT, "sqlalchemy", "httpx", "rich"], ("--help",))[1] == []


def test_a_demo_that_only_looks_loads_neither_a_server_nor_what_reaches_one(
    environ: dict[str, str],
) -> None:
    names = ["sqlalchemy", "uvicorn", "starlette", "fastapi", "httpcore", "h11", "trio", "mcp"]
    out, loaded = loading(environ, names, ("demo",), given="who is here\n")
    assert "15 people are here" in out
    assert loaded == []


@pytest.mark.parametrize(
    ("absent", "arguments", "extra"),
    [
        ("typer", (), "cli"),
        ("uvicorn", ("serve",), "serve"),
        ("mcp.server.context", ("serve",), "serve"),  # another program needs an older `mcp`
        ("mcp.server.context", ("mcp",), "mcp"),
    ],
)
def test_without_the_extra_it_says_how_to_install_it(
    environ: dict[str, str], absent: str, arguments: tuple[str, ...], extra: str
) -> None:
    hidden = f"import sys; sys.modules['{absent}'] = None\n" + COMMAND[2]
    done = process([sys.executable, "-c", hidden, *arguments], environ)
    assert done.returncode == 2
    # The name alone could be anybody's on an index: what is told works for this checkout.
    assert done.stderr.endswith(
        " needs packages that are missing or have the wrong version. "
        f"To install them: {how_to_install(extra)}.\n"
    )
    assert f"pip install -e '{PROJECT}[{extra}]'" in done.stderr


@pytest.mark.parametrize("arguments", ["peers ROOM", "--help", "peers --help", "--version", ""])
def test_a_reader_that_went_away_is_no_error(
    arguments: str, sim: Simulation, environ: dict[str, str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = arguments.replace("ROOM", sim.room_id).split()
    done = process([*COMMAND, *words], environ, stdout=writing)
    os.close(writing)
    assert done.returncode == 141
    assert "Error" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_change_whose_reader_went_away_says_where_it_is_on_record(
    sim: Simulation, environ: dict[str, str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    change = [*COMMAND, "send", sim.room_id, "hi", "--json"]
    done = process(change, environ, stdout=writing)
    os.close(writing)
    assert done.returncode == 141
    assert "To see what was executed: hms-active-rooms actions" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_output_that_cannot_be_written_is_one_line_that_says_why(
    sim: Simulation, environ: dict[str, str], options: tuple[str, ...]
) -> None:
    with Path("/dev/full").open("w") as full:
        done = process([*COMMAND, "peers", sim.room_id, *options], environ, stdout=full)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: The output cannot be written: No space left on device."
        " To see what was executed: hms-active-rooms actions"
    )
    assert "Exception" not in done.stderr


BROKEN = """
import hms_active_rooms.api.ids as ids
def broken(room_id):
    token = "s3cret"
    raise ZeroDivisionError("s3cret")
ids.parse_room_id = broken
"""


def test_an_unexpected_error_is_one_line_unless_asked_for(environ: dict[str, str]) -> None:
    command = [sys.executable, "-c", BROKEN + COMMAND[2], "room", "0" * 24]
    done = process(command, environ)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "unexpected error: ZeroDivisionError" in done.stderr
    assert "s3cret" not in done.stderr
    written = process([*command, "--json"], environ)
    error = json.loads(written.stdout)["error"]
    assert (error["code"], error["executed"]) == ("unexpected", "no")
    ending = [*command[:3], "end", "0" * 24, "--json"]
    assert json.loads(process(ending, environ).stdout)["error"]["executed"] == "maybe"
    assert "Traceback" not in process(command, {**environ, "HMS_DEBUG": "false"}).stderr
    done = process(command, {**environ, "HMS_DEBUG": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_folder_that_cannot_be_written_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    # Else the shell is the one that runs these tests.
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    given = {**environ, **named, "HOME": str(tmp_path / "file")}
    done = process([*COMMAND, "--install-completion", "bash"], given)
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr


def test_a_long_read_shows_its_progress_and_ctrl_c_ends_it_with_130_and_no_traceback(
    sim: Simulation, terminal: Open
) -> None:
    sim.faults.add(Fault(kind="hang", times=None))
    child = terminal("peers", sim.room_id)
    child.expect(r"Reading the room \.\.\. \d+ s")
    child.sendintr()
    code, rest = ended(child)
    assert code == 130
    assert "Traceback" not in rest


def test_a_locale_without_our_letters_is_no_obstacle(
    sim: Simulation, environ: dict[str, str]
) -> None:
    ascii_only = {**environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = process([*COMMAND, "peers", sim.room_id], ascii_only)
    assert (done.returncode, "Jos\\xe9" in done.stdout) == (0, True)


def test_sim_prints_what_to_paste_and_serves_until_it_is_stopped(environ: dict[str, str]) -> None:
    child = subprocess.Popen(
        [*COMMAND, "sim", "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )
    try:
        assert child.stdout is not None
        told = json.loads(child.stdout.readline())
        simulated = {**environ, **told["environment"]}
        room = process([*COMMAND, "room", told["room_id"], "--json"], simulated)
        assert json.loads(room.stdout)["room_id"] == told["room_id"]
        assert room.stderr == ""
        foreign = process(
            [*COMMAND, "room", "f" * 24, "--json"], {**environ, **told["environment"]}
        )
        assert json.loads(foreign.stdout)["error"]["status"] == 403
    finally:
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=WAIT_S)
    assert child.returncode == 0
    assert errors == ""


def test_what_sim_prints_to_paste_leads_a_shell_to_it(environ: dict[str, str]) -> None:
    command = [*COMMAND, "sim", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as child:
        assert child.stdout is not None
        pasted = "".join(child.stdout.readline() for _ in range(4))
        shell = ["sh", "-c", f'{pasted} exec "$@" "$HMS_ROOM" --json', "sh", *COMMAND, "room"]
        found = process(shell, environ)
        child.send_signal(signal.SIGINT)
    assert json.loads(found.stdout)["name"]


def test_sim_on_a_port_that_is_taken_is_one_line(sim: Simulation, run: Run) -> None:
    port = sim.base_url.split(":")[2].split("/")[0]
    done = run("sim", "--port", port)
    assert done.code == 2  # as `serve` and `mcp`
    assert done.err.count("\n") == 1
    assert "in use" in done.err
