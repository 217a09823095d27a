// The boards with their health, the slowest tests, and all tests, a page at a time.

const PAGE = 100;
const SLOWEST = 10;

/** Return how a board did: a word for CSS, and words for people. */
function health(board) {
  if (board.faults) return ["fault", count(board.faults, "device error")];
  if (board.hooks) return ["failed", `${count(board.hooks, "hook")} failed`];
  if (!board.tests.length) return ["other", "no tests"];
  const others = boards.filter((each) => each !== board && each.tests.length);
  const [rest, restFailed] = others.reduce(([all, bad], each) => [all + each.tests.length, bad + each.failed], [0, 0]);
  if (rest && board.failed >= 3 && board.failed / board.tests.length > (3 * restFailed) / rest)
    return ["failed", "fails more than others"];
  return ["passed", "good"];
}

const COLUMNS = [
  { id: "board", words: "Board", value: (board) => board.name },
  { id: "health", words: "Health", value: (board) => [board.faults + board.hooks, board.failed] },
  {
    id: "tests",
    words: "Tests",
    value: (board) => board.tests.length,
    shown: (board) => grouped(board.tests.length),
  },
  {
    id: "failed",
    words: "Failed",
    value: (board) => board.failed,
    shown: (board) => countLink(board, board.failed, isFailure),
  },
  {
    id: "faults",
    words: "Device errors",
    value: (board) => board.faults,
    shown: (board) => countLink(board, board.faults, isFault),
  },
  { id: "queued", words: "Queued", value: (board) => board.queued, shown: (board) => duration(board.queued) },
  { id: "held", words: "Held", value: (board) => board.held, shown: (board) => duration(board.held) },
  { id: "busy", words: "Busy", value: (board) => board.busy, shown: (board) => `${board.busy}%` },
  ...(DATA.hasHistory
    ? [{ id: "history", words: "Many runs", value: (board) => board.past?.errors ?? -1, shown: pastCell, kind: "past" }]
    : []),
];

/** Return what many runs say about a board: a badge if it is unhealthy, and the numbers. */
function pastCell({ past }) {
  if (!past) return "–";
  const ready = past.ready === null ? "never ready" : `ready in ${duration(past.ready)}`;
  const slow = past.slow ? `; ${count(past.slow, "slow boot")}` : "";
  const badge = past.unhealthy ? [make("span", { class: "badge fault" }, "unhealthy"), " "] : [];
  return [...badge, `${past.errors} errors per 100 leases, of ${grouped(past.leases)}; ${ready}${slow}`];
}

/** Return a number of tests of a board, as a link to them. */
function countLink(board, number, isCounted) {
  const outcomes = new Set(board.tests.filter(isCounted).map((test) => test.words));
  if (!number || !outcomes.size) return grouped(number);
  const params = new URLSearchParams({ board: board.name, outcome: [...outcomes].join(",") });
  return make("a", { href: `#${params}` }, grouped(number));
}

/** Return the table of boards; a click on a heading sorts it. `sort` is like `-health`: the largest first. */
function boardTable({ changed }) {
  const sort = view.get("boards") || "-health";
  const [id, sign] = sort.startsWith("-") ? [sort.slice(1), -1] : [sort, 1];
  const column = COLUMNS.find((each) => each.id === id) ?? COLUMNS[1];
  const names = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });
  const rows = [...boards].sort((a, b) => sign * compare(column.value(a), column.value(b)) || names(a, b));
  const head = COLUMNS.map((each) => {
    const isIt = each === column;
    const next = isIt && sign < 0 ? each.id : `-${each.id}`;
    const order = isIt ? { "aria-sort": sign < 0 ? "descending" : "ascending" } : {};
    return make(
      "th",
      { scope: "col", role: "columnheader", ...order },
      button(each.words, () => changed({ boards: next }), { id: `sort-${each.id}` }),
    );
  });
  return make(
    "table",
    { role: "table", class: "boards" },
    make(
      "caption",
      { class: "quiet" },
      "Queued: time in the queue. Held: time leased by this run. Busy: the share of that time in which tests ran.",
      DATA.hasHistory ? " Many runs: device errors per 100 leases, and the median time until the device was ready." : "",
    ),
    make(
      "thead",
      { role: "rowgroup" },
      make("tr", { role: "row" }, head, make("th", { scope: "col", role: "columnheader" }, "Labels")),
    ),
    make("tbody", { role: "rowgroup" }, rows.map(boardRow)),
  );
}

