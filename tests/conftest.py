"""What holds for every test."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator
from pathlib import Path
from tempfile import mkstemp
from typing import TypeVar

import certifi
import pytest
from hypothesis import settings

# By day a property is tried on a few examples; `make nightly` tries many more.
settings.register_profile("day", max_examples=25, deadline=None)
settings.register_profile("night", max_examples=200, deadline=None)
settings.load_profile("day")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="a test that cannot run here (no Chromium, no PostgreSQL) fails; CI runs with it",
    )


def pytest_configure(config: pytest.Config) -> None:
    """A run in a script's background ignores Ctrl-C, and one under nohup a hang-up; so would each
    command it starts."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    # For each client httpx reads the certificates that it trusts. With certifi's it takes longer than
    # most tests; here nobody has a certificate, so one is enough.
    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----")
    file, name = mkstemp(".pem")
    config.add_cleanup(Path(name).unlink)
    with os.fdopen(file, "w") as pem:
        pem.write(first + end)
    os.environ["SSL_CERT_FILE"] = name


def pytest_collection_finish() -> None:
    """What was imported is never garbage, so no test looks through it for some."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is for the night is slow too, so `-m "not slow"` leaves it out, and may take its time."""
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker("slow")
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(600))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return unskipped(item.config, (yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return unskipped(collector.config, (yield))


def unskipped(config: pytest.Config, report: Report) -> Report:
    """The report; with `--no-skips`, what was skipped has failed for that reason."""
    skipped = report.outcome == "skipped" and not hasattr(report, "wasxfail")
    if skipped and config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which --no-skips does not allow: {report.longrepr}"
    return report
