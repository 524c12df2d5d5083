"use strict";
/* Curves over steps, drawn by uPlot. Names reach the page as text only. */

const page = JSON.parse(document.getElementById("data").textContent);
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const seedColor = (seed) => style(`--seed-${seed % 10}`);
const fade = (color, alpha) => color + Math.round(alpha * 255).toString(16).padStart(2, "0");
const digits = (value, n = 4) => {
  if (value === null || value === undefined || Number.isNaN(value)) return "—";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-4 || size >= 1e6) ? value.toExponential(n - 1) : String(+value.toPrecision(n));
  return text.replace("e+", "e").replaceAll("-", "−");
};
const element = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};
const announce = (text) => { document.getElementById("live").textContent = text; };

/* One cursor for everything that has steps: whoever moves it tells the others. */
const cursor = {
  listeners: [],
  step: null,
  move(step, from) {
    if (step === this.step) return;
    this.step = step;
    for (const listener of this.listeners) if (listener.owner !== from) listener.follow(step);
  },
  listen(owner, follow) { this.listeners.push({ owner, follow }); },
};
const hidden = new Set();

const font = () => `11px ${style("--sans")}`;
const raised = (power) => String(power).replace(/./g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
const plainPower = (v) => (v >= 1e-3 && v < 1e5 ? String(+v.toPrecision(1)) : `10${raised(Math.round(Math.log10(v)))}`);
/* Places to name on an axis: at most five, by steps of 1, 2 or 5 times a power of ten. */
const evenSplits = (low, high) => {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough)), found = [];
  const step = [1, 2, 5, 10].map((lead) => lead * power).find((one) => one >= rough) || rough;
  for (let at = Math.ceil(low / step); at * step <= high && found.length < 9; at++) found.push(+(at * step).toPrecision(12));
  return found;
};
/* Places to name on a logarithmic axis: powers of ten; over less than two decades twice and five times them, too, and
   over a small part of one even steps. uPlot's own never ends for some ranges that begin between two powers. */
const logSplits = (low, high) => {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high)), found = [];
  if (high / low < 5) return evenSplits(low, high);
  const leads = high / low > 90 ? [1] : [1, 2, 5], every = Math.ceil((last - first) / 8);
  for (let power = Math.ceil(first / every) * every; power <= last; power += every) {
    for (const lead of leads) found.push(+(lead * 10 ** power).toPrecision(12));
  }
  return found.filter((v) => v >= low && v <= high);
};
const logLabels = (u, splits) => splits.map((v) => {
  return Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-6 ? plainPower(v) : digits(v, 3);
});

const axes = (log) => {
  const grid = { stroke: style("--grid"), width: 1 };
  const shared = { stroke: style("--muted"), font: font(), labelFont: font(), ticks: { show: false }, grid };
  const steps = (u, splits) => splits.map((v) => (v % 1 ? "" : v.toLocaleString("en")));
  const y = log
    ? { values: logLabels, splits: (u, axis, low, high) => logSplits(low, high), filter: (u, splits) => splits }
    : { values: (u, splits) => splits.map((v) => digits(v, 4)), splits: (u, axis, low, high) => evenSplits(low, high) };
  return [
    { ...shared, space: 64, size: 24, gap: 4, label: "step", labelSize: 16, labelGap: 0, values: steps },
    { ...shared, space: 32, size: 54, gap: 6, ...y },
  ];
};
/* Ends of a logarithmic axis just outside the data, not at the next power of ten: most of a run lies within one. */
const logRange = (u, low, high) => (low > 0 && high > 0 ? [low / 1.15, high * 1.15] : [0.1, 10]);
const linearRange = (u, low, high) => {
  if (low === null) return [0, 1];
  const span = high - low || Math.abs(high) || 1;
  return [low >= 0 && low - span * 0.05 < 0 ? 0 : low - span * 0.05, high + span * 0.05];
};

