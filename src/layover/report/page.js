"use strict";
// Heat-map cells open a panel with their runs, by pointer and by keyboard; tables sort; one switch leaves out
// degenerate runs. Without this script the page shows everything but the panels.
document.querySelectorAll(".matrix").forEach((section) => {
  const panels = new Map();
  section.querySelectorAll(".panel").forEach((panel) => panels.set(panel.dataset.label, panel));
  const hint = section.querySelector(".hint");
  let marked = null;
  let pinned = false;  // a click keeps the panel, so that the pointer can travel to it across other cells
  const show = (mark, panel) => {
    panels.forEach((other) => { other.hidden = other !== panel; });
    if (hint) hint.hidden = true;
    if (marked) marked.classList.remove("shown");
    marked = mark;
    mark.classList.add("shown");
  };
  const cells = [];
  section.querySelectorAll(".heat svg path[aria-label]").forEach((mark) => {
    const panel = panels.get(mark.getAttribute("aria-label"));
    if (!panel) return;
    mark.setAttribute("tabindex", cells.length ? "-1" : "0");
    mark.setAttribute("role", "button");
    cells.push(mark);
    mark.addEventListener("mouseenter", () => { if (!pinned) show(mark, panel); });
    mark.addEventListener("click", () => { pinned = !(pinned && marked === mark); show(mark, panel); });
    mark.addEventListener("focus", () => show(mark, panel));
    mark.addEventListener("keydown", (event) => {
      const box = mark.getBoundingClientRect();
      const x = box.x + box.width / 2, y = box.y + box.height / 2;
      const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        const link = panel.querySelector("a");
        if (link) link.focus();
      }
      if (!way) return;
      event.preventDefault();
      let best = null, least = Infinity;
      for (const other of cells) {
        const to = other.getBoundingClientRect();
        const dx = to.x + to.width / 2 - x, dy = to.y + to.height / 2 - y;
        const along = dx * way[0] + dy * way[1], aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
        if (along > 1 && along + 3 * aside < least) { least = along + 3 * aside; best = other; }
      }
      if (best) {
        mark.setAttribute("tabindex", "-1");
        best.setAttribute("tabindex", "0");
        best.focus();
      }
    });
  });
});

document.querySelectorAll("table.sortable").forEach((table) => {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const rows = [...body.rows].sort((a, b) => {
        const [left, right] = [value(a), value(b)];
        if (left === "" || right === "") return (left === "") - (right === "");  // unknown stays last
        const [x, y] = [Number(left), Number(right)];
        const order = Number.isNaN(x) || Number.isNaN(y) ? left.localeCompare(right) : x - y;
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
});

document.querySelectorAll("input[name=degenerate]").forEach((choice) => {
  choice.addEventListener("change", () => {
    document.querySelectorAll(".view").forEach((view) => { view.hidden = view.dataset.view !== choice.value; });
  });
});
