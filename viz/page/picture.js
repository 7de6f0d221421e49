// The picture of a stop: its level, what is selected in it, zoom and pan.

const pictures = new Map(); // by id, unpacked once
let preferred = null; // the label of the level that the reader chose
let drawn = null; // what is shown: { id, data, svg, groups, boxOf }
const view = { x: 0, y: 0, scale: 1 }; // pixels a unit

const READABLE = 0.9; // pixels a unit below which words are too small to read
const EASY = 60; // with more boxes than these, the modules are shown first

async function loadPicture(id) {
  if (!pictures.has(id)) pictures.set(id, unpack(id));
  return pictures.get(id);
}

/** The pictures of a stop; those of a pass that changed nothing are none. */
const picturesAt = (stop) => core.pictures[stop] ?? [];

function chosenPicture(stop) {
  const found = picturesAt(stop).filter((x) => x.id !== null);
  const wanted = found.find((x) => x.label === preferred);
  if (wanted) return wanted;
  return found.find((x) => x.level !== "module" && x.boxes <= EASY) ?? found[0] ?? null;
}

onPlace(["pass", "view"], async function showPicture() {
  if (here.view !== "passes") return;
  const stop = here.pass;
  const choice = chosenPicture(stop);
  $("levels").replaceChildren(...picturesAt(stop).map((x) => el("button", {
    "aria-pressed": String(x === choice),
    disabled: x.id === null,
    title: x.id === null ? `${x.boxes} boxes are too many to draw` : `${x.boxes} boxes`,
    onclick: () => {
      preferred = x.label;
      showPicture();
    },
  }, x.label)));
  if (choice === null) return showNoPicture(stop);
  if (drawn?.id === choice.id) return;
  const data = await loadPicture(choice.id);
  if (here.pass !== stop || chosenPicture(stop) !== choice) return;
  drawn = draw(choice.id, data);
  $("picture").replaceChildren(drawn.svg);
  $("picture").setAttribute("aria-label",
    `The graph ${stopTitle(stop)}: ${data.caption.join("; ")}. The tab Text has it as text.`);
  $("caption").textContent = data.caption.join(" · ");
  $("caption").title = data.caption.join("\n");
  showLegend(data);
  showSelection();
  startView();
  document.body.dataset.ready = choice.id;
});

function showNoPicture(stop) {
  drawn = null;
  const last = stages.slice(0, stop).findLast((stage) => stage.changed);
  $("picture").replaceChildren(el("div", { className: "nothing" },
    el("p", {}, el("strong", {}, stages[stop].name), " left the graph as it was."),
    el("button", { className: "link", onclick: () => goToStop(last.number) },
      `The graph is the one ${stopTitle(last.number)}`)));
  $("caption").textContent = "";
  $("legend").replaceChildren();
  document.body.dataset.ready = `none-${stop}`;
}

// The colour of what was touched is made for borders: words in it take a darker one.
const AMBER_WORDS = /(<(?:text|tspan)[^>]*)"#cc8800"/g;

function draw(id, data) {
  const text = data.svg.replace(AMBER_WORDS, '$1"#855900"')
    .replace(/="(#[0-9a-f]{6})"/g, (_, hex) => `="${bothColours(hex)}"`);
  const svg = document.importNode(
    new DOMParser().parseFromString(text, "image/svg+xml").documentElement, true);
  const [, , width, height] = svg.getAttribute("viewBox").split(/[ ,]+/).map(Number);
  for (const name of ["width", "height"]) svg.removeAttribute(name);
  const groups = new Map([...svg.querySelectorAll("[data-box]")].map((g) => [g.dataset.box, g]));
  const boxOf = new Map();
  for (const [box, names] of Object.entries(data.values)) {
    if (!groups.has(box)) continue;
    // A stand-in is an op's name near one of its readers: the op's own box comes first.
    for (const name of names) {
      if (!boxOf.has(name) || boxOf.get(name).length > box.length) boxOf.set(name, box);
    }
  }
  return { id, data, svg, groups, boxOf, width, height };
}

/** The box that a value is in, or that reads it, where only words and edges tell of it. */
function boxNear(name) {
  const stage = stageOf(here.pass);
  const seen = new Set([name]);
  for (const found of seen) {
    const box = drawn.boxOf.get(found);
    if (box) return box;
    if (seen.size < 200) for (const user of usersOf(found, stage)) seen.add(user);
  }
  return null;
}

onPlace(["node", "box"], function () {
  if (!drawn) return;
  const box = showSelection();
  if (box) bringIntoView(drawn.groups.get(box));
});

function showSelection() {
  const box = here.box ?? (here.node ? boxNear(here.node) : null);
  for (const group of drawn.svg.querySelectorAll(".is-selected, .is-near")) {
    group.classList.remove("is-selected", "is-near");
  }
  if (!box || !drawn.groups.has(box)) return null;
  drawn.groups.get(box).classList.add("is-selected");
  for (const edge of drawn.svg.querySelectorAll("[data-ends]")) {
    if (edge.dataset.ends.split(" ").includes(box)) edge.classList.add("is-near");
  }
  return box;
}

