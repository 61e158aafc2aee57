"""`chat`: answers only from a person, a pause that outlives the process, one request at most."""

from __future__ import annotations

import errno
from contextlib import closing
from pathlib import Path

import pytest

from cli.running import QUESTION, Open, Run, answered, ended, executed
from forks import Terminal
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.tables import actions
from hms_active_rooms.sim.faults import Fault
from hms_active_rooms.sim.server import Simulation
from simulated import names, posts

PROMPT = "(?:^|\n)> "
PLAIN = {"NO_COLOR": "1"}


def test_by_pipe_a_yes_is_no_approval_and_the_action_waits(sim: Simulation, run: Run) -> None:
    done = run("chat", sim.room_id, given="who is here\nkick Spam Bot\nyes\n")
    assert done.code == 3
    assert "moderator: 15 people are here" in done.out
    assert "Nothing was decided and nothing was sent." in done.out
    (row,) = run("actions", "--json").json["actions"]
    assert row["state"] == "proposed"
    assert f"hms-active-rooms approve {row['action_id']}" in done.out
    assert posts(sim) == []


def test_by_pipe_answers_count_only_when_asked_for(sim: Simulation, call: Run) -> None:
    done = call("chat", sim.room_id, "--approve-from-stdin", given="kick Spam Bot\nyes\n")
    assert done.code == 0
    assert '[done] Removed "Spam Bot"' in done.out
    assert len(posts(sim)) == 1


def test_a_question_survives_a_kill_and_yes_sends_one_request(
    sim: Simulation, terminal: Open
) -> None:
    first = terminal("chat", sim.room_id, "--thread", "night", **PLAIN)
    first.expect(PROMPT)
    first.sendline("kick Spam Bot because of advertising")
    first.expect(QUESTION)
    first.kill()
    assert posts(sim) == []

    second = terminal("chat", sim.room_id, "--thread", "night", **PLAIN)
    second.expect("The conversation night goes on")
    second.expect("> kick Spam Bot because of advertising")
    second.expect("Remove .* from room")
    second.expect(QUESTION)
    assert posts(sim) == []
    second.sendline("yes")
    second.expect(r'\[done\] Removed "Spam Bot"')
    second.expect(PROMPT)
    second.sendeof()
    assert ended(second)[0] == 0
    assert len(posts(sim)) == 1

    third = terminal("chat", sim.room_id, "--thread", "night", **PLAIN)
    third.expect('moderator: Removed "Spam Bot"')
    third.expect(PROMPT)
    third.sendeof()
    assert ended(third)[0] == 0
    assert len(posts(sim)) == 1


def test_a_kill_while_it_is_sent_does_not_send_it_twice(sim: Simulation, terminal: Open) -> None:
    sim.faults.add(Fault(kind="hang", method="POST", when="after", times=None))
    first = terminal("chat", sim.room_id, "--thread", "crash", **PLAIN)
    first.expect(PROMPT)
    first.sendline("kick Spam Bot")
    first.expect(QUESTION)
    first.sendline("yes")
    executed(sim)
    first.kill()
    sim.faults.clear()

    second = terminal("chat", sim.room_id, "--thread", "crash", **PLAIN)
    second.expect(r"\[done\] ")
    second.expect(PROMPT)
    second.sendeof()
    assert ended(second)[0] == 0
    assert len(posts(sim)) == 1
    assert "Spam Bot" not in names(sim)


def test_what_was_approved_elsewhere_is_not_asked_again(
    sim: Simulation, call: Run, terminal: Open
) -> None:
    waiting = call("chat", sim.room_id, "--thread", "two", given="kick Spam Bot\n")
    assert waiting.code == 3
    (row,) = call("actions", "--json").json["actions"]
    assert answered(terminal("approve", row["action_id"]), "yes")[0] == 0

    done = call("chat", sim.room_id, "--thread", "two", given="")
    assert done.code == 0
    assert "Approve?" not in done.out
    assert "[done] Already approved by " in done.out
    assert 'Removed "Spam Bot"' in done.out
    assert len(posts(sim)) == 1


def test_what_was_approved_elsewhere_and_is_held_by_the_limit_stays_approved_and_is_sent(
    sim: Simulation, call: Run, terminal: Open
) -> None:
    limit = {"HMS_POLICY_ACTIONS_PER_MINUTE": "1"}
    assert call("chat", sim.room_id, "--thread", "two", given="kick Spam Bot\n").code == 3
    (row,) = call("actions", "--json").json["actions"]
    first = call("chat", sim.room_id, "--approve-from-stdin", given="tell everyone: hi\nyes\n")
    assert "[done]" in first.out
    elsewhere = terminal("approve", row["action_id"], **limit)
    elsewhere.expect(QUESTION)
    elsewhere.sendline("yes")
    assert "still approved and was not sent" in ended(elsewhere)[1]

    done = call("chat", sim.room_id, "--thread", "two", given="")
    assert done.code == 0
    assert "Approve?" not in done.out
    assert 'Removed "Spam Bot"' in done.out
    shown = call("actions", "show", row["action_id"], "--json").json
    assert (shown["state"], shown["decided_way"]) == ("done", "terminal")
    assert len(posts(sim)) == 2


