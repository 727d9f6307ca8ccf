// The drawer with all that is known of one cell. Escape closes it and gives the focus back.
const drawer = document.querySelector(".drawer");
let opener = null;

function showDetails(id, arm) {
  if (drawer.hidden) opener = document.activeElement;
  const cell = report.cells[id];
  const i = arm.cells.indexOf(id);
  const close = el("button", { class: "close", "aria-label": "Close details", click: hideDetails }, "\u00d7");
  const title = el("h2", { id: "drawer-title", tabindex: "-1", dir: "auto" }, i < 0 ? cell.title : scaleText(arm, arm.scales[i]));
  drawer.replaceChildren(close, title, el("p", { class: "small", dir: "auto" }, i < 0 ? cell.title : `${arm.label} \u00b7 ${cell.title}`));
  drawer.append(...pictureParts(id, cell), scoreTable(arm, id, cell), factList(cell));
  drawer.dataset.cell = id;
  drawer.hidden = false;
  drawer.scrollTop = 0;
  title.focus({ preventScroll: true });
}

function hideDetails() {
  if (drawer.hidden) return;
  drawer.hidden = true;
  opener?.focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => event.key === "Escape" && hideDetails());

function pictureParts(id, cell) {
  if (!hasPictures(id)) return [el("p", { class: "small" }, "No pictures: the samples of this cell are not images.")];
  const parts = [samplesOf(id, `Samples of ${cell.title}`), el("p", { class: "small" }, samplesNote(id))];
  if (cell.unguided && hasPictures(cell.unguided)) {
    parts.push(el("h3", {}, "Unguided, the same noise and labels"), samplesOf(cell.unguided, "Samples without guidance, from the same noise"));
  }
  return parts;
}

function scoreTable(arm, id, cell) {
  const rows = report.columns.filter(({ name }) => cell.scores[name] || cell.absent[name]).map(({ name, label }) => {
    const score = cell.scores[name];
    if (!score) return el("tr", {}, el("th", { scope: "row" }, label), el("td", { colspan: "2", class: "small" }, `none: ${cell.absent[name]}`));
    const mark = arm.best[name] === id ? "best" : arm.tied[name]?.includes(id) ? "tied" : "";
    const gain = score.gain ? score.gain + (score.noise ? " (noise)" : "") : "";
    return el("tr", {}, el("th", { scope: "row" }, label), el("td", { class: `number ${mark}` }, score.text), el("td", { class: "number" }, gain));
  });
  const head = el("tr", {}, ...["", "value", "against unguided"].map((text) => el("th", { scope: "col" }, text)));
  const note = `\u00b1 is half of a 95 % interval, N = ${cell.num_samples}. Bold: best of its curve; underlined: tied with it.`;
  return el("div", {}, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)), el("p", { class: "small" }, note));
}

function factList(cell) {
  return el("dl", { class: "facts" }, ...cell.facts.flatMap(([term, text]) => [el("dt", {}, term), el("dd", { dir: "auto" }, text)]));
}
