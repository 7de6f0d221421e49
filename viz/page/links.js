// Values, places and statements as links.

const NAME = /%[\w.]+/g;

/** A value's name as a link to it. */
function valueLink(name, stop = stopInView()) {
  return el("button", {
    className: "link",
    "data-value": name,
    onclick: (event) => {
      event.stopPropagation();
      goToValue(name, stop);
    },
  }, name);
}

/** Text in which names of values are links. */
function linked(text, stop = stopInView()) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(NAME)) {
    parts.push(text.slice(end, match.index), valueLink(match[0], stop));
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}

/** A value as the text form has it. Nested graphs are told by their size. */
function statementText(row) {
  if (row.op === "input") return `${row.name} : ${row.type}`;
  const attrs = row.attrs.map(([name, value]) => `${name}=${shortValue(value)}`).join(", ");
  const call = row.op === "constant" ? row.op : `${row.op}(${row.operands.join(", ")})`;
  return `${row.name} = ${call}${attrs ? ` {${attrs}}` : ""} : ${row.type}`;
}

function shortValue(value) {
  const lines = value.split("\n");
  return lines.length === 1 ? value : `<graph of ${plural(lines.length - 3, "op")}>`;
}

/** Where something was written: file and line, module, phase. */
function placeLine(place) {
  if (place < 0) return el("span", { className: "faint" }, "made by the compiler");
  const [, , , module, phase] = core.places[place];
  return el("span", { className: "place" },
    placeText(place),
    module ? el("span", { className: "faint" }, ` · ${module}`) : null,
    phase !== "forward" ? el("span", { className: "faint" }, ` · ${phase}`) : null);
}

/** The lines of the user's program around a place. */
function excerpt(place) {
  const [file, line] = core.places[place];
  const [name, lines] = core.files[file];
  const near = Object.keys(lines).map(Number).filter((n) => Math.abs(n - line) <= 6);
  const given = near.sort((a, b) => a - b);
  if (!given.includes(line)) {
    return el("p", { className: "faint" }, `The source of ${name} is not at hand.`);
  }
  const indent = Math.min(...given.filter((n) => lines[n].trim()).map((n) => lines[n].search(/\S/)));
  return el("figure", { className: "excerpt" },
    el("figcaption", {}, `${name}:${line}`),
    el("pre", { tabIndex: 0, "aria-label": `${name}, line ${line}` },
      given.map((n) => el("span", {
        className: n === line ? "line is-here" : "line",
        "data-line": n,
        "aria-current": n === line ? "true" : null,
      }, lines[n].slice(indent) || " "))));
}

/** A list of values with their ops, at a stop. */
function valueList(names, stop) {
  const { values } = stageOf(stop);
  return el("ul", { className: "values" }, names.map((name) => {
    const row = values.get(name);
    return el("li", {},
      row ? swatch(row.kind) : null,
      valueLink(name, stop),
      row ? ` ${row.op} ` : " ",
      row ? el("span", { className: "faint" }, row.type) : null);
  }));
}

function swatch(kind) {
  const made = el("span", { className: "swatch", title: core.kinds[kind][0] });
  made.style.background = kindColour(kind);
  made.style.borderColor = kindBorder(kind);
  return made;
}
