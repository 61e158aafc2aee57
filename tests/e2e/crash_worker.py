"""A worker that dies by SIGKILL at a chosen step. Forked by test_kill.py."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

import httpx
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command

from hms_active_rooms import ActiveRoomsClient, ActiveRoomsToolkit
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.approval import Approve
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Origin
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.moderator import build_moderator
from scripted import ScriptedModel, calls

POLICY = Policy(rooms=("*",), verify_s=3)
CONFIG: Any = {"configurable": {"thread_id": "t", "approver": "ada"}}
NEVER = 0

Moment = Literal["before", "after"]


@dataclass(frozen=True)
class Job:
    """What to do, and when to die.

    Attributes:
        how: "gate", or a graph of `GRAPHS`.
        journal: its URL.
        checkpoints: the file of the graph's checkpoints.
        step: before or after which step to die, from 1; `NEVER` for none.
        moment: which of the two.
        tool: whose call.
        arguments: of the call.
    """

    how: str
    journal: str
    checkpoints: str
    step: int
    moment: Moment
    tool: str
    arguments: dict[str, Any]


class Steps:
    """Counts what leaves a trace outside the process: each commit of the journal, each write of a
    checkpoint, each request that changes the room. Before or after one of them, it kills."""

    def __init__(self, job: Job) -> None:
        self._fatal = (job.moment, job.step)
        self._lock = threading.Lock()
        self._count = self._commit = 0

    def begin(self) -> int:
        """The number of the step that comes now."""
        with self._lock:
            self._count += 1
            return self._at("before", self._count)

    def end(self, number: int) -> None:
        """This step is done."""
        self._at("after", number)

    def on_commit(self, moment: Moment) -> None:
        """See `Journal`. Commits come one after the other."""
        if moment == "before":
            self._commit = self.begin()
        else:
            self.end(self._commit)

    def _at(self, moment: Moment, number: int) -> int:
        if (moment, number) == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return number


class Wire(httpx.AsyncHTTPTransport):
    """Each request that changes the room is a step."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return await super().handle_async_request(request)
        number = self._steps.begin()
        response = await super().handle_async_request(request)
        await response.aread()
        self._steps.end(number)
        return response


class Saver(AsyncSqliteSaver):
    """Each write of a checkpoint is a step."""

    steps: Steps

    async def aput(self, *given: Any) -> Any:
        number = self.steps.begin()
        written = await super().aput(*given)
        self.steps.end(number)
        return written

    async def aput_writes(self, *given: Any) -> None:
        number = self.steps.begin()
        await super().aput_writes(*given)
        self.steps.end(number)


Build = Callable[[ScriptedModel, ActiveRoomsToolkit, BaseCheckpointSaver[Any]], Any]


def moderator(
    model: ScriptedModel, kit: ActiveRoomsToolkit, saver: BaseCheckpointSaver[Any]
) -> Any:
    return build_moderator(model, kit, checkpointer=saver)


def agent(model: ScriptedModel, kit: ActiveRoomsToolkit, saver: BaseCheckpointSaver[Any]) -> Any:
    return create_agent(model, kit.get_tools(), checkpointer=saver)


def tool_node(
    model: ScriptedModel, kit: ActiveRoomsToolkit, saver: BaseCheckpointSaver[Any]
) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode(kit.get_tools()))
    graph.add_edge(START, "model")
    graph.add_edge("model", "tools")
    return graph.compile(checkpointer=saver)


GRAPHS: dict[str, Build] = {"moderator": moderator, "create_agent": agent, "ToolNode": tool_node}


async def through_the_gate(client: ActiveRoomsClient, journal: Journal, job: Job) -> str:
    gate = Gate(client, POLICY, journal)
    here = Origin("thread", "message", "call", "agent")
    action = await gate.propose(parse_call(job.tool, job.arguments), here)
    if action.state == "proposed":
        yes = Approve(action.digest)
        action = (await gate.decide(action.id, yes, by="ada", way="terminal")).action
    return (await gate.run(action.id)).state


async def through_a_graph(
    client: ActiveRoomsClient, journal: Journal, job: Job, steps: Steps
) -> str:
    model = ScriptedModel.saying(calls((job.tool, job.arguments)), AIMessage("done"))
    async with Saver.from_conn_string(job.checkpoints) as saver:
        assert isinstance(saver, Saver)
        saver.steps = steps
        kit = ActiveRoomsToolkit(client, POLICY, journal=journal)
        graph = GRAPHS[job.how](model, kit, saver)
        state = await graph.aget_state(CONFIG)
        if not state.interrupts:
            # None: go on where the last process stopped. `next` is empty behind written tasks too.
            begin = {"messages": [HumanMessage("go")]} if state.created_at is None else None
            await graph.ainvoke(begin, CONFIG, durability="sync")
        for interrupt in (await graph.aget_state(CONFIG)).interrupts:
            answer = yes_to(interrupt.value)
            await graph.ainvoke(Command(resume={interrupt.id: answer}), CONFIG, durability="sync")
        assert not (await graph.aget_state(CONFIG)).next
    [action, *_] = journal.actions()
    return action.state


def yes_to(asked: dict[str, Any]) -> dict[str, Any]:
    """A yes in the shape in which it was asked: the whole turn, or one call."""
    if "action_requests" not in asked:
        return {"type": "approve", "digest": asked["digest"]}
    [request] = asked["action_requests"]
    return {"decisions": [{"type": "approve", "digest": request["digest"]}]}


async def work(job: Job) -> str:
    steps = Steps(job)
    journal = Journal(job.journal, on_commit=steps.on_commit)
    async with ActiveRoomsClient.from_env(transport=Wire(steps)) as client:
        if job.how == "gate":
            return await through_the_gate(client, journal, job)
        return await through_a_graph(client, journal, job, steps)


def main(answer: Connection, job: Job) -> None:
    """Do the job; answers with the action's final state, or with what went wrong, if it lives."""
    with suppress(BrokenPipeError):
        try:
            answer.send(asyncio.run(work(job)))
        except BaseException:
            answer.send(traceback.format_exc())
            raise
