// The layout of the timeline: a row for each board, with what happened there in order.

const HEIGHT = 26; // of a row, in pixels: a mark above what failed, and the bars
const TOP = 6;
const TALL = 18;
const GAP = 1; // between two bars, so that each stands against the background
const WIDE_TEST = 8; // from this width on, a test is drawn as its phases
const NARROW = 1.5;

const MEANINGS = [
  ["queue", "queue"],
  ["connect", "connect"],
  ["setup", "setup"],
  ["test", "test"],
  ["teardown", "teardown"],
  ["held", "held, no test runs"],
  ["failed", "failed"],
  ["fault", "device error"],
  ...(states.length
    ? [
        ["reach", "transition"],
        ["state", "board state"],
      ]
    : []),
];

/** Return the rows: boards with the parts of their leases and with their tests, each in order of time. */
function timelineRows() {
  const rows = new Map();
  const rowOf = (board) => {
    if (!rows.has(board)) rows.set(board, { board, held: [], parts: [], tests: [] });
    return rows.get(board);
  };
  for (const lease of leases) addLease(rowOf(lease.board), lease);
  for (const test of tests) {
    for (const device of test.devices) {
      const lease = leases[device.leaseAt];
      if (lease && lease.ready !== null) addTest(rowOf(lease.board), test, device, lease);
    }
  }
  for (const row of rows.values()) {
    row.tests.sort((a, b) => a.start - b.start);
    row.items = [...row.parts, ...row.tests].sort((a, b) => a.start - b.start);
  }
  const all = [...rows.values(), ...stateRows()].filter((row) => row.items.length);
  return all.sort((a, b) => a.board.number - b.board.number); // which keeps a board and its states together
}

/** Return a row for each board and role with states. */
function stateRows() {
  const rows = new Map();
  for (const state of states) {
    const { board } = state.lease;
    const key = `${board.number} ${state.role}`;
    if (!rows.has(key)) rows.set(key, { board, role: state.role, held: [], parts: [], tests: [], items: [] });
    const row = rows.get(key);
    row.items.push({ kind: "state", start: state.began, stop: state.left, bad: Boolean(state.error), state, row });
  }
  return [...rows.values()];
}

function addLease(row, lease) {
  const part = (kind, start, stop, bad = false) => ({ kind, start, stop, bad, lease, row });
  if (lease.ready === null) {
    row.parts.push(part("queue", lease.asked, lease.released, true));
    return;
  }
  row.parts.push(part("queue", lease.asked, lease.ready));
  if (lease.prepared > lease.ready) row.parts.push(part("connect", lease.ready, lease.prepared));
  row.held.push(part("held", lease.ready, lease.released));
}

/** Add a test: only the part of it after the board was prepared, and before it was released. */
function addTest(row, test, device, lease) {
  const spans = test.phases
    .map((phase) => ({
      kind: phase.bad ? tone(test) : ({ call: "test" }[phase.kind] ?? phase.kind),
      bad: phase.bad,
      start: Math.max(phase.start, lease.prepared),
      stop: Math.min(phase.start + phase.length, lease.released),
    }))
    .filter((span) => span.stop > span.start);
  if (!spans.length) return;
  row.tests.push({
    kind: "test",
    start: spans[0].start,
    stop: spans.at(-1).stop,
    bad: test.bad,
    spans,
    test,
    device,
    row,
  });
}

/** Return what a person reads about an item. */
function described(item) {
  const when = `${duration(item.stop - item.start)} from ${clock(item.start)}, ${duration(item.start)} after the start`;
  if (item.test) {
    const { test, device } = item;
    const worker = test.worker === "main" || !test.worker ? "" : `, ${test.worker}`;
    return `${test.id}\n${test.words}, ${device.role} on ${device.board.name}${worker}\n${timing(test)}\n${when}`;
  }
  if (item.state) {
    const { name, cameFrom, reached, began, role, error } = item.state;
    const how = error ? `not reached: ${error}` : `reached in ${duration(reached - began)}`;
    return `state ${name} of ${role} on ${item.row.board.name}\nfrom ${cameFrom || "unknown"}, ${how}\n${when}`;
  }
  const { lease } = item;
  const what = item.bad ? "queue, not acquired" : item.kind;
  const name = lease.name ? `, lease ${lease.name}` : "";
  return `${what}: ${lease.role} of ${lease.worker} on ${item.row.board.name}${name}${endOf(lease)}\n${when}`;
}