function compare(a, b) {
  if (Array.isArray(a)) return a[0] - b[0] || a[1] - b[1];
  return typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
}

function boardRow(board) {
  const [word, words] = health(board);
  const cells = COLUMNS.slice(2).map((each) =>
    make("td", { role: "cell", class: each.kind ?? "number", "data-label": each.words }, each.shown(board)),
  );
  return make(
    "tr",
    { role: "row" },
    make("th", { scope: "row", role: "rowheader", class: "name" }, boardLink(board)),
    make("td", { role: "cell" }, make("span", { class: `badge ${word}` }, words), meter(board)),
    cells,
    make("td", { role: "cell", class: "quiet name", "data-label": "Labels" }, board.labels.join(" ")),
  );
}

/** Return a small bar: the shares of failures, device errors and the rest. */
function meter(board) {
  const whole = Math.max(board.tests.length, 1);
  const width = 96;
  const parts = [
    ["failed", board.failed],
    ["fault", board.tests.filter(isFault).length],
  ];
  let x = 0;
  const picture = draw("svg", { class: "meter", viewBox: `0 0 ${width} 6`, "aria-hidden": "true" });
  for (const [kind, number] of parts) {
    const length = number ? Math.max(3, (width * number) / whole) : 0;
    if (number) picture.append(draw("rect", { class: kind, x, y: 0, width: Math.max(1, length - 1), height: 6 }));
    x += length;
  }
  if (board.tests.length && x < width)
    picture.append(draw("rect", { class: "passed", x, y: 0, width: width - x, height: 6 }));
  return picture;
}

const LEASE_COLUMNS = ["Board", "Role", "Worker", "Lease", "Asked", "Queue", "Connect", "Held"];

/** Return the timeline as a table, which is filled when it is opened. */
function leaseTable() {
  const body = make("tbody", { role: "rowgroup" });
  const head = LEASE_COLUMNS.map((words) => make("th", { scope: "col", role: "columnheader" }, words));
  const rows = make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, head));
  const table = make("table", { role: "table", class: "leases" }, rows, body);
  const details = make(
    "details",
    { id: "leases" },
    make("summary", {}, `As a table: ${count(leases.length, "lease")}`),
    table,
  );
  details.addEventListener("toggle", () => body.hasChildNodes() || body.append(...leases.flatMap(leaseRows)));
  return details;
}

/** Return the row of a lease, and one for each of its hooks that failed. */
function leaseRows(lease) {
  const isReady = lease.ready !== null;
  const cells = [
    lease.role,
    lease.worker,
    lease.name,
    clock(lease.asked),
    duration((lease.ready ?? lease.released) - lease.asked),
    isReady ? duration(lease.prepared - lease.ready) : "–",
    (isReady ? duration(lease.released - lease.ready) : "not acquired") + endOf(lease),
  ];
  const row = make(
    "tr",
    { role: "row" },
    make("th", { scope: "row", role: "rowheader", class: "name" }, lease.board.name),
    cells.map((words, at) => make("td", { role: "cell", "data-label": LEASE_COLUMNS[at + 1] }, words)),
  );
  const hook = (text) =>
    make("td", { role: "cell", colspan: LEASE_COLUMNS.length }, make("pre", { tabindex: "0" }, text));
  return [row, ...lease.hooks.map((text) => make("tr", { role: "row" }, hook(text)))];
}

