// The painter: strokes on a canvas, sent as a picture at each pen lift; the answers come line by line, one a model.
"use strict";

const texts = JSON.parse(document.getElementById("texts").textContent);
const $ = (id) => document.getElementById(id);
const say = (text, values = {}) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

const SIDE = 280; // pixels of the picture that is sent
const PEN = 0.08; // width of the pen, as a share of the side
const canvas = $("canvas");
const shown = canvas.getContext("2d");
const sent = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
const sentContext = sent.getContext("2d", { willReadFrequently: true });

let strokes = []; // of points [x, y, ms], in pixels of the picture
let drawing = null; // the stroke under the pen
let firstTouch = 0;
let cards = new Map(); // by the model's name
let latest = null; // aborts the request that a newer stroke has overtaken
let wanted = null; // the digit that the page has asked for

// -- drawing

function clearContext(context) {
  context.fillStyle = "#000";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}

function drawStroke(context, stroke) {
  const scale = context.canvas.width / SIDE;
  context.strokeStyle = context.fillStyle = "#fff";
  context.lineWidth = PEN * context.canvas.width;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  const [[x0, y0], ...rest] = stroke;
  context.moveTo(x0 * scale, y0 * scale);
  if (!rest.length) context.lineTo(x0 * scale + 0.01, y0 * scale);
  rest.forEach(([x, y], i) => {
    const next = rest[i + 1];
    if (next) context.quadraticCurveTo(x * scale, y * scale, ((x + next[0]) / 2) * scale, ((y + next[1]) / 2) * scale);
    else context.lineTo(x * scale, y * scale);
  });
  context.stroke();
}

function redraw() {
  const all = drawing ? [...strokes, drawing] : strokes;
  clearContext(shown);
  all.forEach((stroke) => drawStroke(shown, stroke));
  $("hint").hidden = all.length > 0;
  $("undo").disabled = $("clear").disabled = strokes.length === 0;
}

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  const place = (value, start, size) => Math.round(((value - start) / size) * SIDE * 100) / 100;
  return [place(event.clientX, box.left, box.width), place(event.clientY, box.top, box.height), Math.round(event.timeStamp - firstTouch)];
}

canvas.addEventListener("pointerdown", (event) => {
  if (drawing || (event.pointerType === "mouse" && event.button !== 0)) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  if (!strokes.length) firstTouch = event.timeStamp;
  drawing = [pointOf(event)];
  drawing.pointer = event.pointerId;
  $("saved").textContent = "";
  redraw();
});

canvas.addEventListener("pointermove", (event) => {
  if (!drawing || event.pointerId !== drawing.pointer) return;
  const events = event.getCoalescedEvents?.() ?? [];
  (events.length ? events : [event]).forEach((part) => drawing.push(pointOf(part)));
  redraw();
});

function lift(event) {
  if (!drawing || event.pointerId !== drawing.pointer) return;
  strokes.push([...drawing]);
  drawing = null;
  redraw();
  read(performance.now());
}
canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);

function undo() {
  strokes.pop();
  redraw();
  if (strokes.length) read(performance.now());
  else forget();
}

function clearAll() {
  strokes = [];
  redraw();
  forget();
}

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clearAll);

// -- reading

function picture() {
  clearContext(sentContext);
  strokes.forEach((stroke) => drawStroke(sentContext, stroke));
  return new Promise((resolve) => sent.toBlob(resolve, "image/png"));
}

async function read(lifted) {
  latest?.abort();
  const mine = (latest = new AbortController());
  try {
    const body = await picture();
    const headers = { "Content-Type": "image/png" };
    const response = await fetch("api/read", { method: "POST", body, headers, signal: mine.signal });
    if (!response.ok) return complain((await response.json()).problem);
    complain("");
    const labels = [];
    for await (const answer of lines(response)) {
      if (mine.signal.aborted) return;
      if (answer.forms) {
        $("form").src = answer.forms.mnist;
        $("form").hidden = false;
        mine.forms = answer.forms;
        continue;
      }
      showAnswer(answer, mine.forms);
      if (answer.label) labels.push(answer.label);
      performance.measure(`answer ${answer.model}`, { start: lifted, end: performance.now() });
    }
    summarize(labels);
    document.body.dataset.read = String(Number(document.body.dataset.read ?? 0) + 1);
  } catch (error) {
    if (error.name !== "AbortError") complain(texts.lost);
  }
}

async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    const found = (rest + (value ?? "")).split("\n");
    rest = found.pop();
    for (const line of found) if (line) yield JSON.parse(line);
    if (done) return;
  }
}

function summarize(labels) {
  const counts = {};
  labels.forEach((label) => (counts[label] = (counts[label] ?? 0) + 1));
  const [most] = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  $("said").textContent = most ? say(texts.said, { count: most[1], all: labels.length, label: most[0] }) : "";
}

