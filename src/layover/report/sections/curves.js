// Curves are drawn here from the page's data: a panel for each task, a line for each run.
const SVG = "http://www.w3.org/2000/svg";
const draw = (name, attributes, ...inside) => {
  const node = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
  node.append(...inside);
  return node;
};

const ticksOf = (low, high, most) => {
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + 1e-9 * step; tick += step) found.push(tick);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return found.map((tick) => [tick, tick.toFixed(digits).replace("-", "\u2212")]);
};

// lines: [{x, y, name, style, kept}], each y may hold nulls
const plot = (lines, label) => {
  const width = 250, height = 150, left = 36, right = 8, top = 8, bottom = 22;
  const pairs = lines.map((line) => line.x.map((x, i) => [x, line.y[i]]).filter(([, y]) => y !== null));
  const xs = pairs.flat().map(([x]) => x), ys = pairs.flat().map(([, y]) => y);
  const most = Math.max(...xs), least = Math.min(0, ...xs);
  let low = Math.min(...ys), high = Math.max(...ys);
  if (high - low < 1e-9) { low -= 0.5; high += 0.5; }
  const px = (x) => left + (width - left - right) * (x - least) / Math.max(most - least, 1e-9);
  const py = (y) => top + (height - top - bottom) * (high - y) / (high - low);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "plot" });
  ticksOf(low, high, 4).forEach(([tick, text]) => svg.append(
    draw("line", { x1: left, x2: width - right, y1: py(tick), y2: py(tick), class: "grid" }),
    draw("text", { x: left - 5, y: py(tick) + 3.5, "text-anchor": "end" }, text)));
  ticksOf(least, most, 3).forEach(([tick, text]) => svg.append(
    draw("text", { x: px(tick), y: height - 6, "text-anchor": tick > 0.9 * most ? "end" : "middle" }, text)));
  lines.forEach((line, number) => {
    const points = pairs[number];
    if (!points.length) return;
    const path = points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" ");
    svg.append(draw("polyline", { points: path, class: line.style }, draw("title", {}, line.name)));
    const kept = points.find(([x]) => x === line.kept);
    if (kept || points.length === 1) {
      const [x, y] = kept ?? points[0];
      svg.append(draw("circle", { cx: px(x).toFixed(1), cy: py(y).toFixed(1), r: 2.2, class: line.style }));
    }
  });
  return svg;
};

const lineOf = (run, measure, style) => (
  { x: data.steps[run[5]], y: run[measure], name: run[0], style, kept: run[8] });
const MEASURES = [[6, "score on the selection set"], [7, "training loss"]];
const measureOf = (runs) => (MEASURES.find(([place]) => runs.some((run) => run[place])) ?? [0])[0];

const legendOf = (items) => make("p", { class: "legend" }, ...items.map(([style, text]) => make("span", {},
  draw("svg", { viewBox: "0 0 18 8", width: 18, height: 8, class: "plot", "aria-hidden": "true" },
    draw("line", { x1: 0, x2: 18, y1: 4, y2: 4, class: style })), text)));

const chooser = (label, choices, changed) => {
  const select = make("select", { autocomplete: "off" }, ...choices.map(([value, text]) => make("option", { value }, text)));
  select.addEventListener("change", () => changed(select.value));
  return make("label", {}, `${label} `, select);
};

const allCurves = document.getElementById("all-curves");
if (allCurves) {
  const MOST_COLOURS = 6;
  const drawn = data.runs.filter((run) => run[6] || run[7]);
  const tasks = [...new Set(drawn.map((run) => run[3]))];
  const ways = [...new Set(drawn.map((run) => run[4]))].sort((a, b) => (a !== "") - (b !== "") || a.localeCompare(b));
  const stops = ways.filter((way) => way);
  const coloured = stops.length <= MOST_COLOURS;
  const measures = MEASURES.filter(([place]) => drawn.some((run) => run[place]));
  let measure = measures[0][0], shown = stops[0];
  const style = (way) => {
    if (!way) return "s0";
    if (coloured) return `s${stops.indexOf(way) + 1}`;
    return way === shown ? "s2" : "rest";
  };
  const order = (a, b) => (style(a[4]) !== "rest") - (style(b[4]) !== "rest");
  const panels = make("div", { class: "plots" });
  const legend = make("div", {});
  const redraw = () => {
    const said = measures.find(([place]) => place === measure)[1];
    legend.replaceChildren(legendOf([["s0", "from the plain encoder"], ...(coloured ? stops.map((way) => [style(way), `through ${way}`])
      : [["s2", `through ${shown}`], ["rest", "through another stop"]])]));
    panels.replaceChildren(...tasks.flatMap((task) => {
      const runs = drawn.filter((run) => run[3] === task && run[measure]).sort(order);
      if (!runs.length) return [];
      const lines = runs.map((run) => lineOf(run, measure, style(run[4])));
      return [make("figure", {}, make("figcaption", {}, task), plot(lines, `${task}: ${said} of ${runs.length} runs by step`))];
    }));
  };
  const controls = make("div", { class: "filters" });
  if (measures.length > 1) {
    controls.append(chooser("Show", measures, (value) => { measure = Number(value); redraw(); }));
  }
  if (!coloured) {
    controls.append(chooser("Point out", stops.map((way) => [way, way]), (value) => { shown = value; redraw(); }));
  }
  allCurves.replaceChildren(controls, legend, panels);
  redraw();
}
