// The sections below the slider: curves, trade-offs, arms side by side, speed, health, failures, tables, provenance.
const PARTS = [["denoiser_p50_s", "network", "#0072B2"], ["classifier_p50_s", "classifier", "#D55E00"], ["rest", "guidance and sampler", "#BBBBBB"], ["decode_p50_s", "decoder", "#56B4E9"]];
const FIRST_CARDS = 8;
const SHORT_TABLE = 40; // rows; longer tables start closed

function buildCurves() {
  const node = section("curves", "Curves", "Filled points are tied with the best of their curve, a ring marks the best, bands are 95 % intervals. Click a point, or press Enter on it, to see its samples.");
  const grid = el("div", { class: "panels" });
  const draw = (name) => grid.replaceChildren(...report.panels.map((panel) => curvePanel(panel, name)));
  node.append(select("score", report.columns.map(({ name, label }) => [name, label]), report.columns[0].name, draw), grid);
  draw(report.columns[0].name);
}

function buildTradeoffs() {
  const headline = report.columns[0].name;
  const costs = new Set(Object.values(report.cells).map((cell) => cell.cost).filter((cost) => cost !== null));
  const pairs = [...report.pairs, ...(costs.size > 2 ? [[null, headline]] : [])];
  if (!pairs.length) return;
  const node = section("tradeoffs", "Trade-offs", `Each curve runs through its scales. A ring marks its best ${columns.get(headline).label} in every panel, filled points are tied with that; the star is unguided sampling.`);
  const plane = (panel) => el("div", { class: "plane" }, legend(panel.lines), el("div", { class: "panels" }, ...pairs.map((pair) => planePanel(panel, ...pair))));
  if (report.planes.length === 1) node.append(plane(report.planes[0]));
  else node.append(...report.planes.map((panel) => later(panel.title, () => [plane(panel)])));
  node.querySelector("details")?.setAttribute("open", "");
}

function buildCards() {
  const name = report.columns[0].name;
  const sign = report.columns[0].lower_is_better ? 1 : -1;
  const of = (arm) => report.cells[arm.best[name]]?.scores[name];
  const arms = report.arms.filter((arm) => of(arm)).sort((a, b) => sign * (of(a).value - of(b).value));
  if (arms.length < 2) return;
  const node = section("side-by-side", "Side by side", `Each curve at its best scale by ${report.columns[0].label}, the same noise everywhere where the model is the same.`);
  node.append(el("div", { class: "cards" }, ...arms.slice(0, FIRST_CARDS).map((arm) => card(arm, name))));
  if (arms.length > FIRST_CARDS) {
    const rest = arms.slice(FIRST_CARDS);
    node.append(later(`${rest.length} more curve${rest.length === 1 ? "" : "s"}`, () => [el("div", { class: "cards" }, ...rest.map((arm) => card(arm, name)))]));
  }
}

function card(arm, name) {
  const id = arm.best[name];
  const open = el("button", { class: "link", click: () => showDetails(id, arm) }, scaleText(arm, arm.scales[arm.cells.indexOf(id)]));
  const values = report.explored.filter((other) => report.cells[id].scores[other]).map((other) => `${columns.get(other).label} ${report.cells[id].scores[other].text}`);
  const picture = hasPictures(id) ? samplesOf(id, `Samples of ${arm.label} at its best scale`) : null;
  return el("article", { class: "card" }, el("h3", { dir: "auto" }, swatch(...arm.look), " ", el("bdi", {}, arm.label)), el("p", {}, open), picture, el("p", { class: "small" }, values.join(" \u00b7 ")));
}

// Content that is made when it is first opened.
function later(title, build) {
  const node = el("details", {}, el("summary", {}, title));
  node.addEventListener("toggle", () => { if (node.open && node.children.length === 1) node.append(...build()); });
  return node;
}

function buildSpeed() {
  if (!report.speed.length) return;
  const node = section("speed", "Speed and memory", "Median milliseconds per image from noise to image, by part; the ratio is to unguided sampling of the same model on the same machine.");
  const used = PARTS.filter(([key]) => report.speed.some((row) => row.measured && part(row, key) > 0));
  node.append(el("ul", { class: "legend" }, ...used.map(([, label, colour]) => el("li", {}, block16(colour), label))));
  for (const size of [...new Set(report.speed.map((row) => row.batch_size))].sort((a, b) => a - b)) {
    const rows = report.speed.filter((row) => row.batch_size === size);
    const longest = Math.max(...rows.map((row) => row.seconds_per_image ?? 0));
    node.append(el("h3", {}, `batch ${size}`), el("div", { class: "bars" }, ...rows.map((row) => bar(row, longest))));
  }
}

function block16(colour) {
  const node = el("span", { class: "block", "aria-hidden": "true" });
  node.style.background = colour;
  return node;
}

function part(row, key) {
  const named = PARTS.slice(0, 2).concat(PARTS.slice(3)).map(([name]) => row[name] ?? 0);
  return key === "rest" ? Math.max(0, row.latency_p50_s - named.reduce((a, b) => a + b)) : row[key] ?? 0;
}

