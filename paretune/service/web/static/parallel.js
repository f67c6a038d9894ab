// Parallel coordinates in SVG: an axis for each parameter and metric, a line for each run, coloured by the first metric.

import { shortened } from "./names.js";
import { isDark } from "./page.js";

const HEIGHT = 300;
const TOP = 34;
const BOTTOM = 16;
const SPACE = 92; // the least between two axes, in pixels
const NAMESPACE = "http://www.w3.org/2000/svg";

function element(name, attributes, text) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const short = (value) => (typeof value === "number" ? String(Number(value.toPrecision(3))) : typeof value === "string" ? value : JSON.stringify(value));

// Returns what places a value on an axis (0 below, 1 above; null where there is none) and its marks.
function scaleOf(values, logarithmic) {
  const there = values.filter((value) => value !== null && value !== undefined);
  if (there.length && there.every((value) => typeof value === "number")) {
    const low = Math.min(...there);
    const high = Math.max(...there);
    const log = logarithmic && low > 0 && high > low;
    const along = (value) => (log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low || 1));
    const middle = log ? Math.sqrt(low * high) : (low + high) / 2;
    const marks = high > low ? [low, middle, high] : [low];
    return { at: (value) => (typeof value === "number" ? along(value) : null), marks: marks.map((value) => [along(value), short(value)]) };
  }
  const choices = [...new Set(there.map(short))].sort();
  const at = (value) => (value === null || value === undefined ? null : (choices.indexOf(short(value)) + 0.5) / choices.length);
  return { at, marks: choices.slice(0, 12).map((choice) => [(choices.indexOf(choice) + 0.5) / choices.length, choice]) };
}

function colourOf(share) {
  const hue = 260 - 215 * share; // from violet over green to yellow
  return `hsl(${hue} 70% ${isDark() ? 62 : 42}%)`;
}

export function drawParallel(svg, rows, { parameters, objectives, logarithmic, front, textOf }) {
  const axes = [
    ...parameters.map((name) => ({ name, of: (row) => row.config[name] })),
    ...objectives.map(({ name }, place) => ({ name, of: (row) => row.values[place] })),
  ];
  const width = Math.max(svg.parentElement.clientWidth, SPACE * axes.length);
  const side = SPACE / 2;
  const x = (place) => (axes.length > 1 ? side + (place * (width - 2 * side)) / (axes.length - 1) : width / 2);
  const y = (share) => TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.style.width = `${width}px`;
  svg.style.height = `${HEIGHT}px`;
  for (const axis of axes) axis.scale = scaleOf(rows.map(axis.of), logarithmic.includes(axis.name));
  const lines = element("g", {});
  const judge = axes[parameters.length];
  for (const row of rows) {
    const places = axes.map((axis, place) => [x(place), axis.scale.at(axis.of(row))]).filter(([, share]) => share !== null);
    if (places.length < 2) continue;
    const path = places.map(([across, share], i) => `${i ? "L" : "M"}${across.toFixed(1)} ${y(share).toFixed(1)}`).join("");
    const share = judge ? judge.scale.at(judge.of(row)) : 0.5;
    const good = objectives[0]?.goal === "minimize" ? 1 - share : share;
    const line = element("path", { d: path, stroke: colourOf(good), class: front.has(row.run) ? "front" : "" });
    line.append(element("title", {}, textOf(row)));
    lines.append(line);
  }
  const names = shortened(axes.map(({ name }) => name), 18);
  const drawn = axes.map((axis, place) => {
    const group = element("g", {});
    group.append(element("line", { x1: x(place), x2: x(place), y1: y(0), y2: y(1) }));
    const name = element("text", { x: x(place), y: 14, "text-anchor": "middle", class: "name" }, names[place]);
    name.append(element("title", {}, axis.name));
    group.append(name);
    const texts = shortened(axis.scale.marks.map(([, text]) => text), 14);
    for (const [i, [share, text]] of axis.scale.marks.entries()) {
      const mark = element("text", { x: x(place) + 5, y: y(share) + 4 }, texts[i]);
      mark.append(element("title", {}, text));
      group.append(mark);
    }
    return group;
  });
  svg.replaceChildren(lines, ...drawn);
}
