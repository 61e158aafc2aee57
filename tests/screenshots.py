"""The README's pictures of the approvals page. `python tests/screenshots.py` makes them anew.

Needs Chromium: apt-get install chromium chromium-driver
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parent.parent
sys.path[:0] = [str(PROJECT / "tests")]

from selenium.webdriver import Chrome  # noqa: E402

from hms_active_rooms import ActiveRoomsToolkit  # noqa: E402
from hms_active_rooms.serve.page.feed import PageSettings  # noqa: E402
from hms_active_rooms.sim.server import environment, running_sim  # noqa: E402
from serve.page.browser import Viewer, chromium  # noqa: E402
from serve.page.served import Served, running_page  # noqa: E402

IMAGES = PROJECT / "docs" / "images"

DESKTOP: dict[str, object] = {"width": 900, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
PHONE: dict[str, object] = {"width": 390, "height": 844, "deviceScaleFactor": 1.5, "mobile": True}


def main() -> None:
    """A removal that waits on a desktop; a message and an end that wait on a phone at night."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        running_sim("classroom") as sim,
        tempfile.TemporaryDirectory() as profile,
        chromium(Path(profile)) as chrome,
    ):
        room = sim.room_id
        toolkit = ActiveRoomsToolkit.from_env(
            rooms=[room], environ=environment(sim), journal=":memory:"
        )
        with running_page(toolkit, PageSettings()) as served:
            ids = {peer.name: peer.id for peer in sim.world.peers(room)}
            ada = Viewer(chrome, served)
            _show(chrome, DESKTOP, "light")
            ada.log_in("Ada")
            removal = {"room_id": room, "peer_id": ids["Spam Bot"], "reason": "spam"}
            served.waiting("hms-remove-peers", **removal)
            ada.text_of(".room", "15 people")
            ada.text_of(".card pre", "Spam Bot")
            _picture(ada, "approvals.png")

            ada.click("[data-is=approve]")
            ada.text_of(".told", "Removed")
            ada.click("[data-is=dismiss]")
            _ask(served, room)
            _show(chrome, PHONE, "dark")
            ada.text_of(".card pre", "END the session")
            _picture(ada, "approvals-phone.png")


def _ask(served: Served, room: str) -> None:
    served.waiting("hms-send-message", room_id=room, message="We end in 5 minutes.")
    served.waiting("hms-end-active-room", room_id=room, lock=True)


def _show(chrome: Chrome, screen: dict[str, object], scheme: str) -> None:
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    chrome.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    scheme_wanted = [{"name": "prefers-color-scheme", "value": scheme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme_wanted})


def _picture(viewer: Viewer, name: str) -> None:
    viewer.until(lambda _: not viewer.script("document.querySelector('.moving')"), "it moves")
    viewer.here().chrome.save_screenshot(str(IMAGES / name))
    print(f"{IMAGES / name}: {(IMAGES / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
