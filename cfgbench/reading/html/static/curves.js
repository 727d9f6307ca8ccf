// Curves over the scale and trade-offs: traces, hover texts, legends, panels.

// What hovering over a cell says, line by line.
function pointLines(arm, label, i, names) {
  const cell = report.cells[arm.cells[i]];
  const lines = [label, scaleText(arm, arm.scales[i])];
  for (const name of names) {
    const score = cell.scores[name];
    lines.push(`${columns.get(name).label} ${score.text}`);
    if (score.interval) lines.push(`95 % interval ${score.interval.map(short).join(" to ")}`);
    if (score.gain) lines.push(`against unguided ${score.gain}${score.noise ? " (within noise)" : ""}`);
    if (arm.best[name] === arm.cells[i]) lines.push("best of its curve");
    else if (arm.tied[name]?.includes(arm.cells[i])) lines.push("tied with the best of its curve");
  }
  return [...lines, `N = ${cell.num_samples}`];
}

function htmlLines([label, ...rest]) {
  return `<b>${plain(label)}</b><br>${rest.map(plain).join("<br>")}`;
}

// The points of an arm that have all of these scores: place on the axis, cell, index on the arm.
function spots(arm, names) {
  return arm.cells
    .map((id, i) => ({ id, i, place: arm.places[i], scores: names.map((name) => report.cells[id].scores[name]) }))
    .filter((spot) => spot.scores.every(Boolean));
}

// A line whose filled points are tied with the best by one of the scores.
function lineTrace(number, label, found, names, xs, ys, by = names[0]) {
  const arm = report.arms[number];
  const [colour, marker, dash] = [ink(arm.look[0]), SYMBOLS[arm.look[1]], DASHES[arm.look[2]]];
  const tied = new Set(arm.tied[by] ?? [arm.best[by]]);
  const fill = found.map((spot) => (tied.has(spot.id) ? colour : cssColour("--page")));
  return {
    x: xs, y: ys, mode: "lines+markers", line: { color: colour, dash, width: 2 }, customdata: found.map((spot) => spot.id),
    marker: { symbol: marker, size: 8, color: fill, line: { color: colour, width: 1.6 } }, meta: number, cliponaxis: false,
    text: found.map((spot) => htmlLines(pointLines(arm, label, spot.i, names))), hovertemplate: "%{text}<extra></extra>",
    spoken: found.map((spot) => pointLines(arm, label, spot.i, names).join(", ")),
  };
}

function ringTrace(number, name, found, xs, ys) {
  const best = found.findIndex((spot) => spot.id === report.arms[number].best[name]);
  const marker = { symbol: "circle-open", size: 17, color: ink(report.arms[number].look[0]), line: { width: 1.6 } };
  return { x: [xs[best]], y: [ys[best]], mode: "markers", marker, hoverinfo: "skip", cliponaxis: false, visible: best >= 0 };
}

// The 95 % band of a curve; none where some point has no interval.
function bandTraces(number, name, found) {
  if (!found.length || found.some((spot) => !spot.scores[0].interval)) return [];
  const xs = found.map((spot) => spot.place);
  const low = Math.min(...found.map((spot) => spot.scores[0].value)) / 1e3; // of what a logarithmic axis can show
  const end = (spot, k) => (columns.get(name).log ? Math.max(low, spot.scores[0].interval[k]) : spot.scores[0].interval[k]);
  const side = (k) => ({ x: xs, y: found.map((spot) => end(spot, k)), mode: "lines", line: { width: 0 }, hoverinfo: "skip" });
  const colour = ink(report.arms[number].look[0]);
  return [side(0), { ...side(1), fill: "tonexty", fillcolor: transparent(colour, 0.18) }];
}

function transparent(colour, alpha) {
  const channels = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return `rgba(${channels.join(",")},${alpha})`;
}

// Traces of curves over the scale: all bands below all lines.
function curveTraces(lines, name) {
  const parts = lines.map(([label, number]) => {
    const found = spots(report.arms[number], [name]);
    const [xs, ys] = [found.map((spot) => spot.place), found.map((spot) => spot.scores[0].value)];
    const line = lineTrace(number, label, found, [name], xs, ys);
    return { bands: bandTraces(number, name, found), lines: [line, ringTrace(number, name, found, xs, ys)] };
  });
  return [...parts.flatMap((part) => part.bands), ...parts.flatMap((part) => part.lines)];
}

// What a figure shows, in words: each curve's best by the score that its ring goes by.
function inWords(lines, name, what, by = name) {
  const each = lines.map(([label, number]) => {
    const arm = report.arms[number];
    const i = arm.cells.indexOf(arm.best[by]);
    return i < 0 ? `${label}: no scores` : `${label}: best ${columns.get(by).label} ${report.cells[arm.cells[i]].scores[by].text} at ${scaleText(arm, arm.scales[i])}`;
  });
  return `${columns.get(name).label} ${what}. ${each.join("; ")}. Arrow keys visit the points, Enter shows a point's samples.`;
}

