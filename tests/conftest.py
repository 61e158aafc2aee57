"""What holds for every test."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A run in a script's background ignores Ctrl-C, and so would each command it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
