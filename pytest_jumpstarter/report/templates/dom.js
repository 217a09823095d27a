// The report of a run. Makes elements; what boards and tests say is only added as text, so it never becomes markup.
const SVG = "http://www.w3.org/2000/svg";

/** Make an element. Attributes named `on…` are listeners; true is an attribute without a value, false is none. */
function make(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** Make an element of a picture. */
function draw(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** Return a part of the page with a heading, which links and screen readers find. */
function part(id, title, ...children) {
  return make(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    make("h2", { id: `${id}-title`, tabindex: "-1" }, title),
    ...children,
  );
}

function button(words, onclick, attributes = {}) {
  return make("button", { type: "button", onclick, ...attributes }, words);
}

/** Return a labelled choice; `options` are pairs of value and words. */
function choice(words, options, value, onchange, attributes = {}) {
  const id = `choice-${words.replaceAll(" ", "-")}`;
  const select = make("select", { id, onchange: (event) => onchange(event.target.value), ...attributes });
  for (const [each, shown] of options) select.append(make("option", { value: each, selected: each === value }, shown));
  return make("label", { class: "control" }, make("span", {}, words), select);
}

const grouped = (number) => number.toLocaleString("en");
const count = (number, noun) => `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;

/** Return milliseconds as text, as the terminal shows durations: 0.3s, 45s, 02:10, 1:02:10. */
function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)}s`;
  if (seconds < 59.5) return `${Math.round(seconds)}s`;
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${two(minutes)}:${two(rest)}`;
}
