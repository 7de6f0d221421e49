// The memory of the plan: every value as a bar, from its first step to its last, at its place.

const MARGIN = { left: 64, right: 16, top: 22, bottom: 26 };
const CURVE = 64; // the height of the curve below the bars
let colouring = "kind";

const arenaSlots = () => core.plan.slots.filter((x) => x[1] === "arena" && x[6] < 0);
const aliveAt = (step) => arenaSlots().filter((x) => x[3] <= step && step <= x[4]);
const memoryStep = () => here.step ?? core.plan.peak_step;

onPlace(["view"], function showMemory() {
  if (here.view === "memory") drawMemory();
});

// The slider stays: it may be in the reader's hand.
onPlace(["step", "node"], function showStep() {
  if (here.view !== "memory" || !$("step")) return;
  $("step").value = memoryStep();
  $("step-number").textContent = memoryStep();
  $("memory-body").replaceChildren(memoryChart(), aliveTable());
});

function drawMemory() {
  const { plan } = core;
  const last = plan.steps.length - 1;
  const head = el("div", { className: "memory-head" },
    el("h2", {}, "Memory of the plan"),
    el("dl", { className: "costs" },
      tile("Arena", [bytesText(plan.arena)], `${plan.arena.toLocaleString("en")} B`),
      tile("Without reuse", [bytesText(plan.naive)],
        plan.naive ? `${percentText(1 - plan.arena / plan.naive)} saved` : ""),
      tile("Peak", [bytesText(plan.peak)], `alive at step ${plan.peak_step}`),
      tile("Inputs", [bytesText(plan.places.input)], ""),
      tile("Outputs", [bytesText(plan.places.output)], ""),
      tile("Constants", [bytesText(plan.places.constant)], "")));
  if (!arenaSlots().length) {
    $("memory").replaceChildren(head,
      el("p", { className: "nothing" }, "The plan keeps nothing in its arena."));
    return;
  }
  $("memory").replaceChildren(head,
    el("div", { className: "memory-bar" },
      el("div", { className: "segments", role: "group", "aria-label": "Colour" },
        ["kind", "module", "phase"].map((name) => el("button", {
          "aria-pressed": String(name === colouring),
          onclick: () => {
            colouring = name;
            drawMemory();
          },
        }, `by ${name}`))),
      el("label", {}, "step ", el("input", {
        id: "step", type: "range", min: 0, max: Math.max(last, 0), value: memoryStep(),
        oninput: (event) => go({ step: Number(event.target.value) }, { replace: true }),
      }), el("output", { id: "step-number" }, `${memoryStep()}`)),
      el("button", { onclick: () => go({ step: null }) }, "Peak")),
    el("div", { id: "memory-body" }, memoryChart(), aliveTable()));
}

/** A few round numbers from 0 to `most`. */
function ticks(most, count) {
  const rough = most / count;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 5, 10].find((x) => x * size >= rough);
  const found = [];
  for (let x = 0; x <= most; x += step) found.push(x);
  return found;
}

const MODULE_COLOURS = [
  "#bbccee", "#ccddaa", "#eeeebb", "#ffcccc", "#cceeff", "#dddddd", "#d7c8e8", "#f8cfb0",
];

/** The colour of a value's bar: a function of its row, and the cells of the legend. */
function colouringOf(rows) {
  if (colouring === "kind") {
    const used = [...new Set(rows.map((row) => row.kind))].sort((a, b) => a - b);
    return [(row) => core.kinds[row.kind][1], used.map((kind) => core.kinds[kind].slice(0, 2))];
  }
  const group = colouring === "phase" ? phaseOf : (row) => moduleOf(row).split(".")
    .slice(0, 2).join(".");
  const names = [...new Set(rows.map(group))].sort();
  const colour = (name) => MODULE_COLOURS[names.indexOf(name) % MODULE_COLOURS.length];
  return [(row) => colour(group(row)), names.map((name) => [name || "(none)", colour(name)])];
}

