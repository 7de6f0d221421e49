// One value: what it is, where it was written, what it came from and what became of it.

function value() {
  if (here.node) return valueDetails(here.node);
  if (here.box && drawn?.data.values[here.box]) return boxDetails(drawn.data.values[here.box]);
  return [el("p", { className: "faint" },
    "Click a box of the picture, a name in a text, a bar or a row: what it is, the line that wrote ",
    "it, what it came from and what became of it stand here.")];
}

function boxDetails(names) {
  const stop = names.some((x) => stageOf(here.pass).values.has(x)) ? here.pass : here.pass - 1;
  const rows = names.map((x) => stageOf(stop).values.get(x)).filter(Boolean);
  const modules = [...new Set(rows.map(moduleOf).filter(Boolean))];
  const sum = (field) => rows.reduce((total, row) => total + row[field], 0);
  return [
    el("h3", {}, modules.length ? commonModule(modules) : "Box", el("span", { className: "faint" },
      ` ${plural(names.length, "value")}`)),
    facts([
      ["FLOPs", amountText(sum("flops"))],
      ["Bytes moved", bytesText(sum("bytes"))],
      ["Time", timeOf(names)],
    ]),
    valueList(names, stop),
  ];
}

function commonModule(modules) {
  const parts = modules.map((x) => x.split("."));
  const same = parts[0].filter((part, i) => parts.every((x) => x.slice(0, i + 1).join(".") ===
    parts[0].slice(0, i + 1).join(".")));
  return same.join(".") || "several modules";
}

function valueDetails(name) {
  const stop = stopOf(name, stopInView());
  if (stop === null) return [el("p", {}, `There is no ${name}.`)];
  const stage = stageOf(stop);
  const row = stage.values.get(name);
  const module = moduleOf(row);
  const steps = stepsOf(name, stage.number);
  const recorded = stage.number ? recordedOf(name, stage.number) : [];
  const history = historyOf(name);
  const inner = here.box && drawn?.data.texts[here.box];
  return [
    el("h3", {}, swatch(row.kind), ` ${row.name} `, el("span", { className: "op" }, row.op)),
    stop !== stopInView() ? el("p", { className: "faint" }, `It is there ${stopTitle(stop)}.`) : null,
    inner ? el("pre", { className: "source" }, inner) : null,
    facts([
      ["Type", row.type],
      ["Module", module ? el("button", {
        className: "link", onclick: () => searchFor(`module:${module}`) }, module) : null],
      ["Phase", phaseOf(row)],
      ["Kind", core.kinds[row.kind][0]],
      ["FLOPs", row.flops ? amountText(row.flops) : null],
      ["Bytes moved", row.bytes ? bytesText(row.bytes) : null],
      ["Time", timeOf([name])],
      ["Memory", memoryText(name)],
      ["Role", roleText(name, stage)],
    ]),
    section("Attributes", row.attrs.length ? attributes(row) : null),
    section("Source", row.place >= 0 ? [excerpt(row.place)] : null),
    section("Operands", row.operands.length ? [operandList(row, stop)] : null),
    section("Read by", listOr(usersOf(name, stage), stop)),
    section("Came from", listOr(recorded, 0), "recorded"),
    section("Became", steps.length ? [stepList(steps)] : null, "steps of the plan"),
    section("Passes", history.length ? [historyList(name, history)] : null),
  ].filter(Boolean);
}

const listOr = (names, stop) => (names.length ? [valueList(names.slice(0, 40), stop)] : null);

function section(title, content, note = null) {
  if (!content) return null;
  return el("section", { className: "section", "aria-label": title },
    el("h4", {}, title, note ? el("span", { className: "faint" }, ` ${note}`) : null), content);
}

function facts(pairs) {
  return el("dl", { className: "facts-list" },
    pairs.filter(([, text]) => text).map(([label, text]) =>
      [el("dt", {}, label), el("dd", {}, text)]));
}

function attributes(row) {
  return [el("dl", { className: "facts-list" }, row.attrs.map(([name, text]) => [
    el("dt", {}, name),
    el("dd", {}, text.includes("\n") ? el("pre", { className: "source", tabIndex: 0 }, text) : text),
  ]))];
}

function operandList(row, stop) {
  const { values } = stageOf(stop);
  return el("ol", { className: "values", start: 0 }, row.operands.map((name) => {
    const operand = values.get(name);
    return el("li", {}, operand ? swatch(operand.kind) : null,
      operand ? valueLink(name, stop) : el("code", {}, name),
      operand ? ` ${operand.op} ` : " constant",
      operand ? el("span", { className: "faint" }, operand.type) : null);
  }));
}

function stepList(steps) {
  const { values } = stages.at(-1);
  return el("ul", { className: "values" }, steps.slice(0, 40).map((number) => {
    const [name] = core.plan.steps[number];
    return el("li", {},
      el("button", {
        className: "link",
        "data-step": number,
        onclick: () => go({ pass: planStop(), node: name, box: null, tab: "value" }),
      }, `step ${number}`),
      ` ${values.get(name)?.op ?? ""} `, el("span", { className: "faint" }, name));
  }));
}

function historyList(name, history) {
  return el("ul", { className: "values" }, history.map(([number, what]) => el("li", {},
    el("button", { className: "link", onclick: () => {
      go({ view: "passes", pass: number, node: name, box: null, tab: "value" });
    } }, `${number} ${stages[number].name}`), ` ${what}`)));
}

function roleText(name, stage) {
  const numbers = (names) => names.flatMap((x, i) => (x === name ? [i] : []));
  const told = [["output", numbers(stage.outputs)], ["effect", numbers(stage.effects)]];
  return told.filter(([, found]) => found.length)
    .map(([word, found]) => `${word} ${found.join(", ")}`).join("; ");
}

function timeOf(names) {
  if (!core.profile) return null;
  const seconds = names.reduce((sum, name) => sum + (core.profile.values[name] ?? 0), 0);
  if (!seconds) return null;
  return `${secondsText(seconds)}, ${percentText(seconds / core.profile.seconds)} of all kernels`;
}

function memoryText(name) {
  const slot = core.plan.slots.find((x) => x[0] === name);
  if (!slot) return null;
  const [, place, , start, end] = slot;
  if (place !== "arena") return slotText(slot);
  return [slotText(slot), ", ", el("button", {
    className: "link",
    onclick: () => go({ view: "memory", step: Math.max(start, 0) }),
  }, `steps ${start} to ${end}`)];
}
