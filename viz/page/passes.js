// The timeline of passes, the costs of one, its rewrites and its text.

const SIGNS = [" ", "+", "−", "→"];
const CONTEXT = 3; // unchanged lines around changed ones

function stopTitle(stop) {
  if (stop === 0) return "as it was recorded";
  return stop === planStop() ? "as it is planned" : `after ${stages[stop].text}`;
}

function showTimeline() {
  const longest = Math.max(...stages.map((stage) => stage.seconds), core.plan.seconds);
  const items = stages.map((stage) => {
    const before = stages[stage.number - 1];
    const delta = before ? stage.nodes - before.nodes : 0;
    const rewrites = Object.values(stage.rules).reduce((a, b) => a + b, 0);
    return timelineItem(stage.number, stage.name, stage.number ? stage.seconds : null, longest, {
      text: stage.text,
      unchanged: !stage.changed,
      facts: before ? (delta ? signed(delta) : "") : plural(stage.nodes, "node"),
      below: [stage.number ? secondsText(stage.seconds) : null,
        rewrites ? plural(rewrites, "rewrite") : null],
      told: !before ? plural(stage.nodes, "node") : stage.changed
        ? `${signed(delta)} nodes, ${plural(rewrites, "rewrite")}` : "changed nothing",
    });
  });
  items.push(timelineItem(planStop(), "plan", core.plan.seconds, longest, {
    text: "plan",
    facts: plural(core.plan.steps.length, "step"),
    below: [secondsText(core.plan.seconds)],
    told: plural(core.plan.steps.length, "step"),
  }));
  $("timeline").replaceChildren(...items);
}

const signed = (n) => (n > 0 ? `+${n}` : `${n}`.replace("-", "−"));

function timelineItem(stop, name, seconds, longest, { text, facts, below, told, unchanged = false }) {
  const bar = el("span", { className: "time-bar" });
  bar.style.width = `${(100 * (seconds ?? 0)) / longest}%`;
  return el("li", {},
    el("button", {
      className: unchanged ? "stop-item is-unchanged" : "stop-item",
      "data-stop": stop,
      title: `${text}: ${told}`,
      "aria-label": `${stop} ${text}, ${told}`,
      onclick: () => goToStop(stop),
    },
    el("span", { className: "number" }, `${stop}`),
    el("span", { className: "name" }, name),
    el("span", { className: "facts" }, facts),
    el("span", { className: "time" }, below.filter(Boolean).join(" · ")),
    bar));
}

