"""The page in a headless Chromium: what a person sees, clicks and types."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from hms_active_rooms.api.models import Acknowledgement
from hms_active_rooms.gate.approval import Approve
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action
from hms_active_rooms.gate.journal.tables import actions
from hms_active_rooms.serve.page.routes import PATH
from serve.page.browser import Viewer, chromium, requested
from serve.page.served import Served, running_page
from serve.people import kit, remove, students
from stand_in import ROOM, Clock, StandInRoom, peer

HTML = "<img src=x onerror=\"document.title='owned'\"><script>fetch('http://127.0.0.9/')</script>"


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(chrome: Chrome) -> Iterator[Callable[..., Served]]:
    """Starts the page on a room; its tabs are closed with the test, and none ran into trouble."""
    first = chrome.current_window_handle
    with ExitStack() as stack:

        def started(room: StandInRoom, journal: Journal | str = ":memory:") -> Served:
            return stack.enter_context(running_page(kit(room, journal)))

        yield started
        trouble = [entry["message"] for entry in chrome.get_log("browser")]  # type: ignore[no-untyped-call]  # selenium's own
        for tab in chrome.window_handles:
            if tab != first:
                chrome.switch_to.window(tab)
                chrome.close()
        chrome.switch_to.window(first)
    refusals = (
        "status of 401",
        "status of 403",
        "actions/aaaaaaaaaaaa - Failed to load resource: the server responded with a status of 404",
        "status of 409",
        "status of 422",
    )  # the browser logs what the page tells in words
    assert [t for t in trouble if not any(r in t for r in refusals)] == []


def test_approving_sends_it_once_and_tells_what_came_of_it(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    room = students()
    served = page(room)
    action = served.waiting()
    ada = Viewer(chrome, served).log_in()
    shown = ada.text_of(".card pre", 'Remove "')
    assert shown == served.toolkit.gate.request(action).text
    assert "min" in ada.text_of(".card .left", "left")
    assert ada.script("document.title") == "(1) Approvals"
    ada.click("[data-is=approve]")
    ada.text_of(".told", 'Removed "Peer 1"')
    ada.text_of("#journal .state", "done")
    ada.text_of(".room", "2 people")
    assert len(room.posts) == 1
    row = served.row(action)
    assert (row.decided_by, row.decided_way) == ("ada", "page")


def test_a_rejection_takes_its_reason_along(page: Callable[..., Served], chrome: Chrome) -> None:
    room = students()
    served = page(room)
    action = served.waiting()
    ada = Viewer(chrome, served).log_in()
    ada.seen("input[name=reason]").send_keys("he is new here", Keys.ENTER)
    assert served.row(action).state == "proposed"  # Enter decides nothing
    ada.click("[data-is=reject]")
    ada.text_of(".told", "he is new here")
    assert served.row(action).reason == "he is new here"
    assert room.posts == []


def test_what_is_too_late_says_so_and_cannot_be_approved(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    room, clock = students(), Clock()
    served = page(room, Journal(":memory:", clock=clock))
    action = served.waiting()
    ada = Viewer(chrome, served).log_in()
    ada.seen("[data-is=approve]")
    served.do(clock.sleep(601))
    ada.text_of(".told", "not answered in time")
    assert not ada.chrome.find_element(By.CSS_SELECTOR, "[data-is=approve]").is_displayed()
    ada.text_of("#journal .state", "expired")
    assert served.row(action).state == "expired"
    assert room.posts == []


def two_people(served: Served, chrome: Chrome) -> tuple[Served, Action, Viewer, Viewer]:
    """Both are shown what waits."""
    action = served.waiting()
    ada = Viewer(chrome, served).log_in("ada")
    bob = Viewer(chrome, served, host="localhost").log_in("bob")
    bob.seen("[data-is=reject]")
    return served, action, ada, bob


def test_of_two_people_deciding_at_once_one_counts_and_the_other_is_told(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    room = students()
    served, action, ada, bob = two_people(page(room), chrome)
    ada.here().click("[data-is=approve]")
    bob.here().script("document.querySelector('[data-is=reject]').click()")
    # A no counts until the request is sent: whoever was in time, both are told the same.
    ada.until(lambda _: served.row(action).state in ("done", "rejected"), "is not decided")
    done = served.row(action).state == "done"
    counts = 'Removed "Peer 1"' if done else 'Not executed: rejected by "bob"'
    (ada if done else bob).text_of(".told", counts)
    other = "ada" if done else "bob"
    (bob if done else ada).text_of(".told", f'by "{other}" (page)')
    row = served.row(action)
    assert (row.state, row.decided_by) == (("done", "ada") if done else ("rejected", "bob"))
    assert len(room.posts) == done


class SlowRoom(StandInRoom):
    """Answers a removal when told to."""

    answers: threading.Event

    async def remove_peers(self, *given: Any, **more: Any) -> Acknowledgement:
        await asyncio.to_thread(self.answers.wait, 60)
        return await super().remove_peers(*given, **more)


@pytest.mark.nightly
def test_a_no_after_it_was_sent_is_told_whose_yes_it_was(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    room = SlowRoom(students().peers)
    room.answers = threading.Event()
    served, action, ada, bob = two_people(page(room), chrome)
    ada.here().click("[data-is=approve]")
    ada.until(lambda _: served.row(action).state == "sent", "was not sent")
    bob.text_of(".told", 'Already approved by "ada" (page)')
    bob.script("document.querySelector('[data-is=reject]').click()")
    bob.text_of(".told", 'Your decision did not count. Already approved by "ada" (page)')
    room.answers.set()
    ada.here().text_of(".told", "Removed")
    assert (served.row(action).state, len(room.posts)) == ("done", 1)


def test_a_change_since_then_is_a_new_question_and_the_old_click_does_nothing(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    room = students()
    served = page(room)
    action = served.waiting()
    ada = Viewer(chrome, served).log_in()
    ada.seen("[data-is=approve]")
    room.peers[0] = peer(1, role="teacher")
    ada.click("[data-is=approve]")
    ada.text_of(".told", "asked again, as action")
    assert 'role "teacher"' in ada.text_of(".card pre", "Asked again:")
    assert room.posts == []
    ada.click(f".card:not(#action-{action.id}) [data-is=approve]")
    ada.text_of(".told", "Removed")
    assert len(room.posts) == 1


@pytest.mark.parametrize("approve", [False, True])
def test_nobody_is_asked_about_a_record_that_breaks_while_it_is_shown(
    approve: bool, page: Callable[..., Served], chrome: Chrome
) -> None:
    served = page(students())
    action, gate = served.waiting(), served.toolkit.gate
    ada = Viewer(chrome, served).log_in()
    ada.seen("[data-is=approve]")
    if approve:
        served.do(gate.decide(action.id, Approve(action.digest), by="bob", way="terminal"))
    with gate.journal.write() as tx:
        tx.db.execute(actions.update().values(note="x"))
    ada.text_of(".told", "contradicts itself")
    assert not ada.chrome.find_element(By.CSS_SELECTOR, "[data-is=approve]").is_displayed()
    ada.click("#journal summary")
    ada.text_of("#journal ul", "proposed")
    assert not ada.chrome.find_element(By.CSS_SELECTOR, "#journal [data-is=open]").is_displayed()


def test_the_words_can_be_changed(page: Callable[..., Served], chrome: Chrome) -> None:
    room = students()
    served = page(room)
    served.waiting("hms-send-message", room_id=ROOM, message="You are all stupid")
    ada = Viewer(chrome, served).log_in()
    ada.click(".words summary")
    ada.seen(".words textarea").clear()
    ada.seen(".words textarea").send_keys("Please be kind")
    ada.text_of("[data-is=approve]", "Approve with your words")
    ada.click("[data-is=approve]")
    ada.text_of(".told", "The person edited the words.")
    assert [body["message"] for _, body in room.posts] == ["Please be kind"]


def test_a_name_full_of_markup_is_text_and_the_page_asks_nobody_else(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    room = StandInRoom([peer(1, HTML, role="<b>host</b>", user_id='"><svg onload=alert(1)>')])
    served = page(room)
    served.waiting()
    requested(chrome)
    ada = Viewer(chrome, served).log_in()
    ada.text_of(".card pre", "onerror=")
    ada.text_of(".room td", "onerror=")
    ada.click("#journal summary")
    ada.text_of("#journal pre", "onerror=")
    inside = ("main img", "main script", "main svg", "main b:not([data-is])")
    assert [css for css in inside if ada.chrome.find_elements(By.CSS_SELECTOR, css)] == []
    assert ada.script("document.title") == "(1) Approvals"
    asked = requested(chrome)
    assert f"{served.url}{PATH}/news?seen=" in asked
    assert [url for url in asked if not url.startswith(served.url + PATH)] == []


@pytest.mark.nightly
def test_the_keyboard_is_enough(page: Callable[..., Served], chrome: Chrome) -> None:
    room = students()
    served = page(room)
    served.waiting()
    ada = Viewer(chrome, served).log_in()
    ada.until(lambda _: ada.seen("[data-is=approve]").is_enabled(), "disabled")
    for _ in range(10):
        ActionChains(chrome).send_keys(Keys.TAB).perform()
        if ada.script("document.activeElement.dataset.is") == "approve":
            break
    ActionChains(chrome).send_keys(Keys.ENTER).perform()
    ada.text_of(".told", "Removed")
    ada.until(lambda _: ada.script("document.activeElement.dataset.is") == "told", "focus is lost")
    assert len(room.posts) == 1


def test_a_login_link_works_once(page: Callable[..., Served], chrome: Chrome) -> None:
    served = page(students())
    link = served.link("ada")
    ada = Viewer(chrome, served)
    ada.open(link)
    assert ada.seen("#name").get_attribute("value") == "ada"
    assert "login" not in ada.script("location.href")
    ada.click("#login-form button")
    ada.text_of("#person", "ada")
    ada.open("about:blank")
    ada.open(link)  # the next day, from the same bookmark
    ada.click("#login-form button")
    ada.text_of("#login-text", "reload this page")
    ada.chrome.refresh()
    ada.text_of("#person", "ada")
    bob = Viewer(chrome, served, host="localhost")
    bob.open(link)
    bob.click("#login-form button")
    assert "reload" not in bob.text_of("#login-text", "used already")
    bob.open(served.url + PATH)
    bob.text_of("#login-text", "Open a login link")
    assert not bob.chrome.find_element(By.ID, "desk").is_displayed()


@pytest.mark.nightly
def test_the_first_people_are_shown_and_the_journal_by_state(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    served = page(StandInRoom([peer(n) for n in range(1, 121)]))
    served.waiting()
    ada = Viewer(chrome, served).log_in()
    ada.text_of(".room [data-is=more]", "The first 50 of 120")
    ada.text_of("#journal .state", "proposed")
    ada.text_of("#filters [name=room]", f"r ({ROOM})")
    ada.seen("#filters [name=state] option:nth-child(5)").click()
    ada.text_of("#journal-text", "No such actions")


@pytest.mark.nightly
def test_a_phone_needs_no_sideways_scrolling(page: Callable[..., Served], chrome: Chrome) -> None:
    served = page(StandInRoom([peer(1, "a" * 200, user_id="b" * 200)]))
    served.waiting()
    ada = Viewer(chrome, served)
    phone = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    ada.log_in()
    ada.text_of(".card pre", "aaa")
    ada.text_of(".room td", "aaa")
    wide = ada.script("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0
    assert ada.seen("[data-is=approve]").size["height"] >= 44


@pytest.mark.nightly
def test_logging_out_ends_every_tab(page: Callable[..., Served], chrome: Chrome) -> None:
    served = page(students())
    served.waiting(**remove(2))
    ada = Viewer(chrome, served).log_in()
    again = Viewer(chrome, served)
    again.open(served.url + PATH)
    again.text_of("#person", "ada")
    again.click("#logout")
    again.text_of("#login-text", "logged out")
    ada.here().text_of("#login-text", "not logged in")
    assert ada.chrome.find_elements(By.CSS_SELECTOR, ".card") == []


def test_a_tab_is_whoever_logged_in_last_in_this_browser(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    served = page(students())
    action = served.waiting(**remove(2))
    ada = Viewer(chrome, served).log_in("ada")
    ada.text_of(".card pre", "Peer 2")
    Viewer(chrome, served).log_in("bob")
    ada.here().text_of("#person", "bob")
    ada.click("[data-is=approve]")
    ada.text_of(".told", 'Removed "Peer 2"')
    assert served.row(action).decided_by == "bob"
    chrome.delete_all_cookies()  # also when the tab was refused before it was told of the other login
    ada.text_of("#login-text", "not logged in")
    Viewer(chrome, served).log_in("eve")
    ada.here().text_of("#person", "eve")


def test_a_login_link_pasted_into_the_open_page_logs_in(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    served = page(students())
    ada = Viewer(chrome, served)
    ada.open(served.url + PATH)
    ada.text_of("#login-text", "Open a login link")
    ada.script(f"location.href = {served.link('ada')!r}")
    ada.click("#login-form button")
    ada.text_of("#person", "ada")
    assert ada.script("location.hash") == ""


@pytest.mark.nightly
def test_a_link_to_one_action_shows_it(page: Callable[..., Served], chrome: Chrome) -> None:
    served = page(students())
    action = served.waiting(**remove(2))
    ada = Viewer(chrome, served).log_in()
    ada.text_of(".card pre", "Peer 2")
    ada.script(f"location.hash = 'action={action.id}'")
    ada.text_of(f"#action-{action.id} pre", "Peer 2")
    assert ada.script("location.hash") == ""
    ada.script("location.hash = 'action=aaaaaaaaaaaa'")
    ada.text_of("#linked", "There is no such action.")


@pytest.mark.nightly
def test_a_link_to_an_action_that_was_decided_says_what_came_of_it(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    served = page(students())
    action = served.waiting(**remove(2))
    no = served.toolkit.gate.request(action).reject("he is new")
    served.do(served.toolkit.gate.decide(action.id, no, by="bob", way="page"))
    ada = Viewer(chrome, served).log_in()
    ada.script(f"location.hash = 'action={action.id}'")
    ada.text_of(f"#action-{action.id} .told", "he is new")


def test_a_link_to_one_action_is_kept_until_somebody_has_logged_in(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    served = page(students())
    action = served.waiting(**remove(2))
    ada = Viewer(chrome, served)
    ada.open(f"{served.url}{PATH}")
    ada.text_of("#login-text", "Open a login link")
    ada.script("localStorage.setItem('hms-approvals-key', 'of a session that is over')")
    ada.open(f"{served.url}{PATH}/#action={action.id}")
    ada.text_of("#login-text", "You are not logged in.")
    ada.script(f"location.hash = '{served.link().partition('#')[2]}'")
    ada.seen("#name").send_keys("ada", Keys.ENTER)
    ada.text_of(f"#action-{action.id} pre", "Peer 2")


@pytest.mark.nightly
def test_a_page_in_the_background_notifies_without_a_name(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    served = page(students())
    ada = Viewer(chrome, served).log_in()
    ada.script("""(() => {
        window.told = [];
        window.Notification = class {
          static permission = "granted";
          constructor(title, { body }) { told.push(`${title}: ${body}`); }
          addEventListener() {}
        };
        Object.defineProperty(document, "hidden", { get: () => true });
    })()""")
    served.waiting(**remove(2))
    ada.text_of(".card pre", "Peer 2")
    assert ada.script("told") == ["Waits for approval: hms-remove-peers"]


@pytest.mark.nightly
def test_a_browser_that_refuses_notifications_to_pages_shows_the_questions_all_the_same(
    page: Callable[..., Served], chrome: Chrome
) -> None:
    """On Android, `Notification` is there and may be granted, and its constructor throws."""
    served = page(students())
    ada = Viewer(chrome, served).log_in()
    ada.script("""(() => {
        window.Notification = class {
          static permission = "granted";
          constructor() { throw new TypeError("Illegal constructor"); }
        };
        Object.defineProperty(document, "hidden", { get: () => true });
        window.lost = [];
        const place = document.getElementById("connection");
        new MutationObserver(() => lost.push(place.textContent)).observe(place, { childList: true });
    })()""")
    served.waiting(**remove(2))
    ada.text_of(".card pre", "Peer 2")
    ada.text_of("#journal .state", "proposed")
    assert "Not connected. What you see may be old." not in ada.script("lost")
