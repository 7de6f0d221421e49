// Search over ops, modules, source lines and value names.

const MOST = 60;
let index = null;
let active = 0;

/** Every value once for each way it looks, with the stops at which it does. */
function searchIndex() {
  if (index) return index;
  const entries = new Map();
  for (const stage of stages) {
    if (!stage.changed) continue;
    for (const row of stage.values.values()) {
      const entry = entries.get(row) ?? { row, stops: [] };
      entry.stops.push(stage.number);
      entries.set(row, entry);
    }
  }
  index = [...entries.values()].map((entry) => {
    const { row } = entry;
    const source = row.place < 0 ? "" : `${placeText(row.place)} ${sourceOf(row.place)}`;
    const words = [row.name, row.op, row.type, moduleOf(row), phaseOf(row), source];
    return { ...entry, words: words.join("\n").toLowerCase() };
  });
  return index;
}

const EXACT = {
  op: (row, wanted) => row.op === wanted,
  module: (row, wanted) => moduleOf(row) === wanted || moduleOf(row).startsWith(`${wanted}.`),
  line: (row, wanted) => placeText(row.place) === wanted,
};

/** What fits a query, each value once: those of this stop first. */
function find(query) {
  const exact = query.match(/^(op|module|line):(.*)$/s);
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = exact
    ? ({ row }) => EXACT[exact[1]](row, exact[2].trim())
    : (entry) => words.every((word) => entry.words.includes(word));
  const now = stageOf(here.pass).values;
  const best = new Map();
  for (const entry of searchIndex()) {
    if (!fits(entry)) continue;
    const { name } = entry.row;
    const isHere = now.get(name) === entry.row;
    if (isHere || !best.has(name)) {
      best.set(name, { ...entry, isHere, isExact: name.toLowerCase() === words[0] });
    }
  }
  const score = (x) => 2 * x.isExact + x.isHere;
  return [...best.values()].sort((a, b) => score(b) - score(a));
}

function showResults() {
  const query = $("search").value.trim();
  const found = query ? find(query) : [];
  const list = $("results");
  list.hidden = !query;
  $("search").setAttribute("aria-expanded", String(Boolean(query)));
  active = 0;
  list.replaceChildren(
    ...found.slice(0, MOST).map((entry, i) => resultItem(entry, i)),
    el("div", { className: "result-count", role: "presentation" }, found.length > MOST
      ? `the first ${MOST} of ${plural(found.length, "value")}` : plural(found.length, "value")));
  showActive();
}

function resultItem({ row, stops, isHere }, i) {
  const stop = isHere ? here.pass : stops.at(-1);
  return el("div", {
    className: "result", role: "option", id: `result-${i}`,
    "data-value": row.name, "data-stop": stop,
    onpointerdown: (event) => {
      event.preventDefault();
      goToResult(event.currentTarget);
    },
  },
  swatch(row.kind),
  el("span", { className: "name" }, `${row.name} ${row.op}`),
  el("span", { className: "faint" }, row.type),
  el("span", { className: "where" },
    isHere ? "" : `${stopTitle(stop)} · `,
    [moduleOf(row), row.place < 0 ? "" : placeText(row.place)].filter(Boolean).join(" · ")));
}

function showActive() {
  const items = [...$("results").querySelectorAll(".result")];
  items.forEach((item, i) => item.setAttribute("aria-selected", String(i === active)));
  if (items[active]) {
    $("search").setAttribute("aria-activedescendant", items[active].id);
    items[active].scrollIntoView({ block: "nearest" });
  } else {
    $("search").removeAttribute("aria-activedescendant");
  }
}

function goToResult(item) {
  const { value: name, stop } = item.dataset;
  closeSearch();
  goToValue(name, Number(stop));
}

function closeSearch() {
  $("search").value = "";
  $("search").blur();
  $("results").hidden = true;
  $("search").setAttribute("aria-expanded", "false");
}

/** Show the results of a query as if the reader had written it. */
function searchFor(query) {
  $("search").value = query;
  $("search").focus();
  showResults();
}

function listenToSearch() {
  $("search").addEventListener("input", showResults);
  $("search").addEventListener("focus", showResults);
  $("search").addEventListener("blur", () => {
    $("results").hidden = true;
    $("search").setAttribute("aria-expanded", "false");
  });
  $("search").addEventListener("keydown", (event) => {
    const items = $("results").querySelectorAll(".result");
    const moves = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in moves && items.length) {
      active = (active + moves[event.key] + items.length) % items.length;
      showActive();
    } else if (event.key === "Enter" && items[active]) {
      goToResult(items[active]);
    } else if (event.key === "Escape") {
      closeSearch();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });
}
