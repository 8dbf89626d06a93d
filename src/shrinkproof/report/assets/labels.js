// Where axes end and where names stand, as the static figure has them.

const PAD = 0.09;
const LOG_FROM = 6;
const LETTER = 6.4;
const COVERED = 0.1;

function axisOf(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (low > 0 && high / low > LOG_FROM) {
    const pad = (high / low) ** PAD;
    const [first, last] = [low / pad, high * pad];
    return {
      log: true, low: first, high: last,
      at: (v) => Math.log(v / first) / Math.log(last / first),
      value: (at) => first * (last / first) ** at,
    };
  }
  const pad = (high - low) * PAD || Math.abs(high) * 0.1 || 1;
  const [first, last] = [low - pad, high + pad];
  return {
    log: false, low: first, high: last,
    at: (v) => (v - first) / (last - first),
    value: (at) => first + at * (last - first),
  };
}

function overlap(a, b) {
  const across = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const down = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return across > 0 && down > 0 ? across * down : 0;
}

function bestSpot(cx, cy, length, gap, taken, size) {
  const spots = [
    [cx + gap, cy - 6.5, "left"], [cx - gap - length, cy - 6.5, "right"],
    [cx - length / 2, cy - gap - 13, "center"], [cx - length / 2, cy + gap, "center"],
    [cx + gap * 0.7, cy - gap - 9, "left"], [cx + gap * 0.7, cy + gap - 4, "left"],
    [cx - gap * 0.7 - length, cy - gap - 9, "right"],
    [cx - gap * 0.7 - length, cy + gap - 4, "right"],
    [cx - length / 2, cy - gap - 27, "center"], [cx - length / 2, cy + gap + 14, "center"],
  ];
  const cost = ([left, top]) => {
    const outside = Math.max(0, -left) + Math.max(0, left + length - size[0])
      + Math.max(0, -top) + Math.max(0, top + 13 - size[1]);
    const box = [left, top, left + length, top + 13];
    return outside * 40 + taken.reduce((sum, other) => sum + overlap(box, other), 0);
  };
  return spots.reduce((best, spot) => (cost(spot) < cost(best) ? spot : best));
}

// The important names first; a name that would cover another one moves aside, or is left out.
function labelsOf(marks, x, y, size) {
  const centers = marks.map((mark) => [x.at(mark.x) * size[0], (1 - y.at(mark.y)) * size[1]]);
  const taken = centers.map(([cx, cy]) => [cx - 7, cy - 7, cx + 7, cy + 7]);
  const rank = { baseline: 1, front: 2, control: 4 };
  const places = marks.map((_, place) => place).filter((place) => marks[place].label);
  places.sort((a, b) => (marks[b].chosen - marks[a].chosen)
    || (rank[marks[a].kind] || 3) - (rank[marks[b].kind] || 3) || a - b);
  return places.flatMap((place) => {
    const mark = marks[place];
    const length = mark.label.length * LETTER;
    const spot = bestSpot(...centers[place], length, mark.chosen ? 14 : 10, taken, size);
    const [left, top, align] = spot;
    const box = [left, top, left + length, top + 13];
    const covered = taken.reduce((sum, other) => sum + overlap(box, other), 0);
    if (!mark.chosen && covered > COVERED * length * 13) return [];
    taken.push(box);
    const anchor = { left, right: left + length, center: left + length / 2 }[align];
    return {
      c: mark.c, kind: mark.kind, chosen: mark.chosen, text: mark.label, align,
      x: x.value(anchor / size[0]), y: y.value(1 - (top + 6.5) / size[1]),
    };
  });
}
