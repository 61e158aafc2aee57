// Talking to the server: calls, and the stream of news.

const BASE = "/approvals";
const KEY = "hms-approvals-key"; // one half of the session; the other is a cookie no script reads

export class Told extends Error {} // the server answered, and this is what it said

// This tab decides as whoever it shows. When somebody else logs in in another tab, the cookie is
// theirs, the two halves do not fit, and the page is loaded again as theirs.
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

addEventListener("storage", (event) => {
  if (event.key === KEY && event.newValue && mine !== null) location.reload();
});

function options(more = {}) {
  const headers = { "x-approvals-key": mine ?? "" };
  return { headers, cache: "no-store", redirect: "error", ...more };
}

let loggedOut = () => {};
export function onLoggedOut(work) {
  loggedOut = work;
}

export async function call(path, body) {
  const how = options();
  if (body !== undefined) {
    how.method = "POST";
    how.headers["content-type"] = "application/json";
    how.body = JSON.stringify(body);
  }
  const response = await fetch(BASE + path, how);
  const value = await response.json();
  if (response.ok) return value;
  const text = value.detail;
  if (response.status === 401) loggedOut(text);
  throw new Told(text);
}

let stream = null; // the one we listen to

export function stopListening() {
  stream?.abort();
  stream = null;
}

// Calls `heard(kind, data)` for each event, and `lost()` whenever the stream broke off.
export async function listen(heard, lost) {
  stopListening();
  const mine = stream = { abort() {} };
  for (let pause = 500; stream === mine; pause = Math.min(pause * 2, 10000)) {
    const stop = new AbortController();
    mine.abort = () => stop.abort();
    try {
      await readStream(stop, (kind, data) => {
        pause = 500;
        if (stream === mine) heard(kind, data);
      });
    } catch {
      // nobody answers, or too long a silence: told by `lost`
    }
    if (stream === mine) lost();
    await new Promise((later) => setTimeout(later, pause));
  }
}

async function readStream(stop, heard) {
  let beat = 10, timer = 0, rest = "";
  const restart = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), beat * 3000);
  };
  restart();
  try {
    const response = await fetch(`${BASE}/events`, options({ signal: stop.signal }));
    if (response.status === 401) loggedOut((await response.json()).detail);
    if (!response.ok) return;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const [kind, data] = event.split("\ndata: ");
        if (data === undefined) continue; // a heartbeat
        const told = JSON.parse(data);
        if (told.beat_s) beat = told.beat_s;
        heard(kind.replace("event: ", ""), told);
      }
      restart();
    }
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}
