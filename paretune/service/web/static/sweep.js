// The page of a sweep: asked every five seconds; what has not changed is not drawn again.

import { colours, fetched, layoutOf, plain, polled, settings } from "./curves.js";
import { drawParallel } from "./parallel.js";

const page = JSON.parse(document.getElementById("page").textContent);
const $ = (id) => document.getElementById(id);
const room = (id) => document.querySelector(`#${id} .room`);
const MOST_DRAWN = 3000; // points of a scatter, beside the front
const MOST_ROWS = 15;

let rows = []; // of the runs that have ended, in that order
let metrics = [];
let analysis = { front: [], alike: {}, volumes: [] };
let seconds = null;
let signature = "";
let latest = null;
const drawn = new Map(); // part of the page -> what it was drawn from

function changed(part, ...values) {
  const key = JSON.stringify(values);
  if (drawn.get(part) === key) return false;
  drawn.set(part, key);
  return true;
}

const short = (value) => {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return typeof value === "string" ? value : JSON.stringify(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5)));
};

const better = (goal) => (goal === "minimize" ? (a, b) => a < b : (a, b) => a > b);
const bestOf = (done) => done.find(({ rank }) => rank === 0) ?? done[0];
const known = (row) => row.values.every((value) => typeof value === "number");
const finished = (row) => row.state === "finished" && known(row);

// The last of many runs, and those that must not be lost among them: the front, the chosen one and the best.
function thinned(done, most) {
  if (done.length <= most) return done;
  const kept = new Set([...analysis.front, latest.chosen, bestOf(done).run]);
  return done.filter(({ run }, place) => place >= done.length - most || kept.has(run));
}

function textOf(row) {
  const { objectives, parameters } = latest;
  const values = objectives.map(({ name }, i) => `${name}: ${short(row.values[i])}`);
  const config = parameters.filter((name) => row.config[name] !== null).map((name) => `${name}: ${short(row.config[name])}`);
  return [`<b>${plain(row.name)}</b> ${plain(row.state)}`, ...values.map(plain), ...config.slice(0, 12).map(plain)].join("<br>");
}

function lasts(total) {
  if (total < 90) return `${Math.round(total)} s`;
  if (total < 5400) return `${Math.round(total / 60)} min`;
  return total < 172800 ? `${Math.floor(total / 3600)} h ${Math.round((total % 3600) / 60)} min` : `${Math.round(total / 86400)} d`;
}

function linkTo(row) {
  const link = document.createElement("a");
  link.href = `${page.runs}/${encodeURIComponent(row.run)}`;
  link.textContent = row.name;
  return link;
}

// -- where it stands

function tell() {
  const { state, ended, live, chosen, objectives, agents } = latest;
  if (changed("state", state)) {
    const shown = document.createElement("span");
    shown.className = `state ${state}`;
    shown.textContent = state;
    $("state").replaceChildren(shown);
    for (const button of document.querySelectorAll("#actions button")) button.hidden = !button.dataset.when.split(" ").includes(state);
  }
  $("done").textContent = page.cap ? `${ended} of ${page.cap}` : String(ended);
  $("running").textContent = live.length;
  if ($("progress")) {
    $("progress").setAttribute("aria-valuenow", ended);
    $("progress").firstElementChild.style.width = `${Math.min(100, (100 * ended) / page.cap)}%`;
  }
  const goesOn = page.cap && seconds !== null && ["running", "pending"].includes(state) && live.length;
  const rounds = Math.max(0, page.cap - ended) / Math.max(1, live.length);
  $("left").textContent = goesOn ? lasts(rounds * seconds) : "–";
  const [objective] = objectives;
  const done = rows.filter(finished);
  if (objective && done.length && objectives.length === 1) {
    const best = bestOf(done);
    if (changed("best", best.run, best.values)) $("best").replaceChildren(`${short(best.values[0])} `, linkTo(best));
  } else if (done.length && objectives.length > 1) {
    $("best").textContent = `${analysis.front.length} on the front`;
  }
  const all = [...rows, ...live];
  if (changed("chosen", chosen, all.length)) {
    const row = all.find(({ run }) => run === chosen);
    $("chosen").replaceChildren(row ? linkTo(row) : "none yet");
  }
  tellAgents(agents);
}