// The key of some curves, as text beside line samples.
function legend(lines) {
  const items = lines.map(([label, number]) => {
    const [colour, marker, dash] = report.arms[number].look;
    return el("li", {}, swatch(colour, marker, dash), el("bdi", {}, label));
  });
  return el("ul", { class: "legend" }, ...items);
}

function swatch(colour, marker, dash) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const add = (tag, attributes) => {
    const node = document.createElementNS(space, tag);
    Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
    svg.append(node);
  };
  const dashes = { "-": "none", "--": "6 4", ":": "2 3", "-.": "6 3 2 3" };
  const shapes = {
    o: "M9 7a5 5 0 1 0 10 0a5 5 0 1 0-10 0", s: "M10 3h8v8h-8z", "^": "M14 2l5 9h-10z", v: "M14 12l5-9h-10z", D: "M14 1l6 6l-6 6l-6-6z",
    P: "M12 2h4v3h3v4h-3v3h-4v-3h-3v-4h3z", X: "M10 2l4 4l4-4l2 2l-4 4l4 4l-2 2l-4-4l-4 4l-2-2l4-4l-4-4z", h: "M14 2l5 3v5l-5 3l-5-3v-5z",
  };
  const paint = colour === "#000000" ? "var(--ink)" : colour === "#666666" ? "var(--muted)" : colour;
  Object.entries({ width: 28, height: 14, "aria-hidden": "true" }).forEach(([name, value]) => svg.setAttribute(name, value));
  add("line", { x1: 0, x2: 28, y1: 7, y2: 7, style: `stroke:${paint}`, "stroke-width": 2, "stroke-dasharray": dashes[dash] });
  add("path", { d: shapes[marker] ?? shapes.o, style: `fill:${paint}` });
  return svg;
}

function curvePanel(panel, name) {
  const arms = panel.lines.map(([, number]) => report.arms[number]);
  const best = arms.map((arm) => arm.scales[arm.cells.indexOf(arm.best[name])]).filter((scale) => scale !== undefined);
  const everything = report.panels.flatMap(({ lines }) => lines.map(([, number]) => spots(report.arms[number], [name])));
  const node = figure(inWords(panel.lines, name, `over the ${scaleName(panel.axis)}`), (width) => ({
    data: curveTraces(panel.lines, name),
    layout: { xaxis: scaleAxis(arms, width, best, scaleName(panel.axis)), yaxis: valueAxis(columns.get(name), 7, everything) },
  }), 320);
  return el("div", { class: "panel" }, panelTitle(panel), legend(panel.lines), node);
}

function panelTitle(panel) {
  return panel.title ? el("h3", { dir: "auto" }, panel.title) : null;
}

// One score against another, or against the cost; x and y are columns, or null for the cost.
function planePanel(panel, x, y) {
  const names = x === null ? [y] : [x, y];
  const lead = report.columns[0].name;
  const of = (spot, name) => (name === null ? report.cells[spot.id].cost : report.cells[spot.id].scores[name].value);
  const usable = (number) => spots(report.arms[number], names).filter((spot) => x !== null || report.cells[spot.id].cost !== null);
  const all = () => panel.lines.map(([, number]) => usable(number));
  const what = x === null ? `against ${report.cost}` : `against ${columns.get(x).label}`;
  const traces = () => panel.lines.flatMap(([label, number]) => {
    const found = usable(number);
    const [xs, ys] = [x, y].map((name) => found.map((spot) => of(spot, name)));
    const line = { ...lineTrace(number, label, found, names, xs, ys, lead), ...(x === null ? { mode: "markers" } : {}) };
    return [line, ringTrace(number, lead, found, xs, ys)];
  });
  const node = figure(inWords(panel.lines, y, what, lead), () => ({
    data: [...traces(), unguidedTrace(panel, names, x, y, of)],
    layout: { xaxis: x === null ? axis(report.cost, { rangemode: "tozero" }) : planeAxis(columns.get(x), all(), 0), yaxis: planeAxis(columns.get(y), all(), names.length - 1) },
  }), 320);
  return el("div", { class: "panel" }, node);
}

function unguidedTrace(panel, names, x, y, of) {
  const ids = panel.lines.flatMap(([, number]) => report.arms[number].cells.map((id) => report.cells[id].unguided));
  const known = (id) => (x !== null || report.cells[id].cost !== null) && names.every((name) => report.cells[id].scores[name]);
  const found = [...new Set(ids)].filter((id) => id && known(id)).map((id) => ({ id, scores: report.cells[id].scores }));
  const marker = { symbol: "star", size: 14, color: cssColour("--muted"), line: { color: cssColour("--page"), width: 1 } };
  return { x: found.map((spot) => of(spot, x)), y: found.map((spot) => of(spot, y)), mode: "markers", marker, hoverinfo: "skip" };
}
