// The scale slider: samples of the same noise blend from scale to scale while a marker runs along the curves.
const STEPS = 20; // of the slider between two measured scales
const MEANING = {
  guidance_scale: "Guidance mixes two predictions of the model, uncond + s (cond \u2212 uncond). At s = 1 it is off; a larger s follows the label more closely and varies less.",
  classifier_scale: "A classifier\u2019s gradient, times this factor, pushes every step towards the label. At 0 it is off.",
  embedded_guidance: "The network is told a number, which distillation has taught it to follow as if it were guided: one pass, and no number means off.",
  prior_scale: "The prior, which draws a picture's embedding from the prompt, is guided by s of its own. At 1 it is off.",
  truncation: "The values that an image is made of are kept within tau of zero: a smaller tau makes cleaner images that vary less.",
};

function buildExplorer(usable) {
  const node = section("explorer", "Move the scale");
  const state = { number: usable.includes(report.start) ? report.start : usable[0], position: 0, timer: null, frame: null };
  const parts = explorerParts(state);
  if (usable.length > 1) {
    const options = usable.map((number) => [String(number), report.arms[number].label]);
    node.append(select("curve", options, String(state.number), (value) => { state.number = Number(value); begin(state, parts); }));
  }
  node.append(parts.meaning, el("div", { class: "explorer" }, el("div", { class: "look" }, parts.readout, ...parts.controls, parts.canvas, parts.note), parts.panels));
  new ResizeObserver(() => show(state, parts)).observe(parts.canvas);
  dark.addEventListener("change", () => show(state, parts));
  begin(state, parts);
}

function explorerParts(state) {
  const parts = {
    meaning: el("p", { class: "intro" }), readout: el("output", { class: "readout", for: "scale" }), note: el("p", { class: "small" }),
    canvas: samplesCanvas(""), panels: el("div", { class: "gauges" }), ticks: el("div", { class: "ticks", "aria-hidden": "true" }),
    slider: el("input", { type: "range", id: "scale", min: "0", step: "1" }),
    play: el("button", { class: "play", "aria-label": "Play through the scales" }, "\u25b6"), gauges: [],
  };
  parts.slider.addEventListener("input", () => { stop(state, parts); move(state, parts, parts.slider.value / STEPS); });
  parts.slider.addEventListener("keydown", (event) => step(state, parts, event));
  parts.play.addEventListener("click", () => (state.timer ? stop(state, parts) : play(state, parts)));
  parts.controls = [el("div", { class: "slider" }, parts.play, el("div", { class: "track" }, parts.slider, parts.ticks))];
  return parts;
}

// Shows the arm of the state, at its best scale.
function begin(state, parts) {
  stop(state, parts);
  const arm = report.arms[state.number];
  const best = arm.cells.indexOf(arm.best[report.explored[0]]);
  parts.meaning.textContent = MEANING[arm.axis] ?? "";
  parts.slider.max = String((arm.scales.length - 1) * STEPS);
  parts.slider.setAttribute("aria-label", scaleName(arm.axis));
  parts.canvas.hidden = !arm.cells.some(hasPictures);
  const example = arm.cells.find(hasPictures);
  parts.note.textContent = example ? `${samplesNote(example)} Noise and labels are the same at every scale; between measured scales the pictures blend.` : "The samples of this experiment are not images.";
  parts.gauges = gaugesOf(state.number);
  parts.panels.replaceChildren(...parts.gauges.map((gauge) => gauge.node));
  drawTicks(state, parts, arm, best);
  move(state, parts, Math.max(0, best));
}

function gaugesOf(number) {
  const arm = report.arms[number];
  const names = report.explored.filter((name) => spots(arm, [name]).length > 1);
  const costs = arm.cells.some((id) => report.cells[id].cost !== null) ? [null] : [];
  return [...names, ...costs].map((name) => gauge(number, name));
}

// One small curve with a moving marker; without a name it is the cost.
function gauge(number, name) {
  const arm = report.arms[number];
  const found = name === null ? spots(arm, []).filter((spot) => report.cells[spot.id].cost !== null) : spots(arm, [name]);
  const ys = found.map((spot) => (name === null ? report.cells[spot.id].cost : spot.scores[0].value));
  const title = name === null ? report.cost : columns.get(name).axis;
  const value = el("span", { class: "value" });
  const label = name === null ? `${report.cost} over the scale` : inWords([[arm.label, number]], name, "over the scale");
  const one = { found, ys, log: name !== null && columns.get(name).log, name, value, place: null };
  const plot = figure(label, (width) => gaugeFigure(one, number, width), 136);
  one.node = el("div", { class: "gauge" }, el("div", { class: "gauge-title" }, el("span", {}, title), value), plot);
  one.plot = plot;
  return one;
}

