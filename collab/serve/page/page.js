// The page: a visitor's ratings go to the service, and its recommendations come back. What comes from the service is
// shown as text, never as HTML.

import { control, kindOf, make } from "./rating.js";
import { ItemMap } from "./map.js";

const $ = id => document.getElementById(id);
const SHARE = 0.8;      // the probability of the ranges that are shown
const N = 10, N_OPTIONS = 8, N_KNOWN = 8, ENOUGH = 3;   // recommended, found, shown to begin with, and until so many are rated
const nameOf = one => one.title ?? String(one.item), keyOf = one => String(one.item);
const rated = new Map();            // key -> {item, title, x, y, rating}; the rating is null until there is one
const hidden = new Map(), rows = new Map();
let about, kind, map, known = [], next = [], options = [], active = -1, asking, searching;

// The service ------------------------------------------------------------------------------------------------------

async function ask(path, { body, signal } = {}) {
  const post = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const reply = await fetch(path, { ...post, signal });
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.error ?? `status ${reply.status}`);
  return answer;
}

function failed(error) {
  if (error.name === "AbortError") return;
  $("error").textContent = error instanceof TypeError ? "The service does not answer. Is it still running?" : error.message;
  $("error").hidden = false;
}

async function refresh() {
  asking?.abort();
  asking = new AbortController();
  const mine = [...rated.values()].filter(one => one.rating !== null);
  if (!mine.length) return showNext([]);
  busy(true);
  map?.rest();                          // nothing is drawn that the answer would have to wait for
  const ratings = kind === "likes" ? mine.map(one => one.item)
    : Object.fromEntries(mine.map(one => [keyOf(one), one.rating]));
  const without = [...hidden.values(), ...rated.values()].filter(one => !mine.includes(one)).map(one => one.item);
  try {
    const answer = await ask("recommend", { body: { ratings, n: N, without, ...sure() }, signal: asking.signal });
    $("error").hidden = true;
    showNext(answer.items);
    performance.measure("rating to list", "rating");
    requestAnimationFrame(() => requestAnimationFrame(() => performance.measure("rating to picture", "rating")));
  } catch (error) {
    if (error.name === "AbortError") return;
    failed(error);
    busy(false);
    showMap();
  }
}

// What is shown ----------------------------------------------------------------------------------------------------

// Whether an answer is on its way that changes the list.
function busy(now) { $("recommended").setAttribute("aria-busy", String(now)); }

// Other rows for a list. The focus stays on the same button of the same item, or else of the item at its place.
function replaceRows(list, elements) {
  const controls = row => [...row.querySelectorAll("button, input, [tabindex]")];
  const held = [...list.children].findIndex(row => row.contains(document.activeElement)), before = list.children[held];
  const k = before ? controls(before).indexOf(document.activeElement) : -1;
  list.replaceChildren(...elements);
  if (k < 0) return;
  const same = elements.find(row => row.dataset.item === before.dataset.item);
  const now = same ?? elements[Math.min(held, elements.length - 1)];
  (now ? controls(now)[k] : $("search")).focus();
}

function named(one) {
  const [, name, year] = /^(.*?)( \(\d{4}\))?$/s.exec(nameOf(one));
  const shown = make("span", { class: "name" }, name || nameOf(one));
  if (year) shown.append(make("span", { class: "year" }, year));
  return shown;
}

function sure() { return about.intervals ? { interval: SHARE } : {}; }

// A predicted rating and, where the model knows it, between which ratings the visitor's own is likely to lie.
function predicted(one, score) {
  const element = make("span", { class: "score", title: "predicted rating" }, score);
  if (one.low === undefined) return element;
  const [low, high] = [one.low, one.high].map(end => String(Number(end.toFixed(1))));
  element.title = `predicted rating; with a probability of ${SHARE * 100} % yours is between ${low} and ${high}`;
  element.append(make("span", { class: "range" }, ` (${low} to ${high})`));
  return element;
}

function row(one, { rank, why, score, drop }) {
  const value = rated.get(keyOf(one))?.rating ?? null;
  const rating = kind ? control(about.scale, nameOf(one), value, value => rate(one, value)) : null;
  const what = make("span", { class: "what" }, named(one));
  if (why) what.append(make("span", { class: "why" }, why[0], make("b", {}, why[1])));
  const element = make("li", { "data-item": keyOf(one) }, ...(rank ? [make("span", { class: "rank" }, String(rank))] : []), what);
  const does = make("span", { class: "does" });
  if (score !== undefined) does.append(predicted(one, score));
  if (rating) does.append(rating.element);
  const shown = make("span", { class: "value", "aria-hidden": "true" }, value === null ? "" : String(value));
  if (drop && kind === "stars") does.append(shown);
  if (drop || rank) {
    const label = drop ? `Remove ${nameOf(one)}` : `Do not recommend ${nameOf(one)}`;
    const button = make("button", { type: "button", class: "icon", "aria-label": label, title: drop ? "Remove" : "Not for me" }, "×");
    button.addEventListener("click", () => drop ? remove(one) : hide(one));
    if (kind) does.append(button);
  }
  element.append(does);
  return { element, show: value => { rating.show(value); shown.textContent = value ?? ""; }, focus: () => rating.element.focus() };
}