function showLegend(data) {
  $("legend").replaceChildren(
    ...data.legend.map(([text, fill, border, style]) => {
      const cell = el("span", { className: "legend-cell" }, text);
      cell.style.background = bothColours(fill);
      cell.style.borderColor = bothColours(border);
      if (style === "rounded") cell.style.borderRadius = "7px";
      if (style === "dashed") cell.style.borderStyle = "dashed";
      return cell;
    }),
    ...data.notes.map((note) => el("span", { className: "note" }, note)));
}

// Zoom and pan ------------------------------------------------------------------------------------

function applyView() {
  const { clientWidth: width, clientHeight: height } = $("picture");
  if (!drawn || !width) return;
  drawn.svg.setAttribute("viewBox",
    `${view.x} ${view.y} ${width / view.scale} ${height / view.scale}`);
}

function fitView() {
  if (!drawn) return;
  const { clientWidth: width, clientHeight: height } = $("picture");
  view.scale = Math.min(width / drawn.width, height / drawn.height, 4 / 3);
  view.x = (drawn.width - width / view.scale) / 2;
  view.y = (drawn.height - height / view.scale) / 2;
  applyView();
}

/** At first: all of it where that can be read; else as wide as can be read, at what changed. */
function startView() {
  fitView();
  if (view.scale >= READABLE) return;
  const { clientWidth: width } = $("picture");
  view.scale = Math.min(Math.max(width / drawn.width, READABLE), 4 / 3);
  const isWide = drawn.width * view.scale > width + 1;
  view.x = isWide ? -8 : (drawn.width - width / view.scale) / 2;
  view.y = -8;
  applyView();
  const selected = drawn.svg.querySelector(".is-selected");
  const first = selected ?? firstInReading(Object.keys(drawn.data.marks));
  if (first) bringIntoView(first);
}

/** Of these boxes the one nearest to the upper left corner. */
function firstInReading(boxes) {
  const groups = boxes.map((box) => drawn.groups.get(box)).filter(Boolean);
  const far = (group) => {
    const { left, top } = group.getBoundingClientRect();
    return left + top;
  };
  return groups.map((group) => [far(group), group]).sort((a, b) => a[0] - b[0])[0]?.[1];
}

function bringIntoView(group) {
  const frame = $("picture").getBoundingClientRect();
  const box = group.getBoundingClientRect();
  const inside = box.left >= frame.left && box.right <= frame.right &&
    box.top >= frame.top && box.bottom <= frame.bottom;
  if (inside && view.scale >= READABLE / 2) return;
  const middle = [
    view.x + ((box.left + box.right) / 2 - frame.left) / view.scale,
    view.y + ((box.top + box.bottom) / 2 - frame.top) / view.scale,
  ];
  view.scale = Math.max(view.scale, READABLE);
  view.x = middle[0] - frame.width / view.scale / 2;
  view.y = middle[1] - frame.height / view.scale / 2;
  applyView();
}

/** Zoom by a factor; the point (x, y) of the frame stays where it is, by default the middle. */
function zoom(factor, x = $("picture").clientWidth / 2, y = $("picture").clientHeight / 2) {
  const scale = Math.min(Math.max(view.scale * factor, 0.03), 8);
  view.x += x / view.scale - x / scale;
  view.y += y / view.scale - y / scale;
  view.scale = scale;
  applyView();
}

function pan(dx, dy) {
  view.x += dx / view.scale;
  view.y += dy / view.scale;
  applyView();
}

function listenToPicture() {
  const frame = $("picture");
  let grip = null;
  frame.addEventListener("wheel", (event) => {
    if (!drawn) return;
    event.preventDefault();
    const { left, top } = frame.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - left, event.clientY - top);
  }, { passive: false });
  frame.addEventListener("pointerdown", (event) => {
    if (!drawn || event.button !== 0) return;
    grip = { x: event.clientX, y: event.clientY, moved: false };
  });
  frame.addEventListener("pointermove", (event) => {
    if (!grip) return;
    const [dx, dy] = [grip.x - event.clientX, grip.y - event.clientY];
    if (!grip.moved && Math.hypot(dx, dy) < 4) return;
    if (!grip.moved) frame.setPointerCapture(event.pointerId);
    grip = { x: event.clientX, y: event.clientY, moved: true };
    frame.classList.add("is-dragged");
    pan(dx, dy);
  });
  frame.addEventListener("pointerup", (event) => {
    const wasMoved = grip?.moved;
    grip = null;
    frame.classList.remove("is-dragged");
    if (wasMoved || !drawn) return;
    const group = event.target.closest?.("[data-box]");
    if (group) selectBox(group.dataset.box);
  });
  frame.addEventListener("pointercancel", () => {
    grip = null;
    frame.classList.remove("is-dragged");
  });
  $("zoom-in").addEventListener("click", () => zoom(1.25));
  $("zoom-out").addEventListener("click", () => zoom(0.8));
  $("zoom-fit").addEventListener("click", fitView);
  new ResizeObserver(applyView).observe(frame);
}

/** Select a box: its value, or the list of its values where it is a module. */
function selectBox(box) {
  const names = drawn.data.values[box] ?? [];
  if (names.length === 1) {
    const own = drawn.boxOf.get(names[0]);
    const isInner = box in drawn.data.texts;
    go({ node: names[0], box: isInner || own === box ? box : null, tab: "value" });
  } else if (names.length) {
    go({ node: null, box, tab: "value" });
  }
}
