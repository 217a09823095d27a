// The timeline on the page: zoom, pointer and keyboard.

const HELP =
  "Arrow keys move from bar to bar, Enter opens a test, + and − zoom, 0 shows the whole run. " +
  "With a mouse: drag across a span to zoom, click a bar to open its test, Ctrl and wheel to zoom.";

const HOLLOW = ["held", "state"]; // drawn with an edge, which unlike a stroke is a whole pixel wide

class Chart {
  constructor({ open }) {
    this.open = open;
    this.rows = timelineRows();
    this.items = this.rows.flatMap((row) => row.items);
    this.matches = null;
    this.chosen = this.items.find((item) => item.test?.bad) ?? this.items[0];
    this.readWindow();
    this.build();
  }

  readWindow() {
    const [from, to] = ["from", "to"].map((name) => Number(view.get(name)));
    const isSpan = to > from && from >= 0;
    Object.assign(this, isSpan ? { from, to: Math.min(to, DATA.length) } : { from: 0, to: Math.max(DATA.length, 1) });
    if (this.to <= this.from) Object.assign(this, { from: 0, to: Math.max(DATA.length, 1) });
  }

  build() {
    this.status = make("p", { id: "chosen", role: "status", class: "quiet" });
    this.axis = make("div", { class: "ticks", "aria-hidden": "true" });
    this.selection = make("div", { id: "selection", hidden: true });
    this.tip = make("div", { id: "tip", hidden: true, "aria-hidden": "true" });
    this.cursor = button("", () => this.activate(), {
      id: "cursor",
      "aria-describedby": "timeline-help",
      onkeydown: (event) => this.key(event),
      onfocus: () => this.choose(this.chosen),
    });
    this.body = make(
      "div",
      { class: "rows" },
      this.rows.map((row) => this.rowElement(row)),
      this.selection,
      this.cursor,
    );
    this.chart = make(
      "div",
      { class: "chart" },
      make("div", { class: "axis" }, make("span", {}), this.axis),
      this.body,
    );
    const tools = [
      ["Zoom in", () => this.zoom(0.5)],
      ["Zoom out", () => this.zoom(2)],
      ["Earlier", () => this.pan(-0.5)],
      ["Later", () => this.pan(0.5)],
      ["Whole run", () => this.show(0, DATA.length)],
    ];
    const toolbar = make(
      "div",
      { class: "row", role: "group", "aria-label": "Zoom of the timeline" },
      tools.map(([words, action]) => button(words, action)),
    );
    const legend = make(
      "ul",
      { class: "legend" },
      MEANINGS.map(([kind, words]) =>
        make(
          "li",
          {},
          draw(
            "svg",
            { width: 16, height: 16, "aria-hidden": "true" },
            draw("rect", {
              class: kind,
              x: 1,
              y: kind === "queue" ? 5 : 1,
              width: 14,
              height: kind === "queue" ? 6 : 14,
            }),
          ),
          words,
        ),
      ),
    );
    this.element = part(
      "timeline",
      "Timeline",
      legend,
      toolbar,
      this.chart,
      this.status,
      make("p", { id: "timeline-help", class: "quiet" }, HELP),
      leaseTable(),
      this.tip,
    );
    this.label();
    this.listen();
  }

  rowElement(row) {
    row.svg = draw("svg", {
      role: "img",
      "aria-label": this.summary(row),
      height: HEIGHT,
      preserveAspectRatio: "none",
    });
    row.lane = make("div", { class: "lane" }, row.svg);
    row.element = make(
      "div",
      { class: "row-of-board" },
      make("span", { class: "board", title: row.board.name }, row.role ? `states of ${row.role}` : row.board.name),
      row.lane,
    );
    row.lane.row = row;
    return row.element;
  }

  /** Return what the picture of a row says to those who do not see it. */
  summary(row) {
    if (row.role) return `${row.board.name}, states of ${row.role}: ${count(row.items.length, "transition")}`;
    const bad = row.tests.filter((item) => item.bad).length;
    const held = row.held.reduce((all, each) => all + each.stop - each.start, 0);
    return `${row.board.name}: ${count(row.tests.length, "test")}, ${grouped(bad)} failed, held ${duration(held)}`;
  }