function tellAgents(agents) {
  $("no-agents").hidden = agents.length > 0;
  $("agents").hidden = agents.length === 0;
  if (!changed("agents", agents)) return;
  const body = $("agents").tBodies[0];
  body.replaceChildren();
  for (const agent of agents) {
    const line = body.insertRow();
    line.insertCell().textContent = agent.id;
    line.insertCell().textContent = agent.host;
    const state = document.createElement("span");
    state.className = `state ${agent.alive ? "running" : "gone"}`;
    state.textContent = agent.alive ? "alive" : "gone";
    line.insertCell().append(state);
    const count = line.insertCell();
    count.className = "number";
    count.textContent = agent.runs;
    const time = document.createElement("time");
    time.dateTime = agent.heard;
    time.textContent = new Date(agent.heard).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
    line.insertCell().append(time);
  }
}

// -- the front

function drawFront() {
  const { objectives, live, chosen } = latest;
  $("front").hidden = objectives.length < 2;
  if (objectives.length < 2 || !changed("front", signature, live, chosen, document.documentElement.dataset.theme)) return;
  const [blue, orange, green] = colours();
  const on = new Set(analysis.front);
  const done = rows.filter(finished);
  const front = done.filter(({ run }) => on.has(run)).sort((a, b) => a.values[0] - b.values[0]);
  const others = done.filter(({ run }) => !on.has(run)).slice(-MOST_DRAWN);
  const early = rows.filter((row) => row.state !== "finished" && known(row)).slice(-500);
  const going = live.filter(known);
  const trace = (name, some, marker, more = {}) => ({
    name, type: "scatter", mode: "markers", marker, hovertemplate: "%{text}<extra></extra>",
    x: some.map(({ values }) => values[0]), y: some.map(({ values }) => values[1]), text: some.map(textOf), customdata: some.map(({ run }) => run), ...more,
  });
  const third = objectives[2];
  const shade = (some) => (third ? { color: some.map(({ values }) => values[2]), coloraxis: "coloraxis" } : {});
  const traces = [
    trace("stopped early or failed", early, { color: "rgba(128,128,128,.45)", size: 6, symbol: "x" }),
    trace("finished", others, { color: blue, size: 7, opacity: 0.55, ...shade(others) }),
    trace("running", going, { color: green, size: 8, symbol: "circle-open", line: { width: 2 } }),
    trace("front", front, { color: orange, size: 10, ...shade(front) }, third ? {} : { mode: "lines+markers", line: { color: orange, width: 1, shape: stepOf(objectives) } }),
    trace("chosen", [...done, ...live].filter(({ run }) => run === chosen), { size: 18, color: orange, symbol: "star", line: { width: 1.5, color: "#000" } }),
  ].filter(({ x }) => x.length);
  const name = ({ name: metric, goal }) => `${plain(metric)} (${goal === "maximize" ? "higher" : "lower"} is better)`;
  const layout = layoutOf({
    showlegend: true, hovermode: "closest", margin: { l: 56, r: 16, t: 8, b: 44 },
    xaxis: { title: { text: name(objectives[0]) } }, yaxis: { title: { text: name(objectives[1]) } }, legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
  });
  if (third) layout.coloraxis = { colorscale: "Viridis", colorbar: { title: { text: name(third), side: "right" }, thickness: 10 } };
  const plot = room("front");
  Plotly.react(plot, traces, layout, settings);
  if (!plot.dataset.listens) {
    plot.dataset.listens = "yes";
    plot.on("plotly_click", ({ points }) => choose(points[0].customdata));
  }
}

const stepOf = ([first]) => (first.goal === "maximize" ? "vh" : "hv");

async function choose(run) {
  if (!page.mayWrite) {
    location.href = `${page.runs}/${encodeURIComponent(run)}`;
    return;
  }
  const wanted = latest.chosen === run ? "" : run;
  const response = await fetch(`${page.here}/chosen`, { method: "POST", headers: { accept: "application/json" }, body: new URLSearchParams({ run: wanted }) });
  if (!response.ok) {
    $("said").textContent = "The choice could not be kept: open the page anew.";
    return;
  }
  latest.chosen = wanted || null;
  const row = [...rows, ...latest.live].find((one) => one.run === run);
  $("said").textContent = wanted ? `${row.name} is marked as chosen; it carries the tag “chosen”.` : `${row.name} is not marked any more.`;
  draw();
}

// -- the best runs, as a table

