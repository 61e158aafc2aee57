"""Private names: those of our dependencies that we cannot do without, and none of ours in tests.

A dependency may change a private name in any release. Each that we use stands in one place, and
a test here fails when it goes and says what to do then.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from jwt.algorithms import HMACAlgorithm
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

import hms_active_rooms

PACKAGE = Path(hms_active_rooms.__file__).parent
PROJECT = PACKAGE.parent.parent

OVERRIDDEN = {"_to_args_and_kwargs", "_filter_injected_args"}
"""Private methods of dependencies that our classes override."""

MEANT_TO_BE_OVERRIDDEN = {"_generate", "_identifying_params", "_llm_type", "_run", "_arun"}
"""LangChain's guides for models and tools of one's own tell everybody to override these."""

ADDED_BY_PYTHON = {"_abc_impl", "_is_protocol"}

IMPORTED = {("evals/inspect/task.py", "inspect_ai._util.error")}


@cache
def parsed(folder: Path) -> list[tuple[str, ast.Module]]:
    return [
        (path.relative_to(PROJECT).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(folder.rglob("*.py"))
    ]


DOCUMENTED = {"_asdict", "_fields", "_make", "_replace", "_exit"}
"""Documented all the same: methods of `typing.NamedTuple`, and `os._exit`."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def defined(tree: ast.Module) -> set[str]:
    """Private names that a file gives to something: functions, classes, variables, attributes."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store()):
                found.add(name)
    return {name for name in found if is_private(name)}


def used(tree: ast.Module) -> set[str]:
    """Private names that a file takes from some object, or imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
    return {name for name in found if is_private(name)}


def test_the_tests_use_no_private_name_of_the_package() -> None:
    ours = {name for _, tree in parsed(PACKAGE) for name in defined(tree)}
    wrong = {
        f"{name}: {private}"
        for name, tree in parsed(PROJECT / "tests")
        for private in (used(tree) - defined(tree) - MEANT_TO_BE_OVERRIDDEN) & ours
    }
    assert wrong == set()


def test_no_private_name_of_a_dependency_is_taken_from_an_object() -> None:
    for folder in ("skill/hms_active_rooms", "evals"):
        trees = dict(parsed(PROJECT / folder))
        ours = {name for tree in trees.values() for name in defined(tree)}
        wrong = {name: used(tree) - ours - OVERRIDDEN for name, tree in trees.items()}
        assert {name: found for name, found in wrong.items() if found} == {}


def test_no_private_module_of_a_dependency_is_imported_but_where_it_is_told() -> None:
    found = {
        (name, node.module)
        for folder in ("skill/hms_active_rooms", "evals", "tests")
        for name, tree in parsed(PROJECT / folder)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        if any(is_private(part) for part in node.module.split("."))
    }
    assert found == IMPORTED


def test_no_class_overrides_a_private_method_of_a_dependency_but_the_one_that_is_told() -> None:
    found = set()
    for module in pkgutil.walk_packages(hms_active_rooms.__path__, "hms_active_rooms."):
        if module.name.endswith(("__main__", "moderator.graph")):  # they run when imported
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(cls) and cls.__module__ == module.name:
                foreign = [base for base in cls.__mro__[1:] if not ours(base)]
                found |= {
                    name
                    for name in filter(is_private, vars(cls))
                    if name not in ADDED_BY_PYTHON and any(name in vars(base) for base in foreign)
                }
    assert found - MEANT_TO_BE_OVERRIDDEN == OVERRIDDEN


def ours(cls: type) -> bool:
    return cls.__module__.startswith("hms_active_rooms")


# --- each of them is still there --------------------------------------------------------------


def test_langchain_turns_a_tools_input_into_arguments_in_a_method_we_can_extend() -> None:
    """If it goes: take the id of the call by `InjectedToolCallId` in `tools/active_rooms.py`, and
    give plain `tool.invoke({...})` an id of its own."""
    given: Any = inspect.signature(getattr(BaseTool, "_to_args_and_kwargs"))  # noqa: B009
    assert list(given.parameters) == ["self", "tool_input", "tool_call_id"]
    tool = StructuredTool.from_function(lambda word: word, name="say", description="says it")
    parts = getattr(tool, "_to_args_and_kwargs")({"word": "hi"}, "call-1")  # noqa: B009
    assert parts == ((), {"word": "hi"})


def test_langgraph_tells_a_task_under_which_key_its_checkpointer_is() -> None:
    """If it goes: look for another way to know in `tools/asking.py` whether a graph can pause.
    Until then tools find no checkpointer, so they ask nobody and refuse; nothing runs unasked."""
    told: list[Any] = []

    def task(state: MessagesState, config: RunnableConfig) -> MessagesState:
        told.append(config["configurable"].get("__pregel_checkpointer"))
        return state

    builder = StateGraph(MessagesState)
    builder.add_node("task", task)
    builder.add_edge(START, "task")
    saver = InMemorySaver()
    builder.compile(checkpointer=saver).invoke(
        {"messages": []}, {"configurable": {"thread_id": "t"}}
    )
    builder.compile().invoke({"messages": []})
    assert told == [saver, None]


def test_pyjwt_asks_a_method_we_can_override_whether_a_key_is_long_enough() -> None:
    """If it goes: with `check_key_length` not asked any more, `sim/settings.py`
    warns about the length of a secret that 100ms chose; look for PyJWT's own option instead."""

    class Asked(HMACAlgorithm):
        def check_key_length(self, key: Any) -> None:
            asked.append(key)

    asked: list[Any] = []
    jws = jwt.PyJWS(algorithms=[])
    jws.register_algorithm("HS256", Asked(HMACAlgorithm.SHA256))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jws.encode(b"{}", "short", algorithm="HS256")
    assert asked == [b"short"]


def test_inspect_has_an_error_for_what_is_missing_before_a_run() -> None:
    """If it goes: catch what inspect raises now where `evals/inspect/task.py` catches `PrerequisiteError`,
    so that a model without a key stays one line and no traceback."""
    error = importlib.import_module("inspect_ai._util.error")
    assert issubclass(error.PrerequisiteError, Exception)
