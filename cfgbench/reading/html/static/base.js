// What all parts share: the data, elements, formats, the live region.
// Text from outside becomes text nodes and attributes only, never markup.
const report = JSON.parse(document.getElementById("report").textContent);
const strips = JSON.parse(document.getElementById("strips").textContent);
const columns = new Map(report.columns.map((column) => [column.name, column]));
const live = document.getElementById("live");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

// Adds a section with a heading and a link to it, and returns it.
function section(id, title, intro) {
  const node = el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title));
  if (intro) node.append(el("p", { class: "intro" }, intro));
  document.querySelector("main").append(node);
  document.querySelector("nav").append(el("a", { href: `#${id}` }, title));
  return node;
}

function select(label, options, chosen, onchange) {
  const items = options.map(([value, text]) => el("option", { value, selected: value === chosen ? "" : null }, text));
  const box = el("select", { change: () => onchange(box.value) }, ...items);
  return el("label", { class: "select" }, el("span", {}, label), box);
}

function short(x) {
  return Number(x.toPrecision(3)).toString().replace("-", "\u2212");
}

// A number as people write it, whatever the rounding of doubles.
function exact(x) {
  return x === null ? "off" : Number(x.toPrecision(9)).toString().replace("-", "\u2212");
}

function scaleText(arm, scale) {
  const text = `${report.symbols[arm.axis]} = ${exact(scale)}`;
  return arm.axis === "guidance_scale" ? `${text} (w = ${exact(scale - 1)})` : text;
}

function scaleName(axis) {
  return axis === "guidance_scale" ? "guidance scale s" : report.symbols[axis];
}

// What was compressed into a script element of another type.
async function unpack(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}
