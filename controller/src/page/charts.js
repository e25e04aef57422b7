// Charts by hand: lines, bands and limits over time, with a readout for pointer and keyboard and a table behind each.

const NS = "http://www.w3.org/2000/svg";
const HEIGHT = 210;
const EDGE = { left: 52, right: 12, top: 10, bottom: 22 };
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400];
const TICK_WIDTH = 84;

// An element with attributes and children; texts never become markup.
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(NS, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return element;
}

export function percent(x) {
  if (x === null || x === undefined) return "?";
  const p = x * 100;
  const digits = p === 0 || p >= 10 ? 1 : p >= 1 ? 2 : 3;
  return `${Number(p.toFixed(digits))} %`;
}

export function duration(s) {
  if (s === null || s === undefined) return "?";
  if (s === 0) return "0";
  if (s < 0.001) return `${Number((s * 1e6).toPrecision(2))} µs`;
  if (s < 1) return `${Number((s * 1000).toPrecision(3))} ms`;
  if (s < 90) return `${Number(s.toPrecision(3))} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return `${Number((s / 3600).toPrecision(3))} h`;
}

// A likelihood ratio, from its natural logarithm.
export function odds(log) {
  if (log > 16) return `×10^${Math.round(log / Math.LN10)}`;
  if (log >= 0) return `×${Number(Math.exp(log).toPrecision(log < 2.3 ? 2 : 3))}`;
  return log < -7 ? "×0" : `×${Number(Math.exp(log).toPrecision(1))}`;
}

export function clock(at, exact = true) {
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (exact) options.second = "2-digit";
  return new Date(at * 1000).toLocaleTimeString([], options);
}

// A scale with round numbers from 0, for values that are mostly below `most`.
export function upTo(most, format) {
  const high = most > 0 ? most : 1;
  const rough = high / 4;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * unit).find((s) => s >= rough);
  const ticks = [];
  for (let i = 0; i * step <= high * 1.0001; i += 1) ticks.push([i * step, format(i * step)]);
  return { low: 0, high, ticks };
}

export class Chart {
  constructor(id, title, about) {
    this.id = id;
    this.cursor = null;
    this.spec = null;
    this.legend = h("ul", { class: "legend" });
    this.extra = h("div");
    this.readout = h("p", { class: "readout", id: `${id}-readout` });
    this.svg = svg("svg", {
      class: "chart", role: "img", tabindex: "0", id, "aria-labelledby": `${id}-title`, "aria-describedby": `${id}-readout`,
      pointermove: (e) => this.point(e), pointerleave: () => this.move(null), keydown: (e) => this.key(e), blur: () => this.move(null),
    });
    this.table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, as a table` });
    this.details = h("details", { toggle: () => this.fill() }, h("summary", {}, "As a table"), this.table);
    this.element = h("section", { "aria-labelledby": `${id}-title` },
      h("figure", {},
        h("div", { class: "top" }, h("h2", { id: `${id}-title` }, title), this.extra),
        h("p", { class: "meta" }, about), this.legend, this.readout, this.svg, this.details));
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  // times, lines [{key, label, values}], bands [{key, lows, highs}], limits [{key, value, label}], events [seconds],
  // scale {low, high, ticks}, latest (the index that is read out), say(index), heads, cells(index)
  update(spec) {
    this.spec = spec;
    this.draw();
    if (this.details.open) this.fill();
  }

  draw() {
    const { spec } = this;
    const width = Math.round(this.svg.clientWidth || 0);
    if (!spec || !width) return;
    this.legend.replaceChildren(...spec.lines.map((l) => h("li", {}, sample(l.key), l.label)));
    const plot = { left: EDGE.left, right: width - EDGE.right, top: EDGE.top, bottom: HEIGHT - EDGE.bottom };
    this.plot = plot;
    const { x, y } = scales(spec, plot);
    this.x = x;
    filled(this.svg, {
      viewBox: `0 0 ${width} ${HEIGHT}`, "data-low": spec.scale.low, "data-high": spec.scale.high,
      "data-top": plot.top, "data-bottom": plot.bottom, "data-points": spec.times.length,
    }, []);
    this.mark = svg("line", { class: "cursor", y1: plot.top, y2: plot.bottom, visibility: "hidden" });
    this.svg.replaceChildren(
      ...across(spec, plot, y), ...along(spec, plot, x),
      ...spec.bands.map((b) => svg("path", { class: `band ${b.key}`, d: area(spec.times, b, x, y) })),
      ...spec.lines.map((l) => svg("path", { class: `line ${l.key}`, d: path(spec.times, l.values, x, y, l.steps) })),
      ...spec.limits.flatMap((l) => limit(l, plot, y)), this.mark);
    this.move(this.cursor);
  }

  move(index) {
    const { spec } = this;
    if (!spec) return;
    this.cursor = index === null ? null : Math.max(0, Math.min(spec.times.length - 1, index));
    const at = this.cursor ?? spec.latest ?? spec.times.length - 1;
    this.readout.textContent = spec.times.length ? spec.say(at) : "nothing yet";
    if (this.cursor === null) return void this.mark?.setAttribute("visibility", "hidden");
    filled(this.mark, { x1: this.x(spec.times[at]), x2: this.x(spec.times[at]), visibility: "visible" }, []);
  }

  point(event) {
    if (!this.spec?.times.length || !this.x) return;
    const box = this.svg.getBoundingClientRect();
    const px = event.clientX - box.left;
    let best = 0;
    this.spec.times.forEach((t, i) => {
      if (Math.abs(this.x(t) - px) < Math.abs(this.x(this.spec.times[best]) - px)) best = i;
    });
    this.move(best);
  }

  key(event) {
    const last = (this.spec?.times.length ?? 0) - 1;
    const now = this.cursor ?? last;
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last, PageUp: now - 10, PageDown: now + 10 }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.move(to);
    const said = document.getElementById("said");
    if (said) said.textContent = this.readout.textContent;
  }

  fill() {
    const { spec } = this;
    if (!spec || !this.details.open) return;
    const rows = spec.times.map((t, i) => h("tr", {}, h("th", { scope: "row" }, clock(t)), spec.cells(i).map((c) => h("td", {}, c))));
    const heads = ["Time", ...spec.heads].map((c) => h("th", { scope: "col" }, c));
    this.table.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.reverse())));
  }
}

