// The rooms with their people, and the journal.

import { byId, copyOf, element, part, put, timeOf } from "./text.js";
import { call } from "./server.js";
import { showAction } from "./cards.js";

// --- rooms ---------------------------------------------------------------------------------

const rooms = new Map(); // room id to its part of the page

class Room {
  constructor(id) {
    this.node = copyOf("room");
    byId("rooms").append(this.node);
    const choices = byId("filters").elements.room;
    this.option = [...choices.options].find((option) => option.value === id) ?? element("option", id);
    this.option.value = id;
    choices.append(this.option);
  }

  show(room) {
    if (room.name) this.option.textContent = `${room.name} (${room.room_id})`;
    put(this.node, { name: room.name, room_id: room.room_id, counts: room.trouble || countsOf(room) });
    const { rows, total } = room;
    put(this.node, { more: rows.length < total ? `The first ${rows.length} of ${total.toLocaleString()}.` : "" });
    this.node.querySelector("table").hidden = !rows.length;
    this.node.querySelector("tbody").replaceChildren(...rows.map((person) => {
      const row = document.createElement("tr");
      for (const name of ["name", "role", "user_id", "short_id"]) row.append(element("td", person[name]));
      if (person.alike) row.firstChild.append(element("small", "same or look-alike name"));
      return row;
    }));
  }
}

function countsOf(room) {
  const people = room.total === 1 ? "1 person" : `${room.total.toLocaleString()} people`;
  const roles = room.by_role.map(([role, number]) => `${number.toLocaleString()} as ${role}`);
  if (room.other_roles) roles.push(`others in ${room.other_roles} more roles`);
  const since = timeOf(room.started_at);
  const unread = room.unreadable && `100ms lists ${room.unreadable.toLocaleString()} more, whose data cannot be read.`;
  return [`${people}: ${roles.join(", ")}.`, unread, since && `Since ${since}.`].filter(Boolean).join(" ");
}

export function showRooms(list) {
  const listed = new Set(list.map((room) => room.room_id));
  for (const [id, room] of rooms) {
    if (listed.has(id)) continue;
    room.node.remove();
    rooms.delete(id);
  }
  for (const room of list) {
    if (!rooms.has(room.room_id)) rooms.set(room.room_id, new Room(room.room_id));
    rooms.get(room.room_id).show(room);
  }
}

// --- journal -------------------------------------------------------------------------------

const entries = new Map(); // action id to entry
let asked = 0;

class Entry {
  constructor(row) {
    this.id = row.action_id;
    this.node = copyOf("entry");
    this.details = this.node.querySelector("details");
    this.details.addEventListener("toggle", () => this.details.open && this.fill());
    part(this.node, "open").addEventListener("click", () => showAction(this.question));
  }

  show(row) {
    const text = JSON.stringify(row);
    if (text === this.shown) return;
    this.shown = text;
    const did = row.state === "expired" ? "approved " : ""; // the label says "expired"
    const by = row.decided_by ? `${did}by ${row.decided_by} (${row.decided_way})` : `asked for by ${row.requester}`;
    put(this.node, {
      at: `${new Date(row.created_at).toLocaleDateString()} ${timeOf(row.created_at)}`, tool: row.tool.replace("hms-", ""),
      state: row.label, by, text: row.text, room_id: row.room_id, id: row.action_id,
    });
    part(this.node, "state").className = `state ${row.state}`;
    if (this.details.open) this.fill();
  }

  async fill() {
    const action = await call(`/actions/${this.id}`).catch(() => null);
    if (!action) return;
    this.question = action;
    const pre = part(this.node, "question");
    pre.hidden = !action.impact; // refused before the room was read
    pre.textContent = action.question;
    part(this.node, "open").hidden = !action.impact || !action.decidable;
    part(this.node, "events").replaceChildren(...action.events.map((event) => {
      const who = [event.by, event.way && `(${event.way})`].filter(Boolean).join(" ");
      return element("li", [timeOf(event.at), event.kind, who, event.text].filter(Boolean).join(" · "));
    }));
  }
}

export async function showJournal() {
  const { state, room } = byId("filters").elements, number = ++asked;
  const query = new URLSearchParams({ state: state.value, room: room.value });
  let rows;
  try {
    ({ rows } = await call(`/journal?${query}`));
  } catch (error) {
    byId("journal-text").textContent = error.message;
    return;
  }
  if (number !== asked) return; // a newer request is open
  const wanted = new Set(rows.map((row) => row.action_id));
  for (const [id, entry] of entries) {
    if (wanted.has(id)) continue;
    entry.node.remove();
    entries.delete(id);
  }
  const list = byId("journal");
  rows.forEach((row, place) => {
    const entry = entries.get(row.action_id) ?? new Entry(row);
    entries.set(row.action_id, entry);
    entry.show(row);
    // An entry that is in place is not moved, so it keeps the focus.
    if (list.children[place] !== entry.node) list.insertBefore(entry.node, list.children[place] ?? null);
  });
  byId("journal-text").textContent = rows.length ? "" : "No such actions.";
}

byId("filters").addEventListener("change", showJournal);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