function gaugeFigure(one, number, width) {
  const arm = report.arms[number];
  const xs = one.found.map((spot) => spot.place);
  const base = one.name === null ? [costTrace(one, number, xs)] : curveTraces([[arm.label, number]], one.name);
  const marker = { x: [one.place?.[0]], y: [one.place?.[1]], mode: "markers", hoverinfo: "skip", cliponaxis: false };
  marker.marker = { size: 15, color: cssColour("--accent"), line: { color: cssColour("--page"), width: 2 } };
  const best = arm.scales[arm.cells.indexOf(arm.best[report.explored[0]])];
  const value = one.name === null ? axis(null, { rangemode: "tozero", nticks: 4 }) : { ...valueAxis(columns.get(one.name), 5, [one.found]), title: undefined };
  return {
    data: [...base, marker],
    layout: { xaxis: scaleAxis([arm], width, [best]), yaxis: { ...value, ticklen: 3 }, margin: { l: 36, r: 12, t: 10, b: 22 } },
  };
}

function costTrace(one, number, xs) {
  const names = [];
  return { ...lineTrace(number, report.arms[number].label, one.found, names, xs, one.ys), text: one.found.map((spot, i) => plain(`${short(one.ys[i])} ${report.cost}`)) };
}

function move(state, parts, position) {
  state.position = position;
  if (state.frame === null) state.frame = requestAnimationFrame(() => { state.frame = null; show(state, parts); });
}

// Puts pictures, markers and words where the state is.
function show(state, parts) {
  const arm = report.arms[state.number];
  const i = Math.min(Math.floor(state.position), arm.cells.length - 2);
  const t = state.position - i;
  parts.slider.value = String(Math.round(state.position * STEPS));
  const text = t === 0 ? scaleText(arm, arm.scales[i]) : t === 1 ? scaleText(arm, arm.scales[i + 1]) : `${report.symbols[arm.axis]} between ${exact(arm.scales[i])} and ${exact(arm.scales[i + 1])}`;
  parts.readout.textContent = text;
  const place = arm.places[i] + t * (arm.places[i + 1] - arm.places[i]);
  for (const gauge of parts.gauges) point(gauge, place);
  const values = parts.gauges.map((gauge) => `${gauge.name ? columns.get(gauge.name).label : report.cost} ${gauge.value.textContent}`).join(", ");
  parts.slider.setAttribute("aria-valuetext", `${text}: ${values}`);
  parts.canvas.setAttribute("aria-label", `Samples of ${arm.label}, ${text}`);
  parts.canvas.dataset.position = String(state.position);
  if (!parts.canvas.hidden && parts.canvas.clientWidth) drawSamples(parts.canvas, arm.cells[i], arm.cells[i + 1], t);
}

// Moves the marker of a gauge along its line.
function point(gauge, place) {
  const xs = gauge.found.map((spot) => spot.place);
  const j = Math.max(0, Math.min(xs.length - 2, xs.findLastIndex((x) => x <= place)));
  const t = Math.max(0, Math.min(1, (place - xs[j]) / (xs[j + 1] - xs[j])));
  const [a, b] = [gauge.ys[j], gauge.ys[j + 1]];
  const y = gauge.log ? a * (b / a) ** t : a + t * (b - a);
  gauge.place = [xs[j] + t * (xs[j + 1] - xs[j]), y];
  const at = t === 0 ? j : t === 1 ? j + 1 : null;
  const measured = at === null ? `\u2248 ${short(y)}` : gauge.found[at].scores[0]?.text;
  gauge.value.textContent = measured ?? short(y);
  if (gauge.plot.data) Plotly.restyle(gauge.plot, { x: [[gauge.place[0]]], y: [[y]] }, [gauge.plot.data.length - 1]);
}

// Arrow keys go to the next measured scale.
function step(state, parts, event) {
  const sign = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
  if (!sign) return;
  event.preventDefault();
  stop(state, parts);
  const next = sign > 0 ? Math.floor(state.position + 1) : Math.ceil(state.position - 1);
  move(state, parts, Math.max(0, Math.min(report.arms[state.number].cells.length - 1, next)));
}

function play(state, parts) {
  const last = report.arms[state.number].cells.length - 1;
  const pace = calm.matches ? { by: 1, every: 1200 } : { by: 1 / STEPS, every: 40 };
  if (state.position >= last) move(state, parts, 0);
  parts.play.textContent = "\u275a\u275a";
  parts.play.setAttribute("aria-label", "Pause");
  state.timer = setInterval(() => {
    const next = Math.min(last, Math.round((state.position + pace.by) * STEPS) / STEPS);
    move(state, parts, next);
    if (next === last) stop(state, parts);
  }, pace.every);
}

function stop(state, parts) {
  clearInterval(state.timer);
  state.timer = null;
  parts.play.textContent = "\u25b6";
  parts.play.setAttribute("aria-label", "Play through the scales");
}

function drawTicks(state, parts, arm, best) {
  const tick = (scale, i) => {
    const node = el("button", { tabindex: "-1", class: i === best ? "best" : null, click: () => { stop(state, parts); move(state, parts, i); } }, exact(scale));
    node.style.left = `${(100 * i) / Math.max(1, arm.scales.length - 1)}%`;
    return node;
  };
  const every = Math.ceil(arm.scales.length / 10);
  const shown = arm.scales.map(tick).filter((_, i) => i === best || (i % every === 0 && (Math.abs(i - best) >= every || best < 0)));
  parts.ticks.replaceChildren(...shown);
}
