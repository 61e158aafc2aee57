"""The policy: what is allowed at all, and what can never be relaxed from outside."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from hms_active_rooms.capability import Hints
from hms_active_rooms.environment import KNOWN
from hms_active_rooms.errors import ConfigurationError, PolicyRefusal
from hms_active_rooms.gate.policy import Policy, gate_for

ROOM = "6" * 24
OTHER = "7" * 24


@pytest.mark.parametrize(
    ("hints", "gate"),
    [
        (Hints(read_only=True, destructive=False, idempotent=True), "none"),
        (Hints(read_only=False, destructive=False, idempotent=False), "soft"),
        (Hints(read_only=False, destructive=True, idempotent=False), "hard"),
        (Hints(read_only=False, destructive=True, idempotent=True), "hard"),
    ],
)
def test_hints_become_gates(hints: Hints, gate: str) -> None:
    assert gate_for(hints) == gate


def test_a_policy_without_rooms_allows_no_room() -> None:
    with pytest.raises(PolicyRefusal, match=ROOM):
        Policy().check_room(ROOM)


def test_a_room_elsewhere_is_refused() -> None:
    policy = Policy(rooms=(ROOM,))
    policy.check_room(ROOM)
    with pytest.raises(PolicyRefusal):
        policy.check_room(OTHER)


def test_any_room_has_to_be_said() -> None:
    Policy(rooms=("*",)).check_room(OTHER)


def test_an_unknown_key_or_wrong_value_is_an_error() -> None:
    wrong: list[dict[str, object]] = [
        {"room": [ROOM]},
        {"max_peers": 0},
        {"max_peers": True},
        {"verify_s": False},
        {"approval_ttl_s": 0},
        {"rooms": ["../x"]},
        {"relaxed": ["hms-kick"]},
        {"relaxed": ["hms-end-active-room"]},
        {"relaxed": ["hms-remove-peers"]},
        {"unattended": ["everything"]},
        {"rooms": ROOM},
        {"protected_roles": "teacher"},
        {"protected_roles": [""]},
        {"protected_roles": [1]},
        {"protected_roles": 1},
    ]
    for values in wrong:
        with pytest.raises(ConfigurationError):
            Policy(**values)


def test_an_unknown_setting_in_code_is_told_with_the_most_similar_one() -> None:
    with pytest.raises(ConfigurationError, match="no such policy setting") as caught:
        Policy(**{"protected_role": {"host"}})
    assert caught.value.hint == "The most similar setting is protected_roles."
    with pytest.raises(ConfigurationError) as caught:
        Policy(**{"zzz": 1})
    assert "max_peers" in caught.value.hint


def test_a_copy_of_a_policy_is_checked_like_the_first() -> None:
    policy = Policy(rooms=[ROOM], protected_roles={"teacher"}, unattended={"hms-end-active-room"})
    for wrong in ({"protected_role": {"host"}}, {"protected_roles": "host"}, {"max_peers": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            policy.model_copy(update=wrong)
    assert policy.model_copy() == policy
    assert policy.model_copy(update={"protected_roles": ["host"]}).protected_roles == {"host"}


@pytest.mark.parametrize("setting", ["protected_roles", "protected_user_ids"])
@pytest.mark.parametrize("name", ["*", "-", "_"])
def test_a_name_that_nobody_can_have_protects_nobody_and_is_an_error(
    setting: str, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f'{setting} = ["teacher", "{name}"]\n')
    with pytest.raises(ConfigurationError, match="a letter or a digit"):
        Policy.from_file(file)
    with pytest.raises(ConfigurationError, match=setting):
        Policy(**{setting: [name]})
    with pytest.raises(ConfigurationError, match=setting.upper()):
        Policy.from_env({f"HMS_POLICY_{setting.upper()}": f'"{name}"'})


def test_code_may_leave_a_destructive_tool_unattended_by_name() -> None:
    assert Policy(unattended=frozenset({"hms-end-active-room"})).runs_unasked("hms-end-active-room")
    assert not Policy().runs_unasked("hms-end-active-room")


def test_a_file_cannot_leave_a_tool_unattended(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('unattended = ["hms-end-active-room"]\n')
    with pytest.raises(ConfigurationError, match="only be set in code"):
        Policy.from_file(file)


def test_a_file_sets_every_other_field(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f'rooms = ["{ROOM}"]\nprotected_roles = ["teacher"]\nmax_peers = 7\n')
    policy = Policy.from_file(file)
    assert policy.rooms == (ROOM,)
    assert policy.protected_roles == {"teacher"}
    assert policy.max_peers == 7


def test_a_variable_with_a_wrong_value_is_named() -> None:
    with pytest.raises(ConfigurationError, match='HMS_POLICY_MAX_PEERS is "many"'):
        Policy.from_env({"HMS_POLICY_MAX_PEERS": "many"})


def test_a_user_id_in_a_variable_may_have_the_characters_that_ids_have() -> None:
    for given in ("auth0|5f7c", "ann@x.org", "arn:aws:iam::1:user/ann", "a+b="):
        for text in (f"{given}, x", f'["{given}", "x"]'):
            policy = Policy.from_env({"HMS_POLICY_PROTECTED_USER_IDS": text})
            assert policy.protected_user_ids == {given, "x"}


def test_a_file_may_begin_with_the_mark_that_windows_puts_there(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('protected_roles = ["teacher"]\n', encoding="utf-8-sig")
    assert Policy.from_file(file).protected_roles == {"teacher"}


@pytest.mark.parametrize(
    "text",
    [
        *("rooms = [", "room = 1", "max_peers = 'many'"),
        *("protected_roles = {teacher = false}", "protected_roles = [['teacher']]"),
    ],
)
def test_a_bad_file_is_named_in_the_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"policy\.toml"):
        Policy.from_file(file)


def test_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        Policy.from_file(tmp_path / "none.toml")


def test_variables_are_read_and_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('max_peers = 7\nprotected_roles = ["teacher"]\n')
    policy = Policy.from_env(
        {
            "HMS_POLICY_FILE": str(file),
            "HMS_POLICY_MAX_PEERS": "9",
            "HMS_POLICY_ROOMS": f"{ROOM}, {OTHER}",
        }
    )
    assert policy.max_peers == 9
    assert policy.rooms == (ROOM, OTHER)
    assert policy.protected_roles == {"teacher"}


def test_an_unknown_policy_variable_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="HMS_POLICY_MAXPEERS"):
        Policy.from_env({"HMS_POLICY_MAXPEERS": "9"})


def test_an_empty_variable_does_not_clear_a_protection(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('protected_roles = ["teacher"]\n')
    env = {"HMS_POLICY_FILE": str(file), "HMS_POLICY_PROTECTED_ROLES": " "}
    assert Policy.from_env(env).protected_roles == {"teacher"}


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("teacher", {"teacher"}),
        (" teacher , co host ", {"teacher", "co host"}),
        ('"teacher"', {"teacher"}),
        ("'teacher', \"host\"", {"teacher", "host"}),
        ('["teacher"]', {"teacher"}),
        ('["teacher", "a;b # c, [d]"]', {"teacher", "a;b # c, [d]"}),
        ('["teacher"] # them', {"teacher"}),
        ('"all", "none of them"', {"all", "none of them"}),
    ],
)
def test_a_list_in_a_variable_is_read_as_meant(text: str, roles: set[str]) -> None:
    assert Policy.from_env({"HMS_POLICY_PROTECTED_ROLES": text}).protected_roles == roles


@pytest.mark.parametrize(
    "text",
    [
        *(
            "teacher;host",
            "teacher # x",
            '"teacher',
            "[teacher]",
            "['a'",
            '"a" host',
            "a\nb",
            "[1]",
        ),
        # Other programs' ways to write a list or a value.
        *(
            "teacher|host",
            "teacher/host",
            "a\tb",
            "a, b+c",
            "a&b",
            "teacher，host",
            "a、b",
            "a\\,b",
        ),
        *("“teacher”", "«teacher»", "`teacher`", "$ROLE", "${ROLE}", "<teacher>", "{teacher}"),
        *("role:teacher", "teacher*", "(a)", "a=b", "- teacher"),
        *("true", "none", "undefined", "teacher, null", "ALL", "everyone"),  # no role is called so
        *("[]", ",", " , ,", "-", "teacher, _", '["*"]', '["teacher", "."]'),  # of nobody
    ],
)
def test_a_list_that_cannot_be_meant_is_an_error_that_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"(?i)protected_roles"):
        Policy.from_env({"HMS_POLICY_PROTECTED_ROLES": text})


@pytest.mark.parametrize(
    "text", ["u-1 u-2", "u-1\tu-2", "staff-*", "*", "u-1;u-2", "[]", ",", "none"]
)
def test_user_ids_that_cannot_be_meant_are_an_error(text: str) -> None:
    with pytest.raises(ConfigurationError, match="This is not a list of names"):
        Policy.from_env({"HMS_POLICY_PROTECTED_USER_IDS": text})


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("HMS_POLICY", "HMS_POLICY_FILE"),
        ("HMS_POLICY_FLIE", "HMS_POLICY_FILE"),
        ("HMS_POLICY_PROTECTED_ROLE", "HMS_POLICY_PROTECTED_ROLES"),
        ("hms_policy_protected_roles", "HMS_POLICY_PROTECTED_ROLES"),
        ("Hms_Journal", "HMS_JOURNAL"),
        ("HMS_JURNAL", "HMS_JOURNAL"),
        ("HMS-JOURNAL", "HMS_JOURNAL"),
        ("hms.policy.rooms", "HMS_POLICY_ROOMS"),
        (" HMS_POLICY_ROOMS", "HMS_POLICY_ROOMS"),
        ("\ufeffHMS_POLICY_ROOMS", "HMS_POLICY_ROOMS"),
        ("export HMS_POLICY_ROOMS", "HMS_POLICY_ROOMS"),
        ("HMSPOLICY_ROOMS", "HMS_POLICY_ROOMS"),
        ("HMS__POLICY__ROOMS", "HMS_POLICY_ROOMS"),
        ("HmsJournalKey", "HMS_JOURNAL_KEY"),
        ("_HMS_ROOM", "HMS_ROOM"),
        ("HMS_APROVER_TOKEN_ADA", "HMS_APPROVER_TOKEN"),
        ("HMS_PROTECTED_ROLES", "HMS_POLICY_PROTECTED_ROLES"),
        ("HMS_MAX_PEERS", "HMS_POLICY_MAX_PEERS"),
        ("HMS_ROOMS", "HMS_ROOM"),
    ],
)
def test_a_variable_nobody_reads_is_an_error_that_names_the_nearest(
    variable: str, nearest: str
) -> None:
    with pytest.raises(ConfigurationError, match=variable.lstrip("\ufeff")) as caught:
        Policy.from_env({variable: "x"})
    assert f"{nearest}." in caught.value.for_model()


@pytest.mark.parametrize(
    "name", ["HMS_POLICY_FOO", "HMS_POLICY_X", "HMS_FOO", "HMS_", "HMS_POLICY_"]
)
def test_a_variable_that_is_near_to_none_of_ours_names_no_nearest(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}. is not a setting") as caught:
        Policy.from_env({name: "x"})
    assert "nearest" not in caught.value.hint
    assert "HMS_POLICY_MAX_PEERS" in caught.value.hint


def test_variables_of_ours_and_of_others_are_no_error() -> None:
    ours = dict.fromkeys((*KNOWN, "HMS_APPROVER_TOKEN_ADA"), "")
    assert (
        Policy.from_env({**ours, "PATH": "/bin", "XHMS_POLICY": "x", "HMSERVER": "x"}) == Policy()
    )


def test_one_room_in_place_of_a_list_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="give a list") as caught:
        Policy(rooms=ROOM)
    assert f'["{ROOM}"]' in str(caught.value)


def test_a_policy_takes_any_collection_and_keeps_what_cannot_change() -> None:
    roles, rooms = {"teacher"}, [ROOM]
    policy = Policy(protected_roles=roles, rooms=rooms)
    roles.add("host")
    rooms.append(OTHER)
    assert (policy.protected_roles, policy.rooms) == ({"teacher"}, (ROOM,))
    assert policy.only_rooms == (ROOM,)
    assert Policy(rooms=["*"]).only_rooms is None


TYPED = """\
from hms_active_rooms import Policy

Policy(rooms=["6" * 24], protected_roles={"teacher"}, protected_user_ids=("ada",))
Policy(relaxed=frozenset({"hms-send-message"}), unattended=["hms-remove-peers"], max_peers=3)
Policy(max_peers="many")
Policy(protected_role={"teacher"})
"""


@pytest.mark.nightly  # by day, mypy with the plugin checks each use of it here
def test_the_types_of_a_policy_are_right_without_pydantics_plugin(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TYPED)
    command = ["-m", "mypy", "--config-file=", "--strict", "--follow-imports=silent", "program.py"]
    told = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    ).stdout
    lines = [line.split(":")[1] for line in told.splitlines() if ": error:" in line]
    assert lines == ["5", "6"], told


def test_the_help_describes_every_setting() -> None:
    described = inspect.getdoc(Policy) or ""
    for name in Policy.model_fields:
        assert f"{name}: " in described


def test_a_number_that_is_too_small_is_told_with_the_least_that_is_not() -> None:
    with pytest.raises(ConfigurationError, match="give at least 1"):
        Policy(max_peers=0)
    with pytest.raises(ConfigurationError, match="give at least 0"):
        Policy(verify_s=-1)