/** Return the slowest of these tests, with bars in proportion. */
function slowest(shown, { open }) {
  const found = shown
    .filter((test) => test.phases.length)
    .sort((a, b) => b.length - a.length)
    .slice(0, SLOWEST);
  if (!found.length) return make("section", { id: "slowest", hidden: true });
  const items = found.map((test) => {
    const bar = draw("svg", { class: "meter", viewBox: "0 0 96 6", "aria-hidden": "true" });
    bar.append(
      draw("rect", { class: "test", x: 0, y: 0, width: Math.max(1, (96 * test.length) / found[0].length), height: 6 }),
    );
    const link = make(
      "a",
      { class: "name", href: linkTo(test), onclick: (event) => (event.preventDefault(), open(test)) },
      test.id,
    );
    return make(
      "li",
      {},
      make("span", { class: "number" }, duration(test.length)),
      bar,
      link,
      make("span", { class: "where" }, boardNames(test)),
    );
  });
  return part("slowest", "Slowest tests", make("ol", { class: "slowest" }, items));
}

function linkTo(test) {
  const params = new URLSearchParams(view.params);
  for (const [name, value] of Object.entries(naming(test))) value ? params.set(name, value) : params.delete(name);
  return `#${params}`;
}

const SORTS = [
  ["", "start", (a, b) => a.start - b.start],
  ["slowest", "slowest first", (a, b) => b.length - a.length],
  ["name", "name", (a, b) => a.id.localeCompare(b.id, "en", { numeric: true })],
  [
    "board",
    "board",
    (a, b) => boardNames(a).localeCompare(boardNames(b), "en", { numeric: true }) || a.start - b.start,
  ],
];

/** All tests that are shown, a page at a time. */
class TestList {
  constructor(shown, { opened, changed }) {
    this.opened = opened;
    const sort = SORTS.find(([value]) => value === view.get("sort")) ?? SORTS[0];
    this.tests = shown.toSorted ? shown.toSorted(sort[2]) : [...shown].sort(sort[2]);
    this.page = 0;
    this.list = make("div", { class: "entries" });
    this.pager = make("nav", { class: "row pager", "aria-label": "Pages of tests" });
    const control = choice(
      "Sort by",
      SORTS.map(([value, words]) => [value, words]),
      sort[0],
      (value) => changed({ sort: value }),
    );
    const title =
      shown.length === tests.length ? `All tests (${grouped(tests.length)})` : `Tests (${grouped(shown.length)})`;
    this.element = part(
      "tests",
      title,
      this.tests.length
        ? [control, this.list, this.pager]
        : make("p", {}, hasFilter() ? "No test matches the filters." : "None."),
    );
    this.show(0);
  }

  get pages() {
    return Math.max(1, Math.ceil(this.tests.length / PAGE));
  }

  show(page) {
    this.page = Math.min(Math.max(page, 0), this.pages - 1);
    const from = this.page * PAGE;
    this.list.replaceChildren(
      ...this.tests.slice(from, from + PAGE).map((test) => entry(test, { opened: this.opened })),
    );
    if (this.pages === 1) return;
    const step = (words, by) =>
      button(words, () => (this.show(this.page + by), this.element.querySelector("h2").focus()), {
        disabled: this.page + by < 0 || this.page + by >= this.pages,
      });
    this.pager.replaceChildren(
      step("Previous page", -1),
      make("span", { role: "status" }, `Page ${this.page + 1} of ${this.pages}`),
      step("Next page", 1),
    );
  }

  /** Return the entry of a test, after turning to its page. */
  reveal(test) {
    const at = this.tests.indexOf(test);
    if (at < 0) return null;
    const page = Math.floor(at / PAGE);
    if (page !== this.page) this.show(page);
    return this.list.querySelector(`[data-test="${test.number}"]`);
  }
}
