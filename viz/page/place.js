// Where the reader is. It stands in the address, so that a link leads back to it.

const here = { view: "passes", pass: 0, node: null, box: null, tab: "rewrites", step: null };
let shown = {};

const VIEWS = ["passes", "memory", "profile"];
const TABS = ["rewrites", "text", "value"];

/** Go somewhere: change some fields of `here`, and show what they say. */
function go(change, { replace = false } = {}) {
  Object.assign(here, change);
  const parts = [];
  if (here.view !== "passes") parts.push(`view=${here.view}`);
  parts.push(`pass=${here.pass}`);
  if (here.node) parts.push(`node=${here.node}`);
  if (here.tab !== "rewrites" && !(here.node && here.tab === "value")) parts.push(`tab=${here.tab}`);
  if (here.view === "memory" && here.step !== null) parts.push(`step=${here.step}`);
  const hash = `#${parts.join("&")}`;
  if (hash !== location.hash) history[replace ? "replaceState" : "pushState"](null, "", hash);
  render();
}

/** Read the address. A name such as %12 stands in it as it is; a mailer may have escaped it. */
function readAddress() {
  const found = new Map(
    location.hash.slice(1).split("&").map((part) => part.split(/=(.*)/s).slice(0, 2)),
  );
  const view = found.get("view");
  here.view = VIEWS.includes(view) ? view : "passes";
  const pass = Number(found.get("pass") ?? 0);
  here.pass = Number.isInteger(pass) ? Math.min(Math.max(pass, 0), planStop()) : 0;
  const node = found.get("node");
  here.node = node ? (known(node) ?? known(node.replace(/^%25/, "%"))) : null;
  here.box = null;
  const tab = found.get("tab");
  here.tab = TABS.includes(tab) ? tab : here.node ? "value" : "rewrites";
  const step = Number(found.get("step") ?? NaN);
  here.step = Number.isInteger(step) && step < core.plan.steps.length ? Math.max(step, 0) : null;
}

const known = (name) => (stopOf(name, here.pass) === null ? null : name);

const PARTS = []; // functions of what changed since they were called last: [needs, show]
const onPlace = (needs, show) => PARTS.push([needs, show]);

/** Show what is not shown yet. */
function render() {
  const last = shown;
  shown = { ...here };
  for (const [needs, show] of PARTS) {
    if (needs.some((field) => last[field] !== shown[field])) show();
  }
}

onPlace(["view"], function showView() {
  document.body.dataset.view = here.view;
  hideTooltip();
  for (const name of VIEWS) {
    $(name).hidden = name !== here.view;
    $(`tab-${name}`).setAttribute("aria-selected", String(name === here.view));
    $(`tab-${name}`).tabIndex = name === here.view ? 0 : -1;
  }
  if (here.view === "passes") applyView();
});

/** The stop that is talked of: Memory and Profile are about the plan. */
const stopInView = () => (here.view === "passes" ? here.pass : planStop());

/** Go to a value: at the stop where it is there, else at the nearest one. */
function goToValue(name, stop = stopInView()) {
  const there = stopOf(name, stop);
  if (there === null) return;
  const change = { node: name, box: null, tab: "value" };
  if (here.view === "passes" || there !== planStop()) {
    Object.assign(change, { view: "passes", pass: there });
  }
  go(change);
}

function goToStop(stop, options) {
  const pass = Math.min(Math.max(stop, 0), planStop());
  if (pass !== here.pass || here.view !== "passes") go({ view: "passes", pass, box: null }, options);
}