function drawTable() {
  const { objectives, parameters, chosen } = latest;
  const many = objectives.length > 1;
  if (!changed("table", signature, chosen)) return;
  $("table-title").textContent = many ? "Runs on the front" : "Best runs";
  const done = rows.filter(finished);
  const on = new Set(analysis.front);
  const best = (many ? done.filter(({ run }) => on.has(run)) : done).sort((a, b) => a.rank - b.rank); // as the analysis orders equals
  $("no-runs").hidden = best.length > 0;
  $("best-runs").hidden = best.length === 0;
  const head = document.createElement("tr");
  const first = best[0] ? [null, ...best[0].values, ...parameters.map((name) => best[0].config[name])] : [];
  for (const [place, title] of ["run", ...objectives.map(({ name }) => name), ...parameters, ...(page.mayWrite ? [""] : [])].entries()) {
    const cell = document.createElement("th");
    cell.textContent = title;
    cell.classList.toggle("number", typeof first[place] === "number");
    head.append(cell);
  }
  $("best-runs").tHead.replaceChildren(head);
  const body = $("best-runs").tBodies[0];
  body.replaceChildren();
  for (const row of best.slice(0, many ? 100 : MOST_ROWS)) {
    const line = body.insertRow();
    line.classList.toggle("chosen", row.run === chosen);
    const count = many ? analysis.alike[row.run] : undefined;
    line.insertCell().append(linkTo(row), count ? ` (${count} runs alike)` : "");
    for (const value of [...row.values, ...parameters.map((name) => row.config[name])]) {
      const cell = line.insertCell();
      cell.textContent = short(value);
      cell.classList.toggle("number", typeof value === "number");
    }
    if (!page.mayWrite) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = row.run === chosen ? "Chosen" : "Choose";
    button.setAttribute("aria-pressed", row.run === chosen);
    button.setAttribute("aria-label", `${button.textContent}: ${row.name}`);
    button.addEventListener("click", () => choose(row.run));
    line.insertCell().append(button);
  }
}

// -- figures of the first metric

function drawCourse() {
  const { objectives, chosen } = latest;
  if (!objectives.length || !changed("course", signature, chosen, document.documentElement.dataset.theme)) return;
  const [blue, orange] = colours();
  const [{ name, goal }] = objectives;
  const beats = better(goal);
  const done = rows.map((row, place) => ({ row, place: place + 1 })).filter(({ row }) => finished(row));
  let best = null;
  const course = done.map(({ row }) => (best = best === null || beats(row.values[0], best) ? row.values[0] : best));
  const kept = new Set(thinned(done.map(({ row }) => row), MOST_DRAWN));
  const some = done.filter(({ row }) => kept.has(row));
  const traces = [
    { name: "runs", type: "scatter", mode: "markers", x: some.map(({ place }) => place), y: some.map(({ row }) => row.values[0]), text: some.map(({ row }) => textOf(row)), hovertemplate: "%{text}<extra></extra>", marker: { color: blue, size: 6, opacity: 0.6 } },
    { name: "best so far", type: "scatter", mode: "lines", x: done.map(({ place }) => place), y: course, line: { color: orange, width: 2, shape: "hv" }, hoverinfo: "skip" },
  ];
  Plotly.react(room("course"), traces, layoutOf({ xaxis: { title: { text: "run, in the order of ending" } }, yaxis: { title: { text: plain(name) } }, showlegend: true, hovermode: "closest", legend: { orientation: "h", y: 1.02, yanchor: "bottom" } }), settings);
}

function drawVolume() {
  $("volume").hidden = latest.objectives.length < 2;
  if (latest.objectives.length < 2 || !changed("volume", analysis.volumes, document.documentElement.dataset.theme)) return;
  const [, , green] = colours();
  const y = analysis.volumes;
  const traces = [{ type: "scatter", mode: "lines", x: y.map((_, i) => i + 1), y, line: { color: green, width: 2, shape: "hv" }, hovertemplate: "after run %{x}: %{y:.5g}<extra></extra>" }];
  Plotly.react(room("volume"), traces, layoutOf({ xaxis: { title: { text: "finished runs" } }, yaxis: { title: { text: "hypervolume" }, rangemode: "tozero" } }), settings);
}