/* The frame around a plot: its box, readout, tools, and how it is rebuilt when size, theme or scale changes. */
class Plot {
  constructor(figure) {
    this.figure = figure;
    this.box = figure.querySelector(".plot");
    this.readout = figure.querySelector(".readout");
    this.tools = figure.querySelector(".tools");
    this.box.tabIndex = 0;
    this.u = null;
    this.height = Math.max(this.box.clientHeight, 200);
    new ResizeObserver(() => this.resize()).observe(this.box);
    this.box.addEventListener("keydown", (event) => this.key(event));
    cursor.listen(this, (step) => this.follow(step));
  }

  get size() { return { width: Math.max(this.box.clientWidth, 120), height: this.height }; }

  resize() {
    if (this.u && Math.abs(this.u.width - this.size.width) > 1) this.u.setSize(this.size);
  }

  button(text, pressed, label, click) {
    const made = element("button", "", text);
    made.type = "button";
    made.setAttribute("aria-pressed", String(pressed));
    made.setAttribute("aria-label", label);
    made.addEventListener("click", () => { made.setAttribute("aria-pressed", String(click())); });
    this.tools.append(made);
  }

  /* Options that all curves share; `series` and `bands` are uPlot's. */
  draw(data, series, bands, log) {
    const before = this.u && { x: { ...this.u.scales.x }, zoomed: this.zoomed };
    if (this.u) this.u.destroy();
    this.u = new uPlot({
      ...this.size,
      legend: { show: false },
      padding: [8, 22, 0, 0],
      cursor: { drag: { x: true, y: false }, points: { size: 6 }, focus: { prox: this.prox || -1 } },
      focus: { alpha: 0.25 },
      scales: { x: { time: false }, y: { distr: log ? 3 : 1, range: log ? logRange : linearRange } },
      axes: axes(log),
      series: [{}, ...series],
      bands,
      hooks: {
        setCursor: [(u) => this.moved(u)],
        setSelect: [(u) => { this.zoomed = u.select.width > 0; }],
        draw: [(u) => this.over(u)],
      },
    }, data, this.box);
    if (before && before.zoomed) this.u.setScale("x", { min: before.x.min, max: before.x.max });
  }

  moved(u) {
    const at = u.cursor.idx;
    this.show(at === undefined ? null : at);
    if (!this.following) cursor.move(at === null || at === undefined ? null : u.data[0][at], this);
  }

  /* Another chart's cursor moved to a step. */
  follow(step) {
    if (!this.u) return;
    this.following = true;
    const left = step === null ? -10 : this.u.valToPos(step, "x");
    this.u.setCursor({ left, top: step === null ? -10 : 0 });
    this.following = false;
  }

