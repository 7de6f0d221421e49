// Where the time goes: by kernel, by module, by source line.

const TABLES = [
  ["kernel", "By kernel", "op"],
  ["module", "By module", "module"],
  ["line", "By source line", "line"],
  ["phase", "By phase", null],
];

// Title, the number that it sorts by, and its text.
const COLUMNS = [
  ["time", (row) => row[2], (row) => secondsText(row[2])],
  ["share", (row) => row[2], (row) => percentText(row[2] / core.profile.seconds)],
  ["calls", (row) => row[1], (row) => row[1].toLocaleString("en")],
  ["moved", (row) => row[4], (row) => bytesText(row[4])],
  ["GFLOP/s", (row) => rate(row), (row) => (rate(row) ? threeDigits(rate(row)) : "")],
  ["of peak", (row) => rate(row),
    (row) => (rate(row) ? percentText(rate(row) / core.profile.peak_gflops) : "")],
];

const rate = (row) => (row[2] ? row[3] / row[2] / 1e9 : 0);
const sorting = {}; // by table: [column, -1 or 1]; the column -1 is the name

onPlace(["view"], function showProfile() {
  if (here.view === "profile") drawProfile();
});

function drawProfile() {
  const { profile } = core;
  if (!profile) {
    $("profile").replaceChildren(el("h2", {}, "Profile"),
      el("p", { className: "nothing" }, `Nothing was measured: ${core.no_profile}.`));
    return;
  }
  const calls = profile.tables.kernel.reduce((sum, row) => sum + row[1], 0);
  const flops = profile.tables.kernel.reduce((sum, row) => sum + row[3], 0);
  $("profile").replaceChildren(
    el("h2", {}, "Profile"),
    el("dl", { className: "costs" },
      tile("Kernels", [secondsText(profile.seconds)], `a run, mean of ${profile.runs}`),
      tile("Kernel calls", [`${calls}`], "a run"),
      tile("Rate", [`${threeDigits(flops / profile.seconds / 1e9)} GFLOP/s`],
        `${percentText(flops / profile.seconds / 1e9 / profile.peak_gflops)} of the peak`),
      tile("Peak here", [`${threeDigits(profile.peak_gflops)} GFLOP/s`], "float32 matrix product")),
    ...TABLES.map(([name, title, field]) => profileTable(name, title, field)));
}

function profileTable(name, title, field) {
  const rows = core.profile.tables[name];
  const longest = Math.max(...rows.map((row) => row[2]), 1e-12);
  const body = el("tbody");
  const [column, direction] = sorting[name] ?? [0, -1];
  const key = column < 0 ? (row) => row[0] : COLUMNS[column][1];
  const sorted = [...rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    return direction * (x < y ? -1 : x > y ? 1 : 0);
  });
  body.append(...sorted.map((row) => el("tr", {},
    el("th", { scope: "row" }, rowName(row[0], field)),
    COLUMNS.map(([title, , text], i) => el("td", { className: "is-number" },
      i === 0 ? timeBar(row[2] / longest) : null, text(row))))));
  const head = (label, i) => el("th", {
    scope: "col",
    className: i < 0 ? "" : "is-number",
    "aria-sort": i === column ? (direction < 0 ? "descending" : "ascending") : "none",
  }, el("button", {
    onclick: () => {
      sorting[name] = [i, i === column ? -direction : i < 0 ? 1 : -1];
      const made = profileTable(name, title, field);
      table.replaceWith(made);
      made.querySelectorAll("thead button")[i + 1].focus();
    },
  }, label, el("span", { className: "arrow", "aria-hidden": "true" },
    i === column ? (direction < 0 ? " ↓" : " ↑") : "")));
  const table = el("section", { className: "profile-table", "data-table": name },
    el("h3", {}, title, el("span", { className: "faint" }, ` ${rows.length}`)),
    el("div", { className: "scroll", tabIndex: 0 }, el("table", {},
      el("thead", {}, el("tr", {}, head(name, -1), COLUMNS.map(([label], i) => head(label, i)))),
      body)));
  return table;
}

function timeBar(share) {
  const bar = el("span", { className: "share-bar" });
  bar.style.width = `${100 * share}%`;
  return el("span", { className: "share-track", "aria-hidden": "true" }, bar);
}

function rowName(name, field) {
  if (!field || name === "(none)") return name;
  const link = el("button", { className: "link", onclick: () => searchFor(`${field}:${name}`) }, name);
  if (field !== "line") return link;
  const place = core.places.findIndex((_, i) => placeText(i) === name);
  return place < 0 ? link : [link, el("code", { className: "faint" }, sourceOf(place).trim())];
}
