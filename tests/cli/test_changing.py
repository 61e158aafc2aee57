"""`send`, `remove` and `end`: nothing without a person, once with one, exactly what was shown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.running import QUESTION, Open, Run, answered, control, ended
from forks import WAIT_S
from hms_active_rooms.cli.settings import Settings
from hms_active_rooms.gate.approval import Approve, record_decision
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.sim.faults import Fault
from hms_active_rooms.sim.server import Simulation
from simulated import names, peer_id, posts


@pytest.mark.parametrize(
    "command",
    [
        ("send", "hello"),
        ("send", "hello", "--to", "Nora Berg"),
        ("send", "hello", "--role", "student"),
        ("remove", "Spam Bot"),
        ("remove", "--role", "viewer"),
        ("end", "--lock"),
    ],
)
def test_without_a_terminal_it_is_recorded_and_nothing_is_sent(
    sim: Simulation, call: Run, command: tuple[str, ...]
) -> None:
    name, *rest = command
    done = call(name, sim.room_id, *rest, given="yes\nyes\n")
    assert done.code == 3
    assert f"hms-active-rooms approve {done.out.strip()}" in done.err
    assert posts(sim) == []


def test_a_name_that_is_the_short_id_of_somebody_else_is_asked_about(
    sim: Simulation, call: Run
) -> None:
    short = peer_id(sim, "Nora Berg")[:8]
    imposter = sim.world.join(sim.room_id, name=short, role="student")
    done = call("remove", sim.room_id, short)
    assert done.code == 2
    assert imposter.id in done.err
    assert peer_id(sim, "Nora Berg") in done.err
    assert call("remove", sim.room_id, imposter.id).code == 3


def test_what_is_told_to_type_finds_the_same_journal_in_time(
    sim: Simulation, call: Run, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/another journal.sqlite"
    first = call("remove", sim.room_id, " d6a660ef ", "--journal", url)
    assert first.code == 3
    assert f'Started a new journal at "{tmp_path}/another journal.sqlite".' in first.err
    assert re.search(r"To decide, run in a terminal \(until \d{4}-.* left\): ", first.err)
    assert f"approve {first.out.strip()} --journal '{url}'" in first.err
    again = call("send", sim.room_id, "hi", "--journal", url)
    assert "A new journal" not in again.err
    talk = call("chat", sim.room_id, "--journal", url, given="kick Spam Bot\nno\n")
    assert talk.code == 3
    assert "--approve-from-stdin" in talk.out
    assert f" --journal '{url}'" in talk.out


def test_a_journal_in_memory_says_that_nobody_can_decide_later(sim: Simulation, call: Run) -> None:
    done = call("send", sim.room_id, "hi", "--journal", ":memory:")
    assert done.code == 3
    assert "after this command ends" in done.err
    assert "hms-active-rooms approve" not in done.err


def test_a_password_of_the_journal_is_not_told() -> None:
    for url in ("ada:s3cret@db/rooms", "db/rooms?user=ada&password=s3cret"):
        given = Settings(journal=f"postgresql+psycopg://{url}", policy="my rules.toml")
        told = "hms-active-rooms approve abc --journal URL --policy 'my rules.toml'"
        assert given.command("approve", "abc") == told
        assert given.command("reject", "abc") == "hms-active-rooms reject abc --journal URL"


def test_no_option_says_yes(sim: Simulation, call: Run) -> None:
    for option in ("--yes", "-y", "--force", "--no-input", "--approve"):
        done = call("remove", sim.room_id, "Spam Bot", option)
        assert done.code == 2
    assert posts(sim) == []


def test_the_question_shows_who_is_hit_and_yes_sends_one_request(
    sim: Simulation, terminal: Open
) -> None:
    child = terminal("remove", sim.room_id, "spam bot", "--reason", "advertising")
    child.expect(QUESTION)
    shown = child.before or ""
    assert f'Remove "Spam Bot" (role "student") from room {sim.room_id} named' in shown
    assert '"Spam Bot", role "student", user id "guest-90417"' in shown
    assert 'Reason shown to the others: "advertising"' in shown
    assert posts(sim) == []
    child.sendline("yes")
    code, rest = ended(child)
    assert code == 0, rest
    assert 'Removed "Spam Bot"' in rest
    assert [p.body for p in posts(sim)] == [
        {"peer_id": peer_id_of_the_bot(sim), "reason": "advertising"}
    ]
    assert "Spam Bot" not in names(sim)


def peer_id_of_the_bot(sim: Simulation) -> str:
    return sim.world.ids.uuid_for("peer/Spam Bot/1")


def test_no_sends_nothing(sim: Simulation, terminal: Open) -> None:
    code, rest = answered(terminal("end", sim.room_id), "no")
    assert code == 4
    assert "Not executed: rejected by" in rest
    assert "Do not try again" not in rest
    assert posts(sim) == []


def test_three_lines_that_are_no_answer_are_a_refusal(sim: Simulation, terminal: Open) -> None:
    child = terminal("end", sim.room_id, "--lock")
    for line in ("y", "YES", "do it"):
        child.expect(QUESTION)
        child.sendline(line)
    code, rest = ended(child)
    assert code == 4
    assert "no valid answer came" in rest
    assert posts(sim) == []


def approve_elsewhere() -> None:
    """Bob says yes on the page to the one action that waits."""
    journal = Journal()
    (row,) = journal.actions(state="proposed")
    with journal.write() as tx:
        yes = Approve(row.digest)
        record_decision(tx, row.id, yes, by="bob", way="page")
    journal.close()


def test_without_a_valid_answer_here_what_was_approved_elsewhere_meanwhile_is_sent(
    sim: Simulation, terminal: Open
) -> None:
    child = terminal("remove", sim.room_id, "Spam Bot")
    child.expect(QUESTION)
    approve_elsewhere()
    for line in ("y", "YES"):
        child.sendline(line)
        child.expect("That is no answer")
        child.expect(QUESTION)  # what is typed before it is dropped
    child.sendline("do it")
    child.expect("That is no answer")
    code, rest = ended(child)
    assert code == 0
    assert 'Already approved by "bob" (page)' in rest
    assert len(posts(sim)) == 1


def test_what_is_typed_before_the_question_is_no_answer(sim: Simulation, terminal: Open) -> None:
    # The room is slow, so the line below is in the terminal before the question is.
    sim.faults.add(Fault(kind="latency", operation="retrieve_active_room", latency_s=2.0))
    child = terminal("end", sim.room_id)
    sim.log.wait_until(lambda requests: len(requests) > 0, timeout_s=WAIT_S)
    child.sendline("yes")
    code, _ = answered(child, "no")
    assert code == 4
    assert posts(sim) == []


def test_the_end_of_input_decides_nothing(sim: Simulation, call: Run, terminal: Open) -> None:
    child = terminal("end", sim.room_id)
    child.expect(QUESTION)
    child.sendeof()
    code, rest = ended(child)
    assert code == 3
    assert "waiting for a person" in rest
    (row,) = call("actions", "--json").json["actions"]
    assert row["state"] == "proposed"
    assert posts(sim) == []


def test_a_yes_that_was_typed_and_not_entered_is_no_answer(sim: Simulation, terminal: Open) -> None:
    child = terminal("end", sim.room_id)
    child.expect(QUESTION)
    child.send("yes")
    child.sendeof()  # hands over what was typed, as a terminal that goes away may
    child.sendeof()
    code, rest = ended(child)
    assert code == 3
    assert "waiting for a person" in rest
    assert posts(sim) == []


def test_an_answer_after_the_deadline_sends_nothing(sim: Simulation, terminal: Open) -> None:
    child = terminal("end", sim.room_id, HMS_POLICY_APPROVAL_TTL_S="0.001")
    child.expect("too late to answer")
    code, rest = answered(child, "yes")
    assert code == 4
    assert "not answered in time" in rest
    assert posts(sim) == []


def test_when_the_person_changed_meanwhile_it_is_asked_again(
    sim: Simulation, terminal: Open
) -> None:
    child = terminal("remove", sim.room_id, "Spam Bot")
    child.expect(QUESTION)
    control(sim, f"/peers/{peer_id(sim, 'Spam Bot')}", role="teacher")
    child.sendline("yes")
    child.expect("Asked again: The person was ")
    child.expect('"Spam Bot", role "teacher"')
    child.expect(QUESTION)
    assert posts(sim) == []
    child.sendline("yes")
    code, _ = ended(child)
    assert code == 0
    assert len(posts(sim)) == 1


def test_when_they_are_gone_meanwhile_nothing_is_sent(sim: Simulation, terminal: Open) -> None:
    child = terminal("remove", sim.room_id, "Spam Bot")
    child.expect(QUESTION)
    control(sim, "/leave", peer_id=peer_id(sim, "Spam Bot"))
    child.sendline("yes")
    code, rest = ended(child)
    assert code == 4
    assert "is in the room now. Nothing was sent." in rest
    assert posts(sim) == []


def test_edited_words_are_what_is_sent(sim: Simulation, call: Run, terminal: Open) -> None:
    child = terminal("send", sim.room_id, "sit dwon", "--to", "Zoë Fischer")
    child.expect(QUESTION)
    child.sendline("edit")
    child.expect("New message")
    child.sendline("sit down")
    child.expect('New message: "sit down"')
    child.expect(r"with these words\?")
    child.sendline("yes")
    code, _ = ended(child)
    assert code == 0
    assert [p.body["message"] for p in posts(sim)] == ["sit down"]
    states = {row["state"]: row for row in call("actions", "--json").json["actions"]}
    assert set(states) == {"done", "rejected"}
    assert states["done"]["edited_from"] == states["rejected"]["action_id"]


def test_a_message_goes_to_the_one_peer_named(sim: Simulation, terminal: Open) -> None:
    assert (
        answered(
            terminal("send", sim.room_id, "hi", "--to", "Omar Haddad", "--type", "note"), "yes"
        )[0]
        == 0
    )
    assert [p.body for p in posts(sim)] == [
        {"message": "hi", "type": "note", "peer_id": peer_id(sim, "Omar Haddad")}
    ]


def test_a_name_two_peers_could_be_is_refused_and_its_id_works(sim: Simulation, call: Run) -> None:
    refused = call("remove", sim.room_id, "Alice Martin")
    assert refused.code == 2
    wanted = peer_id(sim, "Alice Martin")[:8]
    assert f"id {wanted}" in refused.err
    assert call("remove", sim.room_id, wanted).code == 3


def test_a_policy_refusal_is_told_and_on_record(sim: Simulation, call: Run) -> None:
    done = call("remove", sim.room_id, "Nora Berg", HMS_POLICY_PROTECTED_ROLES="teacher")
    assert done.code == 4
    assert "the policy protects" in done.err
    assert '"Nora Berg"' in done.err
    (row,) = call("actions", "--json").json["actions"]
    assert (row["state"], row["decided_way"]) == ("rejected", "policy")


def test_rooms_named_by_the_environment_stay_the_only_ones(sim: Simulation, call: Run) -> None:
    done = call("end", sim.room_id, HMS_POLICY_ROOMS="a" * 24)
    assert done.code == 4
    assert call("room", sim.room_id, HMS_POLICY_ROOMS="a" * 24).code == 4
    assert sim.requests == ()


def test_a_lost_answer_is_told_as_unknown_and_not_sent_again(
    sim: Simulation, terminal: Open
) -> None:
    sim.faults.add(Fault(kind="reset", method="POST", when="after", times=None))
    code, rest = answered(terminal("send", sim.room_id, "hello"), "yes")
    assert code == 5
    assert "The outcome is unknown" in rest
    assert "Ask somebody in the room whether the message arrived." in rest
    assert len(posts(sim)) == 1


@pytest.mark.parametrize("whom", [("Spam Bot",), ("--role", "viewer")])
def test_of_what_failed_a_person_is_told_what_to_do(
    sim: Simulation, terminal: Open, call: Run, whom: tuple[str, ...]
) -> None:
    sim.faults.add(Fault(kind="unauthorized", method="POST", times=None))
    code, rest = answered(terminal("remove", sim.room_id, *whom), "yes")
    assert code == 1
    todo = "Check the 100ms credentials (management tokens expire) and this machine's clock."
    assert todo in rest
    action = call("actions").out.splitlines()[1].split()[0]
    assert todo in call("actions", "show", action).out


def test_who_approved_what_could_not_be_sent_any_more_stays_told(
    sim: Simulation, terminal: Open, call: Run
) -> None:
    child = terminal("remove", sim.room_id, "Spam Bot")
    child.expect(QUESTION)
    control(sim, "/leave", peer_id=peer_id(sim, "Spam Bot"))
    child.sendline("yes")
    code, rest = ended(child)
    assert (code, "is in the room now. Nothing was sent." in rest) == (4, True)
    (row,) = call("actions", "--json").json["actions"]
    assert (row["state"], row["decided_way"], posts(sim)) == ("expired", "terminal", [])
    assert row["decided_by"]
    shown = call("actions", "show", row["action_id"]).out
    assert re.search(f'Decided +approved by "{row["decided_by"]}" \\(terminal\\) at ', shown)


def test_a_no_to_what_was_approved_elsewhere_meanwhile_is_in_time(
    sim: Simulation, terminal: Open, call: Run
) -> None:
    child = terminal("end", sim.room_id)
    child.expect(QUESTION)
    approve_elsewhere()
    child.sendline("no")
    code, rest = ended(child)
    assert code == 4
    assert "Already" not in rest
    (row,) = call("actions", "--json").json["actions"]
    assert (row["state"], row["decided_way"]) == ("rejected", "terminal")
    assert posts(sim) == []


def test_a_yes_after_anothers_yes_is_told_whose_counts(sim: Simulation, terminal: Open) -> None:
    child = terminal("remove", sim.room_id, "Spam Bot")
    child.expect(QUESTION)
    approve_elsewhere()
    child.sendline("yes")
    code, rest = ended(child)
    assert code == 0
    assert 'Already approved by "bob" (page)' in rest
    assert len(posts(sim)) == 1


def test_a_session_of_one_person_is_ended_for_one_person(
    start: Callable[[str], Simulation], terminal: Open
) -> None:
    sim = start("idle")
    sim.world.join(sim.room_id, name="Ada", role="host")
    child = terminal("end", sim.room_id)
    child.expect(QUESTION)
    child.sendline("yes")
    assert "The session was ended for 1 person." in ended(child)[1]


def test_json_is_one_document_and_the_question_is_beside_it(
    sim: Simulation, terminal: Open, call: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    waiting = call("remove", sim.room_id, "Spam Bot", "--json")
    assert waiting.code == 3
    assert waiting.json["state"] == "proposed"
    assert waiting.json["impact"]["people"][0]["name"] == "Spam Bot"
    code, rest = answered(terminal("remove", sim.room_id, "Spam Bot", "--json"), "yes")
    assert code == 0
    document = json.loads(next(line for line in rest.splitlines() if line.startswith("{")))
    assert document["state"] == "done"
    assert document["decided_way"] == "terminal"


def test_the_next_question_about_the_same_says_that_the_last_one_may_have_been_executed(
    sim: Simulation, terminal: Open
) -> None:
    sim.faults.add(Fault(kind="reset", operation="send_message", when="after"))
    shown = []
    for answer in ("yes", "no", "no"):
        child = terminal("send", sim.room_id, "Five minutes left")
        child.expect(r"Approve\? ")
        shown.append(child.before or "")
        child.sendline(answer)
        ended(child)
    assert "Note:" not in shown[0]
    for text in shown[1:]:
        assert "Note: The same call was sent" in text
        assert "may have reached the room" in " ".join(text.split())


def test_a_journal_that_can_only_be_read_is_refused_at_the_start_and_can_be_read(
    sim: Simulation, call: Run, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/journal.sqlite"
    action = call("remove", sim.room_id, "Spam Bot", "--journal", url).out.strip()
    only = {"HMS_JOURNAL": f"{url}?mode=ro"}
    room = ("--room", sim.room_id)
    commands: list[tuple[str, ...]] = [("serve", *room), ("mcp", *room), ("mcp", "--stdio", *room)]
    for command in (*commands, ("chat", sim.room_id), ("send", sim.room_id, "hi")):
        done = call(*command, given="who is here\n", **only)
        assert (done.code, "is read-only" in done.err) == (2, True)
    assert action in call("actions", **only).out
    assert call("actions", "show", action, **only).code == 0
    refused = call("approve", action, "--journal", url)
    assert f"hms-active-rooms reject {action} --journal {url}" in refused.err
