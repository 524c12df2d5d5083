/* Heat maps on a canvas: one byte per cell, codes as in thin.py. */

const NOTHING = 0, ZERO = 1, LOWEST = 2, HIGHEST = 254, NONFINITE = 255;
/* Viridis at nine places (Smith and van der Walt, CC0): equal steps look equal, in grey too. */
const VIRIDIS = [[68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 145, 140], [40, 174, 128], [94, 201, 98], [173, 220, 48], [253, 231, 37]];
const ramp = (share) => {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1), low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return `rgb(${VIRIDIS[low].map((c, i) => Math.round(c + (at - low) * (VIRIDIS[low + 1][i] - c))).join(",")})`;
};
const rgb = (color) => {
  const probe = rgb.canvas.getContext("2d", { willReadFrequently: true });
  probe.fillStyle = color;
  probe.fillRect(0, 0, 1, 1);
  return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
rgb.canvas = document.createElement("canvas");
/* Decades get all the colours there are; shares one hue, which begins at the paper. */
const palette = (shares) => {
  const colors = new Uint8ClampedArray(256 * 4), paper = rgb(style("--surface")), ink = rgb(style("--accent"));
  for (let code = 0; code < 256; code++) {
    const share = Math.max((code - LOWEST) / (HIGHEST - LOWEST), 0);
    if (shares) {
      const strength = code <= ZERO ? 0 : 0.08 + 0.92 * share;
      colors.set([...paper.map((c, i) => c + strength * (ink[i] - c)), code <= ZERO ? 0 : 255], code * 4);
      continue;
    }
    let color = rgb(ramp(share));
    if (code === NOTHING) color = paper;
    if (code === ZERO) color = rgb(style("--zero"));
    if (code === NONFINITE) color = rgb(style("--nonfinite"));
    colors.set([...color, code === NOTHING ? 0 : 255], code * 4);
  }
  return colors;
};
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const shorten = (context, text, width) => {
  if (context.measureText(text).width <= width) return text;
  let kept = Math.min(text.length, 80);
  while (kept > 2 && context.measureText(`…${text.slice(-kept)}`).width > width) kept--;
  return `…${text.slice(-kept)}`;
};

/* A grid of cells with names or numbers at the left, steps below, and a cursor that the keyboard moves as well. */
class HeatMap {
  constructor(figure, grid) {
    this.figure = figure;
    this.grid = grid;
    this.box = figure.querySelector(".plot");
    this.readout = figure.querySelector(".readout");
    this.canvas = element("canvas");
    this.marker = element("div", "marker");
    this.marker.hidden = true;
    this.box.append(this.canvas, this.marker);
    this.box.tabIndex = 0;
    this.at = null;
    this.box.addEventListener("pointermove", (event) => this.point(event));
    this.box.addEventListener("pointerleave", () => this.place(null));
    this.box.addEventListener("click", () => this.at && this.grid.chosen && this.grid.chosen(this.at.row));
    this.box.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => { if (this.cells && this.box.clientWidth !== this.drawn) this.redraw(); }).observe(this.box);
    cursor.listen(this, (step) => this.follow(step));
  }

  fill(cells) { this.cells = cells; this.redraw(); }

  get frame() {
    const { grid } = this, width = this.box.clientWidth;
    const left = Math.min(grid.gutter, Math.round(width * 0.36)), top = 4;
    return { left, top, width: width - left - 8, height: grid.rowHeight * grid.rows, full: width };
  }

  redraw() {
    if (!this.cells) return;
    const { grid } = this, { left, top, width, height, full } = this.frame, scale = devicePixelRatio || 1;
    this.drawn = full;
    this.canvas.style.width = `${full}px`;
    this.canvas.style.height = `${top + height + 24}px`;
    this.canvas.width = Math.round(full * scale);
    this.canvas.height = Math.round((top + height + 24) * scale);
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.image(), left, top, width, height);
    context.font = font();
    context.fillStyle = style("--muted");
    context.textBaseline = "middle";
    context.textAlign = "right";
    const every = Math.max(Math.ceil(13 / grid.rowHeight), 1);
    for (let row = 0; row < grid.rows; row++) {
      const text = grid.label(row, every);
      if (text) context.fillText(shorten(context, text, left - 10), left - 6, top + (row + 0.5) * grid.rowHeight);
    }
    if (grid.shares) {
      context.strokeStyle = style("--line");
      context.strokeRect(left + 0.5, top + 0.5, width - 1, height - 1);
    }
    this.stepAxis(context);
  }

  stepAxis(context) {
    const { left, top, width, height } = this.frame, steps = this.grid.width * this.grid.count;
    const rough = (steps * 80) / width, power = 10 ** Math.floor(Math.log10(rough));
    const every = Math.max([1, 2, 5, 10].map((m) => m * power).find((m) => m >= rough), 1);
    context.textBaseline = "top";
    for (let step = 0; step <= steps; step += every) {
      const x = left + (step / steps) * width;
      context.textAlign = step === 0 ? "left" : x > left + width - 20 ? "right" : "center";
      context.fillText(step.toLocaleString("en"), x, top + height + 6);
    }
    context.textAlign = "right";
    context.fillText("step", left - 6, top + height + 6);
  }

  image() {
    const { rows, count } = this.grid, colors = palette(this.grid.shares);
    const small = document.createElement("canvas");
    small.width = count;
    small.height = rows;
    const image = new ImageData(count, rows);
    for (let i = 0; i < rows * count; i++) image.data.set(colors.subarray(this.cells[i] * 4, this.cells[i] * 4 + 4), i * 4);
    small.getContext("2d").putImageData(image, 0, 0);
    return small;
  }

  point(event) {
    const { left, top, width, height } = this.frame, box = this.box.getBoundingClientRect();
    const x = (event.clientX - box.left - left) / width, y = (event.clientY - box.top - top) / height;
    if (x < 0 || x >= 1 || y < 0 || y >= 1) { this.place(null); return; }
    this.place({ row: Math.floor(y * this.grid.rows), column: Math.floor(x * this.grid.count) });
  }

  key(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === "Enter" && this.at && this.grid.chosen) this.grid.chosen(this.at.row);
    if (!moves[event.key]) return;
    event.preventDefault();
    const [down, right] = moves[event.key], jump = event.shiftKey ? 10 : 1, now = this.at || { row: 0, column: 0 };
    const keep = (value, size) => Math.min(Math.max(value, 0), size - 1);
    this.place({
      row: keep(now.row + down * jump, this.grid.rows), column: keep(now.column + right * jump, this.grid.count),
    });
    announce(this.readout.textContent);
  }

  place(at) {
    this.at = at;
    const { left, top, width, height } = this.frame;
    this.marker.hidden = at === null;
    this.marker.classList.remove("across");
    if (at === null) {
      this.readout.replaceChildren(element("span", "step", this.grid.idle));
      cursor.move(null, this);
      return;
    }
    const cell = width / this.grid.count;
    const set = { left: left + at.column * cell, top: top + at.row * this.grid.rowHeight, width: Math.max(cell, 2), height: this.grid.rowHeight };
    for (const [name, value] of Object.entries(set)) this.marker.style[name] = `${value}px`;
    const first = at.column * this.grid.width, last = first + this.grid.width - 1;
    const steps = first === last ? `step ${first.toLocaleString("en")}` : `steps ${first.toLocaleString("en")} to ${last.toLocaleString("en")}`;
    const code = this.cells[at.row * this.grid.count + at.column];
    this.readout.replaceChildren(
      element("span", "step", steps), element("span", "name", this.grid.name(at.row)), element("span", "value", this.grid.value(code)),
    );
    cursor.move(first, this);
  }

  /* Another chart's cursor: a line across all rows. */
  follow(step) {
    if (!this.cells) return;
    const { left, top, width, height } = this.frame;
    const share = step === null ? -1 : step / (this.grid.width * this.grid.count);
    this.marker.hidden = share < 0 || share >= 1;
    this.marker.classList.add("across");
    const set = { left: left + share * width, top, width: 1, height };
    for (const [name, value] of Object.entries(set)) this.marker.style[name] = `${value}px`;
  }
}

/* The colours of a logarithmic map, with their values. */
const legend = (low, high) => {
  const box = element("div", "scale"), bar = element("canvas");
  box.setAttribute("aria-hidden", "true");
  bar.width = 120;
  bar.height = 1;
  const context = bar.getContext("2d");
  for (let x = 0; x < 120; x++) { context.fillStyle = ramp(x / 119); context.fillRect(x, 0, 1, 1); }
  box.append(element("span", "", low), bar, element("span", "", high));
  for (const [name, text] of [["zero", "none"], ["nonfinite", "not finite"]]) {
    const swatch = element("span", "swatch", text);
    swatch.prepend(element("i", name));
    box.append(swatch);
  }
  return box;
};
