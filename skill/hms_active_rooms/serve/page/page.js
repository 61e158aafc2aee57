// The approvals page: logs people in, and updates the cards and the lists.

import { byId } from "./text.js";
import { call, key, listen, onLoggedOut, onOtherLogin, stopListening, Told } from "./server.js";
import { connected, forgetAll, showAction, showWaiting } from "./cards.js";
import { showJournal, showRooms } from "./lists.js";

// The part of the address after "#": a login's secret, or the id of an action. It is removed from
// the address bar at once.
let link = new URLSearchParams();

const STILL_IN = "If you are logged in already, you need no link: reload this page.";

function takeLink() {
  if (!location.hash) return;
  const wanted = link.get("action"); // shown once somebody is logged in
  link = new URLSearchParams(location.hash.slice(1));
  if (wanted && !link.has("action")) link.set("action", wanted);
  history.replaceState(null, "", location.pathname);
}

function showLogin(text) {
  stopListening();
  forgetAll();
  byId("desk").hidden = byId("logout").hidden = true;
  byId("login").hidden = false;
  byId("person").textContent = byId("connection").textContent = "";
  document.title = "Approvals";
  byId("login-form").hidden = !link.has("login");
  byId("login-text").textContent = link.has("login") ? text :
    `${text} Open a login link. The server prints one when it starts, and each works once. For a new
     link, start the server again: actions that wait are kept. Or decide in a terminal on the
     server's machine: hms-active-rooms actions --state proposed`.trim();
  if (link.has("name")) {
    byId("name").value = link.get("name");
    byId("name").readOnly = true;
  }
  byId("name").focus();
}

function logOut(text) {
  key.drop();
  showLogin(text);
}

function showDesk() {
  byId("login").hidden = true;
  byId("desk").hidden = byId("logout").hidden = false;
  changes = -1;
  listen(heard, lost);
  showLinked();
}

async function showLinked() {
  const id = link.get("action");
  if (!id) return;
  const note = byId("linked");
  try {
    showAction(await call(`/actions/${encodeURIComponent(id)}`));
    note.textContent = "";
  } catch (error) {
    if (!key.has()) return; // for whoever logs in next
    note.textContent = `The action ${id} is not shown: ${error instanceof Told ? error.message : "the server did not answer."}`;
  }
  link.delete("action");
}

byId("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const you = await call("/login", { token: link.get("login"), name: byId("name").value });
    key.keep(you.key);
    link.delete("login");
    showDesk();
  } catch (error) {
    const text = error instanceof Told ? error.message : "The server did not answer.";
    byId("login-text").textContent = key.has() ? `${text} ${STILL_IN}` : text;
  }
});

byId("logout").addEventListener("click", async () => {
  await call("/logout", {}).catch(() => {});
  logOut("You are logged out.");
});

const notify = byId("notify");
notify.hidden = !("Notification" in window) || Notification.permission !== "default";
notify.addEventListener("click", async () => {
  await Notification.requestPermission();
  notify.hidden = true;
});

let changes = -1;

function heard(news) {
  byId("person").textContent = news.name;
  connected(true, news.now);
  byId("connection").textContent = news.trouble;
  showWaiting(news.waiting);
  byId("more").hidden = !news.more;
  byId("more").textContent = `${news.more} more wait. They appear here when these are decided.`;
  showRooms(news.rooms);
  if (news.changes === changes) return;
  changes = news.changes;
  showJournal();
}

function lost() {
  changes = -1; // another server may count from zero
  connected(false);
  byId("connection").textContent = "Not connected. What you see may be old.";
}

function open() {
  takeLink();
  if (link.has("login") || !key.has()) showLogin("");
  else showDesk();
}

onLoggedOut(logOut);
onOtherLogin(() => link.has("login") || location.reload()); // a login link is used in its own tab
addEventListener("hashchange", () => location.hash && open());
open();
