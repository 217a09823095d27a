// One test: a line, and below it, once it is opened, everything about it. The traceback stands beside the console.

/** Return what was measured of a test, in words. */
function timing(test) {
  return test.phases
    .map((phase) => `${phase.kind === "call" ? "test" : phase.kind} ${duration(phase.length)}`)
    .join(", ");
}

function badge(test) {
  return make("span", { class: `badge ${tone(test)}` }, test.words);
}

/**
 * Return the entry of a test.
 *
 * It is filled when it is opened, and calls `opened` then. Its reason is left out if `heading` says it.
 */
function entry(test, { opened, heading = "" }) {
  const body = make("div", { class: "body" });
  const name = make(
    "span",
    { class: "name" },
    test.name ? [make("span", { class: "file" }, `${test.file}::`), test.name] : test.file,
  );
  const details = make(
    "details",
    { class: "test", "data-test": test.number },
    make(
      "summary",
      {},
      badge(test),
      name,
      make("span", { class: "where" }, boardNames(test)),
      make("span", { class: "number" }, test.phases.length ? duration(test.length) : "–"),
      test.reason && test.reason !== heading ? make("span", { class: "why" }, test.reason) : null,
    ),
    body,
  );
  details.addEventListener("toggle", () => {
    if (details.open && !body.hasChildNodes()) fill(body, test);
    opened(test, details.open);
  });
  return details;
}

function fill(body, test) {
  body.append(
    about(test),
    make("p", { class: "row" }, showButton(test), ...test.files.map(([name, url]) => make("a", { href: url }, name))),
  );
  if (test.error?.said) body.append(make("p", { class: "quiet" }, `The test itself ended with: ${test.error.said}`));
  if (!test.texts.length) return;
  const evidence = make("div", { class: "evidence" });
  body.append(evidence);
  if (unpacked) arrange(evidence, test, unpacked); // at once: a print does not wait
  else awaitTexts(evidence, test);
}

function awaitTexts(evidence, test) {
  evidence.setAttribute("aria-busy", "true");
  evidence.append(make("p", { class: "quiet" }, "Unpacking the output…"));
  TEXTS.then(
    (texts) => arrange(evidence, test, texts),
    () =>
      evidence.replaceChildren(
        make("p", {}, "This browser cannot unpack the output; a newer one can (Chrome 80, Firefox 113, Safari 16.4)."),
      ),
  ).finally(() => evidence.removeAttribute("aria-busy"));
}

/** Return the facts about a test: boards, leases, worker, times. */
function about(test) {
  const list = make("dl", { class: "about" });
  const add = (term, ...words) => list.append(make("div", {}, make("dt", {}, term), make("dd", {}, ...words)));
  for (const device of test.devices) {
    const lease = device.lease ? `, lease ${device.lease}` : "";
    const labels = device.labels.length ? ` (${device.labels.join(", ")})` : "";
    const state = device.state ? `, state ${device.state}` : "";
    add(
      device.role,
      make("a", { href: `#${new URLSearchParams({ board: device.board.name })}` }, device.board.name),
      `${lease}${state}${labels}`,
    );
  }
  if (test.attempt > 1) add("attempt", String(test.attempt));
  if (test.worker && test.worker !== "main") add("worker", test.worker);
  if (test.phases.length) add("time", `${timing(test)}, from ${clock(test.start)}`);
  if (test.error) add("device error", test.error.kind);
  for (const metric of test.metrics) add(metric.name, metric.bad ? make("b", {}, metric.words) : metric.words);
  for (const [name, value] of test.properties) add(name, value);
  return list;
}

/** Put the texts of a test on the page: what it says beside what its boards say, and the rest below. */
function arrange(evidence, test, texts) {
  const isTrace = ({ title }) => title.endsWith(" failed");
  const isFromBoard = ({ title }) => title.startsWith("console of ") || title.startsWith("exporter log of ");
  const level = evidence.closest("#tests") ? "h3" : "h4"; // failures are below the heading of their group
  const parts = {
    trace: test.texts.filter(isTrace),
    boards: test.texts.filter(isFromBoard),
    rest: test.texts.filter((each) => !isTrace(each) && !isFromBoard(each)),
  };
  const columns = Object.entries(parts)
    .filter(([, found]) => found.length)
    .map(([name, found]) =>
      make(
        "div",
        { class: name },
        found.map(({ title, at }) => quoted(title, texts[at], isTrace({ title }), level)),
      ),
    );
  evidence.classList.toggle("sides", parts.boards.length > 0 && columns.length > 1);
  evidence.replaceChildren(...columns);
}

function quoted(title, text, isTrace, level) {
  const lines = isTrace
    ? text.split("\n").map((line) => (/^E( |$)/.test(line) ? make("b", {}, `${line}\n`) : `${line}\n`))
    : [text];
  const pre = make("pre", { tabindex: "0", role: "group", "aria-label": title }, lines);
  if (!isTrace) requestAnimationFrame(() => (pre.scrollTop = pre.scrollHeight)); // what happened last is at the end
  return make("div", { class: "quoted" }, make(level, {}, title), pre);
}