function drawImportance() {
  const { importance } = latest;
  if (!changed("importance", importance, document.documentElement.dataset.theme)) return;
  const said = $("importance-said");
  room("importance").hidden = !importance?.rows;
  if (!importance?.rows) {
    const why = importance?.why;
    said.textContent = why ? why[0].toUpperCase() + why.slice(1) : (importance?.busy ? "It is being computed." : "It is computed once runs have finished.");
    return;
  }
  const [blue] = colours();
  const listed = importance.rows.slice(0, 12).reverse();
  const traces = [{
    type: "bar", orientation: "h", x: listed.map(([, share]) => share), y: listed.map(([name]) => plain(name)), marker: { color: blue }, hovertemplate: "%{y}: %{x:.0%}<extra></extra>",
    error_x: { type: "data", symmetric: false, array: listed.map(([, share, , high]) => Math.max(0, high - share)), arrayminus: listed.map(([, share, low]) => Math.max(0, share - low)), color: "#888", thickness: 1 },
  }];
  Plotly.react(room("importance"), traces, layoutOf({ xaxis: { tickformat: ".0%", rangemode: "tozero" }, yaxis: { type: "category" } }), settings);
  const part = importance.weighed < importance.count ? `${importance.weighed} of ${importance.count}` : importance.count;
  said.textContent = `For ${latest.objectives[0].name}, by PED-ANOVA over ${part} finished runs; the lines hold the middle 90 % of bootstrap resamples.`;
}

function drawAgainst() {
  const { parameters, objectives } = latest;
  const select = $("parameter");
  if (changed("parameters", parameters)) {
    const before = select.value;
    select.replaceChildren(...parameters.map((name) => new Option(name, name, false, name === before)));
  }
  const name = select.value;
  $("against").hidden = !name || !objectives.length;
  if (!name || !objectives.length || !changed("against", name, signature, document.documentElement.dataset.theme)) return;
  const [blue] = colours();
  const some = thinned(rows.filter((row) => finished(row) && row.config[name] !== null), MOST_DRAWN);
  const values = some.map(({ config }) => (typeof config[name] === "number" ? config[name] : short(config[name])));
  const numeric = values.every((value) => typeof value === "number");
  const wide = numeric && latest.logarithmic.includes(name) && Math.min(...values) > 0;
  const traces = [{ type: "scatter", mode: "markers", x: numeric ? values : values.map(plain), y: some.map((row) => row.values[0]), text: some.map(textOf), hovertemplate: "%{text}<extra></extra>", marker: { color: blue, size: 7, opacity: 0.6 } }];
  Plotly.react(room("against"), traces, layoutOf({ hovermode: "closest", uirevision: name, xaxis: { type: numeric ? (wide ? "log" : "linear") : "category", title: { text: plain(name) } }, yaxis: { title: { text: plain(objectives[0].name) } } }), settings);
}

function drawLines() {
  const { parameters, objectives } = latest;
  const done = rows.filter(finished);
  $("parallel").hidden = !parameters.length || !done.length;
  if (!changed("parallel", signature, document.documentElement.dataset.theme)) return;
  const most = 400;
  const on = new Set(analysis.front);
  const some = thinned(done, most);
  const shown = [...some.filter(({ run }) => !on.has(run)), ...some.filter(({ run }) => on.has(run))];
  drawParallel(document.querySelector("#parallel svg"), shown, { parameters, objectives, logarithmic: latest.logarithmic, front: on, textOf: (row) => textOf(row).replace(/<br>/g, "\n").replace(/<\/?b>/g, "") });
  $("parallel-said").textContent = done.length > shown.length ? `The front, the best, and the last ${most} of ${done.length} finished runs.` : "";
}

function offer() {
  if (!changed("offer", metrics)) return;
  for (const select of document.querySelectorAll("#weigh select[name=metric]")) {
    const listed = new Set([...select.options].map(({ value }) => value));
    for (const name of metrics) if (!listed.has(name)) select.append(new Option(name, name));
  }
}

function draw() {
  tell();
  offer();
  drawFront();
  drawTable();
  drawCourse();
  drawVolume();
  drawImportance();
  drawAgainst();
  drawLines();
}

$("parameter").addEventListener("change", drawAgainst);
addEventListener("theme", () => {
  if (latest) draw();
});

polled(5, async () => {
  const query = new URLSearchParams(page.query);
  query.set("seen", signature);
  latest = await fetched(`${page.here}/data.json?${query}`);
  signature = latest.signature;
  if (latest.rows) ({ rows, metrics, analysis, seconds } = latest);
  draw();
  return true;
});
