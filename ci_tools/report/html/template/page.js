/* Put everything in its place: seeds to choose, charts, themes, printing. */

const figure = (id) => document.querySelector(`[data-chart="${id}"]`);
const plots = page.charts.map((chart) => new Curves(figure(chart.id), chart));

const seedLegend = document.getElementById("seeds");
if (seedLegend) {
  page.seeds.forEach((name, seed) => {
    if (!page.charts.some((chart) => chart.lines.some((line) => line.seed === seed))) return;
    const made = element("button", `seed-${seed % 10}`, seed === 0 ? `${name} (release)` : name);
    made.type = "button";
    made.prepend(element("i"));
    made.setAttribute("aria-pressed", "true");
    made.addEventListener("click", () => {
      if (!hidden.delete(seed)) hidden.add(seed);
      made.setAttribute("aria-pressed", String(!hidden.has(seed)));
      for (const plot of plots) plot.redraw();
    });
    seedLegend.append(made);
  });
}

const choice = (label, options, change) => {
  const made = element("label", "choice", label), select = element("select");
  for (const [value, text] of options) {
    const option = element("option", "", text);
    option.value = value;
    select.append(option);
  }
  select.addEventListener("change", () => change(Number(select.value)));
  made.append(select);
  return { box: made, select };
};

const gradients = page.gradients;
if (gradients) {
  const { layers, map, histograms, ratios } = gradients, controls = document.getElementById("gradient-controls");
  const rows = Math.ceil(layers.length / map.together), power = (low, high, code) => low + ((code - LOWEST) / (HIGHEST - LOWEST)) * (high - low);
  const names = (row) => {
    const last = Math.min((row + 1) * map.together, layers.length) - 1;
    return last === row * map.together ? layers[last] : `${layers[row * map.together]} to ${layers[last]}`;
  };
  const told = (code) => ({ [NOTHING]: "no step", [ZERO]: "no gradient", [NONFINITE]: "not finite" })[code]
    ?? `${code === LOWEST ? "≤ " : ""}${digits(10 ** power(map.low, map.high, code), 2)}`;
  const seeds = Object.keys(map.seeds).map(Number);
  let seed = seeds[0];
  const heat = new HeatMap(figure("map"), {
    rows, count: map.count, width: map.width, gutter: 190, idle: "point at a cell; click it for the layer's histogram",
    rowHeight: Math.max(Math.min(Math.round(420 / rows), 18), 5),
    label: (row, every) => (row % every ? "" : layers[row * map.together]),
    name: names, value: told,
    chosen: (row) => showLayer(row * map.together),
  });
  figure("map").querySelector(".tools").append(legend(digits(10 ** map.low, 2), digits(10 ** map.high, 2)));

  let histogram = null, lines = null, layer = 0, layerChoice = null;
  const showLayer = (wanted) => {
    if (!histogram) return;
    const near = histograms.layers.reduce((best, one, at) => (Math.abs(one - wanted) < Math.abs(histograms.layers[best] - wanted) ? at : best), 0);
    layer = near;
    layerChoice.select.value = String(near);
    const size = histograms.bins * histograms.count;
    const cells = histograms.seeds[seed] ? bytes(histograms.seeds[seed]).subarray(near * size, (near + 1) * size) : new Uint8Array(size);
    const turned = new Uint8Array(size);
    for (let bin = 0; bin < histograms.bins; bin++) {
      turned.set(cells.subarray(bin * histograms.count, (bin + 1) * histograms.count), (histograms.bins - 1 - bin) * histograms.count);
    }
    histogram.fill(turned);
    histogram.place(null);
  };
  if (histograms) {
    const exponent = (row) => histograms.lowest + histograms.bins - 1 - row;
    const range = (row) => {
      if (row === histograms.bins - 1) return "below 2^−27, or zero";
      return row === 0 ? "8 or more, or not finite" : `${digits(2 ** exponent(row), 2)} to ${digits(2 ** (exponent(row) + 1), 2)}`;
    };
    const share = (code) => (code <= ZERO ? 0 : ((code - ZERO) / (HIGHEST - ZERO)) ** 2);
    histogram = new HeatMap(figure("histograms"), {
      rows: histograms.bins, count: histograms.count, width: histograms.width, gutter: 54, rowHeight: 7, idle: "point at a cell", shares: true,
      label: (row) => (row === histograms.bins - 1 ? "0" : exponent(row) % 4 === 0 ? `2${raised(exponent(row))}` : ""),
      name: range, value: (code) => (code === NOTHING ? "no probe" : `${digits(100 * share(code), 2)} % of the weights`),
    });
    layerChoice = choice("Layer", histograms.layers.map((one, at) => [at, layers[one]]), (at) => showLayer(histograms.layers[at]));
    figure("histograms").querySelector(".tools").append(layerChoice.box);
  }
  if (ratios) lines = new Ratios(figure("ratios"), ratios, layers);
  const showSeed = (wanted) => {
    seed = wanted;
    heat.fill(bytes(map.seeds[seed]));
    heat.place(null);
    if (lines) lines.select(seed);
    if (histogram) showLayer(histograms.layers[layer]);
  };
  if (seeds.length > 1) controls.append(choice("Seed", seeds.map((one) => [one, page.seeds[one]]), showSeed).box);
  showSeed(seed);
  plots.push(heat, ...[histogram, lines].filter(Boolean));
}

const redraw = () => { for (const plot of plots) plot.redraw(); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
matchMedia("print").addEventListener("change", redraw);

/* Paper has nothing to click: open what is folded, but for the evidence of what passed; then fold it again. */
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open], .passed .evidence)")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });

/* Where the reader is. */
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const reading = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(target.id).setAttribute("aria-current", "true");
  }
}, { rootMargin: "-15% 0px -80% 0px" });
for (const id of links.keys()) reading.observe(document.getElementById(id));
