// Tables sort by a click on a heading; filters and a search choose rows, and the squares of a map with them; one switch
// leaves out degenerate runs. Without this script the page shows everything but panels and curves.
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

// Squares of a map whose rows in the table of cells are hidden are paled; rows and columns with no other are hidden.
const paleMap = (map, shown) => {
  map.querySelectorAll("button[data-i]").forEach((button) => {
    button.classList.toggle("off", !shown.has(Number(button.dataset.i)));
  });
  const heads = [...map.tHead.rows[0].cells], used = heads.map((_, column) => column < 2);
  const bodies = [...map.tBodies];
  bodies.flatMap((body) => [...body.rows]).forEach((row) => [...row.cells].forEach((cell, column) => {
    if (cell.querySelector("button[data-i]:not(.off)")) used[column] = true;
  }));
  bodies.forEach((body) => {
    const rows = [...body.rows];
    rows.forEach((row) => {
      const own = row.querySelector("button[data-i]");
      if (own) row.hidden = !row.querySelector("button[data-i]:not(.off)");
      if (!row.classList.contains("group")) [...row.cells].forEach((cell, column) => { cell.hidden = !used[column]; });
    });
    body.hidden = !body.querySelector("button[data-i]:not(.off)");
  });
  heads.forEach((head, column) => { head.hidden = !used[column]; });
};

const FEW = 6;  // rows that need no filter
document.querySelectorAll(".filters[data-for]").forEach((place) => {
  const table = document.getElementById(place.dataset.for);
  const rows = [...table.tBodies[0].rows];
  if (rows.length < FEW) return;
  const heads = [...table.tHead.rows[0].cells].map((head) => head.textContent.trim());
  const chosen = new Map();
  const search = make("input", { type: "search", autocomplete: "off", spellcheck: "false", size: "14" });
  const count = make("output", {});
  const map = place.closest(".matrix")?.querySelector(".heat");
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = new Set();
    rows.forEach((row, number) => {
      const text = row.textContent.toLowerCase();
      const keep = words.every((word) => text.includes(word))
        && [...chosen].every(([column, value]) => !value || row.cells[column].textContent.trim() === value);
      row.hidden = !keep;
      if (keep) shown.add(number);
    });
    const all = shown.size === rows.length;
    count.textContent = all ? "" : `${shown.size} of ${rows.length}`;
    if (map) paleMap(map, shown);
  };
  place.dataset.columns.split(" ").forEach((name) => {
    const column = heads.indexOf(name);
    const values = [...new Set(rows.map((row) => row.cells[column].textContent.trim()))].sort();
    if (values.length < 2 || values.length > 200) return;
    place.append(chooser(name, [["", "all"], ...values.map((value) => [value, value])], (value) => {
      chosen.set(column, value);
      apply();
    }));
  });
  search.addEventListener("input", apply);
  place.append(make("label", {}, "search ", search), count);
  place.addEventListener("reset-filter", () => {
    search.value = "";
    place.querySelectorAll("select").forEach((select) => { select.value = ""; });
    chosen.clear();
    apply();
  });
});

// A link to a run leads to its row, whatever is folded away or filtered out.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='#']");
  const row = link && document.getElementById(link.getAttribute("href").slice(1));
  if (!row) return;
  const fold = row.closest("details");
  if (fold) fold.open = true;
  if (row.hidden) {
    document.querySelector(`.filters[data-for="${row.closest("table").id}"]`).dispatchEvent(new Event("reset-filter"));
  }
});

document.querySelectorAll("input[name=degenerate]").forEach((choice) => {
  choice.addEventListener("change", () => {
    document.querySelectorAll(".view").forEach((view) => { view.hidden = view.dataset.view !== choice.value; });
  });
});