function sample(key) {
  return svg("svg", { width: 26, height: 10, "aria-hidden": "true" }, svg("line", { class: `line ${key}`, x1: 1, x2: 25, y1: 5, y2: 5 }));
}

function scales({ times, scale }, plot) {
  const [first, last] = [times[0] ?? 0, times[times.length - 1] ?? 1];
  const span = Math.max(last - first, 10);
  const height = plot.bottom - plot.top;
  const within = (v) => Math.max(scale.low, Math.min(scale.high, v));
  return {
    x: (t) => round(plot.left + ((t - first) / span) * (plot.right - plot.left)),
    y: (v) => round(plot.bottom - ((within(v) - scale.low) / (scale.high - scale.low)) * height),
  };
}

function round(v) {
  return Math.round(v * 10) / 10;
}

function across({ scale }, plot, y) {
  return scale.ticks.flatMap(([value, label]) => [
    svg("line", { class: "grid", x1: plot.left, x2: plot.right, y1: y(value), y2: y(value) }),
    svg("text", { x: plot.left - 6, y: y(value) + 4, "text-anchor": "end" }, label),
  ]);
}

function along({ times, events }, plot, x) {
  const [first, last] = [times[0] ?? 0, times[times.length - 1] ?? 1];
  const most = Math.max(2, Math.floor((plot.right - plot.left) / TICK_WIDTH));
  const step = STEPS.find((s) => Math.max(last - first, 10) / s <= most) ?? 604800;
  const marks = [svg("line", { class: "axis", x1: plot.left, x2: plot.right, y1: plot.bottom, y2: plot.bottom })];
  // A release that has just begun has room to the right: its axis goes on there.
  for (let t = Math.ceil(first / step) * step; times.length && t <= Math.max(last, first + 10); t += step) {
    if (x(t) > plot.right - 22) break;
    marks.push(svg("text", { x: x(t), y: HEIGHT - 6, "text-anchor": x(t) < plot.left + 24 ? "start" : "middle" }, clock(t, step < 60)));
  }
  const shown = events.filter((t) => t >= first && t <= last);
  return marks.concat(shown.map((t) => svg("line", { class: "event", x1: x(t), x2: x(t), y1: plot.top, y2: plot.bottom })));
}

function limit({ key, value, label }, plot, y) {
  return [
    svg("line", { class: `limit ${key}`, x1: plot.left, x2: plot.right, y1: y(value), y2: y(value) }),
    svg("text", { class: key, x: plot.right, y: y(value) - 4, "text-anchor": "end" }, label),
  ];
}

// Neighbouring points that have a value.
function runs(times, has) {
  const found = [];
  let open = null;
  times.forEach((_, i) => {
    if (!has(i)) open = null;
    else if (open) open.push(i);
    else found.push((open = [i]));
  });
  return found;
}

function path(times, values, x, y, steps) {
  const known = runs(times, (i) => values[i] !== null && values[i] !== undefined);
  const piece = (run) => run.map((i, n) => {
    if (n === 0) return `M${x(times[i])} ${y(values[i])}`;
    return steps ? `H${x(times[i])}V${y(values[i])}` : `L${x(times[i])} ${y(values[i])}`;
  }).join("");
  return known.map(piece).join("");
}

function area(times, { lows, highs }, x, y) {
  const known = runs(times, (i) => lows[i] !== null && lows[i] !== undefined);
  const high = (i) => y(highs[i] ?? Infinity);
  const piece = (run) => {
    const there = run.map((i) => `${x(times[i])} ${high(i)}`);
    const back = run.map((i) => `${x(times[i])} ${y(lows[i])}`).reverse();
    return `M${there.concat(back).join("L")}Z`;
  };
  return known.map(piece).join("");
}