function showRated() {
  for (const [key, one] of rated) {
    if (!rows.has(key)) {
      rows.set(key, row(one, { drop: true }));
      $("rated").prepend(rows.get(key).element);
    }
    rows.get(key).show(one.rating);
  }
  for (const [key, shown] of rows) if (!rated.has(key)) { shown.element.remove(); rows.delete(key); }
  $("yours").hidden = !rated.size;
  const left = known.filter(one => !rated.has(keyOf(one))).slice(0, N_KNOWN);
  $("start").hidden = rated.size >= ENOUGH || !left.length;
  if (!$("start").hidden) replaceRows($("known"), left.map(one => row(one, {}).element));
  else if ($("start").contains(document.activeElement)) $("search").focus();
}

function showMap() { map?.show([...rated.values()], next); }

function reason(why) {
  const own = kind === "likes" ? "because you chose " : "because you rated ";
  return why === null || why === undefined ? null : [kind ? own : "because of ", why];
}

function showNext(items) {
  const before = new Set(next.map(keyOf));
  next = items;
  replaceRows($("recommended"), items.map(one => {
    const score = about.scale ? one.score.toFixed(1) : undefined;
    const { element } = row(one, { rank: one.rank, why: reason(one.why), score });
    if (before.size && !before.has(keyOf(one))) element.classList.add("fresh");
    return element;
  }));
  busy(false);
  $("nothing").hidden = items.length > 0;
  if (items.length) say(`Recommended now: ${items.slice(0, 3).map(nameOf).join("; ")}`);
  showMap();
}

function say(text) { $("live").textContent = text; }

// What a visitor does ----------------------------------------------------------------------------------------------

function rate(one, value) {
  performance.mark("rating");
  const key = keyOf(one), fresh = !rated.has(key);
  if (value === null && kind === "likes") return remove(one);
  if (fresh) rated.set(key, { item: one.item, title: one.title, x: one.x, y: one.y, rating: null });
  rated.get(key).rating = value;
  hidden.delete(key);
  changed();
  if (fresh && kind !== "likes") rows.get(key).focus();
}

function add(one) {
  closeOptions();
  $("search").value = "";
  if (kind === "likes") {
    if (!rated.has(keyOf(one))) rate(one, 1);
    return say(`${nameOf(one)} added`);
  }
  if (!rated.has(keyOf(one))) {
    rated.set(keyOf(one), { item: one.item, title: one.title, x: one.x, y: one.y, rating: null });
    showRated();
    showMap();
  }
  rows.get(keyOf(one)).focus();
}

function remove(one) {
  performance.mark("rating");
  rated.delete(keyOf(one));
  changed();
  say(`${nameOf(one)} removed`);
  $("search").focus();
}

function hide(one) {
  performance.mark("rating");
  hidden.set(keyOf(one), one);
  changed();
}

function changed() {
  const answered = refresh();       // the request is on its way while the rest is drawn
  showRated();
  keep();
  return answered;
}

function keep() {
  try {
    const kept = { rated: [...rated.values()], hidden: [...hidden.values()] };
    if (rated.size || hidden.size) localStorage.setItem(`collab ${about.key}`, JSON.stringify(kept));
    else localStorage.removeItem(`collab ${about.key}`);
  } catch { /* a browser that keeps nothing */ }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(`collab ${about.key}`) ?? "{}");
    for (const one of kept.rated ?? []) rated.set(keyOf(one), one);
    for (const one of kept.hidden ?? []) hidden.set(keyOf(one), one);
  } catch { rated.clear(); hidden.clear(); }
}

