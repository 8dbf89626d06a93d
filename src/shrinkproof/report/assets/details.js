// The strip at the foot of the window that tells about the highlighted candidate.

function describe(who) {
  const one = DATA.candidates[who];
  const facts = make("dl");
  for (let column = 0; column < DATA.headline; column += 1) {
    const cell = cellOf(column, who);
    if (cell.value === null) continue;
    facts.append(
      make("div", {}, make("dt", { textContent: DATA.columns[column].name }),
        make("dd", { textContent: textOf(cell) })),
    );
  }
  const parts = [facts];
  if (one.steps.length) {
    parts.push(make("p", { className: "steps", textContent: one.steps.join(" · ") }));
  }
  return parts;
}

function showDetails(who) {
  const box = byId("details");
  box.hidden = who === NONE;
  // The last lines of the page must stay reachable above the strip.
  document.body.style.paddingBottom = "";
  if (who === NONE) return;
  const one = DATA.candidates[who];
  byId("details-name").textContent = one.name;
  byId("details-tags").textContent = one.tags.join(", ");
  byId("details-facts").replaceChildren(...describe(who));
  document.body.style.paddingBottom = `${box.offsetHeight}px`;
}

function startDetails() {
  onHighlight.push(showDetails);
  byId("details-clear").addEventListener("click", () => {
    const { origin } = byId("details");
    highlight(highlighted);
    if (origin && origin.isConnected) origin.focus();
  });
  byId("details-row").addEventListener("click", () => {
    const button = document.querySelector(`.pick[value="${highlighted}"]`);
    if (!button) return;
    byId("filter").value = "";
    byId("filter").dispatchEvent(new Event("input"));
    button.scrollIntoView({ block: "center" });
    button.focus();
  });
}