onPlace(["pass"], function showStop() {
  for (const item of document.querySelectorAll(".stop-item")) {
    const isHere = Number(item.dataset.stop) === here.pass;
    item.toggleAttribute("aria-current", isHere);
    if (isHere) {
      item.setAttribute("aria-current", "step");
      item.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }
  const stage = stages[here.pass];
  const title = stage ? (here.pass ? stage.text : "Recorded") : "Plan";
  $("stop-head").replaceChildren(
    el("h2", {}, title, el("span", { className: "faint" },
      here.pass === 0 ? " what the program recorded" : ` ${here.pass} of ${planStop()}`)),
    el("dl", { className: "costs" }, stage ? stageCosts(stage) : planCosts()));
});

function stageCosts(stage) {
  const before = stages[stage.number - 1];
  const cost = (label, field, text) => {
    const [now, then] = [stage[field], before?.[field]];
    if (then === undefined || then === now) return tile(label, [text(now)], before ? "same" : "");
    const change = then ? (now - then) / then : 0;
    const told = then ? `${change > 0 ? "+" : "−"}${percentText(Math.abs(change))}` : "";
    return tile(label, [el("span", { className: "faint" }, `${text(then)} → `), text(now)], told,
      now < then ? "is-less" : "is-more");
  };
  return [
    stage.number ? tile("Time", [secondsText(stage.seconds)], "") : null,
    cost("Nodes", "nodes", (n) => n.toLocaleString("en")),
    cost("FLOPs", "flops", amountText),
    cost("Bytes moved", "bytes", bytesText),
    cost("Peak memory", "peak", bytesText),
  ];
}

function planCosts() {
  const { plan } = core;
  return [
    tile("Time", [secondsText(plan.seconds)], ""),
    tile("Steps", [`${plan.steps.length}`], ""),
    tile("Arena", [bytesText(plan.arena)], `${bytesText(plan.naive)} without reuse`),
    tile("Peak", [bytesText(plan.peak)], `alive at step ${plan.peak_step}`),
  ];
}

function tile(label, value, told, className = "") {
  return el("div", {},
    el("dt", {}, label, told ? el("small", { className }, told) : null),
    el("dd", {}, value));
}

// Details: rewrites and text ----------------------------------------------------------------------

let ruleShown = null;

onPlace(["pass", "tab", "node", "box", "view"], function showDetails() {
  const isPasses = here.view === "passes";
  const isPlan = here.pass === planStop();
  const asked = isPasses ? here.tab : "value";
  const tab = isPlan && asked === "text" ? "rewrites" : asked; // the plan has one text: its steps
  for (const button of document.querySelectorAll("#inspector [role=tab]")) {
    const name = button.dataset.tab;
    button.setAttribute("aria-selected", String(name === tab));
    button.tabIndex = name === tab ? 0 : -1;
    button.hidden = !isPasses && name !== "value";
    if (name === "rewrites") {
      const count = stages[here.pass]?.hunks?.length ?? 0;
      button.textContent = isPlan ? "Steps" : count ? `Rewrites ${count}` : "Rewrites";
    }
    if (name === "text" && isPlan) button.hidden = true;
  }
  const key = [here.pass, tab, ...(tab === "value" ? [here.node, here.box, here.view] : [])].join();
  if ($("details").dataset.key !== key) {
    if (!$("details").dataset.key?.startsWith(`${here.pass},${tab}`)) ruleShown = null;
    $("details").replaceChildren(...{ rewrites: rewrites, text: text, value: value }[tab]());
    $("details").setAttribute("aria-labelledby", `tab-${tab}`);
    $("details").scrollTop = 0;
    $("details").dataset.key = key;
  }
  for (const line of $("details").querySelectorAll(".code-line")) {
    line.classList.toggle("is-selected", line.dataset.name === here.node);
  }
});

function rewrites() {
  const stage = stages[here.pass];
  if (!stage) return [plannedSteps()];
  if (!stage.number) {
    return [el("p", {}, "The graph as the program recorded it. The passes begin behind it: press ",
      el("kbd", {}, "→"), "."), recordedSummary(stage)];
  }
  if (!stage.changed) return [el("p", { className: "faint" }, "This pass changed nothing.")];
  const counts = Object.entries(stage.rules);
  const hunks = stage.hunks;
  const list = el("div", { className: "hunks" });
  const fill = () => {
    const found = hunks.filter((x) => ruleShown === null || ruleShown in x.rules);
    list.replaceChildren(...found.map((hunk) => hunkElement(hunk, found.length <= 6)));
    for (const chip of chips.children) {
      chip.setAttribute("aria-pressed", String((chip.dataset.rule || null) === ruleShown));
    }
  };
  const chip = (rule, label) => el("button", {
    className: "chip",
    "data-rule": rule ?? "",
    onclick: () => {
      ruleShown = rule;
      fill();
    },
  }, label);
  const chips = el("div", { className: "chips", role: "group", "aria-label": "Rules" },
    counts.length ? chip(null, `all ${plural(hunks.length, "change")}`) : null,
    counts.map(([rule, count]) => chip(rule, [rule, el("b", {}, ` ×${count}`)])));
  fill();
  const told = counts.length ? null : el("p", { className: "faint" },
    "This pass does not tell its rewrites one by one: its changes are put together by the place ",
    "in the program.");
  return [chips, told, list].filter(Boolean);
}

function recordedSummary(stage) {
  const counts = new Map();
  for (const row of stage.values.values()) counts.set(row.op, (counts.get(row.op) ?? 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1]);
  return el("ul", { className: "op-counts" }, sorted.map(([op, count]) => el("li", {},
    el("button", { className: "link", onclick: () => searchFor(`op:${op}`) }, op), ` ${count}`)));
}

/** One change: the rules, the line of the program, what went and what came. */
function hunkElement(hunk, isOpen) {
  const rules = Object.entries(hunk.rules).map(([rule, n]) => (n > 1 ? `${rule} ×${n}` : rule));
  const gone = hunk.lines.filter(([sign]) => sign === 2).length;
  const came = hunk.lines.filter(([sign]) => sign === 1).length;
  return el("details", { className: "hunk", open: isOpen },
    el("summary", {},
      el("span", { className: "rules" }, rules.join(", ") || opsOf(hunk)),
      el("span", { className: "counts" },
        gone ? el("span", { className: "gone" }, `−${gone}`) : null, " ",
        came ? el("span", { className: "came" }, `+${came}`) : null),
      el("span", { className: "where" }, placeLine(hunk.place))),
    hunk.place >= 0 && sourceOf(hunk.place)
      ? el("pre", { className: "source" }, sourceOf(hunk.place).trim()) : null,
    el("div", { className: "code" }, hunk.lines.map((line) => diffLine(line, hunk.place))));
}

/** What a change is about where no rule says so: the ops that came, or else those that went. */
function opsOf(hunk) {
  const stage = stages[here.pass];
  const ops = (wanted) => hunk.lines.filter(([sign]) => sign === wanted)
    .map(([, row]) => stage.line(row).op);
  const found = [...new Set(ops(1).length ? ops(1) : ops(2))];
  return found.slice(0, 4).join(", ") + (found.length > 4 ? " …" : "");
}

/** A line of a diff; its place where that is not the one in the heading. */
function diffLine([sign, row, now], place = null) {
  const stage = stages[here.pass];
  if (sign === 3) {
    return el("div", { className: "code-line is-replaced" },
      el("span", { className: "sign" }, SIGNS[sign]),
      el("code", {}, linked(`${row} is ${now}`)));
  }
  const value = stage.line(row);
  const comment = place !== value.place && value.place >= 0 ? placeText(value.place) : "";
  return codeLine(value, sign, comment, sign === 2 ? here.pass - 1 : here.pass);
}

function codeLine(value, sign, comment, stop) {
  return el("div", {
    className: `code-line ${["", "is-added", "is-removed"][sign]}`,
    "data-name": value.name,
    onclick: () => getSelection().isCollapsed && goToValue(value.name, stop),
  },
  el("span", { className: "sign" }, SIGNS[sign]),
  el("code", {}, linked(statementText(value), stop),
    comment ? el("span", { className: "comment" }, `  # ${comment}`) : null));
}

function text() {
  const stage = stages[here.pass];
  const isDiff = Boolean(stage.diff);
  const lines = stage.diff ?? stage.rows
    .filter((i) => stage.line(i).op !== "input").map((i) => [0, i]);
  const inputs = stage.inputs.map((name) => stage.values.get(name));
  const head = el("details", { className: "signature" },
    el("summary", {}, `@${core.graph}: ${plural(inputs.length, "input")}, `,
      plural(stage.outputs.length, "output")),
    el("div", { className: "code" },
      inputs.map((row) => codeLine(row, 0, "", here.pass)),
      el("div", { className: "code-line" }, el("span", { className: "sign" }, " "),
        el("code", {}, linked(`return ${stage.outputs.join(", ")}`)))));
  const code = el("div", { className: "code" });
  const place = (line) => stage.line(line[1]).place;
  let last = null;
  const show = (line) => {
    if (line[0] === 3) return diffLine(line);
    const isTold = place(line) === last;
    last = place(line);
    return diffLine(line, isTold ? last : null);
  };
  const near = new Set();
  lines.forEach(([sign], i) => {
    if (sign) for (let k = i - CONTEXT; k <= i + CONTEXT; k++) near.add(k);
  });
  for (let i = 0; i < lines.length;) {
    if (!isDiff || near.has(i)) {
      code.append(show(lines[i++]));
      continue;
    }
    const start = i;
    while (i < lines.length && !near.has(i)) i++;
    const folded = lines.slice(start, i);
    const fold = el("button", {
      className: "fold",
      onclick: () => fold.replaceWith(...folded.map(show)),
    }, `${plural(folded.length, "unchanged line")}`);
    code.append(fold);
    last = null;
  }
  return [head, code];
}

/** The plan as a table: the steps, what they compute and where it lies. */
function plannedSteps() {
  const { values } = stages.at(-1);
  return el("table", { className: "steps" },
    el("thead", {}, el("tr", {}, ["step", "kernel", "value", "place"].map((x) =>
      el("th", { scope: "col" }, x)))),
    el("tbody", {}, core.plan.steps.map(([name, output], number) => {
      const row = values.get(name);
      return el("tr", {},
        el("td", {}, `${number}`),
        el("td", {}, row ? [swatch(row.kind), ` ${row.op}`] : ""),
        el("td", {}, valueLink(name)),
        el("td", {}, slotText(core.plan.slots[output])));
    })));
}

function slotText([, place, nbytes, , , offset, inside]) {
  const size = bytesText(nbytes);
  if (inside >= 0) return `${size} inside of ${core.plan.slots[inside][0]}`;
  return offset >= 0 ? `${size} at ${offset.toLocaleString("en")}` : `${size}, ${place}`;
}
