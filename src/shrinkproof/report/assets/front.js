// The interactive front: choose both axes, point at a candidate, highlight it everywhere.

const NAMED = 16;
let view = null;

// The bundle travels compressed; the policy of this page admits exactly its unpacked text.
async function loadVega() {
  const packed = Uint8Array.from(atob(byId("vega").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const text = await new Response(stream).text();
  document.head.append(make("script", { textContent: text }));
}

function scaled(column, value) {
  return value === null ? null : value * DATA.columns[column].factor;
}

function marksOf(across, up) {
  const marks = [];
  const missing = [];
  DATA.candidates.forEach((one, c) => {
    const [a, b] = [cellOf(across, c), cellOf(up, c)];
    const gaps = [[across, a], [up, b]].filter(([, cell]) => cell.value === null);
    if (gaps.length) {
      const why = gaps.map(([column, cell]) => `${DATA.columns[column].name} ${cell.text}`);
      missing.push(`${one.name} (${why.join("; ")})`);
      return;
    }
    marks.push({
      c, kind: one.kind, chosen: one.chosen, name: one.name,
      x: scaled(across, a.value), y: scaled(up, b.value),
      x_low: scaled(across, a.low), x_high: scaled(across, a.high),
      y_low: scaled(up, b.low), y_high: scaled(up, b.high),
    });
  });
  const few = marks.length <= NAMED;
  for (const mark of marks) {
    const matters = mark.chosen || mark.kind === "front" || mark.kind === "baseline";
    mark.label = few || matters ? mark.name : "";
  }
  return [marks, missing];
}

function ends(marks, axis) {
  return marks.flatMap((m) => [m[axis], m[`${axis}_low`], m[`${axis}_high`]])
    .filter((value) => value !== null);
}

function ticks(axis, length) {
  if (!axis.log) return { tickCount: Math.max(3, Math.floor(length / 80)) };
  const span = axis.high / axis.low;
  const bases = span < 12 ? [1, 2, 3, 4, 5, 6, 8] : span < 300 ? [1, 2, 5] : [1];
  const values = [];
  for (let d = Math.floor(Math.log10(axis.low)); d <= Math.ceil(Math.log10(axis.high)); d += 1) {
    for (const base of bases) {
      const value = Number(`${base}e${d}`);
      if (axis.low <= value && value <= axis.high) values.push(value);
    }
  }
  return { values, format: "~r" };
}

function specOf(marks, columns, size) {
  const spec = structuredClone(DATA.spec);
  const axes = ["x", "y"].map((name) => axisOf(ends(marks, name)));
  spec.datasets = { marks, labels: labelsOf(marks, axes[0], axes[1], size) };
  [spec.width, spec.height] = size;
  ["x", "y"].forEach((name, i) => {
    for (const { encoding } of spec.layer) {
      const channel = encoding[name];
      channel.title = DATA.columns[columns[i]].title;
      channel.scale = {
        domain: [axes[i].low, axes[i].high], type: axes[i].log ? "log" : "linear",
        nice: false,
        ...(axes[i].log ? {} : { zero: false }),
      };
      Object.assign(channel.axis, ticks(axes[i], size[i]));
    }
  });
  return spec;
}

function sayNear(box, mark, columns) {
  const tip = byId("tip");
  const one = DATA.candidates[mark];
  const lines = [make("strong", { textContent: one.name })];
  if (one.tags.length) lines.push(make("span", { textContent: one.tags.join(", ") }));
  for (const column of columns) {
    lines.push(make("span", {
      textContent: `${DATA.columns[column].name}: ${textOf(cellOf(column, mark))}`,
    }));
  }
  for (const step of one.steps) {
    lines.push(make("span", { className: "step", textContent: step }));
  }
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const host = tip.parentElement.getBoundingClientRect();
  const middle = box.left + box.width / 2 - host.left;
  const left = Math.max(0, Math.min(middle + 14, host.width - tip.offsetWidth));
  const above = box.top - host.top - tip.offsetHeight - 10;
  const top = above > -60 ? above : box.bottom - host.top + 10;
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
}

const hideTip = () => { byId("tip").hidden = true; };

// Marks answer to mouse and keyboard alike: one stop for Tab, arrows go from mark to mark.
function wire(host, columns) {
  const svg = host.querySelector("svg");
  // The renderer's roles tell of every part of the drawing; only the marks have something to say.
  for (const part of svg.querySelectorAll("[role]")) {
    ["role", "aria-roledescription", "aria-label"].forEach((name) => part.removeAttribute(name));
  }
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", `${DATA.columns[columns[1]].name} against ${DATA.columns[columns[0]].name}`);
  const nodes = [...host.querySelectorAll(".target_marks path")]
    .filter((node) => node.__data__ && node.__data__.datum)
    .sort((a, b) => a.__data__.x - b.__data__.x);
  nodes.forEach((node, place) => {
    const { c } = node.__data__.datum;
    const told = columns.map((k) => `${DATA.columns[k].name} ${textOf(cellOf(k, c))}`).join(", ");
    node.setAttribute("role", "button");
    node.setAttribute("aria-label", `${DATA.candidates[c].name}: ${told}`);
    node.setAttribute("aria-pressed", String(c === highlighted));
    node.setAttribute("tabindex", place ? "-1" : "0");
    node.dataset.mark = c;
    const say = () => sayNear(node.getBoundingClientRect(), c, columns);
    node.addEventListener("mouseenter", say);
    node.addEventListener("mouseleave", hideTip);
    node.addEventListener("focus", say);
    node.addEventListener("blur", hideTip);
    node.addEventListener("click", () => { byId("details").origin = node; highlight(c); });
    node.addEventListener("keydown", (event) => walk(event, nodes, place));
  });
}

function walk(event, nodes, place) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    nodes[place].dispatchEvent(new MouseEvent("click"));
  } else if (event.key in steps) {
    event.preventDefault();
    const next = nodes[(place + steps[event.key] + nodes.length) % nodes.length];
    nodes[place].setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  }
}