/**
 * Return the bars of a row between two moments, in pixels.
 *
 * Tests that are too narrow for their phases are one bar; those that would touch are one bar together. What failed is
 * never narrower than three pixels, and has a mark.
 */
function bars(row, { from, to, width, matches }) {
  const at = (moment) => ((moment - from) * width) / (to - from);
  const found = [];
  const add = (kind, start, stop, more = {}) => {
    const x = Math.max(at(start), -2);
    const end = Math.min(at(stop), width + 2);
    if (end >= 0 && x <= width)
      found.push({ kind, x, width: Math.max(end - x - GAP, 1), y: TOP, height: TALL, ...more });
  };
  for (const part of row.held) add("held", part.start, part.stop);
  for (const part of row.parts) {
    if (part.kind === "queue")
      add(part.bad ? "queue failed" : "queue", part.start, part.stop, { y: TOP + 6, height: 6 });
    else add(part.kind, part.start, part.stop);
  }
  if (row.role) {
    for (const { state } of row.items) {
      if (state.reached > state.began) add(state.error ? "failed" : "reach", state.began, state.reached);
      if (!state.error) add("state", state.reached, state.left, { words: state.name });
    }
  }
  const marks = [];
  let pack = null;
  const flush = () => {
    if (pack) add("test", pack.start, pack.stop, { dim: pack.dim });
    pack = null;
  };
  for (const item of row.tests) {
    if (at(item.stop) < 0 || at(item.start) > width) continue;
    const dim = matches !== null && !matches(item.test);
    if (at(item.stop) - at(item.start) >= WIDE_TEST) {
      flush();
      for (const span of item.spans)
        if (span.bad || at(span.stop) - at(span.start) > NARROW) add(span.kind, span.start, span.stop, { dim });
      if (item.bad && !dim) marks.push(markOf(item, at));
      continue;
    }
    if (pack && pack.dim === dim && at(item.start) - at(pack.stop) < 2 * GAP)
      pack.stop = Math.max(pack.stop, item.stop);
    else {
      flush();
      pack = { start: item.start, stop: item.stop, dim };
    }
    if (item.bad && !dim) marks.push({ ...markOf(item, at), isNarrow: true });
  }
  flush();
  return { found: spaced(found), marks: apart(marks, width) };
}

/** Return bars with a gap after each, also where they are so narrow that they had to be widened to be seen. */
function spaced(found) {
  let free = -Infinity;
  for (const bar of found.filter((each) => each.kind !== "held").sort((a, b) => a.x - b.x)) {
    const end = bar.x + bar.width;
    bar.x = Math.max(bar.x, free);
    bar.width = Math.max(end - bar.x, 1);
    free = bar.x + bar.width + GAP;
  }
  return found;
}

function markOf(item, at) {
  const span = item.spans.find((each) => each.bad) ?? item.spans.at(-1);
  const x = Math.max(at(span.start), 0);
  return { kind: tone(item.test), x, width: Math.max(3, at(span.stop) - x - GAP) };
}

/** Return marks that are in view, without those that would cover the one before. */
function apart(marks, width) {
  const kept = [];
  for (const mark of marks) {
    const last = kept.at(-1);
    mark.x = Math.min(mark.x, width - 3);
    if (!last || mark.x > last.x + 4 || mark.kind !== last.kind) kept.push(mark);
  }
  return kept;
}

const STEPS = [
  10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 144e5, 288e5,
  864e5, 6048e5,
];

/** Return the moments of the time axis that are far enough apart for their text. */
function ticks({ from, to, width }) {
  const step = STEPS.find((each) => (each * width) / (to - from) >= 84) ?? 31536e6;
  const found = [];
  for (let moment = Math.ceil(from / step) * step; moment <= to; moment += step) {
    const x = ((moment - from) * width) / (to - from);
    const words =
      step < 1000
        ? `${clock(moment)}.${String(Math.round((DATA.start * 1000 + moment) % 1000)).padStart(3, "0")}`
        : clock(moment);
    if (x <= width - 64) found.push({ x, words });
  }
  return found;
}
