"""A worker that dies by SIGKILL at a chosen journal step. Forked by test_kill.py."""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.gate.approval import Approve
from hms_active_rooms.gate.calls import parse_call
from hms_active_rooms.gate.drafts import Origin
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.policy import Policy

POLICY = Policy(rooms=("*",), verify_s=3)


@dataclass(frozen=True)
class Job:
    """What to do, and when to die.

    Attributes:
        how: "gate" or "graph".
        journal: its URL.
        checkpoints: the file of the graph's checkpoints.
        kill: "never", "before:N" or "after:N": the N-th journal transaction, before or after
            its commit.
        tool: whose call.
        arguments: of the call.
    """

    how: str
    journal: str
    checkpoints: str
    kill: str
    tool: str
    arguments: dict[str, Any]


def arm(kill: str) -> None:
    """Make the journal's N-th transaction deadly."""
    if kill == "never":
        return
    moment, _, number = kill.partition(":")
    count = 0

    def deadly(original: Callable[[Journal], AbstractContextManager[Any]]) -> Any:
        @contextmanager
        def counted(self: Journal) -> Iterator[Any]:
            nonlocal count
            count += 1
            mine = count
            with original(self) as db:
                yield db
                if (moment, mine) == ("before", int(number)):
                    os.kill(os.getpid(), signal.SIGKILL)
            if (moment, mine) == ("after", int(number)):
                os.kill(os.getpid(), signal.SIGKILL)

        return counted

    Journal._transaction = deadly(Journal._transaction)  # type: ignore[method-assign]
    Journal._reading = deadly(Journal._reading)  # type: ignore[method-assign]


async def through_the_gate(journal: Journal, tool: str, arguments: dict[str, Any]) -> str:
    async with ActiveRoomsClient.from_env() as client:
        gate = Gate(client, POLICY, journal)
        here = Origin("thread", "message", "call", "agent")
        action = await gate.propose(parse_call(tool, arguments), here)
        if action.state == "proposed":
            action = await gate.decide(action.id, Approve(action.digest), by="ada", way="test")
        return (await gate.run(action.id)).state


async def through_the_graph(
    journal: Journal, checkpoints: str, tool: str, arguments: dict[str, Any]
) -> str:
    from langchain_core.messages import AIMessage, HumanMessage
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    from langgraph.types import Command

    from hms_active_rooms.agent import build_moderator
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit
    from scripted import ScriptedModel, calls

    config: Any = {"configurable": {"thread_id": "t", "approver": "ada"}}
    model = ScriptedModel.saying(calls((tool, arguments)), AIMessage("done"))
    async with (
        ActiveRoomsClient.from_env() as client,
        AsyncSqliteSaver.from_conn_string(checkpoints) as saver,
    ):
        kit = ActiveRoomsToolkit(client, POLICY, journal=journal)
        graph = build_moderator(model, kit, checkpointer=saver)
        state = await graph.aget_state(config)
        if not state.values:
            await graph.ainvoke({"messages": [HumanMessage("go")]}, config, durability="sync")
        elif state.next and not state.interrupts:
            await graph.ainvoke(None, config, durability="sync")
        for interrupt in (await graph.aget_state(config)).interrupts:
            digest = interrupt.value["action_requests"][0]["digest"]
            decisions = [{"type": "approve", "digest": digest}]
            resume: Any = Command(resume={interrupt.id: {"decisions": decisions}})
            await graph.ainvoke(resume, config, durability="sync")
        assert not (await graph.aget_state(config)).next
    [action, *_] = journal.actions()
    return action.state


def main(answer: Connection, job: Job) -> None:
    """Do the job; answers with the action's final state, or with what went wrong, if it lives."""
    try:
        journal = Journal(job.journal)
        arm(job.kill)
        if job.how == "gate":
            state = asyncio.run(through_the_gate(journal, job.tool, job.arguments))
        else:
            state = asyncio.run(
                through_the_graph(journal, job.checkpoints, job.tool, job.arguments)
            )
        answer.send(state)
    except Exception:
        answer.send(traceback.format_exc())
        raise