  listen() {
    this.seen = new IntersectionObserver(
      (entries) => {
        for (const each of entries) {
          each.target.row.isVisible = each.isIntersecting;
          if (each.isIntersecting) this.drawRow(each.target.row);
        }
      },
      { rootMargin: "300px" },
    );
    for (const row of this.rows) this.seen.observe(row.lane);
    new ResizeObserver(() => this.measure()).observe(this.axis);
    this.body.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.body.addEventListener("pointerdown", (event) => this.press(event));
    this.body.addEventListener("pointermove", (event) => this.move(event));
    this.body.addEventListener("pointerup", (event) => this.release(event));
    this.body.addEventListener("pointercancel", () => this.drop());
    this.body.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.body.addEventListener("click", (event) => this.click(event));
  }

  /** Draw anew when the width has changed. */
  measure() {
    const width = this.axis.clientWidth;
    if (width && width !== this.width) {
      this.width = width;
      this.redraw();
    }
  }

  /** Show which tests match the filters; null if all do. */
  filter(matches) {
    this.matches = matches;
    this.redraw();
  }

  redraw() {
    for (const row of this.rows) row.isDrawn = false;
    for (const row of this.rows) if (row.isVisible) this.drawRow(row);
    this.axis.replaceChildren(
      ...(this.width ? ticks(this) : []).map(({ x, words }) => {
        const tick = make("span", {}, words);
        tick.style.left = `${(100 * x) / this.width}%`;
        return tick;
      }),
    );
    this.place();
  }

  /** Draw the rows out of view as well, for a print. */
  drawAll() {
    for (const row of this.rows) this.drawRow(row);
  }