function memoryChart() {
  const { plan } = core;
  const slots = arenaSlots();
  const { values } = stages.at(-1);
  const width = Math.max($("memory").clientWidth - 32, 420);
  const height = Math.max(240, Math.min(420, innerHeight - 470));
  const steps = Math.max(plan.steps.length, 1);
  const x = (step) => MARGIN.left + ((width - MARGIN.left - MARGIN.right) * step) / steps;
  const y = (offset) => MARGIN.top + height * (1 - offset / plan.arena);
  const base = MARGIN.top + height;
  const foot = base + 14 + CURVE;
  const chart = svgEl("svg", {
    class: "memory-chart", width, height: foot + MARGIN.bottom, role: "img",
    "aria-label": `${plural(slots.length, "value")} in an arena of ${bytesText(plan.arena)}; ` +
      `at most ${bytesText(plan.peak)} alive, at step ${plan.peak_step}. The table below has them.`,
  });
  for (const tick of ticks(plan.arena, 5)) {
    chart.append(line(x(0), y(tick), x(steps), y(tick), "grid"),
      words(x(0) - 6, y(tick) + 4, bytesText(tick), "end"));
  }
  const rows = slots.map((slot) => values.get(slot[0]));
  const [colour, cells] = colouringOf(rows);
  slots.forEach((slot, i) => {
    const [name, , nbytes, start, end, offset] = slot;
    const left = x(start), right = Math.max(x(end + 1), left + 2);
    const top = y(offset + nbytes), bottom = Math.max(y(offset), top + 1.5);
    const bar = svgEl("rect", {
      class: `bar${name === here.node ? " is-selected" : ""}`, "data-name": name,
      x: left, y: top, width: right - left, height: bottom - top,
    });
    bar.style.fill = barColours(colour(rows[i]));
    bar.addEventListener("click", () => go({ node: name, box: null, tab: "value" }));
    bar.addEventListener("pointermove", (event) => showTooltip(event, slotTooltip(slot, rows[i])));
    bar.addEventListener("pointerleave", hideTooltip);
    chart.append(bar);
    const label = `${name} ${rows[i].op}`;
    if (bottom - top >= 13 && right - left >= 7 * label.length) {
      chart.append(words(left + 4, (top + bottom) / 2 + 4, label, "start", "bar-label"));
    }
  });
  chart.append(...aliveCurve(x, base + 14, steps));
  for (const tick of ticks(steps, 10).filter(Number.isInteger)) {
    chart.append(words(x(tick), foot + 16, `${tick}`, "middle"));
  }
  chart.append(words(x(0) - 6, foot + 16, "step", "end"));
  const step = memoryStep();
  chart.append(marker(x(step + 0.5), foot, step === plan.peak_step ? "peak" : "step", step, width));
  if (step !== plan.peak_step) {
    chart.append(marker(x(plan.peak_step + 0.5), foot, "peak is-faint", plan.peak_step, width));
  }
  chart.addEventListener("click", (event) => {
    if (event.target.closest(".bar")) return;
    const at = event.clientX - chart.getBoundingClientRect().left;
    const found = Math.floor(((at - MARGIN.left) / (width - MARGIN.left - MARGIN.right)) * steps);
    go({ step: Math.min(Math.max(found, 0), steps - 1) }, { replace: true });
  });
  return el("figure", { className: "chart" }, chart,
    el("figcaption", { className: "legend" }, cells.map(([text, fill]) => {
      const cell = el("span", { className: "legend-cell" }, text);
      cell.style.background = barColours(fill);
      return cell;
    })));
}

const line = (x1, y1, x2, y2, name) => svgEl("line", { x1, y1, x2, y2, class: name });
const words = (x, y, text, anchor, name = "") =>
  svgEl("text", { x, y, "text-anchor": anchor, class: name }, text);

