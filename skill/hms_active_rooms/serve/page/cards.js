// One card for each action that waits for a person. Later the card shows how the action ended.
// Cards stay in place, since somebody may read, type or click there.

import { byId, copyOf, element, part, put, say, timeOf } from "./text.js";
import { call, Told } from "./server.js";

const STILL_MS = 400; // how long buttons rest after cards moved under the pointer
const KEPT_ENDED = 20;

const cards = new Map(); // action id to card, in the order they came
let clockAhead = 0; // the server's clock minus ours, in ms
let online = false;

export function connected(now, serverTime) {
  online = now;
  if (serverTime) clockAhead = Date.parse(serverTime) - Date.now();
  for (const card of cards.values()) card.refresh();
}

export function showWaiting(questions) {
  const waiting = new Set(questions.map((question) => question.action_id));
  questions.forEach(showQuestion);
  for (const [id, card] of cards) if (!waiting.has(id)) card.look();
  count();
}

export function forgetAll() {
  for (const card of cards.values()) card.node.remove();
  cards.clear();
}

class Card {
  constructor(question) {
    this.question = question;
    this.busy = this.asking = this.ended = false;
    this.decidable = true;
    this.words = {};
    const node = this.node = copyOf("card");
    node.id = `action-${question.action_id}`;
    node.classList.add(question.gate);
    put(node, {
      tool: question.tool.replace("hms-", ""), text: question.question, id: question.action_id,
      gate: question.gate === "hard" ? "destructive" : "", requester: question.requester,
      until: `(until ${timeOf(question.deadline)}).`,
    });
    for (const word of question.editable.filter((name) => name !== "type")) {
      const label = element("label", `New ${word}`);
      const area = this.words[word] = document.createElement("textarea");
      area.value = question.arguments[word] ?? "";
      area.before = area.value; // line ends are the browser's by now
      area.addEventListener("input", () => this.refresh());
      label.append(area);
      node.querySelector(".words").append(label);
    }
    const form = node.querySelector("form");
    form.addEventListener("submit", (event) => event.preventDefault()); // Enter decides nothing
    part(node, "approve").addEventListener("click", () => this.decide(this.yes()));
    part(node, "reject").addEventListener("click", () =>
      this.decide({ type: "reject", message: form.elements.reason.value.trim() }));
    part(node, "dismiss").addEventListener("click", () => this.remove());
    byId("queue").append(node);
    this.refresh();
  }

  changes() {
    const changed = Object.entries(this.words)
      .filter(([word, area]) => area.value.trim() && area.value !== area.before);
    return Object.fromEntries(changed.map(([word, area]) => [word, area.value.trim()]));
  }

  yes() {
    const { digest, tool, arguments: args } = this.question, changes = this.changes();
    if (!Object.keys(changes).length) return { type: "approve", digest };
    return { type: "edit", digest, edited_action: { name: tool, args: { ...args, ...changes } } };
  }

  get open() {
    return !this.ended && this.decidable;
  }

  get late() {
    return Date.now() + clockAhead >= Date.parse(this.question.deadline);
  }

  async decide(answer) {
    if (this.busy || this.late) return;
    const focused = this.node.contains(document.activeElement); // a disabled button loses focus
    this.busy = true;
    part(this.node, "note").textContent = answer.type === "reject" ? "Rejecting…" : "Sending…";
    this.refresh();
    try {
      const verdict = await call(`/actions/${this.question.action_id}`, answer);
      part(this.node, "note").textContent = "";
      this.decidable = false;
      this.tell((verdict.counted ? "" : "Your decision did not count. ") + verdict.text, verdict.ended);
    } catch (error) {
      part(this.node, "note").textContent = error instanceof Told ? error.message :
        "No answer came from the server. Your decision may count: look at the journal.";
    }
    this.busy = false;
    this.refresh();
    if (focused) part(this.node, this.open ? "approve" : "told").focus();
  }

  async look() { // the action no longer waits: show why
    if (this.busy || this.asking || this.ended) return;
    this.asking = true;
    try {
      const now = await call(`/actions/${this.question.action_id}`);
      if (!this.busy && !this.ended) {
        this.decidable = now.decidable;
        this.tell(now.told, now.ended);
      }
    } catch {
      // the next news asks again
    }
    this.asking = false;
  }

  tell(text, ended) {
    const told = part(this.node, "told"), focused = this.node.contains(document.activeElement);
    this.ended = ended;
    if (told.textContent !== text) {
      moved();
      say(text);
      told.textContent = text;
      told.hidden = false;
    }
    this.refresh();
    if (!this.open && focused) told.focus();
    forgetOld();
    count();
  }

  refresh() {
    const left = part(this.node, "left"), open = this.open;
    left.textContent = open ? timeLeft(Date.parse(this.question.deadline) - Date.now() - clockAhead) : "";
    left.classList.toggle("late", this.late);
    part(this.node, "until").hidden = !open;
    this.node.classList.toggle("ended", !open);
    this.node.querySelector("form").hidden = !open;
    this.node.querySelector("fieldset").disabled = this.busy || this.late || !online;
    part(this.node, "dismiss").hidden = open;
    part(this.node, "approve").textContent =
      Object.keys(this.changes()).length ? "Approve with your words" : "Approve";
  }

  remove() {
    moved();
    cards.delete(this.question.action_id);
    this.node.remove();
    count();
  }
}

function timeLeft(ms) {
  const s = Math.ceil(ms / 1000);
  if (s <= 0) return "Too late to answer.";
  return s < 60 ? `${s} s left` : `${Math.floor(s / 60)} min ${s % 60} s left`;
}

let still = 0;
function moved() {
  byId("queue").classList.add("moving");
  clearTimeout(still);
  still = setTimeout(() => byId("queue").classList.remove("moving"), STILL_MS);
}

function forgetOld() {
  const ended = [...cards.values()].filter((card) => !card.open);
  for (const card of ended.slice(0, -KEPT_ENDED)) card.remove();
}

export function showQuestion(question) {
  if (cards.has(question.action_id)) return;
  cards.set(question.action_id, new Card(question));
  moved();
  say(`New: ${question.question.split("\n")[0]}`);
  notify(question);
}

// Shows one action that somebody opened; if it has ended, also its outcome.
export function showAction(action) {
  showQuestion(action);
  const card = cards.get(action.action_id);
  card.decidable = action.decidable;
  if (!card.open) card.tell(action.told, action.ended);
  card.node.scrollIntoView();
}

function notify(question) { // without names, since others may see a notification
  if (!document.hidden || !("Notification" in window) || Notification.permission !== "granted") return;
  try {
    new Notification("Waits for approval", { body: question.tool, tag: question.action_id }).onclick = () => {
      focus();
      byId(`action-${question.action_id}`)?.scrollIntoView();
    };
  } catch {} // not allowed to pages on Android
}

function count() {
  const open = [...cards.values()].filter((card) => card.open).length;
  byId("nothing").hidden = cards.size > 0;
  document.title = open ? `(${open}) Approvals` : "Approvals";
}

setInterval(() => { for (const card of cards.values()) card.refresh(); }, 1000);
