// Sorting, filtering and copying the table of candidates.

const table = document.querySelector("table.candidates");
const bodies = [...table.tBodies];

function addPicks() {
  bodies.forEach((body, who) => {
    body.dataset.c = who;
    const name = body.querySelector(".name");
    const button = make("button", { type: "button", className: "pick", value: String(who) });
    button.setAttribute("aria-pressed", "false");
    button.title = "Highlight in all tables and figures";
    button.append(...name.childNodes);
    button.addEventListener("click", () => {
      byId("details").origin = button;
      highlight(who);
    });
    name.append(button);
  });
}

// Values that are missing stand last in both directions.
function order(column, direction) {
  const value = column === NONE
    ? (who) => DATA.candidates[who].name
    : (who) => cellOf(column, who).value;
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  return bodies.map((_, who) => who).sort((first, second) => {
    const [a, b] = [value(first), value(second)];
    if (a === null || b === null) return (a === null) - (b === null) || first - second;
    return direction * compare(a, b) || first - second;
  });
}

function sortBy(heading, column) {
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  const state = next[heading.getAttribute("aria-sort") || "none"];
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  if (state !== "none") heading.setAttribute("aria-sort", state);
  const places = state === "none"
    ? bodies.map((_, who) => who)
    : order(column, state === "ascending" ? 1 : -1);
  table.append(...places.map((who) => bodies[who]));
}

function addSorting() {
  [...table.tHead.rows[0].cells].forEach((heading, place) => {
    const button = make("button", { type: "button", className: "sort", title: "Sort" });
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortBy(heading, place - 1));
  });
}

function filterBy(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  bodies.forEach((body, who) => {
    const one = DATA.candidates[who];
    const text = [one.label, ...one.tags, ...one.steps].join(" ").toLowerCase();
    body.hidden = !wanted.every((word) => text.includes(word));
    count += body.hidden ? 0 : 1;
  });
  byId("count").textContent = wanted.length ? `${count} of ${bodies.length} shown` : "";
}

function quoted(text, separator) {
  return text.includes(separator) || /["\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// Numbers as measured, in the units of the run's table, with both ends of their intervals.
function asText(separator) {
  const columns = DATA.columns.slice(0, DATA.headline);
  const title = (column) => (column.unit ? `${column.name} [${column.unit}]` : column.name);
  const lines = [["candidate", ...columns.flatMap((c) => [title(c), "low", "high"])]];
  for (const body of table.tBodies) {
    if (body.hidden) continue;
    const who = Number(body.dataset.c);
    const cells = columns.map((column) => column.cells[who]);
    const numbers = cells.flatMap((cell) => [cell.value, cell.low, cell.high]);
    lines.push([DATA.candidates[who].label, ...numbers.map((v) => (v === null ? "" : String(v)))]);
  }
  return lines.map((line) => line.map((text) => quoted(text, separator)).join(separator)).join("\n");
}

// A page opened from a folder may not be allowed to use the clipboard.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function addCopying() {
  for (const [id, separator, kind] of [["copy-tsv", "\t", "TSV"], ["copy-csv", ",", "CSV"]]) {
    byId(id).addEventListener("click", async () => {
      const done = await copy(asText(separator));
      byId("copied").textContent = done ? `Copied as ${kind}` : "The browser refused to copy";
    });
  }
}

function startTable() {
  addPicks();
  addSorting();
  addCopying();
  byId("filter").addEventListener("input", (event) => filterBy(event.target.value));
  byId("table-tools").hidden = false;
}
