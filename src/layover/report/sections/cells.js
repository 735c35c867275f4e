"use strict";
// A cell of a map opens a panel: its runs, their learning curves, and the examples that flipped. Cells are reached by
// pointer and by arrow keys. All text goes in as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const make = (name, attributes, ...inside) => {
  const node = document.createElement(name);
  Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
  node.append(...inside);
  return node;
};
const table = (label, heads, rows) => make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label },
  make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map(([text, kind]) => make("th", { scope: "col", class: kind }, text)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((item, i) => (
      make("td", { class: heads[i][1] }, ...(Array.isArray(item) ? item : [item])))))))));

const armOf = (value, status) => {
  const said = status ? [make("span", { class: status.split(":")[0] }, status)] : [];
  return value ? [value, ...(said.length ? [" ", ...said] : [])] : said;
};
const linkOf = (place) => {
  if (typeof place === "number") return make("a", { href: `#run-${place}` }, data.runs[place][0]);
  return place ? make("code", {}, place) : "–";
};

const seedsOf = (pairs, flips, strategy, baseline) => {
  const flipped = new Map(flips ? flips[2].map(([seed, lost, gained]) => [seed, [lost, gained]]) : []);
  const heads = [["seed", "number"], [baseline, "number"], [strategy, "number"], ["difference", "number"]];
  if (flips) heads.push(["right → wrong", "number"], ["wrong → right", "number"]);
  const rows = pairs.map(([seed, delta, base, baseStatus, basePlace, run, runStatus, runPlace]) => [
    String(seed), armOf(base, baseStatus), armOf(run, runStatus), delta,
    ...(flips ? (flipped.get(seed) ?? ["–", "–"]).map(String) : []), [linkOf(runPlace), make("br", {}), linkOf(basePlace)]]);
  return table("Runs of this cell", [...heads, ["runs", "name"]], rows);
};

const curvesOf = (pairs, strategy, baseline) => {
  const arms = [[4, "s0"], [7, "s2"]].map(([place, style]) => pairs.map((pair) => pair[place])
    .filter((run) => typeof run === "number").map((run) => [data.runs[run], style]));
  const measure = measureOf(arms.flat().map(([run]) => run));
  const lines = arms.flat().filter(([run]) => measure && run[measure]).map(([run, style]) => lineOf(run, measure, style));
  if (!lines.length) return [];
  const said = MEASURES.find(([place]) => place === measure)[1];
  return [make("figure", {}, make("figcaption", {}, said[0].toUpperCase() + said.slice(1)),
    plot(lines, `${said} by step, ${lines.length} runs`), legendOf([["s0", baseline], ["s2", strategy]]))];
};

const flipsOf = (flips, strategy, baseline) => {
  const [n, churn, seeds, listed] = flips;
  const mean = (place) => (seeds.reduce((sum, one) => sum + one[place], 0) / seeds.length).toFixed(1);
  let said = `Of ${n.toLocaleString("en")} validation examples ${mean(1)} that are right under ${baseline} turn wrong, `
    + `and ${mean(2)} that are wrong turn right${seeds.length > 1 ? " (means over seeds)" : ""}.`;
  if (churn !== null) said += ` Two seeds of ${baseline} alone differ on ${churn.toFixed(1)}.`;
  const texts = listed.some((one) => one[7] >= 0);
  const heads = [["turned", "name"], ["row", "number"], ["seeds", "number"], ["gold", "long"], [baseline, "long"], [strategy, "long"]];
  if (texts) heads.push(["text", "text"]);
  const rows = listed.map(([row, part, gained, times, gold, base, run, text]) => [
    gained ? "right" : "wrong", part < 0 ? String(row) : `${row}.${part}`, String(times), gold, base, run,
    ...(texts ? [text < 0 ? "–" : data.texts[text]] : [])]);
  const inside = [make("p", {}, said)];
  if (rows.length) inside.push(table("Examples that flipped", heads, rows));
  return make("div", { class: "flips" }, ...inside);
};

const fill = (panel, cell, close) => {
  const [name, matrix, strategy, baseline, verdict, effect, pairs, flipped] = cell;
  const flips = flipped < 0 ? null : data.flips[flipped];
  const shut = make("button", { type: "button", class: "shut" }, "Close");
  shut.addEventListener("click", close);
  panel.setAttribute("aria-label", `The chosen cell: ${name}`);
  panel.replaceChildren(shut,
    make("p", { class: "lead" }, make("strong", {}, name), ` · ${matrix} · `,
      make("span", { class: verdict.split(" ")[0] }, verdict), make("br", {}), effect),
    make("div", { class: "parts" }, seedsOf(pairs, flips, strategy, baseline), ...curvesOf(pairs, strategy, baseline),
      ...(flips ? [flipsOf(flips, strategy, baseline)] : [])));
};

document.querySelectorAll(".matrix").forEach((section) => {
  const panel = section.querySelector(".panel");
  const cells = data.matrices[Number(section.dataset.matrix)];
  const buttons = [...section.querySelectorAll("button[data-i]")];
  let marked = null;
  const close = () => {
    panel.hidden = true;
    document.documentElement.classList.remove("open");
    if (!marked) return;
    const last = marked;
    marked = null;
    last.setAttribute("aria-expanded", "false");
    last.focus();
  };
  const show = (button) => {
    if (marked) marked.setAttribute("aria-expanded", "false");
    marked = button;
    button.setAttribute("aria-expanded", "true");
    fill(panel, cells[Number(button.dataset.i)], close);
    panel.hidden = false;
    document.documentElement.classList.add("open");
    button.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  const step = (from, down, across) => {
    const column = from.parentElement.cellIndex;
    const rows = [...section.querySelectorAll(".heat tr")].filter((row) => !row.hidden);
    let y = rows.indexOf(from.closest("tr")), x = column;
    for (;;) {
      y += down;
      x += across;
      const row = rows[y];
      if (!row || x < 0 || (across && !row.cells[x])) return null;
      const found = row.cells[x]?.querySelector("button[data-i]");
      if (found && !found.closest("td").hidden) return found;
    }
  };
  const WAYS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  buttons.forEach((button, number) => {
    button.tabIndex = number ? -1 : 0;
    button.title = button.getAttribute("aria-label");
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-controls", panel.id);
    button.addEventListener("click", () => (marked === button ? close() : show(button)));
    button.addEventListener("focus", () => {
      buttons.forEach((other) => { other.tabIndex = other === button ? 0 : -1; });
    });
    button.addEventListener("keydown", (event) => {
      const next = WAYS[event.key] && step(button, ...WAYS[event.key]);
      if (WAYS[event.key]) event.preventDefault();
      if (!next) return;
      next.focus();
      if (marked) show(next);
    });
  });
  section.addEventListener("keydown", (event) => { if (event.key === "Escape" && marked) close(); });
});