async function draw() {
  const host = byId("front-chart");
  const columns = [Number(byId("axis-x").value), Number(byId("axis-y").value)];
  const [marks, missing] = marksOf(...columns);
  const width = host.clientWidth;
  const size = [Math.max(200, width - 76), width < 600 ? 330 : 430];
  byId("front-title").textContent = `${DATA.columns[columns[1]].name} against ${DATA.columns[columns[0]].name}.`;
  byId("front-missing").textContent = missing.length ? `Not drawn: ${missing.join("; ")}.` : "";
  hideTip();
  if (view) view.finalize();
  view = null;
  if (!marks.length) {
    host.replaceChildren(make("p", { className: "empty", textContent: "No candidate has both numbers." }));
    return;
  }
  // Expressions are interpreted, never compiled: the policy of this page forbids evaluation.
  const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, tooltip: false };
  view = (await window.vegaEmbed(host, specOf(marks, columns, size), options)).view;
  view.signal("lit", highlighted).run();
  wire(host, columns);
}

function fill(select, chosen) {
  DATA.columns.forEach((column, place) => {
    if (column.cells.some((cell) => cell.value !== null)) {
      select.append(make("option", { value: String(place), textContent: column.name, selected: place === chosen }));
    }
  });
  select.addEventListener("change", draw);
}

function followWidth(host) {
  let width = host.clientWidth;
  let waiting = 0;
  new ResizeObserver(() => {
    if (host.clientWidth === width) return;
    width = host.clientWidth;
    clearTimeout(waiting);
    waiting = setTimeout(draw, 120);
  }).observe(host);
}

async function startFront() {
  const live = byId("front-live");
  if (!live || !("DecompressionStream" in window)) return;
  await loadVega();
  const [x, y] = [byId("axis-x"), byId("axis-y")];
  fill(x, DATA.axes[0]);
  fill(y, DATA.axes[1]);
  byId("axis-reset").addEventListener("click", () => {
    [x.value, y.value] = DATA.axes.map(String);
    draw();
  });
  live.hidden = false;
  live.closest("figure").classList.add("is-live");
  onHighlight.push((who) => {
    if (view) view.signal("lit", who).run();
    for (const node of live.querySelectorAll("[data-mark]")) {
      node.setAttribute("aria-pressed", String(Number(node.dataset.mark) === who));
    }
  });
  await draw();
  followWidth(byId("front-chart"));
  live.dataset.ready = "yes";
}
