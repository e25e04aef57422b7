// What the charts of a release show, and its explanation in words.
import { clock, duration, h, odds, percent, upTo } from "/charts.js";

export function weightOf(points, base) {
  const [wanted, taken] = [points.map((p) => p.wanted), points.map((p) => p.taken)];
  const most = Math.max(0.01, ...wanted, ...taken.map((t) => t ?? 0));
  return {
    ...base,
    lines: [{ key: "wanted", label: "wanted", values: wanted, steps: true }, { key: "taken", label: "taken by every proxy", values: taken, steps: true }],
    scale: upTo(Math.min(1, most * 1.1), percent),
    say: (i) => `${clock(base.times[i])} ${points[i].phase}: ${percent(wanted[i])} wanted, ${percent(taken[i])} taken`,
    heads: ["Phase", "Wanted", "Taken"],
    cells: (i) => [points[i].phase, percent(wanted[i]), percent(taken[i])],
  };
}

const TRACKS = ["stable", "canary"];

// What most of the bounds stay below: the first ones are as wide as the world.
function sensible(highs, values) {
  const known = highs.filter((v) => v !== null && v !== undefined).sort((a, b) => a - b);
  const half = known[Math.floor(known.length / 2)] ?? 0;
  const last = highs.findLast((v) => v !== null && v !== undefined) ?? 0;
  return 1.15 * Math.max(half, last, ...values.filter((v) => v !== null && v !== undefined));
}

// The last point that tells something.
const latest = (points) => {
  const found = points.findLastIndex((p) => p.judged);
  return found < 0 ? undefined : found;
};

// A chart of both tracks: `pick` gives [value, low, high] of a track, or null.
function compared(points, base, pick, format, most) {
  const found = TRACKS.map((t) => points.map((p) => (p.judged ? pick(p.judged[t]) : null)));
  const column = (track, n) => found[track].map((v) => (v ? v[n] : null));
  const text = (v) => (v ? `${format(v[0])} (${format(v[1])} to ${v[2] === null ? "?" : format(v[2])})` : "not known");
  const high = Math.max(...TRACKS.map((_, t) => sensible(column(t, 2), column(t, 0))));
  return {
    ...base,
    bands: TRACKS.map((key, t) => ({ key, lows: column(t, 1), highs: column(t, 2) })),
    lines: TRACKS.map((key, t) => ({ key, label: key, values: column(t, 0) })),
    scale: upTo(Math.min(most, high), format),
    latest: latest(points),
    say: (i) => `${clock(base.times[i])} canary ${text(found[1][i])}, stable ${text(found[0][i])}`,
    heads: ["Stable", "Canary"],
    cells: (i) => [text(found[0][i]), text(found[1][i])],
  };
}

export function errorsOf(points, base) {
  const pick = (t) => (t.counts.requests ? [t.counts.bad / t.counts.requests, t.rate.low, t.rate.high] : null);
  return compared(points, base, pick, percent, 1);
}

export function latencyOf(points, base, p) {
  const pick = (t) => {
    const found = t.latency.find((q) => q.p === p);
    return found ? [found.seconds, found.bounds.low, found.bounds.high] : null;
  };
  return compared(points, base, pick, duration, Infinity);
}

export function evidenceOf(points, base) {
  const column = (key) => points.map((p) => p.judged?.[key] ?? null);
  const [worse, better] = [column("logRollback"), column("logPromote")];
  const last = points.findLast((p) => p.judged)?.judged ?? { rollbackAt: Math.log(100), promoteAt: Math.log(20) };
  const high = Math.max(last.rollbackAt, last.promoteAt) + Math.LN10;
  const ticks = [];
  for (let n = -1; n * Math.LN10 <= high; n += 1) ticks.push([n * Math.LN10, odds(n * Math.LN10)]);
  const text = (v) => (v === null ? "not known" : odds(v));
  return {
    ...base,
    lines: [{ key: "worse", label: "it is worse: roll back", values: worse }, { key: "better", label: "it is good enough: promote", values: better }],
    limits: [{ key: "worse", value: last.rollbackAt, label: `rolls back at ${odds(last.rollbackAt)}` },
      { key: "better", value: last.promoteAt, label: `may promote at ${odds(last.promoteAt)}` }],
    latest: latest(points),
    scale: { low: -1.2 * Math.LN10, high, ticks },
    say: (i) => `${clock(base.times[i])} worse ${text(worse[i])} of ${odds(last.rollbackAt)}, good enough ${text(better[i])} of ${odds(last.promoteAt)}`,
    heads: ["Worse", "Good enough"],
    cells: (i) => [text(worse[i]), text(better[i])],
  };
}

// The text of `serin explain` as headings, paragraphs, lists and figures.
export function spoken(text) {
  const out = [];
  let open = null;
  const add = (tag, line) => {
    open = { tag, element: h(tag, {}, line) };
    out.push(open.element);
  };
  for (const line of text.split("\n")) {
    if (!line) open = null;
    else if (line.startsWith("  - ")) {
      if (open?.tag !== "ul") add("ul", "");
      open.element.append(h("li", {}, line.slice(4)));
    } else if (line.startsWith("    ") && open?.tag === "ul") open.element.lastChild.append(` ${line.trim()}`);
    else if (line.startsWith("  ") && open?.tag === "pre") open.element.append(`\n${line.slice(2)}`);
    else if (line.startsWith("  ")) add("pre", line.slice(2));
    else if (open?.tag === "p") open.element.append(` ${line}`);
    else add(out.length && !open && line.length < 60 && !line.endsWith(".") ? "h3" : "p", line);
  }
  return out;
}