def test_a_question_that_this_journal_does_not_have_is_asked_anew(
    sim: Simulation, call: Run, tmp_path: Path
) -> None:
    first = call("chat", sim.room_id, "--thread", "moved", given="kick Spam Bot\n")
    assert first.code == 3
    other = {"HMS_JOURNAL": f"sqlite:///{tmp_path}/other.sqlite"}
    going_on = ("chat", sim.room_id, "--thread", "moved", "--approve-from-stdin")
    done = call(*going_on, given="yes\n", **other)
    assert done.code == 0
    assert '[done] Removed "Spam Bot"' in done.out
    assert len(posts(sim)) == 1


def test_a_conversation_that_is_deleted_meanwhile_begins_anew(
    sim: Simulation, call: Run, terminal: Open
) -> None:
    child = terminal("chat", sim.room_id, "--thread", "gone", **PLAIN)
    child.expect(PROMPT)
    child.sendline("kick Spam Bot")
    child.expect(QUESTION)
    assert call("chats", "prune", "--days", "0").code == 0
    child.sendline("no")
    child.expect("was deleted meanwhile")
    child.expect(PROMPT)
    child.sendline("who is here")
    child.expect("15 people are here")
    child.expect(PROMPT)
    child.sendeof()
    assert ended(child)[0] == 0
    assert posts(sim) == []


def test_a_yes_that_could_not_be_sent_is_told_to_be_still_open(
    sim: Simulation, call: Run, terminal: Open
) -> None:
    child = terminal("chat", sim.room_id, **PLAIN)
    child.expect(PROMPT)
    child.sendline("kick Spam Bot")
    child.expect(QUESTION)
    sim.faults.add(Fault(kind="status", status=500, method="GET", times=None))
    child.sendline("yes")
    (row,) = call("actions", "--json").json["actions"]
    child.expect(f"its approval is still open until .* approve {row['action_id']} sends the action")
    child.expect("A new message here takes it back, too.")
    child.expect(PROMPT)
    child.sendline("hello")
    child.expect(PROMPT)
    child.sendeof()
    assert ended(child)[0] == 0
    (row,) = call("actions", "--json").json["actions"]
    assert row["state"] == "rejected"
    assert posts(sim) == []


def test_what_was_rejected_elsewhere_is_told(sim: Simulation, call: Run) -> None:
    call("chat", sim.room_id, "--thread", "no", given="kick Spam Bot\n")
    (row,) = call("actions", "--json").json["actions"]
    assert call("reject", row["action_id"], "--reason", "she is a guest").code == 0
    done = call("chat", sim.room_id, "--thread", "no", given="")
    assert done.code == 0
    assert "[rejected]" in done.out
    assert "she is a guest" in done.out
    assert posts(sim) == []


def test_a_question_that_expired_is_not_asked(sim: Simulation, call: Run) -> None:
    ttl = {"HMS_POLICY_APPROVAL_TTL_S": "0.001"}
    done = call("chat", sim.room_id, "--approve-from-stdin", given="kick Spam Bot\nyes\n", **ttl)
    assert done.code == 0
    assert "[expired] Not executed" in done.out
    assert posts(sim) == []


def test_ctrl_c_at_a_question_decides_nothing(sim: Simulation, call: Run, terminal: Open) -> None:
    child = terminal("chat", sim.room_id, **PLAIN)
    child.expect(PROMPT)
    child.sendline("end the room")
    child.expect(QUESTION)
    child.sendintr()
    code, rest = ended(child)
    assert code == 130
    assert "Nothing was decided" in rest
    assert "Traceback" not in rest
    (row,) = call("actions", "--json").json["actions"]
    assert row["state"] == "proposed"
    assert posts(sim) == []


def test_ctrl_c_does_not_end_like_a_success_if_a_forged_record_says_done(
    sim: Simulation, terminal: Open
) -> None:
    sim.faults.add(Fault(kind="hang", method="POST", when="after", times=None))
    child = terminal("chat", sim.room_id, **PLAIN)
    child.expect(PROMPT)
    child.sendline("kick Spam Bot")
    child.expect(QUESTION)
    child.sendline("yes")
    executed(sim)
    with closing(Journal()) as journal, journal.write() as tx:
        tx.db.execute(actions.update().values(state="done"))
    child.sendintr()
    code, rest = ended(child)
    assert (code, "Traceback" in rest) == (5, False)


def test_ctrl_c_while_a_request_is_on_its_way_says_that_it_may_have_been_executed(
    sim: Simulation, call: Run, terminal: Open
) -> None:
    sim.faults.add(Fault(kind="hang", method="POST", when="after", times=None))
    child = terminal("chat", sim.room_id, "--thread", "cut", **PLAIN)
    child.expect(PROMPT)
    child.sendline("kick Spam Bot")
    child.expect(QUESTION)
    child.sendline("yes")
    executed(sim)
    child.sendintr()
    code, rest = ended(child)
    assert code == 5
    assert "may have been executed" in rest
    assert "Traceback" not in rest
    sim.faults.clear()
    again = call("chat", sim.room_id, "--thread", "cut", given="")
    assert "The last turn was not finished; it goes on." in again.out
    assert "[done]" in again.out
    assert len(posts(sim)) == 1


