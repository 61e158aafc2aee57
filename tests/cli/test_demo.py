"""`demo`: the whole promise in a simulated room, by pipe, in one command."""

from __future__ import annotations

import json
import re

import pytest

from cli.running import Open, Run, ended

ACTIVE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def test_who_is_here_then_a_removal_by_pipe(run: Run) -> None:
    done = run("demo", given="who is here\nkick Spam Bot\nyes\nis Spam Bot here?\n")
    assert done.code == 0
    assert done.err == ""
    lines = done.out.splitlines()
    assert "No language model" in lines[0]
    assert lines[1] == "This room is simulated; nothing you do here reaches anybody."
    assert "> who is here" in lines
    assert any(line.startswith("moderator: 15 people are here") for line in lines)
    assert '  "Spam Bot", role "student", user id "guest-90417", id d6a660ef' in lines
    assert "Approve? [yes/no/edit] yes" in lines
    (outcome,) = [line for line in lines if line.startswith("[")]
    assert outcome.startswith('[done] Removed "Spam Bot" (id d6a660ef). Checked in the room.')
    assert lines.index("Approve? [yes/no/edit] yes") < lines.index(outcome)


def test_ending_and_locking_shows_what_it_means(call: Run) -> None:
    done = call("demo", given="end the room and lock it\nyes\n")
    assert done.code == 0
    assert "END the session and LOCK the room" in done.out
    assert "Warning: The room gets locked" in done.out
    assert "[done] The session was ended for 15 people and the room was locked." in done.out


def test_the_policy_of_the_environment_holds_here_too(run: Run) -> None:
    done = run("demo", given="kick Nora\nyes\n", HMS_POLICY_PROTECTED_ROLES="teacher")
    assert "the policy protects" in done.out
    assert "[done]" not in done.out


def test_no_means_no(call: Run) -> None:
    done = call("demo", given="end the room\nno\nwho is here\n")
    assert done.code == 0
    assert "[rejected] Not executed: rejected by" in done.out
    assert "Do not try again" not in done.out
    assert "moderator: 15 people are here" in done.out


def test_the_end_of_input_at_a_question_executes_nothing(call: Run) -> None:
    done = call("demo", given="kick Spam Bot\n")
    assert done.code == 0
    assert done.out.endswith("Nothing was decided and nothing was sent.\n")


def test_lines_that_are_no_answer_are_asked_again_then_refused(call: Run) -> None:
    done = call("demo", given="kick Spam Bot\nsure\nwho is here\n1\nis Spam Bot here\n")
    assert done.code == 0
    assert done.out.count("That is no answer") == 3
    assert "[refused] Not executed: no valid answer came" in done.out
    assert "[done]" not in done.out


def test_a_message_can_be_approved_for_the_rest_of_the_session(call: Run) -> None:
    done = call("demo", given="tell everyone: hello\nsession\ntell everyone: bye\n")
    assert done.code == 0
    assert done.out.count("Approve? [yes/no/edit/session]") == 1
    assert done.out.count("[done] Message sent") == 2


def test_a_removal_cannot_be_approved_for_the_session(call: Run) -> None:
    done = call("demo", given="kick Spam Bot\nsession\nno\n")
    assert "That is no answer" in done.out
    assert "[rejected]" in done.out


def test_the_same_question_twice_is_answered_twice(call: Run) -> None:
    done = call("demo", "--scene", "idle", given="tell everyone: hi\ntell everyone: hi\n")
    assert done.code == 0
    assert "[rejected]" not in done.out
    assert done.out.count("[refused]") == 2


def test_exit_and_quit_end_it(call: Run) -> None:
    for word in (
        "exit",
        "QUIT",
        "Bye!",
        "/quit",
        ":q",
        "exit()",
        "bye bye",
        "Ok, bye.",
        "ciao",
        "leave",
        "see ya",
        "Good night!",
        "thanks, that's all",
        "I'm done.",
    ):
        done = call("demo", given=f"{word}\nwho is here\n")
        assert done.code == 0
        assert "people" not in done.out


def test_json_lines_are_one_event_each(call: Run) -> None:
    done = call("demo", "--json", given="kick Spam Bot\nyes\n")
    assert done.code == 0
    assert done.err == ""
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [e["type"] for e in events] == [
        "started",
        "you",
        "approval",
        "question",
        "notice",
        "outcome",
        "message",
    ]
    assert events[2]["tool"] == "hms-remove-peers"
    assert 'Remove "' in events[2]["text"]
    assert (events[5]["state"], events[5]["executed"]) == ("done", "yes")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_hostile_room_cannot_act_on_the_transcript(call: Run, options: tuple[str, ...]) -> None:
    given = "who is here\nfind Honest Host\nkick Plain Listener\nyes\nremove all guests\nyes\n"
    done = call("demo", "--scene", "hostile", *options, given=given)
    assert done.code == 0
    assert not ACTIVE.search(done.out + done.err)
    # Every line begins as one of ours: nobody's name got to the start of a line.
    if not options:
        ours = "No language|Reading the room|This room|Try:|> |moderator: |[|  |Approve? |Answer until|"
        ours += "Remove |Warning: |That is no|No valid|Nothing was|error: |Asked again"
        for line in done.out.splitlines():
            assert line == "" or line.startswith(tuple(ours.split("|"))), line


def test_what_the_person_typed_cannot_act_either(call: Run) -> None:
    done = call("demo", given="tell everyone: \x1b[2Jhello\u202e\n\x1b[31m\nno\n")
    assert done.code == 0
    assert not ACTIVE.search(done.out)


def test_the_mark_that_windows_puts_before_a_text_is_no_part_of_it(call: Run) -> None:
    done = call("demo", given="\ufeffkick Spam Bot\r\nyes\r\n")
    assert "> kick Spam Bot" in done.out
    assert "[done]" in done.out


def test_bytes_that_are_no_text_are_survived(run: Run) -> None:
    done = run("demo", given="caf\udcff\nwho is here\n")
    assert done.code == 0
    assert "15 people are here" in done.out


def test_on_a_terminal_it_prompts_asks_and_ends_with_ctrl_d(terminal: Open) -> None:
    child = terminal("demo", NO_COLOR="1")
    child.expect("> ")
    child.sendline("kick Spam Bot")
    child.expect(r"Approve\? \[yes/no/edit\]")
    child.sendline("yes")
    child.expect(r"\[done\] Removed")
    child.expect("> ")
    child.sendeof()
    code, rest = ended(child)
    assert code == 0
    assert "Traceback" not in rest


def test_ctrl_c_at_the_prompt_ends_with_130(terminal: Open) -> None:
    child = terminal("demo")
    child.expect("> ")
    child.sendintr()
    code, rest = ended(child)
    assert code == 130
    assert "Traceback" not in rest
