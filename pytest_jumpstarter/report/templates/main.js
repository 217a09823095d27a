// Puts the page together, and keeps it in step with the URL and the keyboard.

const KEYS = [
  ["j or n", "next failure"],
  ["k or p", "previous failure"],
  ["/", "search"],
  ["t", "timeline"],
  ["Esc", "close the open failure"],
];

let failures, list, chart;

function showButton(test) {
  return chart?.items.some((item) => item.test === test)
    ? button("Show in the timeline", () => chart.lead(test))
    : null;
}

/** Show what matches the filters. The test that the URL names is always there, so that a link to it leads to it. */
function update() {
  const matches = matcher();
  const wanted = named();
  const matching = tests.filter(matches);
  const shown = wanted && !matches(wanted) ? [wanted, ...matching] : matching;
  const focused = document.activeElement?.id;
  failures = new Failures(shown, { opened, changed });
  list = new TestList(shown, { opened, changed });
  for (const element of [failures.element, list.element, slowest(matching, { open: jumpTo })]) {
    document.getElementById(element.id).replaceWith(element);
  }
  chart?.filter(hasFilter() ? matches : null);
  updateBar(matching);
  if (wanted) (failures.reveal(wanted) ?? list.reveal(wanted)).open = true;
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function updateBar(matching) {
  const all = count(tests.length, "test");
  document.getElementById("matching").textContent = hasFilter() ? `${grouped(matching.length)} of ${all} match` : all;
  document.getElementById("clear").hidden = !hasFilter();
  for (const each of document.querySelectorAll("#bar .step")) each.disabled = !failures.order.length;
  syncControls();
  tellPosition();
}

/** Show the boards in the order that the URL says. */
function updateBoards() {
  const focused = document.activeElement?.id;
  document.querySelector("table.boards")?.replaceWith(boardTable({ changed: sortBoards }));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function sortBoards(changes) {
  view.set(changes, { step: true });
  updateBoards();
}

/** Tell which failure is open, and how many there are. */
function tellPosition() {
  const at = failures.order.indexOf(named());
  const all = count(failures.order.length, "failure");
  const shown = document.getElementById("position");
  if (shown) shown.textContent = at < 0 ? all : `${grouped(at + 1)} of ${all}`;
}

/** Take over a change of filters. A click is a step that people go back from; typed letters are not. */
function changed(changes, isClick = !("q" in changes || "slower" in changes)) {
  view.set(changes, { step: isClick });
  update();
}

/** Keep in the URL which test was opened last. */
function opened(test, isOpen) {
  if (isOpen) view.set(naming(test));
  else if (named() === test) view.set(naming(undefined));
  tellPosition();
}

/** Open a test where it stands: among the failures, or on its page of the list. People can go back from a jump. */
function openTest(test, { jump = false } = {}) {
  view.set(naming(test), { step: jump });
  if (!failures.order.includes(test) && !list.tests.includes(test)) update();
  const found = failures.reveal(test) ?? list.reveal(test);
  found.open = true;
  found.scrollIntoView({ block: "start" });
  found.querySelector("summary").focus({ preventScroll: true });
  tellPosition();
}

const jumpTo = (test) => openTest(test, { jump: true });

/** Open the next failure, or the one before, and close the one that is open. */
function step(by) {
  const { order } = failures;
  if (!order.length) return;
  const at = order.indexOf(named());
  const next = at < 0 ? (by > 0 ? 0 : order.length - 1) : at + by;
  if (next < 0 || next >= order.length) return;
  close();
  openTest(order[next]);
}

function close() {
  for (const each of failures.element.querySelectorAll("details.test[open]")) each.open = false;
}

function isTyping(event) {
  return event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey;
}

function key(event) {
  const tip = document.getElementById("tip");
  if (event.key === "Escape" && tip && !tip.hidden) {
    tip.hidden = true;
    return;
  }
  if (isTyping(event) || !document.getElementById("keys-on").checked) return;
  const actions = {
    j: () => step(1),
    n: () => step(1),
    k: () => step(-1),
    p: () => step(-1),
    "/": () => document.getElementById("search").focus(),
    t: () => document.getElementById("cursor")?.focus(),
    Escape: close,
  };
  const action = Object.hasOwn(actions, event.key) ? actions[event.key] : undefined;
  if (!action) return;
  event.preventDefault();
  action();
}

/** Return the buttons for the failures. */
function steps() {
  const kbd = (name) => make("kbd", { "aria-hidden": "true" }, name);
  return make(
    "div",
    { class: "control row steps" },
    button(["Previous failure ", kbd("k")], () => step(-1), { class: "step", "aria-keyshortcuts": "k" }),
    button(["Next failure ", kbd("j")], () => step(1), { class: "step", "aria-keyshortcuts": "j" }),
    make("span", { id: "position", role: "status" }),
  );
}

/** Return the help for the keys, and the switch of the colours. */
function pageTools() {
  const rows = KEYS.map(([name, words]) =>
    make("div", {}, make("dt", {}, make("kbd", {}, name)), make("dd", {}, words)),
  );
  const on = make("label", {}, make("input", { type: "checkbox", id: "keys-on", checked: true }), " keys are on");
  const help = make(
    "details",
    { class: "help" },
    make("summary", {}, "Keys"),
    make("div", {}, make("dl", {}, rows), on),
  );
  return make("div", { class: "control row steps" }, help, button("", changeColours, { id: "colours" }));
}

const isDark = () =>
  (document.documentElement.style.colorScheme ||
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function changeColours() {
  document.documentElement.style.colorScheme = isDark() ? "light" : "dark";
  nameColours();
}

function nameColours() {
  document.getElementById("colours").textContent = isDark() ? "Light" : "Dark";
  document.getElementById("colours").setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
}

/** Show what the URL says: after a link or a step back. */
function follow() {
  view.read();
  chart?.readWindow();
  updateBoards();
  update();
  const wanted = named();
  if (wanted) openTest(wanted);
}

function start() {
  const later = (id) => make("section", { id });
  const bar = searchBar({ changed, steps: tests.some((test) => test.bad) ? steps() : null });
  const tools = make("div", { id: "tools", class: "row" }, moreFilters(changed), pageTools());
  chart = leases.length ? new Chart({ open: jumpTo }) : null;
  const table = boards.length ? part("boards", "Boards", make("table", { class: "boards" })) : null;
  bar.hidden = tools.hidden = !tests.length;
  document.getElementById("main").replaceChildren(bar, tools, later("failures"));
  document.getElementById("main").append(...[chart?.element, table, later("slowest"), later("tests")].filter(Boolean));
  nameColours();
  chart?.measure();
  updateBoards();
  update();
  document.addEventListener("keydown", key);
  addEventListener("hashchange", follow);
  addEventListener("beforeprint", () => {
    chart?.drawAll();
    beforePrint(failures);
  });
  addEventListener("afterprint", afterPrint);
  new ResizeObserver(() => {
    const isSticky = getComputedStyle(bar).position === "sticky";
    document.documentElement.style.scrollPaddingTop = `${isSticky ? bar.offsetHeight + 8 : 8}px`;
  }).observe(bar);
  TEXTS.then(
    (texts) => {
      unpacked = texts;
      if (view.get("q")) update();
    },
    () => {},
  );
  if (named()) openTest(named());
  else if (failures.groups.length === 1 && !hasFilter()) failures.reveal(failures.order[0]).open = true;
}

start();
