// The page of a run: curves, state, summary and console as they come.

import { Board, Columns, fetched, polled } from "./curves.js";

const page = JSON.parse(document.getElementById("page").textContent);
const LIVE = ["running", "pending", "preempting"];
const OVERLAP = 20; // lines of the console that are asked for again: progress bars write over them

const columns = new Columns();
const board = new Board(document.getElementById("curves"));
board.runs = [{ name: "", columns }];

function tell(answer) {
  const state = document.getElementById("state");
  const text = answer.state + (answer.stopping && LIVE.includes(answer.state) ? ", stopping" : "");
  if (state.textContent.trim() !== text) {
    const shown = document.createElement("span");
    shown.className = `state ${answer.state}`;
    shown.textContent = text;
    state.replaceChildren(shown);
  }
  document.getElementById("runtime").textContent = answer.runtime;
  const stop = document.getElementById("stop");
  if (stop) stop.disabled = !answer.live || answer.stopping;
  const body = document.getElementById("summary");
  const known = new Map([...body.rows].map((row) => [row.cells[0].textContent, row]));
  for (const [key, value] of answer.summary) {
    const row = known.get(key);
    if (row) {
      if (row.cells[1].textContent !== value) row.cells[1].textContent = value;
      continue;
    }
    const added = body.insertRow();
    const name = document.createElement("th");
    name.scope = "row";
    name.textContent = key;
    added.append(name);
    added.insertCell().textContent = value;
  }
}

let drawn = false;
polled(3, async () => {
  const answer = await fetched(`${page.here}/history.json?after=${columns.isLong ? 0 : columns.next}`);
  const before = columns.next;
  columns.add(answer);
  tell(answer);
  if (!drawn || columns.next !== before) board.draw();
  drawn = true;
  return answer.live;
});

// -- console

const pane = document.getElementById("console");
const follow = document.getElementById("follow");
const lines = new Map();
let next = 0;
polled(3, async () => {
  const answer = await fetched(`${page.here}/console.json?after=${Math.max(0, next - OVERLAP)}`);
  let changed = lines.size === 0;
  for (const [number, text] of answer.lines) {
    if (lines.get(number) !== text) changed = true;
    lines.set(number, text);
  }
  for (const number of lines.keys()) if (number < answer.first) lines.delete(number);
  next = answer.next;
  if (changed) {
    const ordered = [...lines].sort(([a], [b]) => a - b).map(([, text]) => text);
    pane.textContent = ordered.join("\n") || "Nothing was printed yet.";
    if (follow.checked) pane.scrollTop = pane.scrollHeight;
  }
  return page.live && !document.querySelector("#state .finished, #state .failed, #state .killed, #state .crashed");
});

// -- system metrics, when they are opened

const system = document.getElementById("system");
system.querySelector("details").addEventListener(
  "toggle",
  () => {
    const own = new Columns();
    const plots = new Board(system, { controls: false, axis: "_runtime" });
    plots.runs = [{ name: "", columns: own }];
    polled(10, async () => {
      const before = own.next;
      const answer = await fetched(`${page.here}/history.json?stream=events&after=${own.isLong ? 0 : own.next}`);
      own.add(answer);
      if (before !== own.next || before === 0) plots.draw();
      return answer.live;
    });
  },
  { once: true },
);
