// The first samples of a cell on a canvas: a grid of images, or points of the plane. Two cells blend into each other.
const images = new Map();

function hasPictures(id) {
  return id in strips || id in report.points;
}

// A cell's strip, decoded when it is first wanted.
function strip(id) {
  if (!images.has(id)) {
    const image = new Image();
    image.src = strips[id];
    images.set(id, image.decode().then(() => image));
  }
  return images.get(id);
}

// Draws the samples of cell a, moved by t in [0, 1] towards those of cell b.
async function drawSamples(canvas, a, b, t) {
  const wanted = `${a} ${b} ${t} ${canvas.clientWidth}`;
  canvas.dataset.wanted = wanted;
  if (a in strips) {
    const pair = await Promise.all([strip(a), strip(b in strips ? b : a)]);
    if (canvas.dataset.wanted !== wanted) return;
    drawTiles(canvas, pair, t, report.cells[a].tiles);
  } else if (a in report.points) {
    drawPoints(canvas, report.points[a], report.points[b] ?? report.points[a], t);
  }
  canvas.dataset.shown = wanted;
}

function drawTiles(canvas, pair, t, count) {
  const [width, height] = [pair[0].width / count, pair[0].height];
  const across = Math.min(count, canvas.clientWidth < 480 && height > 16 ? 5 : 10);
  const [gap, side] = [2, canvas.clientWidth / across];
  const tall = (side * height) / width;
  const context = prepare(canvas, tall * Math.ceil(count / across));
  context.imageSmoothingEnabled = height > 32;
  for (let i = 0; i < count; i++) {
    const [x, y] = [(i % across) * side, Math.floor(i / across) * tall];
    pair.forEach((image, k) => {
      context.globalAlpha = k ? t : 1;
      if (context.globalAlpha) {
        const tile = image.width / count;
        context.drawImage(image, i * tile, 0, tile, image.height, x + gap / 2, y + gap / 2, side - gap, tall - gap);
      }
    });
  }
}

function drawPoints(canvas, from, to, t) {
  const context = prepare(canvas, Math.min(canvas.clientWidth, 420));
  const { x, y, half } = frame();
  const size = Math.min(canvas.clientWidth, canvas.clientHeight);
  const left = (canvas.clientWidth - size) / 2;
  const paired = from.points.length === to.points.length;
  from.points.forEach((point, i) => {
    const target = paired ? to.points[i] : point;
    const [px, py] = point.map((value, k) => value + t * (target[k] - value));
    context.fillStyle = ink(report.colours[from.labels[i] % report.colours.length]);
    context.beginPath();
    context.arc(left + ((px - x) / half + 1) * (size / 2), ((y - py) / half + 1) * (size / 2), 2.5, 0, 2 * Math.PI);
    context.fill();
  });
}

// Sizes a canvas for its place and the screen's resolution, and clears it.
function prepare(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

let square = null;

// The square of the plane that holds all points of all cells.
function frame() {
  if (square === null) {
    const all = Object.values(report.points).flatMap((cell) => cell.points);
    const ends = [0, 1].map((k) => all.reduce((e, p) => [Math.min(e[0], p[k]), Math.max(e[1], p[k])], [Infinity, -Infinity]));
    const [[x0, x1], [y0, y1]] = ends;
    square = { x: (x0 + x1) / 2, y: (y0 + y1) / 2, half: 0.53 * Math.max(x1 - x0, y1 - y0) || 1 };
  }
  return square;
}

function samplesCanvas(label) {
  return el("canvas", { class: "samples", role: "img", "aria-label": label });
}

// A canvas that draws a cell's samples when it comes into view, and again when its width changes.
function samplesOf(id, label) {
  const canvas = samplesCanvas(label);
  if (!(id in strips)) canvas.style.maxWidth = "280px";
  new ResizeObserver(() => canvas.clientWidth && drawSamples(canvas, id, id, 0)).observe(canvas);
  return canvas;
}

// `20 samples, one column per class` in words for all pictures of a cell.
function samplesNote(id) {
  const cell = report.cells[id];
  if (id in report.points) return `The first ${report.points[id].points.length} samples, coloured by class.`;
  const columns = cell.num_classes === 10 ? " Columns are classes 0 to 9." : "";
  return `The first ${cell.tiles} samples.${columns}`;
}