// The file of ratings. It is read back by its ids, which therefore stay as they are: one that begins with = + - or @ is
// a formula to a spreadsheet. Titles are there for people, and get an apostrophe before such a sign (OWASP, CSV Injection).
function download() {
  const cell = text => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const safe = text => /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  const titled = about.titles, columns = ["item", ...(kind === "likes" ? [] : ["rating"]), ...(titled ? ["title"] : [])];
  const lines = [...rated.values()].filter(one => one.rating !== null).map(one =>
    columns.map(name => cell(name === "title" ? safe(nameOf(one)) : String(one[name]))).join(","));
  const link = make("a", { download: "ratings.csv" });
  link.href = URL.createObjectURL(new Blob([[columns.join(","), ...lines, ""].join("\r\n")], { type: "text/csv" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Search -----------------------------------------------------------------------------------------------------------

const wanted = () => $("search").value.trim().slice(0, 200);

async function search() {
  searching?.abort();
  const text = wanted();
  if (!text) return closeOptions();
  searching = new AbortController();
  try {
    const answer = await ask(`search?q=${encodeURIComponent(text)}&n=${N_OPTIONS}`, { signal: searching.signal });
    showOptions(answer.items);
    $("options").dataset.text = text;
  } catch (error) { failed(error); }
}

function showOptions(found) {
  options = found;
  $("options").replaceChildren(...found.map((one, k) => {
    const option = make("li", { role: "option", id: `option-${k}` }, named(one));
    option.addEventListener("pointerdown", event => { event.preventDefault(); add(one); });
    option.addEventListener("pointermove", () => choose(k));
    return option;
  }));
  if (!found.length) $("options").append(make("li", { class: "none" }, "Nothing has this in its title"));
  $("options").hidden = false;
  $("search").setAttribute("aria-expanded", "true");
  choose(found.length ? 0 : -1);
}

function choose(k) {
  active = k;
  [...$("options").children].forEach((option, other) => option.setAttribute("aria-selected", String(other === k)));
  if (k < 0) return $("search").removeAttribute("aria-activedescendant");
  $("search").setAttribute("aria-activedescendant", `option-${k}`);
  $("options").children[k].scrollIntoView({ block: "nearest" });
}

function closeOptions() {
  searching?.abort();
  options = [];
  $("options").hidden = true;
  $("search").setAttribute("aria-expanded", "false");
  choose(-1);
}

function onSearchKey(event) {
  if (event.isComposing) return;
  const moves = { ArrowDown: 1, ArrowUp: -1 };
  if (event.key in moves && options.length) choose((active + moves[event.key] + options.length) % options.length);
  else if (event.key === "Enter" && active >= 0 && $("options").dataset.text === wanted()) add(options[active]);
  else if (event.key === "Escape" && !$("options").hidden) closeOptions();
  else return;
  event.preventDefault();
}

function onKey(event) {
  const field = event.target.matches("input");
  const back = (event.key === "/" && !field) || ((event.key === "Enter" || event.key === "Escape") && event.target.matches(".stars, .number"));
  if (!back || event.ctrlKey || event.metaKey || event.altKey || !kind) return;
  event.preventDefault();
  $("search").focus();
}

// The beginning ----------------------------------------------------------------------------------------------------

function explainKeys() {
  const key = text => make("kbd", {}, text);
  const { low, high, step } = about.scale ?? {};
  const digits = [key(String(Math.max(1, Math.ceil(low)))), " to ", key(String(Math.min(9, Math.floor(high)))), " rate, "];
  const then = { likes: [key("Enter"), " adds."], number: [key("Enter"), " adds; type a rating."],
    stars: [key("Enter"), " adds; ", ...digits, key("←"), " ", key("→"), step < 1 ? " by halves, " : " adjust, ", key("/"), " searches again."] };
  $("keys").append(key("↑"), " ", key("↓"), " choose, ", ...then[kind]);
}

async function openMap() {
  map = new ItemMap($("map"), one => { if (kind) add(one); });
  $("map-room").hidden = false;
  map.items = (await ask("map")).items;
  showMap();
}

async function showUser(event) {
  event.preventDefault();
  busy(true);
  try {
    const { items } = await ask(`recommend?user=${encodeURIComponent($("user-id").value.trim())}&n=${N}${about.intervals ? `&interval=${SHARE}` : ""}`);
    $("error").hidden = true;
    $("nothing").textContent = "Nothing is left to recommend.";
    showNext(items);
  } catch (error) { showNext([]); failed(error); }
}

async function begin() {
  about = await ask("health");
  kind = about.visitors ? kindOf(about.scale) : null;
  $("about").textContent = `${about.items.toLocaleString("en")} ${about.titles ? "titles" : "items"}, by ${about.model}`
    + (about.users ? `, learned from ${about.users.toLocaleString("en")} people` : "");
  if (about.map) openMap().catch(failed);
  if (!kind) {
    $("user").hidden = false;
    $("why-not").textContent = `${about.why_not}.`;
    $("taste").textContent = "A user's taste";
    $("around").textContent = "Around this taste";
    $("legend-mine").parentElement.hidden = true;
    $("nothing").textContent = "Recommendations for a known user come here.";
    $("user").addEventListener("submit", showUser);
    return busy(false);
  }
  $("visitor").hidden = false;
  if (!about.titles) $("search-label").textContent = "Search ids";
  if (kind === "likes") [$("yours-head").textContent, $("legend-mine").textContent] = ["Your choices", "chosen by you"];
  $("nothing").textContent = kind === "likes" ? "Choose something you like, and recommendations come here."
    : "Rate something you know, and recommendations come here.";
  explainKeys();
  $("search").addEventListener("input", search);
  $("search").addEventListener("keydown", onSearchKey);
  $("search").addEventListener("blur", closeOptions);
  $("search").addEventListener("focus", search);
  document.addEventListener("keydown", onKey);
  $("download").addEventListener("click", download);
  $("clear").addEventListener("click", () => { rated.clear(); hidden.clear(); changed(); say("All ratings cleared"); $("search").focus(); });
  recall();
  showRated();
  known = (await ask("items?n=30")).items;
  showRated();
  performance.mark("rating");
  await refresh();
}

begin().catch(error => { failed(error); busy(false); });