  key(event) {
    if (!["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key) || !this.u) return;
    event.preventDefault();
    const xs = this.u.data[0], jump = event.shiftKey ? 10 : 1;
    const now = this.u.cursor.idx ?? -1;
    const to = { ArrowLeft: now - jump, ArrowRight: now + jump, Home: 0, End: xs.length - 1 }[event.key];
    const at = Math.min(Math.max(to, 0), xs.length - 1);
    this.u.setCursor({ left: this.u.valToPos(xs[at], "x"), top: this.u.over.clientHeight / 2 });
    announce(this.readout.textContent);
  }

  over() {}
}

/* A curve per seed: a line, the envelope around it, and crosses where a value was not finite. */
class Curves extends Plot {
  constructor(figure, chart) {
    super(figure);
    this.chart = chart;
    this.log = chart.log;
    if (chart.positive) {
      this.button("log", this.log, "Logarithmic scale", () => { this.log = !this.log; this.redraw(); return this.log; });
    }
    this.redraw();
  }

  redraw() {
    const { chart } = this, data = [chart.x], series = [], bands = [];
    this.columns = [];
    const shown = chart.lines.filter((line) => !hidden.has(line.seed));
    if (!shown.some((line) => line.low) && shown.length > 1) {
      const ends = (pick) => chart.x.map((_, i) => {
        const values = shown.map((line) => line.mean[i]).filter((v) => v !== null);
        return values.length ? pick(...values) : null;
      });
      data.push(ends(Math.min), ends(Math.max));
      series.push({ stroke: "transparent", points: { show: false } }, { stroke: "transparent", points: { show: false } });
      bands.push({ series: [2, 1], fill: fade(style("--accent"), 0.1) });
    }
    const faint = 0.3 / (shown.length + 1); // many seeds on top of each other must not turn into one grey area
    for (const line of shown) {
      if (!line.low) continue;
      const color = seedColor(line.seed), edge = { stroke: fade(color, 0.22), width: 1, points: { show: false } };
      data.push(line.low, line.high);
      series.push(edge, edge);
      bands.push({ series: [data.length - 1, data.length - 2], fill: fade(color, faint) });
    }
    for (const line of shown) {
      const color = seedColor(line.seed);
      data.push(line.mean);
      this.columns.push({ at: data.length - 1, seed: line.seed });
      series.push({
        stroke: color, width: line.seed === 0 ? 2 : 1.25, spanGaps: chart.points,
        points: { show: chart.points, size: 5, fill: color, stroke: color },
      });
    }
    this.draw(data, series, bands, this.log);
    this.show(null);
  }

  /* What the cursor points at; without one, where the curves end. */
  show(at) {
    const { chart } = this, last = chart.x.length - 1;
    const where = element("span", "step", at === null ? "at the end" : `step ${chart.x[at].toLocaleString("en")}`);
    const values = this.columns.map(({ at: column, seed }) => {
      let value = this.u.data[column][at === null ? last : at];
      if (at === null) for (let i = last; i >= 0 && value === null; i--) value = this.u.data[column][i];
      const made = element("span", `value seed-${seed % 10}`, digits(value));
      made.title = page.seeds[seed];
      made.prepend(element("i"));
      return made;
    });
    this.readout.replaceChildren(where, ...values);
  }

  over(u) {
    const { ctx } = u, size = 4 * devicePixelRatio, top = u.bbox.top + size * 1.5;
    for (const line of this.chart.lines) {
      if (!line.nonfinite || hidden.has(line.seed)) continue;
      ctx.strokeStyle = style("--failed");
      ctx.lineWidth = 1.5 * devicePixelRatio;
      for (const at of line.nonfinite) {
        const x = u.valToPos(this.chart.x[at], "x", true);
        ctx.beginPath();
        ctx.moveTo(x - size, top - size); ctx.lineTo(x + size, top + size);
        ctx.moveTo(x + size, top - size); ctx.lineTo(x - size, top + size);
        ctx.stroke();
      }
    }
  }
}

/* Relative size of the updates, a line per layer of one seed. */
class Ratios extends Plot {
  constructor(figure, data, layers) {
    super(figure);
    this.all = data;
    this.layers = layers;
    this.prox = 24;
    this.focused = null;
  }

  select(seed) {
    this.seed = seed;
    const lines = this.all.seeds[seed] || [];
    const series = lines.map((_, i) => {
      const color = ramp(0.2 + (0.72 * i) / Math.max(lines.length - 1, 1));
      return { stroke: color, width: 1.25, spanGaps: true, points: { show: this.all.x.length < 40, size: 4, fill: color } };
    });
    this.draw([this.all.x, ...lines], series, [], true);
    this.u.hooks.setSeries = [(u, at) => { this.focused = at === null || at === 0 ? null : at; this.show(u.cursor.idx ?? null); }];
    this.show(null);
  }

  show(at) {
    if (!this.u) return;
    const parts = [element("span", "step", at === null ? "point at a line" : `step ${this.all.x[at].toLocaleString("en")}`)];
    if (this.focused !== null && at !== null) {
      parts.push(element("span", "name", this.layers[this.all.layers[this.focused - 1]]));
      parts.push(element("span", "value", digits(this.u.data[this.focused][at])));
    } else if (at !== null) {
      const known = this.u.data.slice(1).map((line) => line[at]).filter((v) => v !== null).sort((a, b) => a - b);
      if (known.length) parts.push(element("span", "value", `${digits(known[0], 2)} to ${digits(known[known.length - 1], 2)} over the layers`));
    }
    this.readout.replaceChildren(...parts);
  }

  /* A step from elsewhere points at no line. */
  follow(step) {
    super.follow(step);
    if (!this.u) return;
    this.u.setSeries(null, { focus: true });
    this.focused = null;
    this.show(this.u.cursor.idx ?? null);
  }

  redraw() { this.select(this.seed); }
}
