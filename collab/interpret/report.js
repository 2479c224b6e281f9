"use strict";

(() => {

// Tables as CSV. Where the browser gives a page from the disk no clipboard, an older way is tried, and then a file.

const quoted = text => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;

// A spreadsheet would take text that begins so for a formula; numbers stay as they are.
const safe = text => /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;

const csvOf = table => [...table.rows].map(row => [...row.cells].map(
  cell => quoted(cell.dataset.v ?? safe(cell.textContent))).join(",") + "\n").join("");

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* there is no clipboard, or the page may not use it */ }
  const area = Object.assign(document.createElement("textarea"), {value: text, readOnly: true, className: "hidden"});
  const before = document.activeElement;
  document.body.append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    area.remove();
    before?.focus({preventScroll: true});
  }
}

function saved(text, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", text], {type: "text/csv"}));
  link.download = `${name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").toLowerCase() || "table"}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

document.addEventListener("click", async event => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const table = button.closest("figure").querySelector("table"), name = table.caption.textContent, text = csvOf(table);
  const done = await copied(text);
  if (!done) saved(text, name);
  button.textContent = done ? "Copied" : "Saved";
  button.classList.add("done");
  document.getElementById("said").textContent = `${name}: ${done ? "copied" : "saved"} as CSV`;
  setTimeout(() => { button.textContent = "Copy CSV"; button.classList.remove("done"); }, 2000);
});

// The map: its data and Vega's libraries are in the page, compressed.

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), letter => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function fitted(spec, room, dark) {
  let text = JSON.stringify(spec);
  if (dark) text = text.replaceAll('"#dddddd"', '"#3a424b"').replaceAll('"black"', '"#ffffff"');
  const made = Object.assign(JSON.parse(text), {align: "none", bounds: "full"}), ink = colour("ink"), soft = colour("soft");
  made.background = "transparent";
  made.config = {...made.config, font: getComputedStyle(document.body).fontFamily, view: {stroke: colour("line")},
    axis: {labelColor: soft, titleColor: soft, gridColor: colour("line"), domainColor: soft, tickColor: soft},
    legend: {labelColor: ink, titleColor: soft}, title: {color: ink, subtitleColor: soft}, text: {color: ink}};
  const map = made.hconcat ? made.hconcat.at(-1) : made;
  if (room < 900) {
    if (made.hconcat) {
      const list = made.hconcat[0], [, rows] = list.layer, names = -rows.encoding.x.value;
      for (const layer of list.layer) {       // names to the right of the bars, since they would move the map
        if (layer.encoding.y) layer.encoding.y.axis = {...layer.encoding.y.axis, orient: "right"};
      }
      rows.encoding.x.value = 0;
      rows.encoding.x2.value += names;
      made.vconcat = [map, list];
      delete made.hconcat;
    }
    map.width = Math.min(620, room - 12);
    map.height = Math.round(map.width * 1.1);
    made.config.legend = {...made.config.legend, orient: "bottom", columns: Math.max(2, Math.floor(room / 130))};
  } else {
    map.width = Math.min(820, room - 420);
  }
  return made;
}

async function drawMap() {
  const map = document.getElementById("map");
  if (!map) return;
  let spec;
  try {
    spec = JSON.parse(await unpacked("spec"));
    new Function(await unpacked("vega"))();
  } catch (error) {
    map.textContent = "This browser is too old to draw the map.";
    throw error;
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let drawn = "";
  const draw = async () => {
    const room = map.parentElement.clientWidth, now = `${room} ${dark.matches}`;
    if (now === drawn) return;
    drawn = now;
    window.view?.finalize();
    const result = await vegaEmbed(map, fitted(spec, room, dark.matches),
                                   {actions: false, renderer: "canvas", tooltip: {theme: dark.matches ? "dark" : "light"}});
    window.view = result.view;
  };
  await draw();
  let waiting = 0;
  const again = () => { clearTimeout(waiting); waiting = setTimeout(draw, 200); };
  dark.addEventListener("change", again);
  window.addEventListener("resize", again);
}

drawMap();

})();