def test_ctrl_c_while_a_message_goes_out_unasked_says_that_it_may_have_arrived(
    sim: Simulation, terminal: Open
) -> None:
    sim.faults.add(Fault(kind="hang", method="POST", when="after", times=None))
    relaxed = {"HMS_POLICY_RELAXED": "hms-send-message"}
    child = terminal("chat", sim.room_id, **PLAIN, **relaxed)
    child.expect(PROMPT)
    child.sendline("tell everyone: hello")
    executed(sim)
    child.sendintr()
    code, rest = ended(child)
    assert code == 5
    assert "message may have reached the room" in rest


@pytest.mark.parametrize("there", [False, True])
def test_conversations_are_listed_where_nothing_can_be_written(
    there: bool, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there:
        assert call("chats").code == 0

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    assert call("chats").code == 0
    assert call("chats", "prune").code == 2


def test_conversations_are_listed_with_their_file_and_pruned_by_age_and_size(
    sim: Simulation, call: Run, environ: dict[str, str]
) -> None:
    file = Path(environ["XDG_STATE_HOME"]) / "hms-active-rooms" / "chat.sqlite"
    assert str(file) in call("chats").err
    for thread in ("one", "two"):
        call("chat", sim.room_id, "--thread", thread, given="help\n")
    listed = call("chats", "--json").json
    assert listed["file"] == str(file)
    assert [chat["thread"] for chat in listed["chats"]] == ["two", "one"]
    assert {chat["room_id"] for chat in listed["chats"]} == {sim.room_id}
    assert f"two\t{sim.room_id}\t" in call("chats").out
    both = sum(chat["bytes"] for chat in listed["chats"]) / 1024 / 1024
    assert call("chats", "prune", "--json").json["deleted"] == []
    assert call("chats", "prune", "--mb", str(both * 0.9), "--json").json["deleted"] == ["one"]
    assert call("chats", "prune", "--days", "0", "--json").json["deleted"] == ["two"]
    assert call("chats", "--json").json["chats"] == []


def test_a_long_conversation_keeps_a_bounded_number_of_checkpoints(
    sim: Simulation, call: Run
) -> None:
    def size() -> int:
        [chat] = call("chats", "--json").json["chats"]
        assert isinstance(chat["bytes"], int)
        return chat["bytes"]

    call("chat", sim.room_id, "--thread", "long", given="who is here\n" * 25)
    first = size()
    call("chat", sim.room_id, "--thread", "long", given="who is here\n" * 25)
    assert size() < first * 1.2
    assert "15 people are here" in call("chat", sim.room_id, "--thread", "long", given="who?").out


def test_a_conversation_belongs_to_its_room(sim: Simulation, call: Run) -> None:
    assert call("chat", sim.room_id, "--thread", "one", given="help\n").code == 0
    done = call("chat", "0" * 24, "--thread", "one", given="help\n")
    assert done.code == 2
    assert f'is about room "{sim.room_id}"' in done.err


def test_a_new_conversation_tells_how_to_go_on_with_it(sim: Simulation, call: Run) -> None:
    done = call("chat", sim.room_id, given="")
    assert done.code == 0
    assert done.out == ""
    assert f"hms-active-rooms chat {sim.room_id} --thread chat-" in done.err


def test_the_conversations_are_their_owners_alone(
    sim: Simulation, call: Run, environ: dict[str, str]
) -> None:
    call("chat", sim.room_id, given="help\n")
    folder = Path(environ["XDG_STATE_HOME"]) / "hms-active-rooms"
    assert folder.stat().st_mode & 0o777 == 0o700
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file.name


def test_with_output_in_a_file_the_question_is_still_on_the_terminal(
    sim: Simulation, environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "transcript"
    with file.open("wb") as output:
        child = Terminal(["chat", sim.room_id], {**environ, **PLAIN}, output.fileno())
    child.expect("> ")
    child.sendline("kick Spam Bot")
    child.expect("Remove .* from room")
    child.expect(QUESTION)
    child.sendline("no")
    child.expect("> ")
    child.sendeof()
    assert ended(child)[0] == 0
    assert "[rejected]" in file.read_text(encoding="utf-8")
    assert posts(sim) == []
    child.close()


def test_trouble_with_the_api_is_one_line_and_the_conversation_goes_on(
    sim: Simulation, call: Run
) -> None:
    sim.faults.add(Fault(kind="status", status=500, method="GET", times=None))
    done = call("chat", sim.room_id, given="who is here\nhelp\n")
    assert done.code == 0
    assert "500" in done.out
    assert "I understand plain sentences" in done.out


@pytest.mark.parametrize("thread", ["a" * 65, "-x", "a b", "a/b", ".."])
def test_a_name_that_could_be_a_path_is_refused(sim: Simulation, call: Run, thread: str) -> None:
    assert call("chat", sim.room_id, f"--thread={thread}", given="help\n").code == 2
