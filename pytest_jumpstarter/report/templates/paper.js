// What is printed: all failures with their output in full, whatever was open on the screen.

const PRINTED = 200; // failures at most

let unfold = () => {};

/** Return the failures as they stand on paper. */
function onPaper(failures) {
  const left = Math.max(0, failures.order.length - PRINTED);
  const printed = new Set(failures.order.slice(0, PRINTED));
  const groups = failures.groups.map((group) => group.tests.filter((test) => printed.has(test)));
  const parts = failures.groups.map((group, at) =>
    make(
      "article",
      { class: "group" },
      make("h3", { class: "reason" }, group.title),
      group.tests.length > 1 ? spread(group) : null,
      groups[at].map(testOnPaper),
    ),
  );
  const more = left ? make("p", {}, `${count(left, "more failure")} not printed; a filter chooses what is.`) : null;
  return make(
    "section",
    { id: "paper" },
    make("h2", {}, "Failures"),
    parts.filter((_, at) => groups[at].length),
    more,
  );
}

function testOnPaper(test) {
  const where = ` ${[boardNames(test), test.phases.length ? duration(test.length) : ""].filter(Boolean).join(", ")}`;
  const body = make("div", {});
  fill(body, test);
  return make(
    "div",
    { class: "printed" },
    make("p", {}, badge(test), " ", make("b", { class: "name" }, test.id), make("span", { class: "quiet" }, where)),
    body,
  );
}

/** Prepare the page for paper. */
function beforePrint(failures) {
  const closed = [...document.querySelectorAll("#problems details, #never-began, #history details")].filter(
    (each) => !each.open,
  );
  for (const each of closed) each.open = true;
  const paper = failures.order.length ? onPaper(failures) : null;
  if (paper) failures.element.before(paper);
  unfold = () => {
    paper?.remove();
    for (const each of closed) each.open = false;
  };
}

/** Undo what `beforePrint` did. */
function afterPrint() {
  unfold();
  unfold = () => {};
}