function marker(x, foot, name, step, width) {
  const isPeak = name.startsWith("peak");
  const label = isPeak ? `peak ${bytesText(core.plan.peak)}, step ${step}` : `step ${step}`;
  const anchor = x > width / 2 ? "end" : "start";
  return svgEl("g", { class: `marker ${name}` }, line(x, MARGIN.top - 4, x, foot, ""),
    words(x + (anchor === "end" ? -5 : 5), MARGIN.top - 8, label, anchor));
}

/** The bytes alive at each step. What is computed in place counts once. */
function aliveBytes() {
  const bytes = new Array(core.plan.steps.length).fill(0);
  const slots = arenaSlots();
  const handed = new Set(slots.filter((x) => x[3] < x[4]).map((x) => `${x[5]},${x[2]},${x[4]}`));
  for (const [, , nbytes, start, end, offset] of slots) {
    const first = start + handed.has(`${offset},${nbytes},${start}`);
    for (let step = Math.max(first, 0); step <= end && step < bytes.length; step++) {
      bytes[step] += nbytes;
    }
  }
  return bytes;
}

function aliveCurve(x, top, steps) {
  const bytes = aliveBytes();
  const y = (n) => top + CURVE * (1 - n / Math.max(core.plan.peak, 1));
  const points = bytes.flatMap((n, step) => [`${x(step)},${y(n)}`, `${x(step + 1)},${y(n)}`]);
  return [
    svgEl("polygon", {
      class: "alive", points: [`${x(0)},${y(0)}`, ...points, `${x(steps)},${y(0)}`].join(" "),
    }),
    line(x(0), y(0), x(steps), y(0), "grid"),
    words(x(0) - 6, y(core.plan.peak) + 8, "alive", "end"),
  ];
}

function slotTooltip([name, , nbytes, start, end, offset], row) {
  const place = row.place >= 0 ? `${placeText(row.place)}` : "";
  return [
    el("strong", {}, `${name} ${row.op}`), el("br"),
    `${bytesText(nbytes)} at ${offset.toLocaleString("en")}, steps ${start} to ${end}`, el("br"),
    moduleOf(row) ? [moduleOf(row), el("br")] : null, place,
  ];
}

function aliveTable() {
  const { values } = stages.at(-1);
  const step = memoryStep();
  const [stepName] = core.plan.steps[step] ?? [""];
  const alive = aliveAt(step).sort((a, b) => b[2] - a[2]);
  const isPeak = step === core.plan.peak_step;
  return el("section", { className: "alive-table" },
    el("h3", {}, `Alive at ${isPeak ? "the peak, " : ""}step ${step} `,
      el("span", { className: "faint" },
        `${plural(alive.length, "value")}, ${bytesText(aliveBytes()[step] ?? 0)}; it computes `),
      valueLink(stepName), ` ${values.get(stepName)?.op ?? ""}`),
    el("table", {},
      el("thead", {}, el("tr", {}, ["bytes", "value", "op", "module", "source", "steps"].map(
        (title) => el("th", { scope: "col", className: title === "bytes" ? "is-number" : "" },
          title)))),
      el("tbody", {}, alive.map(([name, , nbytes, start, end]) => {
        const row = values.get(name);
        return el("tr", { "data-name": name, className: name === here.node ? "is-selected" : "" },
          el("td", { className: "is-number" }, bytesText(nbytes)),
          el("td", {}, valueLink(name)),
          el("td", {}, swatch(row.kind), ` ${row.op}`),
          el("td", {}, moduleOf(row)),
          el("td", {}, row.place >= 0 ? placeText(row.place) : ""),
          el("td", {}, `${start}–${end}`));
      }))));
}

function showTooltip(event, content) {
  const tooltip = $("tooltip");
  tooltip.replaceChildren(...content.flat().filter(Boolean));
  tooltip.hidden = false;
  const { offsetWidth: width, offsetHeight: height } = tooltip;
  tooltip.style.left = `${Math.min(event.clientX + 12, innerWidth - width - 8)}px`;
  tooltip.style.top = `${Math.min(event.clientY + 14, innerHeight - height - 8)}px`;
}

const hideTooltip = () => {
  $("tooltip").hidden = true;
};
