"""The harness of `make bench` runs and counts what it says; no time decides anything here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from evals.bench import BASE_REF, peer_of, room_of
from evals.bench.__main__ import NOW, PLAIN, WAYS, Bench, report
from evals.bench.processes import PROJECT, Process, syncs_between_marks


async def test_a_removal_is_done_and_counted_in_a_process_of_its_own(tmp_path: Path) -> None:
    async with Process(tmp_path / "room", "stand-in") as stand_in:
        url = stand_in.said["url"]
        worker = Process(tmp_path / "worker", "ours", url, PROJECT / "skill", count=True)
        async with worker:
            cost = await worker.ask("remove", way="callback", room=room_of(3))
    start, yes, end = cost["marks"]
    assert (start["removed"], yes["removed"], end["removed"]) == ([], [], [peer_of(1)])
    assert 0 == start["requests"] < yes["requests"] < end["requests"]
    assert start["transactions"] < yes["transactions"] < end["transactions"]
    assert start.get("parsed", 0) < yes["parsed"] <= end["parsed"]
    if worker.syncs is not None:
        to_yes, from_yes = syncs_between_marks(worker.syncs)
        assert to_yes["journal"] > 0
        assert from_yes["journal"] > 0


def test_syncs_are_counted_by_file_between_marks() -> None:
    log = (
        "1 fdatasync(3</t/journal.sqlite>) = 0\n"
        "1 fsync(4</t/marks>) = 0\n"
        "2 fdatasync(5</t/journal.sqlite-wal> <unfinished ...>\n"
        "1 fsync(6</t/checkpoints.sqlite-wal>) = 0\n"
        "2 <... fdatasync resumed>) = 0\n"
        "1 fsync(4</t/marks>) = 0\n"
        "1 fsync(4</t/marks>) = 0\n"
        "1 fdatasync(5</t/journal.sqlite-wal>) = 0\n"
    )
    assert syncs_between_marks(log) == [Counter(journal=1, checkpoints=1), Counter()]


def test_where_the_earlier_commit_does_not_run_the_tables_say_why(tmp_path: Path) -> None:
    bench = Bench(tmp_path, repeats=3, calls=1)
    bench.missing[BASE_REF] = "not a valid object name"
    measures = ["list", "fast", "at once", "served", "largest", "MCP list", "MCP room"]
    for measure in [*measures, *(f"{way} {what}" for way in WAYS for what in ("CPU", "wall"))]:
        bench.samples[NOW, measure] = [2.0, 30.0, 6.0]
        bench.samples[PLAIN, measure] = [1.0, 1.0, 4.0]
    for name, way in [*((NOW, way) for way in WAYS), (PLAIN, "create_agent")]:
        bench.counts[name, way] = Counter(transactions=6)
    told = report(bench, "make bench")
    assert f"`{BASE_REF}` did not run: not a valid object name" in told
    assert "| list, 100 people, CPU | plain tool on httpx | <= 1.5x | 2.00x | not run: " in told
    assert "| ... with `fast`, 100 at once, calls/s | plain tool on httpx | >= 2x | 0.50x |" in told