function showAnswer(answer, forms) {
  const card = cards.get(answer.model);
  if (!card) return;
  const bars = [...card.querySelectorAll(".bars li")];
  card.querySelector(".note").textContent = answer.problem ?? (answer.probabilities ? "" : texts.no_probabilities);
  card.querySelector(".label").textContent = answer.label ?? "?";
  card.querySelector(".time").textContent = answer.ms === undefined ? "" : say(texts.milliseconds, { ms: answer.ms.toFixed(1) });
  const saw = card.querySelector(".saw");
  saw.hidden = !answer.saw;
  if (answer.saw) saw.src = forms[answer.saw];
  bars.forEach((item, label) => {
    const p = answer.probabilities?.[label] ?? 0;
    item.querySelector(".bar").style.transform = `scaleY(${p})`;
    item.classList.toggle("top", String(label) === answer.label);
    item.title = answer.probabilities ? `${label}: ${texts.probability} ${p.toFixed(3)}` : "";
    item.setAttribute("aria-label", item.title || label);
  });
}

function forget() {
  latest?.abort();
  $("form").hidden = true;
  $("said").textContent = "";
  complain("");
  for (const card of cards.values()) {
    card.querySelector(".label").textContent = "·";
    card.querySelector(".time").textContent = card.querySelector(".note").textContent = "";
    card.querySelector(".saw").hidden = true;
    card.querySelectorAll(".bars li").forEach((item) => {
      item.classList.remove("top");
      item.title = "";
      item.querySelector(".bar").style.transform = "scaleY(0)";
    });
  }
}

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

async function asked(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    complain(texts.lost);
    return null;
  }
  const values = await response.json();
  complain(response.ok ? "" : values.problem);
  return response.ok ? values : null;
}

async function loadModels() {
  const models = await asked("api/models");
  if (!models) return;
  const others = models.filter((model) => model.problem);
  const readers = models.filter((model) => !model.problem);
  cards = new Map(
    readers.map((model) => {
      const card = $("card").content.firstElementChild.cloneNode(true);
      card.querySelector("h3").textContent = model.name;
      card.querySelector(".kind").textContent = `${model.kind}, ${model.shape}`;
      card.dataset.model = model.name;
      return [model.name, card];
    }),
  );
  $("models").replaceChildren(...cards.values());
  if (!readers.length) $("models").textContent = texts.no_models;
  $("others").hidden = !others.length;
  $("others").querySelector("summary").textContent = say(texts.not_shown, { count: others.length });
  const items = others.map((model) => Object.assign(document.createElement("li"), { textContent: `${model.name}: ${model.problem}` }));
  $("others").querySelector("ul").replaceChildren(...items);
}

// -- collecting

function painterNumber() {
  try {
    let number = Number(localStorage.getItem("painter"));
    if (!number) localStorage.setItem("painter", String((number = 1 + Math.floor(Math.random() * 999999998))));
    return number;
  } catch {
    return 0; // a browser that keeps nothing
  }
}
const painter = painterNumber();
const chosen = () => document.querySelector("input[name=label]:checked")?.value ?? null;

function choose(label) {
  document.querySelectorAll("input[name=label]").forEach((input) => (input.checked = input.value === label));
}

async function ask() {
  const answer = await asked("api/wanted");
  if (!answer) return;
  wanted = answer.label;
  choose(wanted);
  $("asked").textContent = $("hint").textContent = say(texts.asked, { label: wanted });
  canvas.scrollIntoView({ block: "nearest" });
}

function stopAsking() {
  wanted = null;
  $("asked").textContent = "";
  $("hint").textContent = texts.hint;
}

async function save() {
  const label = chosen();
  if (!strokes.length) return complain(texts.draw_first);
  if (label === null) return complain(texts.choose_first);
  $("save").disabled = true;
  await picture();
  const body = JSON.stringify({ label, painter, strokes, image: sent.toDataURL("image/png") });
  const answer = await asked("api/drawings", { method: "POST", body, headers: { "Content-Type": "application/json" } });
  $("save").disabled = false;
  if (!answer) return;
  showCounts(answer.counts);
  $("saved").textContent = say(texts.saved, { label, count: answer.counts[label] });
  clearAll();
  if (wanted !== null) await ask();
  else choose(null);
}

function showCounts(counts) {
  const most = Math.max(...Object.values(counts), 1);
  [...$("counts").children].forEach((item, label) => {
    item.querySelector(".count").textContent = counts[label];
    item.querySelector(".column").style.height = `${(40 * counts[label]) / most}px`;
  });
  $("download").hidden = !Object.values(counts).some(Boolean);
}

$("ask").addEventListener("click", ask);
$("save").addEventListener("click", save);
document.querySelectorAll("input[name=label]").forEach((input) =>
  input.addEventListener("change", stopAsking),
);

document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if (event.altKey || event.metaKey || (event.ctrlKey && key !== "z")) return;
  if (key === "z") undo();
  else if (key === "c" || key === "escape") clearAll();
  else if (/^[0-9]$/.test(key)) {
    choose(key);
    stopAsking();
  } else if (key === "enter" && !["BUTTON", "A", "SUMMARY"].includes(event.target.tagName)) save();
  else return;
  event.preventDefault();
});

$("why").textContent = say(texts.collect_why, { painter });
redraw();
loadModels();
asked("api/drawings").then((answer) => answer && showCounts(answer.counts));
