// The page of a running study: every part that arrives replaces what was shown of it. Nothing is asked for but events.
"use strict";

const MINUS = "\u2212";
const QUIET_MS = 10000; // between two sentences that are spoken at least
const AGAIN_MS = 2000;
const $ = (id) => document.getElementById(id);

function make(tag, words = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(words)) {
    if (name === "class") node.className = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function drawn(tag, words) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(words)) node.setAttribute(name, value);
  return node;
}

const counted = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
const signed = (value) => (value < 0 ? MINUS : "+") + Math.abs(value).toFixed(1);
const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));

function duration(seconds) {
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

// what is spoken

let waiting = "", spokenAt = -QUIET_MS, timer = 0;
function speak(text) {
  waiting = text;
  if (timer) return;
  timer = setTimeout(() => {
    $("spoken").textContent = waiting;
    [timer, spokenAt] = [0, performance.now()];
  }, Math.max(0, spokenAt + QUIET_MS - performance.now()));
}

// the parts

const KINDS = ["finished", "running", "failed", "blocked", "waiting"];
let title = "layover", told = {};

function showStudy(part) {
  title = part.name;
  $("name").textContent = part.name;
  const words = [part.encoders.join(", "), part.strategies.join(", "), counted(part.seeds, "seed")];
  $("about").textContent = words.join(" · ");
  $("matrix-note").textContent = part.baseline
    ? `Mean difference to ${part.baseline} in points, over the seeds that both have; below it the mean score and how many seeds are done. A dashed border: not all are.`
    : "Mean score in points, and how many seeds are done. A dashed border: not all are.";
  $("matrix-key").hidden = !part.baseline;
}

function sentenceOf(part) {
  const done = `${part.finished} of ${counted(part.total, "step")} finished`;
  if (part.finished === part.total) return `Complete: all ${counted(part.total, "step")} are finished.`;
  if (part.running) {
    const left = part.seconds === null ? "" : `, about ${duration(part.seconds)} left`;
    return `${done}, ${part.running} running${left}.`;
  }
  if (part.waiting) return `${done}. Nothing is running.`;
  return `${done}; the others failed or are blocked.`;
}

function showProgress(part) {
  const sentence = sentenceOf(part), share = part.total ? Math.floor((100 * part.finished) / part.total) : 100;
  $("sentence").textContent = sentence;
  document.title = `${part.finished}/${part.total} · ${title}`;
  const bar = $("bar");
  bar.setAttribute("aria-valuenow", share);
  bar.setAttribute("aria-valuetext", sentence);
  if (!bar.children.length) {
    for (const kind of KINDS) {
      bar.append(make("span", { class: kind }));
      $("counts").append(make("li", {}, make("span", { class: `dot ${kind}` }), make("b"), ` ${kind}`));
    }
  }
  KINDS.forEach((kind, i) => {
    bar.children[i].style.width = `${(100 * part[kind]) / Math.max(1, part.total)}%`;
    $("counts").children[i].hidden = !part[kind];
    $("counts").children[i].children[1].textContent = part[kind];
  });
  const now = { tenth: Math.floor(share / 10), failed: part.failed, still: !part.running };
  if (now.tenth !== told.tenth || now.failed !== told.failed || now.still !== told.still) {
    speak(part.failed ? `${sentence} ${part.failed} failed.` : sentence);
    told = now;
  }
}

// keep the nodes of what is still there, in their order, so that focus and position stay
function keyed(list, items, create, update) {
  const known = new Map([...list.children].map((node) => [node.dataset.key, node]));
  items.forEach((item, i) => {
    const node = known.get(item.key) || create(item);
    node.dataset.key = item.key;
    known.delete(item.key);
    update(node, item);
    if (list.children[i] !== node) list.insertBefore(node, list.children[i] || null);
  });
  for (const node of known.values()) node.remove();
}

function showRunning(part) {
  $("running-section").hidden = !part.steps.length;
  const create = () => make("li", { class: "card" }, make("strong"), make("p"), make("div"), make("p"));
  keyed($("running"), part.steps, create, (card, step) => {
    const [label, where, figure, values] = card.children;
    label.textContent = step.label;
    const at = step.steps ? `step ${step.step} of ${step.steps}, epoch ${step.epoch} of ${step.epochs}` : "getting ready";
    where.textContent = step.host ? `${at} · on ${step.host}` : at;
    const points = step.loss === null || step.loss === undefined ? step.curve : [...step.curve, { step: step.step, loss: step.loss }];
    const losses = points.filter((p) => typeof p.loss === "number").map((p) => [p.step, p.loss]);
    const scores = points.filter((p) => typeof p.selection === "number").map((p) => [p.step, p.selection]);
    values.replaceChildren();
    figure.replaceChildren();
    if (!losses.length) return;
    figure.append(curve(step, losses, scores));
    values.append(make("span", { class: "word-loss" }, "loss"), ` ${short(losses.at(-1)[1])}`);
    if (scores.length) values.append(" · ", make("span", { class: "word-score" }, step.metric), ` ${scores.at(-1)[1].toFixed(1)} on selection (dashed)`);
  });
}

function curve(step, losses, scores) {
  const [wide, high, edge] = [300, 80, 4];
  const ends = (list) => `from ${short(list[0][1])} to ${short(list.at(-1)[1])}`;
  let words = `Learning curve up to step ${step.step}: loss ${ends(losses)}`;
  if (scores.length) words += `, ${step.metric} on the selection set ${ends(scores)}`;
  const svg = drawn("svg", { viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: "none", role: "img", "aria-label": words });
  svg.append(drawn("path", { class: "ground", d: `M0 ${high - 0.5}H${wide}`, "stroke-width": 1 }));
  for (const [name, list] of [["loss", losses], ["score", scores]]) {
    if (!list.length) continue;
    const values = list.map((p) => p[1]), low = Math.min(...values), span = Math.max(...values) - low || 1;
    const spot = ([at, value]) => [edge + ((wide - 2 * edge) * at) / step.steps, high - edge - ((high - 2 * edge) * (value - low)) / span];
    svg.append(drawn("polyline", { class: name, points: list.map((p) => spot(p).map((x) => x.toFixed(1)).join(",")).join(" ") }));
    const [x, y] = spot(list.at(-1));
    svg.append(drawn("circle", { class: name, cx: x, cy: y, r: 3 }));
  }
  return svg;
}

function showTroubles(part) {
  const fill = (list, items) => keyed(list, items, () => make("li", {}, make("strong"), make("code")), (node, item) => {
    node.children[0].textContent = item.label;
    node.children[1].textContent = item.why;
  });
  fill($("failed"), part.failed);
  fill($("blocked"), part.blocked);
  $("troubles-section").hidden = !(part.failed.length || part.blocked.length);
  $("blocked-all").hidden = !part.blocked.length;
  const all = part.blocked.length + part.more.blocked;
  $("blocked-title").textContent = `${counted(all, "step")} blocked by these${part.more.blocked ? `, of which ${part.blocked.length} are here` : ""}`;
  $("troubles-title").textContent = part.more.failed ? `Failed and blocked: the first ${part.failed.length} of ${part.failed.length + part.more.failed}` : "Failed and blocked";
}

function shade(delta) {
  const size = Math.abs(delta);
  if (size < 0.5) return "";
  return (delta < 0 ? "down" : "up") + (size < 2 ? 1 : size < 5 ? 2 : 3);
}

function fillCell(node, cell) {
  node.className = "";
  node.replaceChildren();
  if (!cell) return;
  const seeds = `${cell.n}/${cell.of}`;
  const heard = make("span", { class: "spoken" }, `${cell.n} of ${counted(cell.of, "seed")}`);
  const seen = make("small", { "aria-hidden": "true" }, cell.mean !== null && cell.delta !== null ? `${cell.mean.toFixed(1)} · ${seeds}` : seeds);
  const main = cell.delta !== null ? signed(cell.delta) : cell.mean !== null ? cell.mean.toFixed(1) : "–";
  node.append(make("b", {}, main), seen, heard);
  if (cell.delta !== null && shade(cell.delta)) node.classList.add(shade(cell.delta));
  if (cell.mean === null) node.classList.add("unknown");
  else if (cell.n < cell.of) node.classList.add("partial");
  const marks = [cell.failed ? `${cell.failed} failed` : "", cell.degenerate ? `${cell.degenerate} degenerate` : ""].filter(Boolean);
  if (marks.length) {
    node.classList.add("alarm");
    node.append(make("br"), make("small", {}, marks.join(", ")));
  }
}

function showMatrix(part) {
  $("matrix-section").hidden = !part.encoders.length;
  const several = part.encoders.length > 1;
  keyed($("matrices"), part.encoders.map((one) => ({ ...one, key: one.encoder })), () => make("div"), (node, one) => {
    const shape = JSON.stringify([one.targets, one.rows.map((row) => [row.strategy, row.source])]);
    if (node.dataset.shape !== shape) {
      node.dataset.shape = shape;
      node.replaceChildren(...(several ? [make("h3", {}, one.encoder)] : []), tableOf(one));
    }
    const body = node.querySelector("tbody");
    one.rows.forEach((row, i) => one.targets.forEach((target, j) => fillCell(body.rows[i].cells[j + 1], row.cells[target.name])));
  });
}

function tableOf(one) {
  const probing = one.targets.some((target) => target.role !== "target");
  const head = one.targets.map((t) => make("th", { scope: "col" }, t.name, ...(probing ? [make("small", {}, t.role)] : [])));
  const rows = one.rows.map((row) => {
    const name = make("th", { scope: "row" }, row.source || row.strategy, ...(row.source ? [make("small", {}, row.strategy)] : row.baseline ? [make("small", {}, "the baseline: scores")] : []));
    return make("tr", {}, name, ...one.targets.map(() => make("td")));
  });
  const corner = make("th", { scope: "col" }, make("span", { class: "spoken" }, "way"));
  const table = make("table", {}, make("thead", {}, make("tr", {}, corner, ...head)), make("tbody", {}, ...rows));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Scores and differences of ${one.encoder}` }, table);
}

function showRecent(part) {
  $("recent-section").hidden = !part.steps.length;
  keyed($("recent"), part.steps, () => make("li", {}, make("b"), make("span")), (node, step) => {
    node.children[0].textContent = step.label;
    const score = typeof step.value === "number" ? `${step.metric} ${step.value.toFixed(1)}${step.status === "ok" ? "" : ` (${step.status})`} · ` : "";
    node.children[1].textContent = score + new Date(1000 * step.ended).toLocaleTimeString();
  });
}

function showNotice(part) {
  $("notice").hidden = !part.text;
  $("notice").textContent = part.text;
}

// the connection: a browser comes back by itself and says what it has; where it gives up, so does this

const SHOW = { study: showStudy, progress: showProgress, running: showRunning, troubles: showTroubles, matrix: showMatrix, recent: showRecent, notice: showNotice };
let after = "";

function connect() {
  const events = new EventSource(after ? `/events?after=${encodeURIComponent(after)}` : "/events");
  events.onopen = () => ($("connection").textContent = "live");
  for (const [name, show] of Object.entries(SHOW)) {
    events.addEventListener(name, (event) => {
      after = event.lastEventId;
      show(JSON.parse(event.data));
    });
  }
  events.onerror = () => {
    $("connection").textContent = "the server cannot be reached; trying again";
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN_MS);
  };
}
connect();
