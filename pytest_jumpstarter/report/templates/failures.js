// Failures first: those with an equal reason together, or those of one board.

const FIRST = 5; // tests of a group that are shown at first
const MORE = 50;
const GROUPS = 50;

/** Return the groups among these tests, each with a title, its tests, and whether the title is the reason of all. */
function grouping(shown) {
  const byBoard = view.get("group") === "board";
  const found = new Map();
  for (const test of shown.filter((each) => each.bad)) {
    const key = byBoard ? boardNames(test) || "no board" : test.group;
    if (!found.has(key)) found.set(key, { title: byBoard ? key : DATA.groups[key], isReason: !byBoard, tests: [] });
    found.get(key).tests.push(test);
  }
  if (byBoard) return [...found.values()].sort((a, b) => b.tests.length - a.tests.length);
  return [...found].sort(([a], [b]) => a - b).map(([, group]) => group);
}

/** Return how the tests of a group are spread over the boards. */
function spread(group) {
  const counts = new Map();
  for (const test of group.tests)
    for (const board of new Set(test.devices.map((device) => device.board)))
      counts.set(board, (counts.get(board) ?? 0) + 1);
  const order = [...counts].sort(([, a], [, b]) => b - a);
  const words = make("p", { class: "quiet" }, outcomesOf(group));
  if (!order.length || !group.isReason) return words;
  if (order.length === 1) {
    const [[board]] = order;
    const isOnlyThere = boards.filter((each) => each.tests.length).length > 1;
    words.append(" on ", boardLink(board), isOnlyThere ? make("strong", {}, " and on no other board") : "");
    return words;
  }
  words.append(` on ${count(order.length, "board")}: `);
  order
    .slice(0, 6)
    .forEach(([board, number], at) => words.append(at ? ", " : "", boardLink(board), ` (${grouped(number)})`));
  if (order.length > 6) words.append(", …");
  return words;
}

function isAlike(group) {
  return group.isReason && new Set(group.tests.map((test) => test.reason)).size > 1;
}

function outcomesOf(group) {
  const counts = new Map();
  for (const test of group.tests) counts.set(test.words, (counts.get(test.words) ?? 0) + 1);
  return [...counts].map(([words, number]) => `${grouped(number)} ${tally(number, words)}`).join(", ");
}

function boardLink(board) {
  return make("a", { href: `#${new URLSearchParams({ board: board.name })}` }, board.name);
}

/** The failures of the tests that are shown. `order` has them as they stand on the page. */
class Failures {
  constructor(shown, { opened, changed }) {
    this.opened = opened;
    this.groups = grouping(shown);
    this.order = this.groups.flatMap((group) => group.tests);
    this.body = make("div");
    this.shownGroups = 0;
    const several = this.order.length > 1;
    const modes = [
      ["", "reason"],
      ["board", "board"],
    ];
    const control = choice("Group by", modes, view.get("group"), (value) => changed({ group: value }));
    const none = make("p", {}, hasFilter() ? "No failure matches the filters." : "None.");
    this.element = part("failures", "Failures", several ? control : null, this.order.length ? this.body : none);
    this.element.hidden = !tests.some((test) => test.bad);
    this.more = button("", () => this.showGroups(), { class: "more" });
    this.showGroups();
  }

  showGroups() {
    const next = this.groups.slice(this.shownGroups, this.shownGroups + GROUPS);
    this.shownGroups += next.length;
    this.more.remove();
    for (const group of next) this.body.append(this.groupElement(group));
    const left = this.groups.length - this.shownGroups;
    if (left) {
      this.more.textContent = `Show more: ${count(left, "group")}`;
      this.body.append(this.more);
    }
  }

  groupElement(group) {
    group.list = make("div", { class: "entries" });
    group.more = button("", () => this.showTests(group, MORE), { class: "more" });
    group.number = 0;
    group.element = make(
      "article",
      { class: "group" },
      make("h3", { class: "reason" }, group.title),
      group.tests.length > 1 ? spread(group) : null,
      isAlike(group) ? make("p", { class: "quiet" }, "The reasons differ only in names, times or addresses.") : null,
      group.list,
    );
    this.showTests(group, FIRST);
    return group.element;
  }

  showTests(group, number) {
    const next = group.tests.slice(group.number, group.number + number);
    group.number += next.length;
    group.list.append(
      ...next.map((test) => entry(test, { opened: this.opened, heading: group.isReason ? group.title : "" })),
    );
    group.more.remove();
    const left = group.tests.length - group.number;
    if (left) {
      group.more.textContent = `Show more: ${count(left, "test")} of this group`;
      group.element.append(group.more);
    }
  }

  /** Return the entry of a test; its group is shown as far as needed. */
  reveal(test) {
    const at = this.groups.findIndex((group) => group.tests.includes(test));
    if (at < 0) return null;
    while (this.shownGroups <= at) this.showGroups();
    const group = this.groups[at];
    const missing = group.tests.indexOf(test) + 1 - group.number;
    if (missing > 0) this.showTests(group, missing + FIRST);
    return group.list.querySelector(`[data-test="${test.number}"]`);
  }
}
