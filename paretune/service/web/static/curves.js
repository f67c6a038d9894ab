// Curves: what runs logged, kept as columns; a plot for each metric, drawn when it comes into sight and when it has changed.

import { isDark } from "./page.js";

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b"]; // Okabe and Ito's, and two more
const DARK = ["#56b4e9", "#ff9d4d", "#2fd0a0", "#e79ac4", "#f0c040", "#8fd3ff", "#b0b0b0", "#c99a8d"];
const PARTS = /^(train|training|test|val|valid|validation|holdout|eval)[/_.]/;
const DASHES = [["solid", "solid"], ["dot", "dotted"], ["dash", "dashed"], ["dashdot", "dash-dotted"]]; // and their names
const MOST_KEPT = 3000; // points of a curve, after which it is asked for anew

export const colours = () => (isDark() ? DARK : COLOURS);

const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function layoutOf(more = {}) {
  const axis = { gridcolor: variable("--line"), zerolinecolor: variable("--line"), linecolor: variable("--line"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: variable("--soft"), size: 11, family: getComputedStyle(document.body).fontFamily },
    margin: { l: 44, r: 12, t: 8, b: 32 },
    hoverlabel: { bgcolor: variable("--paper"), bordercolor: variable("--line"), font: { color: variable("--ink"), size: 12 }, align: "left" },
    dragmode: coarse ? false : "zoom",
    legend: { orientation: "h", y: -0.2, yanchor: "top" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: variable("--soft"), activecolor: variable("--ink") },
    uirevision: "kept",
    ...more,
    xaxis: { ...axis, ...more.xaxis },
    yaxis: { ...axis, ...more.yaxis },
  };
}

const coarse = matchMedia("(pointer: coarse)").matches; // a finger scrolls the page, and does not zoom into a plot

export const settings = {
  responsive: true, displaylogo: false, displayModeBar: coarse ? false : "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};

// A run's columns: axes over its rows, and for each metric its values with the rows they stand in.
export class Columns {
  constructor() {
    this.clear();
  }

  clear() {
    this.next = 0;
    this.axes = {};
    this.count = 0;
    this.series = new Map();
  }

  get isLong() {
    return [...this.series.values()].some((one) => one.y.length > MOST_KEPT);
  }

  add(answer) {
    if (answer.from === 0 && this.next > 0) this.clear();
    const before = this.count;
    const lengths = Object.values(answer.axes).map((values) => values.length);
    const added = Math.max(0, ...lengths, ...Object.values(answer.series).map(([places, y]) => (places ? Math.max(-1, ...places) + 1 : y.length)));
    for (const axis of new Set([...Object.keys(this.axes), ...Object.keys(answer.axes)])) {
      this.axes[axis] ??= new Array(before).fill(null);
      this.axes[axis].push(...(answer.axes[axis] ?? new Array(added).fill(null)));
    }
    for (const [key, [places, y]] of Object.entries(answer.series)) {
      const known = this.series.get(key) ?? { places: [], y: [] };
      y.forEach((value, i) => {
        known.places.push(before + (places ? places[i] : i));
        known.y.push(value);
      });
      this.series.set(key, known);
    }
    this.count += added;
    this.next = answer.next;
  }

  curve(key, axis) {
    const { places, y } = this.series.get(key);
    const along = this.axes[axis] ?? this.axes._step;
    return { x: places.map((place) => along?.[place] ?? place), y };
  }
}

// Exponential averaging, without the bias of its beginning.
export function smoothed(values, weight) {
  if (!weight) return values;
  let last = 0;
  let share = 0;
  return values.map((value) => {
    if (value === null) return null;
    last = last * weight + (1 - weight) * value;
    share = share * weight + (1 - weight);
    return last / share;
  });
}

export class Board {
  constructor(section, { controls = true, axis = "_step" } = {}) {
    this.room = section.querySelector(".plots");
    this.empty = section.querySelector(".empty");
    this.plots = new Map(); // title -> element
    this.waiting = new Set(); // titles whose plot has changed and is out of sight
    this.runs = []; // of {name, columns}
    this.values = { axis, smoothing: 0, log: false, overlay: true };
    this.sight = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        target.seen = isIntersecting;
        if (isIntersecting && this.waiting.delete(target.dataset.title)) this.plot(target.dataset.title);
      }
    }, { rootMargin: "200px" });
    addEventListener("theme", () => this.draw());
    if (controls) {
      for (const control of section.querySelectorAll("[data-control]")) {
        const read = () => {
          this.values[control.dataset.control] = control.type === "checkbox" ? control.checked : control.type === "range" ? Number(control.value) : control.value;
        };
        read(); // a browser may bring back what was set before
        control.addEventListener("input", () => {
          read();
          this.draw();
        });
      }
      this.epoch = section.querySelector("option[value=epoch]");
    }
  }

  titles() {
    const titles = new Map();
    for (const { columns } of this.runs) {
      for (const key of columns.series.keys()) {
        if (key === "epoch") continue; // it is an axis
        const title = this.values.overlay ? key.replace(PARTS, "") : key;
        if (!titles.has(title)) titles.set(title, new Set());
        titles.get(title).add(key);
      }
    }
    return new Map([...titles].sort(([a], [b]) => a.localeCompare(b)));
  }

  draw() {
    this.keys = this.titles();
    this.empty.hidden = this.keys.size > 0;
    if (this.epoch) this.epoch.hidden = !this.runs.some(({ columns }) => columns.axes.epoch);
    for (const [title, element] of this.plots) {
      if (this.keys.has(title)) continue;
      this.sight.unobserve(element);
      Plotly.purge(element.querySelector(".room"));
      element.remove();
      this.plots.delete(title);
    }
    let before = null;
    for (const title of this.keys.keys()) {
      let element = this.plots.get(title);
      if (!element) {
        element = document.createElement("figure");
        element.className = "plot";
        element.style.margin = 0;
        element.dataset.title = title;
        const heading = document.createElement("h3");
        heading.append(title, " ", document.createElement("small"));
        const room = document.createElement("div");
        room.className = "room";
        element.append(heading, room);
        this.plots.set(title, element);
        if (before) before.after(element);
        else this.room.prepend(element);
        this.sight.observe(element);
      }
      before = element;
      if (element.seen) this.plot(title);
      else this.waiting.add(title);
    }
  }

  plot(title) {
    const traces = [];
    const { axis, smoothing, log } = this.values;
    const palette = colours();
    const keys = [...(this.keys.get(title) ?? [])].sort();
    const manyRuns = this.runs.length > 1;
    let finite = false;
    let positive = true; // a logarithmic axis would leave out the others without a word
    this.runs.forEach(({ name, columns }, place) => {
      for (const key of keys) {
        if (!columns.series.has(key)) continue;
        const { x, y } = columns.curve(key, axis);
        const which = keys.indexOf(key);
        const colour = palette[(manyRuns ? place : which) % palette.length];
        const dash = manyRuns ? DASHES[which % 4][0] : "solid";
        const label = plain(manyRuns ? (keys.length > 1 ? `${name}: ${key}` : name) : key);
        const alone = isolated(y);
        const sizes = alone.includes(true) ? alone.map((one) => (one ? 7 : 0)) : 7; // a line shows no point between two gaps
        finite ||= y.some(Number.isFinite);
        positive &&= !y.some((value) => value <= 0 && value !== null);
        const shape = { mode: y.length === 1 ? "markers" : alone.includes(true) ? "lines+markers" : "lines", type: "scatter", x, name: label, connectgaps: false };
        if (smoothing) traces.push({ ...shape, y, line: { color: colour, width: 1 }, opacity: 0.25, hoverinfo: "skip", showlegend: false });
        traces.push({ ...shape, y: smoothed(y, smoothing), line: { color: colour, width: 1.8, dash }, marker: { color: colour, size: sizes } });
      }
    });
    const named = { _step: "step", _runtime: "seconds", epoch: "epoch" };
    const layout = layoutOf({
      showlegend: !manyRuns && keys.length > 1, // the colours of many runs are told once, above the plots
      xaxis: { title: { text: named[axis], standoff: 4 } },
      yaxis: { type: log && positive ? "log" : "linear" },
      hovermode: "x unified",
    });
    const said = this.plots.get(title).querySelector("small");
    said.textContent = !finite ? "no finite value" : manyRuns && keys.length > 1 ? keys.map((key, i) => `${DASHES[i % 4][1]} ${key}`).join(", ") : "";
    const room = this.plots.get(title).querySelector(".room");
    room.setAttribute("role", "img");
    room.setAttribute("aria-label", `${title} over ${named[axis]}`);
    Plotly.react(room, traces, layout, settings);
  }
}

