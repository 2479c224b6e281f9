// How a visitor rates: stars for scales of up to ten, a number for others, a heart where items are only chosen.

const SVG = "http://www.w3.org/2000/svg";
const STAR = "M12 2.6l2.9 6 6.5.9-4.7 4.6 1.1 6.5L12 17.5l-5.8 3.1 1.1-6.5L2.6 9.5l6.5-.9z";
const HEART = "M12 20.5S3.5 15.3 3.5 9.2A4.7 4.7 0 0 1 12 6.4a4.7 4.7 0 0 1 8.5 2.8c0 6.1-8.5 11.3-8.5 11.3z";

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);              // text becomes text, whatever is in it
  return element;
}

function drawing(path) {
  const svg = document.createElementNS(SVG, "svg"), shape = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

// The kind of a scale: "likes", "stars" or "number".
export function kindOf(scale) {
  if (!scale) return "likes";
  return scale.step && scale.low >= 0 && scale.high >= 2 && scale.high <= 10 && scale.step >= 0.25 ? "stars" : "number";
}

// A control for one item. `rate(value)` is called with each new value, null to take it back.
export function control(scale, name, value, rate) {
  const made = { likes: like, stars, number }[kindOf(scale)](scale, name, rate);
  made.show(value);
  return made;
}

function like(scale, name, rate) {
  const element = make("button", { type: "button", class: "icon like", "aria-label": `Like ${name}` }, drawing(HEART));
  const show = value => element.setAttribute("aria-pressed", String(value !== null));
  element.addEventListener("click", () => rate(element.getAttribute("aria-pressed") === "true" ? null : 1));
  return { element, show };
}

function number(scale, name, rate) {
  const ends = `${Number(scale.low.toFixed(2))} to ${Number(scale.high.toFixed(2))}`;
  const element = make("input", { type: "number", class: "number", min: scale.low, max: scale.high,
    step: scale.step ?? "any", inputmode: "decimal", "aria-label": `Your rating of ${name}, ${ends}` });
  element.addEventListener("change", () => {
    if (element.value === "") rate(null);
    else if (element.checkValidity()) rate(Number(element.value));
    else element.reportValidity();
  });
  return { element, show: value => { element.value = value ?? ""; } };
}

function stars(scale, name, rate) {
  const n = Math.ceil(scale.high), low = Math.max(scale.low, scale.step);
  const full = make("span", { class: "full" });
  const element = make("span", { class: n > 5 ? "stars many" : "stars", role: "slider", tabindex: "0",
    "aria-label": `Your rating of ${name}`, "aria-valuemin": scale.low, "aria-valuemax": scale.high });
  for (let k = 0; k < n; k++) { element.append(drawing(STAR)); full.append(drawing(STAR)); }
  element.append(full);
  let now = null;
  const onStep = value => scale.low + Math.round((value - scale.low) / scale.step) * scale.step;
  const inside = value => Math.min(scale.high, Math.max(scale.low, Number(onStep(value).toFixed(4))));
  const fill = value => { full.style.width = `${100 * (value ?? 0) / n}%`; };
  const show = value => {
    now = value;
    fill(value);
    element.classList.toggle("unset", value === null);
    element.setAttribute("aria-valuenow", value ?? scale.low);
    element.setAttribute("aria-valuetext", value === null ? "not rated" : `${value} of ${scale.high}`);
  };
  const at = event => {
    const box = element.getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
    return Math.max(low, inside(Math.ceil(Math.max(share, 0.01) * n / scale.step) * scale.step));
  };
  const middle = inside((scale.low + scale.high) / 2);
  const keys = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
  element.addEventListener("pointermove", event => { if (event.pointerType === "mouse") fill(at(event)); });
  element.addEventListener("pointerleave", () => fill(now));
  element.addEventListener("click", event => rate(at(event)));
  element.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    let value;
    if (event.key in keys) value = now === null ? middle : inside(now + keys[event.key] * scale.step);
    else if (event.key === "Home") value = scale.low;
    else if (event.key === "End") value = scale.high;
    else if (event.key === "Delete" || event.key === "Backspace") value = null;
    else if (/^[0-9]$/.test(event.key)) {
      value = event.key === "0" && scale.high >= 10 ? 10 : Number(event.key);
      if (value < scale.low || value > scale.high || inside(value) !== value) return;
    } else return;
    event.preventDefault();
    rate(value);
  });
  return { element, show };
}