  drawRow(row) {
    if (row.isDrawn || !this.width) return;
    row.isDrawn = true;
    const { found, marks } = bars(row, this);
    const box = (kind, x, y, width, height) =>
      draw("rect", { class: kind, x: x.toFixed(2), y, width: width.toFixed(2), height });
    const nodes = found.flatMap(({ kind, dim, x, y, width, height }) => [
      box(dim ? `${kind} dim` : kind, x, y, width, height),
      HOLLOW.includes(kind) && width > 2 ? box(`inside ${kind}`, x + 1, y + 1, width - 2, height - 2) : [],
    ].flat());
    for (const { words, x, width } of found.filter((bar) => bar.words && bar.width > 8 * bar.words.length + 8))
      nodes.push(draw("text", { class: "words", x: (Math.max(x, 0) + 4).toFixed(2), y: TOP + 13 }, words));
    for (const { kind, x, width, isNarrow } of marks) {
      if (isNarrow)
        nodes.push(
          draw("rect", { class: `${kind} mark`, x: x.toFixed(2), y: TOP, width: width.toFixed(2), height: TALL }),
        );
      const middle = x + width / 2;
      nodes.push(draw("path", { class: kind, d: `M${(middle - 4).toFixed(2)} 0h8l-4 5z` }));
    }
    row.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`); // paper may be less wide than the screen
    row.svg.replaceChildren(...nodes);
  }

  /** Show the time between two moments, within the run. */
  show(from, to) {
    const whole = Math.max(DATA.length, 1);
    const span = Math.min(Math.max(to - from, 20), whole);
    this.from = Math.round(Math.min(Math.max(from, 0), whole - span));
    this.to = Math.round(this.from + span);
    const isWhole = this.from <= 0 && this.to >= whole;
    view.set({ from: isWhole ? "" : String(this.from), to: isWhole ? "" : String(this.to) });
    this.redraw();
  }

  zoom(factor, centre = this.middle()) {
    this.show(centre - (centre - this.from) * factor, centre + (this.to - centre) * factor);
  }

  pan(share) {
    const by = share * (this.to - this.from);
    this.show(this.from + by, this.to + by);
  }

  /** Return the moment that a zoom by button or key keeps in place: the chosen bar, if it is in view. */
  middle() {
    const { start } = this.chosen;
    return start >= this.from && start <= this.to ? start : (this.from + this.to) / 2;
  }

  /** Put the cursor on an item, and tell about it. */
  choose(item) {
    this.chosen = item;
    if (item.start < this.from || item.start > this.to)
      this.show(item.start - (this.to - this.from) / 2, item.start + (this.to - this.from) / 2);
    this.label();
    this.status.textContent = described(item);
    this.place();
    this.cursor.scrollIntoView({ block: "nearest" });
  }

  label() {
    this.cursor.setAttribute("aria-label", described(this.chosen).replaceAll("\n", ". "));
  }

  place() {
    const { row, start, stop } = this.chosen;
    const x = ((start - this.from) * (this.width ?? 0)) / (this.to - this.from);
    const end = Math.min(((stop - this.from) * (this.width ?? 0)) / (this.to - this.from), this.width ?? 0);
    const isInside = x >= -1 && x <= (this.width ?? 0) + 1;
    at(this.cursor, {
      left: row.lane.offsetLeft + (isInside ? x : 0) - 3,
      top: row.lane.offsetTop,
      width: Math.max(end - x, 2) + 6,
    });
  }

  activate() {
    if (this.chosen.test) this.open(this.chosen.test);
  }

  /** Lead from a test to its bar. */
  lead(test) {
    const item = this.items.find((each) => each.test === test);
    const span = Math.max(item.stop - item.start, 20);
    if ((span * this.width) / (this.to - this.from) < WIDE_TEST * 2)
      this.show(item.start - 10 * span, item.stop + 10 * span);
    this.cursor.classList.add("led");
    this.choose(item);
    this.cursor.focus();
  }

  key(event) {
    const { row } = this.chosen;
    const number = row.items.indexOf(this.chosen);
    const rowNumber = this.rows.indexOf(row);
    const inRow = (to) => row.items[Math.min(Math.max(to, 0), row.items.length - 1)];
    const nearest = (other) =>
      other
        ? other.items.reduce((best, each) =>
            Math.abs(each.start - this.chosen.start) < Math.abs(best.start - this.chosen.start) ? each : best,
          )
        : this.chosen;
    const moves = {
      ArrowRight: () => this.choose(inRow(number + 1)),
      ArrowLeft: () => this.choose(inRow(number - 1)),
      ArrowDown: () => this.choose(nearest(this.rows[rowNumber + 1])),
      ArrowUp: () => this.choose(nearest(this.rows[rowNumber - 1])),
      Home: () => this.choose(inRow(0)),
      End: () => this.choose(inRow(row.items.length)),
      "+": () => this.zoom(0.5),
      "=": () => this.zoom(0.5),
      "-": () => this.zoom(2),
      0: () => this.show(0, DATA.length),
    };
    const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : moves[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  wheel(event) {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 0.7 : 1 / 0.7, this.moment(event));
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      this.pan(event.deltaX / this.width);
    }
  }

  moment(event) {
    const left = this.axis.getBoundingClientRect().left;
    return this.from + ((event.clientX - left) * (this.to - this.from)) / this.width;
  }

  /** Return the item below the pointer: what is bad first, then tests, then the parts of a lease. */
  under(event) {
    const row = event.target.closest(".lane")?.row;
    if (!row) return undefined;
    const moment = this.moment(event);
    const slack = (3 * (this.to - this.from)) / this.width;
    const near = row.items.filter((item) => item.start <= moment + slack && item.stop >= moment - slack);
    const isOn = (item) => item.start <= moment && item.stop >= moment;
    return (
      near.find((item) => item.test?.bad) ?? near.find((item) => item.test && isOn(item)) ?? near.find(isOn) ?? near[0]
    );
  }

  press(event) {
    this.hasDragged = false;
    if (event.pointerType === "mouse" && event.button === 0 && event.target.closest(".lane"))
      this.pressed = event.clientX;
  }

  move(event) {
    if (this.pressed === undefined) {
      this.hint(event);
      return;
    }
    const [left, right] = [this.pressed, event.clientX].sort((a, b) => a - b);
    if (right - left < 5 && !this.hasDragged) return;
    this.hasDragged = true;
    this.tip.hidden = true;
    this.selection.hidden = false;
    at(this.selection, { left: left - this.body.getBoundingClientRect().left, width: right - left });
  }

  release(event) {
    if (this.pressed !== undefined && this.hasDragged) {
      const [from, to] = [this.moment({ clientX: this.pressed }), this.moment(event)].sort((a, b) => a - b);
      this.show(from, to);
    }
    this.drop();
  }

  drop() {
    this.pressed = undefined;
    this.selection.hidden = true;
  }

  click(event) {
    const item = this.hasDragged ? undefined : this.under(event);
    if (!item) return;
    this.choose(item);
    if (item.test) this.open(item.test);
  }

  /** Show beside the pointer what is below it. */
  hint(event) {
    const item = this.under(event);
    this.tip.hidden = !item;
    if (!item) return;
    this.tip.textContent = described(item);
    const [below, above] = [event.clientY + 16, event.clientY - this.tip.offsetHeight - 8];
    const left = Math.max(4, Math.min(event.clientX + 12, innerWidth - this.tip.offsetWidth - 8));
    at(this.tip, { left, top: below + this.tip.offsetHeight < innerHeight ? below : above });
  }
}

function at(element, pixels) {
  for (const [name, value] of Object.entries(pixels)) element.style[name] = `${value}px`;
  return element;
}
