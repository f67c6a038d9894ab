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
let photo = null; // the ink of a photo, as an image of the canvas' size; strokes are drawn over it
let newestPhoto = null; // the file that was dropped or pasted last
let drawing = null; // the stroke under the pen
let firstTouch = 0;
let cards = new Map(); // by the model's name
let latest = null; // aborts the request that a newer stroke has overtaken
let wanted = null; // the digit that the page has asked for
let saving = false;

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

const isEmpty = () => !photo && strokes.length === 0;

function drawPicture(context, all) {
  clearContext(context);
  if (photo) context.drawImage(photo, 0, 0, context.canvas.width, context.canvas.height);
  all.forEach((stroke) => drawStroke(context, stroke));
}

function redraw() {
  drawPicture(shown, drawing ? [...strokes, drawing] : strokes);
  $("hint").hidden = !isEmpty() || drawing !== null;
  $("undo").disabled = $("clear").disabled = isEmpty();
}

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  const place = (value, start, size) => Math.round(((value - start) / size) * SIDE * 100) / 100;
  return [place(event.clientX, box.left, box.width), place(event.clientY, box.top, box.height), Math.round(event.timeStamp - firstTouch)];
}

canvas.addEventListener("pointerdown", (event) => {
  if (drawing || (event.pointerType === "mouse" && event.button !== 0)) return;
  event.preventDefault();
  document.activeElement?.blur(); // or Enter would press the button that was clicked last
  canvas.setPointerCapture(event.pointerId);
  if (!strokes.length) firstTouch = event.timeStamp;
  drawing = [pointOf(event)];
  drawing.pointer = event.pointerId;
  tell("");
  redraw();
});

canvas.addEventListener("pointermove", (event) => {
  if (!drawing || event.pointerId !== drawing.pointer) return;
  if (event.pointerType === "mouse" && !(event.buttons & 1)) return lift(event); // it was let go elsewhere
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
canvas.addEventListener("pointercancel", dropStroke);

function dropStroke() {
  const dropped = drawing !== null;
  drawing = null;
  redraw();
  return dropped;
}

function undo() {
  if (dropStroke()) return;
  if (!strokes.pop()) photo = null;
  redraw();
  if (isEmpty()) forget();
  else read(performance.now());
}

function clearAll() {
  strokes = [];
  photo = newestPhoto = null;
  drawing = null;
  redraw();
  forget();
}

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clearAll);

// -- photos

async function usePhoto(file) {
  if (!file) return complain(texts.photo_none);
  newestPhoto = file;
  const headers = { "Content-Type": file.type || "application/octet-stream" };
  const answer = await asked("api/photo", { method: "POST", body: file, headers });
  if (!answer || newestPhoto !== file) return; // another one came, or the field was cleared meanwhile
  const image = new Image();
  image.src = answer.image;
  await image.decode();
  clearAll();
  photo = image;
  redraw();
  tell(answer.dark_on_light ? texts.photo_dark : texts.photo_light);
  await read(performance.now());
}

document.addEventListener("dragover", (event) => event.preventDefault()); // or the browser would leave the page for the picture
document.addEventListener("drop", (event) => {
  event.preventDefault();
  usePhoto(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const file = event.clipboardData?.files[0];
  if (!file) return;
  event.preventDefault();
  usePhoto(file);
});
$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  if ($("file").files[0]) usePhoto($("file").files[0]);
  $("file").value = ""; // so that the same file can be opened again
});

// -- reading

function picture() {
  drawPicture(sentContext, strokes);
  return new Promise((resolve) => sent.toBlob(resolve, "image/png"));
}

