// A saved view: its panels as they were saved, drawn once from what the page holds; curves are fetched run by run.

import { Columns, colours, fetched, layoutOf, plain, settings } from "./curves.js";
import { drawParallel } from "./parallel.js";

const page = JSON.parse(document.getElementById("page").textContent);
const histories = new Map(); // URL of a run -> its columns
const AXES = { _step: "step", _runtime: "seconds", epoch: "epoch" };
const DASHES = ["solid", "dot", "dash", "dashdot"];

async function historyOf(url) {
  const columns = new Columns();
  columns.add(await fetched(`${url}/history.json?after=0`));
  return columns;
}

async function drawLines(room, { metrics, axis, log }, { runs, rows }) {
  const urls = rows.map(([run]) => `${runs}/${encodeURIComponent(run)}`);
  for (const url of urls) if (!histories.has(url)) histories.set(url, historyOf(url));
  const found = await Promise.all(urls.map((url) => histories.get(url)));
  const traces = [];
  found.forEach((columns, place) => {
    metrics.forEach((metric, which) => {
      if (!columns.series.has(metric)) return;
      const colour = colours()[place % colours().length];
      const name = metrics.length > 1 ? `${rows[place][1]}: ${metric}` : rows[place][1];
      traces.push({
        ...columns.curve(metric, axis), name: plain(name), type: "scatter", mode: "lines+markers", connectgaps: false,
        line: { color: colour, width: 1.5, dash: DASHES[which % DASHES.length] }, marker: { color: colour, size: 3 },
      });
    });
  });
  const marks = ["solid", "dotted", "dashed", "dash-dotted"];
  const said = metrics.map((metric, which) => `${marks[which % marks.length]} ${metric}`).join(", ");
  room.parentElement.querySelector("small").textContent = traces.length ? (metrics.length > 1 ? said : "") : "no run here logged this";
  Plotly.react(room, traces, layoutOf({ showlegend: false, hovermode: "closest", xaxis: { title: { text: AXES[axis] } }, yaxis: { type: log ? "log" : "linear" } }), settings);
}

function drawScatter(room, { points, names, logs }) {
  const [colour] = colours();
  const at = (place) => points.map(({ values }) => values[place]);
  const axis = (place) => ({ title: { text: plain(names[place]) }, type: logs[place] ? "log" : undefined });
  const trace = { type: "scatter", mode: "markers", x: at(0), y: at(1), text: points.map(({ name }) => plain(name)), marker: { color: colour, size: 8, opacity: 0.7 } };
  Plotly.react(room, [trace], layoutOf({ hovermode: "closest", xaxis: axis(0), yaxis: axis(1) }), settings);
}

function drawBars(room, { points, names }) {
  const traces = names.map((name, place) => ({
    type: "bar", orientation: "h", name: plain(name), marker: { color: colours()[place % colours().length] },
    x: points.map(({ values }) => values[place]), y: points.map(({ name }) => plain(name)),
  }));
  Plotly.react(room, traces, layoutOf({ showlegend: names.length > 1, yaxis: { type: "category", autorange: "reversed" } }), settings);
}

function draw(figure) {
  const section = page.sections[figure.dataset.section];
  const panel = section.panels[figure.dataset.panel];
  const room = figure.querySelector(".room");
  if (panel.kind === "Run History Line Plot") drawLines(room, panel, section);
  else if (panel.kind === "Scatter Plot") drawScatter(room, panel);
  else if (panel.kind === "Bar Chart") drawBars(room, panel);
  else drawParallel(figure.querySelector("svg"), panel.rows, { ...panel, front: new Set(), textOf: ({ name }) => name });
}

function drawAll() {
  document.querySelectorAll("[data-panel]").forEach(draw);
}

addEventListener("theme", drawAll);
drawAll();
