// What the page shows: search, filters and zoom. They are in the URL's fragment: a link leads to the same view.

let unpacked = null; // the long texts, once they are there

const PAUSE = 200; // milliseconds at least between two changes of the URL: browsers refuse more than some in a second

const view = {
  params: new URLSearchParams(location.hash.slice(1)),
  written: -PAUSE,
  timer: 0,

  get(name) {
    return this.params.get(name) ?? "";
  },

  /** Change some parameters; "" removes one. A step that people may go back from gets an entry in the history. */
  set(changes, { step = false } = {}) {
    if (step) this.write("replaceState");
    for (const [name, value] of Object.entries(changes)) {
      if (value === "" || value === null) this.params.delete(name);
      else this.params.set(name, value);
    }
    clearTimeout(this.timer);
    const pause = this.written + PAUSE - performance.now();
    if (step || pause <= 0) this.write(step ? "pushState" : "replaceState");
    else this.timer = setTimeout(() => this.write("replaceState"), pause);
  },

  write(method) {
    const fragment = `#${this.params}`;
    if (fragment === (location.hash || "#")) return;
    this.written = performance.now();
    try {
      history[method](null, "", fragment);
    } catch {
      // A frame that may not change its URL, as some CI systems have around reports, shows the page all the same.
    }
  },

  /** Read the URL anew, after a step back or another link. */
  read() {
    clearTimeout(this.timer);
    this.params = new URLSearchParams(location.hash.slice(1));
  },
};

const FILTERS = ["q", "outcome", "board", "role", "label", "state", "slower"];

const hasFilter = () => FILTERS.some((name) => view.get(name));

/** Return the function that says whether a test matches all filters. */
function matcher() {
  const words = view.get("q").toLowerCase().split(/\s+/).filter(Boolean);
  const outcomes = new Set(view.get("outcome").split(",").filter(Boolean));
  const [board, role, label, state] = ["board", "role", "label", "state"].map((name) => view.get(name));
  const slower = 1000 * Number(view.get("slower")) || 0;
  return (test) =>
    (!outcomes.size || outcomes.has(test.words)) &&
    (!board || test.devices.some((device) => device.board.name === board)) &&
    (!role || test.devices.some((device) => device.role === role)) &&
    (!label || test.devices.some((device) => device.labels.includes(label))) &&
    (!state || test.devices.some((device) => device.state === state)) &&
    test.length >= slower &&
    words.every((word) => searched(test).includes(word) || inTexts(test, word));
}

function inTexts(test, word) {
  return unpacked !== null && test.texts.some(({ at }) => lowered(at).includes(word));
}

const lowerCase = new Map();

function lowered(at) {
  if (!lowerCase.has(at)) lowerCase.set(at, unpacked[at].toLowerCase());
  return lowerCase.get(at);
}

/** Return the test that the URL names, if it names one. */
function named() {
  const id = view.get("test");
  if (!id) return undefined;
  const attempt = Number(view.get("attempt")) || 0;
  const all = attempts.get(id) ?? [];
  const found = all.filter((test) => !view.get("worker") || test.worker === view.get("worker"));
  return found.find((test) => test.attempt === attempt) ?? found.at(-1);
}

/** Return the parameters by which the URL names a test. */
function naming(test) {
  if (test === undefined) return { test: "", attempt: "", worker: "" };
  const twins = attempts.get(test.id);
  const workers = new Set(twins.map((each) => each.worker));
  return {
    test: test.id,
    attempt: twins.length > 1 ? String(test.attempt) : "",
    worker: workers.size > 1 ? test.worker : "",
  };
}

/** Return the values of a filter that occur, in order. */
function values(of) {
  return [...new Set(tests.flatMap((test) => test.devices.flatMap(of)))].sort((a, b) =>
    a.localeCompare(b, "en", { numeric: true }),
  );
}

/** Return the words for a number of tests with an outcome. */
function tally(number, words) {
  return `${words}${number !== 1 && words.endsWith("error") ? "s" : ""}`;
}

/** Return the bar that stays in view: search, outcomes, how many tests match, and `steps` to the failures. */
function searchBar({ changed, steps }) {
  const search = make("input", {
    type: "search",
    id: "search",
    "data-filter": "q",
    placeholder: "test, reason, board, output",
    autocomplete: "off",
    spellcheck: "false",
    oninput: (event) => changed({ q: event.target.value }),
  });
  const none = Object.fromEntries(FILTERS.map((name) => [name, ""]));
  return make(
    "div",
    { id: "bar" },
    make("label", { class: "control" }, make("span", {}, "Search"), search),
    outcomeButtons(changed),
    make("span", { id: "matching", role: "status", class: "quiet" }),
    button("Clear filters", () => (changed(none, true), search.focus()), { id: "clear" }),
    steps,
  );
}

/** Return the other filters, which a narrow window hides until they are asked for; only those with a choice. */
function moreFilters(changed) {
  const slower = make("input", {
    type: "number",
    id: "slower",
    "data-filter": "slower",
    min: "0",
    step: "any",
    oninput: (event) => changed({ slower: event.target.value }),
  });
  const choices = [
    ["board", "Board", values((device) => device.board.name)],
    ["role", "Role", values((device) => device.role)],
    ["label", "Label", values((device) => device.labels)],
    ["state", "State", values((device) => device.state || [])],
  ]
    .filter(([name, , found]) => found.length > (name === "state" ? 0 : 1)) // tests without a state are a choice, too
    .map(([name, words, found]) => {
      const options = [["", "all"], ...found.map((each) => [each, each])];
      return choice(words, options, view.get(name), (value) => changed({ [name]: value }), { "data-filter": name });
    });
  const row = make(
    "div",
    { class: "row" },
    choices,
    make("label", { class: "control" }, make("span", {}, "Slower than (s)"), slower),
  );
  const details = make("details", { class: "more" }, make("summary", {}, "More filters"), row);
  const wide = matchMedia("(min-width: 701px)");
  const adapt = () =>
    (details.open = wide.matches || ["board", "role", "label", "state", "slower"].some((name) => view.get(name)));
  wide.addEventListener("change", adapt);
  adapt();
  return details;
}

/** Show in the controls what the URL says. */
function syncControls() {
  for (const each of document.querySelectorAll("[data-filter]")) {
    if (each.value !== view.get(each.dataset.filter)) each.value = view.get(each.dataset.filter);
  }
  const chosen = view.get("outcome").split(",");
  for (const each of document.querySelectorAll("button.outcome")) {
    each.setAttribute("aria-pressed", String(chosen.includes(each.dataset.outcome)));
  }
}

/** Return a button for each outcome, with the number of its tests. */
function outcomeButtons(changed) {
  const counts = new Map();
  for (const test of tests) counts.set(test.words, { number: (counts.get(test.words)?.number ?? 0) + 1, test });
  const order = [...counts].sort(([, a], [, b]) => b.test.bad - a.test.bad || b.number - a.number);
  const buttons = order.map(([words, { number, test }]) =>
    button(
      [make("b", {}, grouped(number)), ` ${tally(number, words)}`],
      () => {
        const chosen = new Set(view.get("outcome").split(",").filter(Boolean));
        if (!chosen.delete(words)) chosen.add(words);
        changed({ outcome: [...chosen].join(",") });
      },
      { class: `outcome ${tone(test)}`, "data-outcome": words, "aria-pressed": "false" },
    ),
  );
  return make("div", { class: "row", role: "group", "aria-label": "Outcome" }, buttons);
}
