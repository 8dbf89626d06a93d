// What all parts share: the page's own data, and which candidate is highlighted.

const DATA = JSON.parse(document.getElementById("page-data").textContent);
const NONE = -1;
const byId = (id) => document.getElementById(id);

// Text goes into nodes as text: names of candidates and steps are input, never markup.
function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const cellOf = (column, who) => DATA.columns[column].cells[who];
const textOf = (cell) => (cell.interval ? `${cell.text} (${cell.interval})` : cell.text);

let highlighted = NONE;
const onHighlight = [];

function highlight(who) {
  highlighted = who === highlighted ? NONE : who;
  document.documentElement.classList.toggle("highlighting", highlighted !== NONE);
  for (const node of document.querySelectorAll("[data-c]")) {
    node.classList.toggle("lit", Number(node.dataset.c) === highlighted);
  }
  for (const button of document.querySelectorAll(".pick")) {
    button.setAttribute("aria-pressed", String(Number(button.value) === highlighted));
  }
  onHighlight.forEach((told) => told(highlighted));
}

// Sections name their candidates in row headings and captions; figures carry numbers already.
function nameParts() {
  const known = new Map(DATA.candidates.map((one, who) => [one.name, who]));
  const heads = "tbody th, figcaption > strong, .pair > h4, #looks h4, #answer dt, .hit h4";
  for (const head of document.querySelectorAll(heads)) {
    const name = (head.querySelector(".name") || head.firstChild || head).textContent.trim();
    if (!known.has(name)) continue;
    const part = head.closest("tr, figure, .pair") || head;
    part.dataset.c = known.get(name);
    head.classList.add("names");
  }
}

function pickFromAnywhere(event) {
  if (event.target.closest(".pick, a, summary, .live")) return; // these answer for themselves
  const head = event.target.closest("svg [data-c], .names, li[data-c]");
  const part = head && head.closest("[data-c]");
  if (part) highlight(Number(part.dataset.c));
}
