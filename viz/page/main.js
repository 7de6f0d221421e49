// The start: the data, the keys, the looks.

const KEYS = [
  ["←  →", "the pass before, the pass after; in Memory the step"],
  ["Home  End", "the first, the last"],
  ["+  −  0", "zoom in, zoom out, the whole picture"],
  ["Shift + arrows", "move the picture"],
  ["l", "the next level of the picture"],
  ["1  2  3", "Passes, Memory, Profile"],
  ["r  t  n", "rewrites, text, node"],
  ["/", "search; Enter goes to the result"],
  ["Esc", "close, or select nothing"],
  ["d", "dark or light"],
  ["?", "this list"],
];

function step(move) {
  if (here.view === "memory") {
    const last = core.plan.steps.length - 1;
    const found = move === -Infinity ? 0 : move === Infinity ? last : memoryStep() + move;
    go({ step: Math.min(Math.max(found, 0), last) }, { replace: true });
  } else if (here.view === "passes") {
    const found = move === -Infinity ? 0 : move === Infinity ? planStop() : here.pass + move;
    goToStop(found, { replace: true });
  }
}

function nextLevel() {
  const buttons = [...$("levels").children];
  const at = buttons.findIndex((x) => x.getAttribute("aria-pressed") === "true");
  if (buttons.length) buttons[(at + 1) % buttons.length].click();
}

const ACTIONS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  Home: () => step(-Infinity),
  End: () => step(Infinity),
  "+": () => zoom(1.25),
  "=": () => zoom(1.25),
  "-": () => zoom(0.8),
  0: fitView,
  l: nextLevel,
  1: () => go({ view: "passes" }),
  2: () => go({ view: "memory" }),
  3: () => go({ view: "profile" }),
  r: () => go({ tab: "rewrites" }),
  t: () => go({ tab: "text" }),
  n: () => go({ tab: "value" }),
  "/": () => $("search").focus(),
  Escape: () => go({ node: null, box: null }),
  d: switchTheme,
  "?": () => $("help").showModal(),
};
const PANS = { ArrowLeft: [-60, 0], ArrowRight: [60, 0], ArrowUp: [0, -60], ArrowDown: [0, 60] };

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target.matches("input, textarea, select")) return;
  const act = event.shiftKey && event.key in PANS && here.view === "passes"
    ? () => pan(...PANS[event.key]) : ACTIONS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

// A page that was opened as a file may have no storage: then the choice is not remembered.
function remembered() {
  try {
    return localStorage.getItem("needle_ir.theme");
  } catch {
    return null;
  }
}

function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  $("theme").textContent = isDark() ? "☀" : "☾";
}

function switchTheme() {
  const theme = isDark() ? "light" : "dark";
  setTheme(theme);
  try {
    localStorage.setItem("needle_ir.theme", theme);
  } catch {
    return;
  }
}

/** Tabs: a click chooses, and so do the arrows where a tab has the focus. */
function listenToTabs(list, choose) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) choose(tab);
  });
  list.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    const shown = tabs.filter((tab) => !tab.hidden);
    const at = shown.indexOf(document.activeElement);
    const next = shown[(at + move + shown.length) % shown.length];
    next.focus();
    choose(next);
    event.preventDefault();
    event.stopPropagation();
  });
}

function showHelp() {
  $("help").append(
    el("h2", { id: "help-title" }, "Keys"),
    el("dl", {}, KEYS.map(([keys, what]) => [
      el("dt", {}, keys.split(/ {2}/).map((key) => el("kbd", {}, key))), el("dd", {}, what)])),
    el("p", { className: "faint" },
      "The wheel zooms the picture, dragging moves it, a click on a box tells what it is. The ",
      "address of the page leads back to what is shown."),
    el("form", { method: "dialog" }, el("button", {}, "Close")));
  $("open-help").addEventListener("click", () => $("help").showModal());
  $("help").addEventListener("click", (event) => {
    if (event.target === $("help")) $("help").close();
  });
}

async function start() {
  setTheme(remembered());
  await loadCore();
  if (core.notes.length) {
    $("notes").hidden = false;
    $("notes").replaceChildren(...core.notes.map((note) => el("p", {}, note)));
  }
  showTimeline();
  listenToPicture();
  listenToSearch();
  listenToTabs(document.querySelector(".views"), (tab) => go({ view: tab.dataset.view }));
  listenToTabs(document.querySelector(".tabs"), (tab) => go({ tab: tab.dataset.tab }));
  showHelp();
  $("theme").addEventListener("click", switchTheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(null));
  document.addEventListener("keydown", onKey);
  addEventListener("popstate", () => {
    readAddress();
    render();
  });
  addEventListener("resize", () => {
    if (here.view === "memory") drawMemory();
  });
  addEventListener("beforeprint", () => {
    drawMemory();
    drawProfile();
    applyView();
  });
  readAddress();
  render();
}

start();
