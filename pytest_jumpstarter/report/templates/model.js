// The run, unpacked: `page_data.py` writes what is read here. Times are milliseconds since the start of the run.

const DATA = JSON.parse(document.getElementById("data").textContent);
const PHASES = ["setup", "call", "teardown"];

/** The long texts; a promise, because the browser unpacks them beside. */
const TEXTS = (async () => {
  const packed = Uint8Array.from(atob(document.getElementById("texts").textContent), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
})();

const isFault = (test) => test.outcome === "device error";
const isFailure = (test) => test.bad && !isFault(test);

/** Return what many runs say about a board; null without a history. */
function pastOf(row) {
  if (!row) return null;
  const [leases, errors, ready, slow, unhealthy] = row;
  return { leases, errors, ready, slow, unhealthy };
}

const boards = DATA.boards.map((each, number) => ({
  number,
  name: each.exporter || (each.tests ? "unnamed board" : "no board"), // a shell may not tell the name
  labels: Object.entries(each.labels ?? {}).map(([key, value]) => `${key}=${value}`),
  faults: each.device_errors ?? 0,
  queued: 1000 * (each.queued_seconds ?? 0),
  held: 1000 * (each.held_seconds ?? 0),
  busy: each.busy_percent ?? 0,
  past: pastOf(each.history),
  tests: [],
  failed: 0,
  hooks: 0,
}));

const devices = DATA.devices.map(([role, board, lease, leaseAt, labels, state]) => ({
  role: DATA.roles[role],
  board: boards[board],
  lease,
  leaseAt,
  labels: labels.map(([key, value]) => `${key}=${value}`),
  state, // the board state that the test stood on; empty if none
}));

const leases = DATA.leases.map(([board, role, worker, name, asked, ready, prepared, released, adopted, hooks]) => ({
  board: boards[board],
  role: DATA.roles[role],
  worker: DATA.workers[worker],
  name,
  asked,
  ready,
  prepared: prepared ?? ready,
  released: released ?? DATA.length,
  endSeen: released !== null,
  isAdopted: Boolean(adopted),
  hooks, // what the exporter says of hooks that failed
}));

for (const lease of leases) lease.board.hooks += lease.hooks.length;

const states = DATA.states.map(([leaseAt, role, name, cameFrom, began, reached, left, error]) => ({
  lease: leases[leaseAt],
  role: DATA.roles[role],
  name,
  cameFrom,
  began,
  reached: reached ?? left ?? leases[leaseAt].released, // of a transition that failed: when it did
  left: left ?? leases[leaseAt].released,
  error,
}));

/** Return what is special about the end of a lease. */
function endOf(lease) {
  if (lease.isAdopted) return ", adopted and not released";
  return lease.endSeen ? "" : ", end not seen";
}

const tests = DATA.tests.map((row, number) => {
  const [file, name, worker, attempt, outcome, reason, group, spans, bad, its, texts, files, error, metrics, properties] =
    row;
  const phases = PHASES.map((kind, at) => ({
    kind,
    start: spans[at][0],
    length: spans[at][1],
    bad: Boolean(bad[at]),
  })).filter((phase) => phase.start !== undefined);
  const test = {
    number,
    file: DATA.files[file],
    name,
    id: name ? `${DATA.files[file]}::${name}` : DATA.files[file],
    worker: DATA.workers[worker],
    attempt,
    outcome: DATA.outcomes[outcome][0],
    words: DATA.outcomes[outcome][1],
    bad: DATA.outcomes[outcome][2],
    reason: DATA.reasons[reason],
    group,
    phases,
    start: phases.length ? Math.min(...phases.map((phase) => phase.start)) : 0,
    devices: its.map((at) => devices[at]),
    texts: texts.map(([title, at]) => ({ title: DATA.titles[title], at })),
    files,
    metrics: metrics.map(([name, words, bad]) => ({ name, words, bad: Boolean(bad) })),
    properties,
    error: error ? { kind: error[0], said: error[1] } : null,
  };
  test.stop = Math.max(test.start, ...phases.map((phase) => phase.start + phase.length));
  test.length = test.stop - test.start;
  for (const board of new Set(test.devices.map((device) => device.board))) {
    board.tests.push(test);
    if (isFailure(test)) board.failed += 1;
  }
  return test;
});

const attempts = new Map(); // the tests by id: more than one if a test ran again, or on several workers
for (const test of tests) {
  if (!attempts.has(test.id)) attempts.set(test.id, []);
  attempts.get(test.id).push(test);
}

const boardNames = (test) => [...new Set(test.devices.map((device) => device.board.name))].join(", ");

/** Return a word of CSS for the outcome of a test. */
function tone(test) {
  if (isFault(test)) return "fault";
  if (test.bad) return "failed";
  return test.outcome === "passed" ? "passed" : "other";
}

/** Return the time of day, on the clock of the machine that ran the tests: the consoles have it too. */
function clock(ms) {
  return new Date(1000 * (DATA.start + DATA.zone) + ms).toISOString().slice(11, 19);
}

/** Return everything that the search looks at, apart from the long texts. */
function searched(test) {
  test.searched ??= [
    test.id,
    test.reason,
    test.words,
    test.worker,
    ...test.devices.flatMap((device) => [device.role, device.board.name, device.lease, device.state, ...device.labels]),
  ]
    .join("\n")
    .toLowerCase();
  return test.searched;
}
