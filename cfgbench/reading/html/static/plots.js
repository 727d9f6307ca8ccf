// Plotly figures that are drawn when they come near the screen, and again for another width or theme.
const CONFIG = { displayModeBar: false, responsive: false, doubleClick: "reset" };
const SYMBOLS = {
  o: "circle", s: "square", "^": "triangle-up", D: "diamond", v: "triangle-down", P: "cross", X: "x", h: "hexagon",
  "*": "star",
};
const DASHES = { "-": "solid", "--": "dash", ":": "dot", "-.": "dashdot" };
const builders = new Map(); // figure node -> function of its width that returns data and layout
const library = unpack("library").then((source) => {
  document.head.append(el("script", {}, source));
});

const nearby = new IntersectionObserver(
  (entries) => entries.filter((e) => e.isIntersecting).forEach((e) => drawFigure(e.target)),
  { rootMargin: "600px" },
);
const resized = new ResizeObserver((entries) => {
  entries.filter((e) => e.target.data && e.target.clientWidth !== e.target.drawnWidth).forEach((e) => drawFigure(e.target));
});

// A figure; `label` is its text alternative, `build(width)` gives Plotly's data and layout.
function figure(label, build, height) {
  const node = el("div", { class: "figure", role: "group", tabindex: "0", "aria-label": label });
  node.style.height = `${height}px`;
  builders.set(node, build);
  node.addEventListener("keydown", (event) => walk(node, event));
  nearby.observe(node);
  resized.observe(node);
  return node;
}

async function drawFigure(node) {
  await library;
  if (!node.isConnected || !node.clientWidth) return;
  nearby.unobserve(node);
  node.drawnWidth = node.clientWidth;
  const { data, layout } = builders.get(node)(node.clientWidth);
  const first = !node.data;
  const size = { width: node.clientWidth, height: node.clientHeight };
  const drawn = Plotly.react(node, data, { ...baseLayout(), ...layout, ...size }, CONFIG);
  if (first) node.on("plotly_click", (event) => openPoint(event.points[0])); // before it is drawn: points can be clicked soon
  await drawn;
}

function redrawFigures() {
  builders.forEach((_, node) => node.data && drawFigure(node));
}

dark.addEventListener("change", redrawFigures);

function openPoint(point) {
  const id = point.data.customdata?.[point.pointNumber ?? point.pointIndex];
  if (id) showDetails(id, report.arms[point.data.meta]);
}

// Arrow keys go along a curve and to the next one; Enter opens the cell.
function walk(node, event) {
  const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Enter: [0, 0] };
  const move = moves[event.key];
  const curves = (node.data ?? []).map((trace, i) => (trace.customdata ? i : -1)).filter((i) => i >= 0);
  if (!move || !curves.length) return;
  event.preventDefault();
  const cursor = node.cursor ?? { curve: 0, point: move[1] > 0 ? -1 : 0 };
  const curve = (cursor.curve + move[0] + curves.length) % curves.length;
  const trace = node.data[curves[curve]];
  const point = Math.max(0, Math.min(trace.x.length - 1, cursor.point + move[1]));
  node.cursor = { curve, point };
  if (event.key === "Enter") return openPoint({ data: trace, pointNumber: point });
  Plotly.Fx.hover(node, [{ curveNumber: curves[curve], pointNumber: point }]);
  live.textContent = trace.spoken[point];
}

function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// A colour of the figures; those that vanish on a dark page take the page's own.
function ink(colour) {
  if (!dark.matches) return colour;
  return { "#000000": cssColour("--ink"), "#666666": cssColour("--muted") }[colour] ?? colour;
}

function baseLayout() {
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: cssColour("--ink") };
  const card = { bgcolor: cssColour("--raised"), bordercolor: cssColour("--line"), font };
  const clear = "rgba(0,0,0,0)";
  return {
    font, paper_bgcolor: clear, plot_bgcolor: clear, showlegend: false, hovermode: "closest", hoverdistance: 24,
    hoverlabel: { ...card, align: "left", namelength: -1 }, margin: { l: 48, r: 12, t: 8, b: 40 },
    dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false,
  };
}

function axis(title, more = {}) {
  const line = cssColour("--line");
  const muted = cssColour("--muted");
  return {
    title: title ? { text: plain(title), standoff: 6, font: { size: 12, color: muted } } : undefined, gridcolor: cssColour("--grid"),
    linecolor: line, tickcolor: line, ticks: "outside", ticklen: 4, showline: true, zeroline: false, automargin: true,
    tickfont: { size: 11, color: muted }, ...more,
  };
}

// An axis for a score with about so many labels. It shows all of the points of some curves, and their bands as far
// as a logarithmic axis can.
function valueAxis(column, labels, curves) {
  const scores = curves.flatMap((found) => found.map((spot) => spot.scores[0]));
  const lows = scores.map(({ value, interval }) => (!interval || (column.log && interval[0] < value / 2) ? value : interval[0]));
  const highs = scores.map(({ value, interval }) => interval?.[1] ?? value);
  const ends = [Math.min(...lows), Math.max(...highs)].map((end) => (column.log ? Math.log10(end) : end));
  const margin = 0.06 * (ends[1] - ends[0]) || 0.05 * Math.abs(ends[0]) || 1;
  const range = [ends[0] - margin, ends[1] + margin];
  if (!column.log) return axis(column.axis, { range, nticks: labels });
  return axis(column.axis, { type: "log", range, dtick: 3 * (range[1] - range[0]) > labels ? 1 : "D2", tickformat: "~g" });
}

// An axis of a trade-off, which has no bands.
function planeAxis(column, curves, k) {
  return valueAxis(column, 7, curves.map((found) => found.map((spot) => ({ scores: [{ value: spot.scores[k].value }] }))));
}

// Text for Plotly, which reads some tags.
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// An axis over the scales of some arms, with as many labels as have room, `first` before others.
function scaleAxis(arms, width, first, title) {
  const at = new Map(arms.flatMap((arm) => arm.scales.map((scale, i) => [scale, arm.places[i]])));
  const ordered = [...at.keys()].sort((a, b) => at.get(a) - at.get(b));
  const [low, high] = [at.get(ordered[0]), at.get(ordered.at(-1))];
  const margin = 0.05 * (high - low) || 0.1;
  const pixels = (scale) => ((at.get(scale) - low) / (high - low + 2 * margin)) * (width - 70);
  const room = (a, b) => Math.abs(pixels(a) - pixels(b)) > 3.2 * (exact(a).length + exact(b).length) + 7;
  const off = report.off[arms[0].axis];
  const spread = arms.some(({ scales, places }) => scales.some((s, i) => s !== null && Math.abs(s - off - places[i]) > 1e-6));
  const kept = [];
  for (const scale of new Set([...first, off, ordered[0], ordered.at(-1), ...ordered])) {
    if (at.has(scale) && kept.every((other) => room(scale, other))) kept.push(scale);
  }
  return axis(title && spread ? `${title} (\u221a axis)` : title, {
    range: [low - margin, high + margin], tickvals: kept.map((scale) => at.get(scale)), ticktext: kept.map(exact), showgrid: false,
    tickangle: 0,
  });
}