// Whether each value has none beside it.
const isolated = (y) => y.map((value, place) => Number.isFinite(value) && !Number.isFinite(y[place - 1]) && !Number.isFinite(y[place + 1]));

// Plotly reads some HTML in texts; names are shown as they are.
export function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

export async function fetched(address) {
  const response = await fetch(address, { headers: { accept: "application/json" } });
  if (!response.ok) throw Object.assign(new Error(`${address}: ${response.status}`), { status: response.status });
  return response.json();
}

function tellAway(status) {
  const said = document.getElementById("away") ?? document.createElement("p");
  said.id = "away";
  said.className = "card problem";
  said.setAttribute("role", "status");
  if (status === 401) {
    const link = document.createElement("a");
    link.href = `${new URL("../login", import.meta.url).pathname}?next=${encodeURIComponent(location.pathname + location.search)}`;
    link.textContent = "log in again";
    said.replaceChildren("You are not logged in any more: ", link, ".");
  } else {
    said.textContent = status === 404 ? "This is not here any more." : "The server does not answer: what you see may be old.";
  }
  document.querySelector("main").prepend(said);
}

// Asks again and again, as long as `again` says so; a page that nobody looks at waits.
export function polled(seconds, ask) {
  let failures = 0;
  async function round() {
    if (document.hidden) {
      document.addEventListener("visibilitychange", round, { once: true });
      return;
    }
    let goesOn = true;
    try {
      goesOn = await ask();
      if (failures) document.getElementById("away")?.remove();
      failures = 0;
    } catch (error) {
      failures += 1;
      if (!(error instanceof TypeError) && !error.status) throw error; // a fault of the page itself
      if (failures > 1 || error.status === 401) tellAway(error.status);
    }
    document.body.dataset.polled = Number(document.body.dataset.polled ?? 0) + 1;
    if (goesOn) setTimeout(round, 1000 * seconds * Math.min(10, 1 + failures));
  }
  round();
}