// What tells a row from the others. To have no sampler is no other sampler; the usual way to execute goes unsaid.
function costClass(row) {
  const says = {
    method: report.methods[row.method] ?? row.method, model: row.model, sampler: row.sampler, steps: row.steps && `${row.steps} steps`,
    dtype: row.dtype, state_dtype: row.state_dtype && `state ${row.state_dtype}`, execution: row.execution, batched: row.batched ? "one batched pass" : "two passes",
  };
  const same = (other) => Object.keys(says).every((key) => key === "batched" || other[key] === row[key]);
  const others = (key) => (key === "batched" ? report.speed.filter(same) : report.speed);
  const values = (key) => others(key).map((other) => other[key]).filter((value) => (value ?? null) !== null);
  const differs = (key) => ["method", "execution"].includes(key) || new Set(values(key)).size > 1;
  return Object.keys(says).filter((key) => says[key] && differs(key)).map((key) => says[key]).join(", ");
}

function bar(row, longest) {
  const label = el("span", { class: "bar-label", dir: "auto" }, costClass(row));
  const memory = `weights ${short(row.weights_memory_bytes / 1e6)} MB` + (row.activation_memory_bytes === null ? "" : `, activations ${short(row.activation_memory_bytes / 1e6)} MB`);
  const track = el("div", { class: "bar", "aria-hidden": "true" });
  for (const [key, name, colour] of row.measured ? PARTS : []) {
    const piece = el("span", { title: `${name} ${short((1e3 * part(row, key)) / row.batch_size)} ms` });
    piece.style.cssText = `background:${colour};width:${(100 * part(row, key)) / row.batch_size / longest}%`;
    track.append(piece);
  }
  const ratio = row.ratio_to_unguided === null ? "" : ` \u00b7 ${short(row.ratio_to_unguided)}\u00d7 unguided`;
  const time = row.measured ? `${short(1e3 * row.seconds_per_image)} ms${ratio}` : "not measured (emulated)";
  return el("div", { class: "bar-row" }, label, track, el("span", { class: "bar-value" }, time, el("span", { class: "small" }, ` \u00b7 ${memory}`)));
}

function buildHealth() {
  if (!report.health.length) return;
  const node = section("health", "Sample health");
  const broken = report.health.filter((row) => row.nan + row.constant + row.saturated > 0);
  const shares = report.health.map((row) => row.clipped).filter((share) => share !== null);
  const clipped = Math.max(0, ...shares) > 0 ? ` Values at the ends of their range: ${share(Math.min(...shares))} to ${share(Math.max(...shares))} per cell.` : "";
  node.append(el("p", {}, broken.length ? `${broken.length} of ${report.health.length} cells have broken samples.${clipped}` : `No NaN, constant or saturated samples in ${report.health.length} cells.${clipped}`));
  const header = ["cell", "samples", "NaN", "constant", "saturated", "clipped values"];
  const body = (rows) => rows.map((row) => [row.title, row.num_samples, row.nan, row.constant, row.saturated, row.clipped === null ? "" : share(row.clipped)].map((item) => [String(item), ""]));
  if (broken.length) node.append(tableOf({ caption: "Cells with broken samples.", header, rows: body(broken) }));
  node.append(later("All cells", () => [tableOf({ caption: "", header, rows: body(report.health) })]));
}

function share(x) {
  return `${short(100 * x)} %`;
}

function buildFailures() {
  if (!report.failures.length) return;
  const node = section("failures", "Failures", "These cells raised; running the same command again tries them again.");
  for (const { title, reason, traceback } of report.failures) {
    const summary = el("summary", {}, el("b", { dir: "auto" }, title), " \u2014 ", el("bdi", {}, reason));
    node.append(el("details", { class: "failure" }, summary, el("pre", { dir: "ltr", tabindex: "0" }, traceback)));
  }
}

async function buildTables() {
  const { claims, ...others } = report.tables;
  if (claims) section("claims", "Claims").append(tableOf(claims));
  const node = section("tables", "Tables");
  for (const [name, table] of Object.entries(others)) {
    const title = name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
    const details = later(`${title} (${table.rows.length} rows)`, () => [tableOf(table)]);
    node.append(details);
    details.open = ["best", "methods", "equal_cost"].includes(name) && table.rows.length <= SHORT_TABLE;
  }
  const files = JSON.parse(await unpack("csv"));
  const buttons = Object.entries(files).map(([name, text]) => el("button", { class: "download", click: () => download(name, text) }, name));
  node.append(el("p", { class: "downloads" }, "Download as CSV: ", ...buttons));
}

// A table with marks; wide ones scroll on their own, above a caption that does not.
const LONG = 30; // characters of a cell that may wrap

function tableOf({ caption, header, rows }) {
  const looks = (text, mark) => [mark, text.length > LONG ? "prose" : ""].filter(Boolean).join(" ") || null;
  const cell = ([text, mark], i) => el(i ? "td" : "th", { class: looks(text, mark), dir: "auto", scope: i ? null : "row" }, text);
  const head = el("tr", {}, ...header.map((text) => el("th", { scope: "col" }, text)));
  const body = rows.map((row) => el("tr", {}, ...row.map(cell)));
  const table = el("table", {}, el("thead", {}, head), el("tbody", {}, ...body));
  const scroll = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption || "table" }, table);
  return el("figure", {}, scroll, caption ? el("figcaption", {}, caption) : null);
}

function download(name, text) {
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function buildNotes() {
  if (report.notes.length) section("notes", "Notes").append(el("ul", {}, ...report.notes.map((note) => el("li", { dir: "auto" }, note))));
  const node = section("provenance", "Provenance");
  if (report.command) node.append(el("p", {}, "Made by ", el("code", { dir: "ltr" }, report.command), "; run it at the commit below to reproduce."));
  node.append(el("ul", { class: "small" }, ...report.provenance.map((line) => el("li", { dir: "auto" }, line))));
}
