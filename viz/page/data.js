// The data of the page, unpacked, with the ways from a value to others.

/** What the element `id` holds: JSON, deflated, in base64. */
async function unpack(id) {
  const packed = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

let core;
let stages; // of every pass; `plan` is the stop behind the last one
const planStop = () => stages.length;

async function loadCore() {
  core = await unpack("data");
  const rows = core.rows.map(([name, op, attrs, type, operands, place, flops, bytes, kind]) => ({
    name, op, attrs, type, operands, place, flops, bytes, kind,
  }));
  stages = core.stages.map((stage, number) => ({ ...stage, number, changed: "rows" in stage }));
  for (const stage of stages) {
    if (stage.changed) {
      stage.values = new Map(stage.rows.map((i) => [rows[i].name, rows[i]]));
      stage.line = (i) => rows[i];
      continue;
    }
    const last = stages[stage.number - 1];
    for (const field of ["rows", "values", "inputs", "outputs", "effects", "line"]) {
      stage[field] = last[field];
    }
  }
}

/** The stage of a stop: the plan is one of the last graph. */
const stageOf = (stop) => stages[Math.min(stop, stages.length - 1)];

/** The stop at which a value is to be seen: here, else where it was seen last, else null. */
function stopOf(name, stop) {
  if (stageOf(stop).values.has(name)) return stop;
  const order = [...stages.keys()].sort((a, b) => Math.abs(a - stop) - Math.abs(b - stop));
  return order.find((i) => stages[i].values.has(name)) ?? null;
}

function usersOf(name, stage) {
  if (!stage.users) {
    const owner = stage.changed ? stage : stageOf(stage.number - 1);
    if (owner !== stage) return usersOf(name, owner);
    stage.users = new Map();
    for (const row of stage.values.values()) {
      for (const operand of new Set(row.operands)) {
        if (!stage.users.has(operand)) stage.users.set(operand, []);
        stage.users.get(operand).push(row.name);
      }
    }
  }
  return stage.users.get(name) ?? [];
}

/** The values before a pass that a value after it comes from. */
function sourcesIn(name, number) {
  const told = stages[number].from?.[name];
  return told ?? (stages[number - 1].values.has(name) ? [name] : []);
}

function targetsIn(name, number) {
  const stage = stages[number];
  if (!stage.targets) {
    stage.targets = new Map();
    for (const [target, sources] of Object.entries(stage.from ?? {})) {
      for (const source of sources) {
        if (!stage.targets.has(source)) stage.targets.set(source, []);
        stage.targets.get(source).push(target);
      }
    }
  }
  const found = [...(stage.targets.get(name) ?? [])];
  if (!found.includes(name) && !(name in (stage.from ?? {})) && stage.values.has(name)) {
    found.push(name);
  }
  return found;
}

/** The recorded values that a value of a stage goes back to. */
function recordedOf(name, number) {
  let names = new Set([name]);
  for (let i = number; i > 0; i--) {
    names = new Set([...names].flatMap((x) => sourcesIn(x, i)));
  }
  return [...stages[0].values.keys()].filter((x) => names.has(x));
}

/** The steps of the plan that compute what became of a value of a stage. */
function stepsOf(name, number) {
  let names = new Set([name]);
  for (let i = number + 1; i < stages.length; i++) {
    names = new Set([...names].flatMap((x) => targetsIn(x, i)));
  }
  return [...core.plan.steps.keys()].filter((i) => names.has(core.plan.steps[i][0]));
}

/** The passes that made, changed or removed a value. */
function historyOf(name) {
  const found = [];
  for (const stage of stages.slice(1)) {
    const [before, after] = [stages[stage.number - 1], stage].map((x) => x.values.get(name));
    if (!before && after) found.push([stage.number, "made"]);
    else if (before && !after) found.push([stage.number, "removed"]);
    else if (before && before !== after) {
      found.push([stage.number, before.op === after.op ? "changed" : `became ${after.op}`]);
    }
  }
  return found;
}

function placeText(place) {
  if (place < 0) return "";
  const [file, line, name] = core.places[place];
  return `${core.files[file][0].split(/[\\/]/).at(-1)}:${line} in ${name}`;
}

const moduleOf = (row) => (row.place < 0 ? "" : core.places[row.place][3]);
const phaseOf = (row) => (row.place < 0 ? "" : core.places[row.place][4]);
const sourceOf = (place) => {
  const [file, line] = core.places[place];
  return core.files[file][1][line] ?? "";
};
const kindColour = (kind) => bothColours(core.kinds[kind][1]);
const kindBorder = (kind) => bothColours(core.kinds[kind][2]);