async function read(lifted, again = false) {
  latest?.abort();
  const mine = (latest = new AbortController());
  try {
    const body = await picture();
    const headers = { "Content-Type": "image/png" };
    const response = await fetch("api/read", { method: "POST", body, headers, signal: mine.signal });
    if (!response.ok) return complain((await response.json()).problem);
    complain("");
    const said = new Map();
    let forms = {}, form = "";
    for await (const answer of lines(response)) {
      if (mine.signal.aborted) return;
      if (answer.forms) {
        forms = answer.forms;
        continue;
      }
      if (answer.saw && (!form || answer.saw === "mnist")) $("form").src = forms[(form = answer.saw)];
      if (answer.saw) $("seen").hidden = false;
      said.set(answer.model, answer.label);
      showAnswer(answer, forms);
      performance.measure(`answer ${answer.model}`, { start: lifted, end: performance.now() });
    }
    const changed = said.size !== cards.size || [...said.keys()].some((name) => !cards.has(name));
    if (changed && !again) {
      await loadModels(); // models have come or gone since the page was loaded
      if (latest === mine) return await read(lifted, true);
    }
    summarize(said);
    document.body.dataset.read = String(Number(document.body.dataset.read ?? 0) + 1);
  } catch (error) {
    if (error.name === "AbortError") return;
    forget(); // the old answers are not of this drawing
    complain(texts.lost);
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

function summarize(said) {
  const labels = [...said.values()].filter((label) => label !== undefined);
  const counts = {};
  labels.forEach((label) => (counts[label] = (counts[label] ?? 0) + 1));
  const [most] = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  const text = labels.length === 1 ? texts.said_one : texts.said;
  $("said").textContent = most ? say(text, { count: most[1], all: labels.length, label: most[0] }) : "";
  const chips = [...said].map(([name, label]) => Object.assign(document.createElement("li"), { textContent: `${name}: ${label ?? "?"}` }));
  $("verdicts").replaceChildren(...chips);
}

function showAnswer(answer, forms) {
  const card = cards.get(answer.model);
  if (!card) return;
  const bars = [...card.querySelectorAll(".bars li")];
  card.querySelector(".note").textContent = answer.problem ?? (answer.probabilities ? "" : texts.no_probabilities);
  card.querySelector(".label").textContent = answer.label ?? "?";
  card.querySelector(".time").textContent = answer.ms === undefined ? "" : say(texts.milliseconds, { ms: answer.ms.toFixed(1) });
  const top = answer.probabilities?.[answer.label];
  card.querySelector(".sure").textContent = top === undefined ? "" : `${(100 * top).toFixed(top > 0.9995 ? 0 : 1)} %`;
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
  $("seen").hidden = true;
  $("said").textContent = "";
  $("verdicts").replaceChildren();
  complain("");
  for (const card of cards.values()) {
    card.querySelector(".label").textContent = "–";
    for (const part of [".time", ".sure", ".note"]) card.querySelector(part).textContent = "";
    card.querySelector(".saw").hidden = true;
    card.querySelectorAll(".bars li").forEach((item) => {
      item.classList.remove("top");
      item.title = "";
      item.removeAttribute("aria-label");
      item.querySelector(".bar").style.transform = "scaleY(0)";
    });
  }
}

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

async function asked(address, options) {
  try {
    const response = await fetch(address, options);
    const values = await response.json();
    if (response.ok) return values;
    complain(values.kind === "duplicate" ? say(texts.duplicate, values) : values.problem);
  } catch {
    complain(texts.lost);
  }
  return null;
}

function tell(text, wrong = false) {
  $("saved").textContent = text;
  $("saved").classList.toggle("wrong", wrong);
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
    if (!Number.isInteger(number) || number <= 0 || number >= 1e9) localStorage.setItem("painter", String((number = 1 + Math.floor(Math.random() * 999999998))));
    return number;
  } catch {
    return 0; // a browser that keeps nothing
  }
}
const painter = painterNumber();
const chosen = () => document.querySelector("input[name=label]:checked")?.value ?? null;

function choose(label) {
  document.querySelectorAll("input[name=label]").forEach((input) => {
    input.checked = input.value === label;
    if (input.checked) input.focus({ preventScroll: true }); // so that arrows go on from it, and Enter saves
  });
}

async function ask() {
  const answer = await asked("api/wanted");
  if (!answer) return;
  if (!isEmpty() || drawing) clearAll(); // what is there was drawn for another digit
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
  if (saving) return;
  if (isEmpty()) return tell(texts.draw_first, true);
  if (label === null) return tell(texts.choose_first, true);
  const kept = strokes.slice(), keptPhoto = photo;
  saving = $("save").disabled = true;
  try {
    await picture();
    const body = JSON.stringify({ label, painter, strokes: kept, image: sent.toDataURL("image/png") });
    const answer = await asked("api/drawings", { method: "POST", body, headers: { "Content-Type": "application/json" } });
    if (!answer) return;
    showCounts(answer.counts);
    complain("");
    strokes = strokes.filter((stroke) => !kept.includes(stroke)); // what was drawn meanwhile stays
    if (photo === keptPhoto) photo = null;
    redraw();
    if (isEmpty()) forget();
    else read(performance.now());
    if (wanted !== null && isEmpty() && !drawing) await ask();
    else choose(null);
    tell(say(texts.saved, { label, count: answer.counts[label] }));
  } finally {
    saving = $("save").disabled = false;
  }
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
  if (event.altKey || event.shiftKey || ((event.ctrlKey || event.metaKey) && key !== "z")) return;
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
