// Talks to the server: makes calls, and asks for news again and again.

const BASE = "/approvals";
const LONGEST_MS = 30000; // without an answer to a request for news, the server counts as lost
const KEY = "hms-approvals-key"; // one half of the session; the other is a cookie no script reads

export class Told extends Error {} // an error that the server answered

// The key of the person whose name this tab shows. Another tab may have another person's key.
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

// A login in another tab changes the cookie, which then no longer fits `mine`, so calls from this
// tab are refused. `work` is called even if such a call has logged this tab out before.
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

let listening = {}; // the current listener, with its open request

export function stopListening() {
  listening.open?.abort();
  listening = {};
}

// Calls `heard(told)` for each new picture, and `lost()` each time none came. The server answers
// when the picture has changed, so a tab in the background gets it at once too.
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
