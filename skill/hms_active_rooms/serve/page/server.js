// Talking to the server: calls, and asking for news again and again.

const BASE = "/approvals";
const LONGEST_MS = 30000; // without an answer to a request for news, the server counts as lost
const KEY = "hms-approvals-key"; // one half of the session; the other is a cookie no script reads

export class Told extends Error {} // the server answered, and this is what it said

// This tab decides as whoever it shows.
let mine = localStorage.getItem(KEY);

export const key = {
  has: () => mine !== null,
  keep(value) {
    mine = value;
    localStorage.setItem(KEY, value);
  },
  drop() {
    if (localStorage.getItem(KEY) === mine) localStorage.removeItem(KEY);
    mine = null;
  },
};

// When somebody logs in in another tab, the cookie is theirs and no longer fits to `mine`. A call from
// here may be refused for that before this tab is told: it is told even when it is logged out.
export function onOtherLogin(work) {
  addEventListener("storage", (event) => event.key === KEY && event.newValue && work());
}

let loggedOut = () => {};
export function onLoggedOut(work) {
  loggedOut = work;
}

export async function call(path, body, signal) {
  const headers = { "x-approvals-key": mine ?? "" };
  const how = { headers, signal, cache: "no-store", redirect: "error" };
  if (body !== undefined) {
    how.method = "POST";
    headers["content-type"] = "application/json";
    how.body = JSON.stringify(body);
  }
  const response = await fetch(BASE + path, how);
  const value = await response.json();
  if (response.ok) return value;
  const text = value.detail;
  if (response.status === 401) loggedOut(text);
  throw new Told(text);
}

let listening = {}; // who listens now, and the request that is open for that

export function stopListening() {
  listening.open?.abort();
  listening = {};
}

// Calls `heard(told)` for each picture, and `lost()` whenever none came. The server answers once it
// has another one than the one that was seen, so that also a tab nobody looks at is told at once.
export async function listen(heard, lost) {
  stopListening();
  const me = listening;
  for (let seen = "", pause = 500; listening === me;) {
    const open = me.open = new AbortController(), timer = setTimeout(() => open.abort(), LONGEST_MS);
    try {
      const told = await call(`/news?seen=${seen}`, undefined, open.signal);
      seen = told.tag;
      pause = 500;
      if (listening === me) heard(told);
    } catch {
      seen = "";
      if (listening === me) lost();
      await new Promise((later) => setTimeout(later, pause));
      pause = Math.min(pause * 2, 10000);
    } finally {
      clearTimeout(timer);
    }
  }
}
