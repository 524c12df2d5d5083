"use strict";
/* Curves over the seconds of a release, drawn by uPlot. Names reach the page as text only. */

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const element = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};
const span = (seconds) => {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${+(seconds / 60).toFixed(1)} min` : `${+(seconds / 3600).toFixed(1)} h`;
};
const digits = (value) => (value === null || value === undefined ? "—" : String(+value.toPrecision(3)).replace("-", "−"));

/* A figure with a heading, a line that tells what the cursor points at, and a plot that the arrow keys walk through. */
class Curve {
  constructor(parent, title, unit) {
    const figure = element("figure", "chart"), head = element("div", "head");
    this.badge = element("span", "badge");
    this.readout = element("div", "readout");
    this.box = element("div", "plot");
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "img");
    this.title = title;
    head.append(element("h3", "", title), element("span", "unit", unit), this.badge);
    figure.append(head, this.readout, this.box);
    parent.append(figure);
    this.values = null;
    new ResizeObserver(() => this.resize()).observe(this.box);
    this.box.addEventListener("keydown", (event) => this.key(event));
  }

  get size() { return { width: Math.max(this.box.clientWidth, 120), height: Math.max(this.box.clientHeight, 170) }; }

  resize() { if (this.u && Math.abs(this.u.width - this.size.width) > 1) this.u.setSize(this.size); }

  axes() {
    const shared = { stroke: style("--muted"), font: `11px ${style("--sans")}`, ticks: { show: false }, grid: { stroke: style("--grid"), width: 1 } };
    return [
      { ...shared, space: 64, size: 24, gap: 4, values: (u, splits) => splits.map(span) },
      { ...shared, space: 26, size: 46, gap: 6, values: (u, splits) => splits.map((v) => this.label(v)) },
    ];
  }

  draw() {
    if (this.u) this.u.destroy();
    this.box.replaceChildren();
    this.u = new uPlot({
      ...this.size,
      legend: { show: false },
      padding: [8, 20, 0, 0],
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { time: false, range: (u, low, high) => [0, Math.max(high || 0, 1)] }, y: { range: (u, low, high) => this.range(low, high) } },
      axes: this.axes(),
      series: [{}, ...this.series()],
      hooks: { setCursor: [(u) => this.show(u.cursor.idx)], draw: [(u) => this.over(u)] },
    }, this.columns(), this.box);
    this.show(null);
  }

  /* New values: drawn only if they are new. */
  update(values) {
    const text = JSON.stringify(values);
    if (text === this.text) return;
    this.text = text;
    this.values = values;
    if (this.u) { this.u.setData(this.columns()); this.show(this.u.cursor.idx); } else this.draw();
    this.box.setAttribute("aria-label", `${this.title}: ${this.readout.textContent}`);
  }

  show(at) {
    const xs = this.columns()[0], last = xs.length - 1;
    const found = at === null || at === undefined ? last : Math.min(at, last);
    const where = element("span", "step", last < 0 ? "nothing yet" : `${found === last ? "now, at" : "at"} ${span(xs[found])}`);
    this.readout.replaceChildren(where, ...(last < 0 ? [] : this.told(found).map((text) => element("span", "value", text))));
  }

  key(event) {
    if (!["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key) || !this.u) return;
    event.preventDefault();
    const xs = this.u.data[0], now = this.u.cursor.idx ?? xs.length;
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: xs.length - 1 }[event.key];
    const at = Math.min(Math.max(to, 0), xs.length - 1);
    if (at < 0) return;
    this.u.setCursor({ left: this.u.valToPos(xs[at], "x"), top: this.u.over.clientHeight / 2 });
    this.show(at);
    document.getElementById("live").textContent = `${this.title}: ${this.readout.textContent}`;
  }

  label(value) { return digits(value); }

  over() {}
}

/* Percent of the traffic, in steps. */
class Weights extends Curve {
  columns() { return this.values; }

  series() { return [{ stroke: style("--accent"), fill: `${style("--accent")}22`, width: 2, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }]; }

  range(low, high) { return [0, Math.max(high || 0, 1) * 1.15]; }

  label(value) { return `${digits(value)} %`; }

  told(at) { return [`${digits(this.values[1][at])} % of the traffic`]; }
}

/* Evidence for harm and for safety of one metric, as powers of ten, with the lines at which each suffices. */
class Evidence extends Curve {
  columns() { return [this.values.seconds, this.values.harm, this.values.safe]; }

  series() {
    const points = { size: 5 };
    return [
      { stroke: style("--failed"), width: 2, points: { ...points, show: this.values.seconds.length < 2 } },
      { stroke: style("--passed"), width: 2, dash: [7, 3], points: { ...points, show: this.values.seconds.length < 2 } },
    ];
  }

  range(low, high) {
    const { harm_needed: harm, safe_needed: safe } = this.values;
    const most = Math.max(harm, safe) * 2; // more is enough by far, and would press the lines to the ground
    return [Math.min(low ?? 0, -0.5), Math.max(Math.min(high ?? 0, most), harm, safe) * 1.12];
  }

  label(value) { return `10${String(value).replace(/./g, (c) => ({ "-": "⁻", ".": "·" })[c] ?? "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])}`; }

  told(at) {
    const { harm, safe, harm_needed: forHarm, safe_needed: forSafe } = this.values;
    return [`harm ${digits(harm[at])} of ${digits(forHarm)}`, `safety ${digits(safe[at])} of ${digits(forSafe)}`];
  }

  over(u) {
    const { ctx } = u, { left, width } = u.bbox;
    for (const [needed, color, dash] of [[this.values.harm_needed, "--failed", []], [this.values.safe_needed, "--passed", [7, 3]]]) {
      const y = u.valToPos(needed, "y", true);
      ctx.save();
      ctx.strokeStyle = style(color);
      ctx.globalAlpha = 0.55;
      ctx.setLineDash(dash.map((part) => part * devicePixelRatio));
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(left, y);
      ctx.lineTo(left + width, y);
      ctx.stroke();
      ctx.restore();
    }
  }

  update(values) {
    super.update(values);
    this.badge.className = `badge ${values.tone}`;
    this.badge.textContent = values.outcome;
  }
}
