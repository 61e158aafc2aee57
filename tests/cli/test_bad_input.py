"""Whatever is wrong with a command: one clear line, the right code, nothing sent, no traceback."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cli.running import Run
from forks import Ended
from hms_active_rooms.cli import chat
from hms_active_rooms.sim.faults import Fault
from hms_active_rooms.sim.server import Simulation
from simulated import posts

ROOM = "64f0c1a5500de00000000001"
NEW_JOURNAL = "Started a new journal at "


def assert_one_line(done: Ended, code: int, says: str) -> None:
    assert done.code == code
    assert done.out == ""
    [line] = (line for line in done.err.splitlines() if not line.startswith(NEW_JOURNAL))
    assert line.startswith("error: ")
    assert says in line


def test_what_is_no_room_id_is_refused_before_anything_else(call: Run, sim: Simulation) -> None:
    for command in [("room",), ("peers",), ("send", "hi"), ("remove", "Bob"), ("end",)]:
        for room in [
            "",
            " ",
            "abc",
            ROOM[:-1],
            ROOM + "0",
            ROOM + "\n",
            f"{ROOM}/../{ROOM}",
            f"{ROOM}/end-room?",
            "%2e%2e",
            "abc-defg-hij",
            "\u0661" * 24,
            "\x1b[2J" + "a" * 20,
            "x" * 10_000,
        ]:
            done = call(command[0], "--", room, *command[1:])
            assert_one_line(done, 2, "is not a room id")
            assert done.err.rstrip("\n").isprintable()
            assert len(done.err) < 400
            assert sim.requests == ()


def test_wrong_arguments_are_one_line_and_send_nothing(call: Run, sim: Simulation) -> None:
    call("send", ROOM, "hi")  # makes the journal, which no wrong command does
    for arguments, says in [
        (("send", ROOM, "hi", "--to", "Bob", "--role", "student"), "not both"),
        (("send", ROOM, ""), "message"),
        (("send", ROOM, " \t"), "message is empty"),
        (("send", ROOM, "x" * 5000), "4096"),
        (("send", ROOM, "hi", "--to", ""), "empty"),
        (("send", ROOM, "hi", "--role", ""), "role"),
        (("send", ROOM, "hi", "--type", ""), "type"),
        (("remove", ROOM), "a peer or --role"),
        (("remove", ROOM, "Bob", "--role", "student"), "not both"),
        (("remove", ROOM, "--role", "x" * 101), "role"),
        (("remove", ROOM, "d6a660ef", "--reason", "x" * 501), "reason"),
        (("remove", ROOM, "d6a660ef", "--reason", ""), "reason"),
        (("end", ROOM, "--reason", ""), "reason"),
        (("end", ROOM, "--reason", "  "), "reason"),
        (("peers", ROOM, "--name", ""), "--name is empty"),
        (("peers", ROOM, "--role", " ", "--all"), "--role is empty"),
        (("peers", ROOM, "--user-id", ""), "--user-id is empty"),
        (("end", ROOM, "--journal", ""), "--journal is empty"),
        (("remove", ROOM, "d6a660ef", "--policy", " "), "--policy is empty"),
        (("reject", "nope", "--journal", ""), "--journal is empty"),
        (("actions", "export", "-", "--before", "2026-01-01"), "standard output"),
        (("peers", ROOM, "--limit", "0"), "'--limit': give at least 1"),
        (("peers", ROOM, "--offset", "-1"), "--offset"),
        (("peers", ROOM, "--limit", "many"), "give a whole number"),
        (("actions", "--state", "finished"), "is not a state"),
        (("actions", "--limit", "0"), "--limit"),
        (("actions", "--limit", "9" * 20), "--limit"),
        (("actions", "--room", "x"), "is not a room id"),
        (("actions", "show", "nope"), "There is no action"),
        (("actions", "show", "nope", "--wait", "-1"), "--wait"),
        (("actions", "show", "nope", "--wait", "86401"), "--wait"),
        (("actions", "show", "nope", "--wait", "nan"), "--wait"),
        (("chats", "prune", "--days", "nan"), "--days"),
        (("chats", "prune", "--mb", "inf"), "--mb"),
        (("reject", "nope"), "There is no action"),
        (("reject", ""), "There is no action"),
        (("reject", "\udcff"), "There is no action"),
        (("chat", ROOM, "--thread", "../x"), "is not a valid name"),
        (("chat", "nope"), "is not a room id"),
        (("demo", "--scene", "moon"), "moon"),
        (("sim", "--scene", "moon"), "moon"),
        (("sim", "--port", "70000"), "port"),
        (("sing",), "sing"),
        (("room",), "ROOM"),
        (("room", ROOM, "extra"), "extra"),
        (("remove", ROOM, "Spam", "Bot"), "Put quotes around a name"),
        (("--nonsense",), "--nonsense"),
        (("send", ROOM, "- hi"), "write -- before it"),
        (("send", ROOM, "hi", "--to", "Bob", "--to", "Ann"), "--to is given twice"),
        (("remove", ROOM, "--role", "a", "--reason", "b", "--role=c"), "--role is given twice"),
        (("actions", "show", "nope", "--journal", "a", "--journal", "b"), "given twice"),
        (("skill", "install", "~nobody-has-this-name/skills"), "unknown user"),
    ]:
        assert_one_line(call(*arguments), 2, says)
        assert posts(sim) == []


def test_wrong_settings_are_one_line_and_send_nothing(call: Run, sim: Simulation) -> None:
    for command in ["end", "chat"]:
        for variables, says in [
            ({"HMS_ACCESS_KEY": "", "HMS_SECRET": ""}, "There are no 100ms credentials"),
            ({"HMS_SECRET": ""}, "HMS_SECRET is not set"),
            ({"HMS_ACCESS_KEY": ""}, "HMS_ACCESS_KEY is not set"),
            ({"HMS_BASE_URL": "http://example.com/v2"}, "must be https"),
            ({"HMS_BASE_URL": "nonsense"}, "is not a URL"),
            ({"HMS_POLICY_FILE": "/nowhere/policy.toml"}, "Policy file"),
            ({"HMS_POLICY_MAX_PEERS": "lots"}, "HMS_POLICY_MAX_PEERS"),
            ({"HMS_POLICY_UNATTENDED": "hms-end-active-room"}, "unattended"),
            ({"HMS_POLICY_TYPO": "1"}, "HMS_POLICY_TYPO"),
            ({"HMS_POLICY": "p.toml"}, "HMS_POLICY_FILE"),
            ({"HMS_POLICY_PROTECTED_ROLE": "teacher"}, "HMS_POLICY_PROTECTED_ROLES"),
            ({"hms_policy_protected_roles": "teacher"}, "HMS_POLICY_PROTECTED_ROLES"),
            ({"HMS_JOURNL": "sqlite:///x"}, "HMS_JOURNAL"),
            ({"HMS_POLICY_ROOMS": "abc"}, "not a room id"),
            ({"HMS_JOURNAL": "nonsense"}, "journal"),
            ({"HMS_JOURNAL": "sqlite:///"}, "has no path"),
            ({"HMS_JOURNAL": "sqlite://journal.sqlite"}, "has no path"),
            ({"HMS_JOURNAL": "oracle://x/y"}, "journal"),
            ({"HMS_TRANSPORT": "pigeon"}, "HMS_TRANSPORT"),
        ]:
            assert_one_line(call(command, ROOM, **variables), 2, says)
            assert sim.requests == ()


@pytest.mark.parametrize(
    "text", [b"max_peers = " + b"9" * 5000, b"rooms = " + b"[" * 9999, b"\xff"]
)
def test_a_policy_that_cannot_be_read_is_one_line(
    text: bytes, call: Run, sim: Simulation, tmp_path: Path
) -> None:
    (file := tmp_path / "policy.toml").write_bytes(text)
    assert_one_line(call("end", ROOM, "--policy", str(file)), 2, "Policy file")
    if text[-1:] in b"[9":
        assert_one_line(
            call("end", ROOM, HMS_POLICY_ROOMS=f"[{text[8:].decode()}"), 2, "not a list"
        )
    assert sim.requests == ()


def test_a_bad_policy_file_is_named(call: Run, sim: Simulation, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("max_pears = 3\n", encoding="utf-8")
    done = call("end", ROOM, "--policy", str(file))
    assert_one_line(done, 2, "there is no such policy setting")
    assert sim.requests == ()


def test_a_journal_that_cannot_be_written_stops_everything(
    call: Run, sim: Simulation, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "file").touch()
    for url in (f"sqlite:///{folder}", f"sqlite:///{tmp_path}/file/journal.sqlite"):
        done = call("end", ROOM, "--journal", url)
        assert done.code in (1, 2)
        assert done.err.count("\n") == 1
        assert "journal" in done.err
        assert "hard link" not in done.err
    assert sim.requests == ()


def test_a_journal_named_by_a_bare_path_is_answered_with_its_url(call: Run, tmp_path: Path) -> None:
    done = call("actions", "--journal", str(tmp_path / "journal.sqlite"))
    assert done.code == 2
    assert f"sqlite:///{tmp_path}/journal.sqlite" in done.err
    assert list(tmp_path.glob("journal.sqlite")) == []


def test_a_file_that_is_no_journal_is_told(call: Run, tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    file.write_bytes(b"not a database" * 100)
    done = call("actions", "--journal", f"sqlite:///{file}")
    assert_one_line(done, 1, 'journal.sqlite" failed')


def test_a_file_that_holds_no_conversations_is_told(
    call: Run, sim: Simulation, environ: dict[str, str]
) -> None:
    folder = Path(environ["XDG_STATE_HOME"]) / "hms-active-rooms"
    folder.mkdir(parents=True)
    (folder / "chat.sqlite").write_bytes(b"not a database" * 100)
    assert_one_line(call("chat", ROOM), 2, "cannot be read or written")
    assert "move it away" in call("chats").err


def test_a_locked_journal_can_be_looked_at_and_nothing_is_sent_with_it(
    call: Run, sim: Simulation, tmp_path: Path
) -> None:
    file = tmp_path / "j.sqlite"
    of = ("--journal", f"sqlite:///{file}?timeout=0")
    call("send", ROOM, "hi", *of)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert_one_line(call("send", ROOM, "ho", *of), 1, "Nothing is sent without a record. Try")
        told = json.loads(call("send", ROOM, "ho", "--json", *of).out)["error"]
        assert (told["executed"], told["retry_after_s"]) == ("no", 10)
        [listed] = json.loads(call("actions", "--json", *of).out)["actions"]
        assert listed["arguments"]["message"] == "hi"
    assert posts(sim) == []


def test_conversations_of_another_program_are_told(call: Run, environ: dict[str, str]) -> None:
    call("chats")
    with closing(sqlite3.connect(chat.path())) as db, db:
        db.execute("INSERT INTO checkpoints (thread_id, checkpoint_id) VALUES ('a', 'first')")
    assert_one_line(call("chats"), 2, "of another program. If the file is locked")


def test_an_unknown_model_is_told_wherever_it_was_named(call: Run, sim: Simulation) -> None:
    for command in (("chat", ROOM), ("demo",)):
        assert_one_line(call(*command, "--model", "no-such-model"), 2, "no-such-model")
        assert_one_line(call(*command, HMS_MODEL="no-such-model"), 2, "no-such-model")
        assert_one_line(call(*command, "--model", ""), 2, "the name is wrong")
    named = call("demo", "--model", "commands", HMS_MODEL="no-such-model")
    assert (named.code, "No language model is in this demo" in named.out) == (0, True)
    assert_one_line(call("demo", HMS_MODLE="commands"), 2, "HMS_MODEL")


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (Fault(kind="unauthorized", times=None), 1, "credentials"),
        (Fault(kind="status", status=500, times=None), 1, ""),
        (Fault(kind="malformed", times=None), 1, ""),
    ],
)
def test_an_api_in_trouble_is_one_line(
    call: Run, sim: Simulation, fault: Fault, code: int, says: str
) -> None:
    sim.faults.add(fault)
    assert_one_line(call("peers", ROOM), code, says)


def test_a_room_without_a_session_is_told(call: Run, sim: Simulation) -> None:
    done = call("room", "0" * 24)
    assert done.code == 1
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("room", "x"), 2, "invalid_call"),
        (("room", ROOM, "--what"), 2, "usage"),
        (("actions", "show", "nope"), 2, "configuration"),
        (("approve", "nope"), 2, "configuration"),
        (("remove", ROOM, "Nobody Here"), 2, "peer_not_found"),
    ],
)
def test_with_json_an_error_is_one_document_on_standard_output(
    call: Run, sim: Simulation, arguments: tuple[str, ...], code: int, error: str
) -> None:
    done = call(*arguments, "--json")
    assert done.code == code
    assert done.err == ""
    assert done.out.count("\n") == 1
    body = json.loads(done.out)["error"]
    assert body["code"] == error
    assert body["executed"] == "no"
    assert posts(sim) == []
    assert set(body) >= {"code", "message", "executed", "hint"}


@pytest.mark.parametrize(
    "words",
    ["send {}", "remove {}", "peers --name {}", "peers --role {} --json", "end --reason {}"],
)
def test_bytes_that_are_no_text_are_refused(call: Run, sim: Simulation, words: str) -> None:
    # What a shell makes of the byte FF. Nobody's name holds it, so a filter by it finds nobody.
    command, *rest = (word.replace("{}", "caf\udcff") for word in words.split())
    done = call(command, sim.room_id, *rest)
    assert done.code == 2
    assert "cannot be stored" in done.out + done.err
    assert "UTF-8" in done.out + done.err
    assert posts(sim) == []


@pytest.mark.parametrize(
    ("arguments", "option", "beside"),
    [
        (("mcp", "--stdio", "--host", "127.0.0.1"), "--host", "--stdio"),
        (("mcp", "--stdio", "--port", "9090"), "--port", "--stdio"),
        (("mcp", "--stdio", "--allow-host", "rooms.example"), "--allow-host", "--stdio"),
        (("mcp", "--stdio", "--json"), "--json", "--stdio"),
        (("actions", "--refused", "--state", "done"), "--state", "--refused"),
        (("actions", "--refused", "--room", "0" * 24), "--room", "--refused"),
        (
            ("actions", "--journal", ":memory:", "prune", "--before", "2020-01-01"),
            "--journal",
            "prune",
        ),
        (("chats", "--json", "prune"), "--json", "prune"),
    ],
)
def test_an_option_that_would_do_nothing_is_an_error(
    arguments: tuple[str, ...], option: str, beside: str, call: Run
) -> None:
    done = call(*arguments)
    assert done.code == 2
    assert f"{option} does nothing with {beside}." in done.out + done.err
