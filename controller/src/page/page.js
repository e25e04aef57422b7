// The page: which releases there are, and one of them live. All that it knows comes from the admin calls.
import { Chart, clock, h, odds, percent } from "/charts.js";
import { errorsOf, evidenceOf, latencyOf, spoken, weightOf } from "/plots.js";

// A cluster's page is for everybody who reaches it; only orders need the token there.
const CLUSTER = document.documentElement.dataset.plane === "cluster";
const TOKEN = "serin-token";
const WHO = "serin-who";
const ROAD = ["Starting", "Verifying", "Shifting", "Promoting", "Watching", "Succeeded"];
const BACK = ["RollingBack", "RolledBack"];
const TONES = {
  Succeeded: "good", RollingBack: "bad", RolledBack: "bad", Holding: "wait", Paused: "wait", Undecided: "wait", Idle: "none",
};
const SILENCE = 15000; // three heartbeats
const GLANCE = 2000;
const LONGEST_WAIT = 15000;
const WORDS_PACE = 5000;
const LEAD_PACE = 4000;
const LATE = 10; // seconds

const GROWING = ["Starting", "Verifying", "Shifting", "Holding", "Paused", "Undecided"];
const ACTIONS = {
  approve: {
    label: "Approve", when: [], tone: "main",
    what: (s) => `The gate ${gateOf(s)} waits for a person. With your yes the release goes on, as the evidence allows.`,
  },
  pause: {
    label: "Pause", when: ["Shifting", "Holding", "Undecided"],
    what: (s) => `The weight stays at ${share(s.wanted)}. The judgement goes on: a canary that turns out worse is still rolled back.`,
  },
  resume: {
    label: "Resume", when: ["Paused", "Undecided"],
    what: () => "The weight grows again as the evidence allows.",
  },
  weight: {
    label: "Set weight", when: GROWING,
    what: (s) => `The canary gets this share of the traffic, now ${share(s.wanted)}, and the release pauses until somebody resumes it.`,
  },
  promote: {
    label: "Promote", when: GROWING, tone: "danger",
    what: (s) => `${s.canaryVersion} gets all traffic now, whatever the evidence says, and nothing is judged or watched after that.`,
  },
  abort: {
    label: "Abort", when: [...GROWING, "Promoting", "Watching"], tone: "danger",
    what: (s) => `The weight goes to 0 at once and ${s.stableVersion} serves everybody. ${s.canaryVersion} is not tried again by itself.`,
  },
  retry: {
    label: "Retry", when: ["RolledBack"],
    what: (s) => `${s.canaryVersion} gets a full new run, with half the chance of a wrong decision. The earlier run stays on record.`,
  },
  undo: {
    label: "Undo", when: ["Succeeded"], tone: "danger",
    what: (s) => `${s.stableVersion} serves everybody again, at once.`,
  },
};

const $ = (id) => document.getElementById(id);
const main = $("main");

class Denied extends Error {}

const token = () => sessionStorage.getItem(TOKEN) ?? "";

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (token()) headers.authorization = `Bearer ${token()}`;
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401 || (CLUSTER && answer.status === 403)) throw new Denied("The token is wrong or missing; nothing was changed.");
  if (!answer.ok && !options.any) throw new Error((await reason(answer)) || `answered ${answer.status}`);
  return answer;
}

async function reason(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return "";
  }
}

const get = async (path) => (await call(path)).json();
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const share = (split) => percent(Number(split.weight) / split.total);
// The gate that waits for a person, as the reason says it.
const gateOf = (s) => /a person must approve: serin approve \S+ (\S+)/.exec(s.reason)?.[1].replace(/[;,.]+$/, "");
const inPath = (name) => name.split("/").map(encodeURIComponent).join("/");
const bytes = (text) => String.fromCharCode(...new TextEncoder().encode(text));

function link(kind, text) {
  $("link").className = `link ${kind}`;
  if ($("link").textContent !== text) $("link").textContent = text;
}

function badge(phase) {
  return h("span", { class: `badge ${TONES[phase] ?? ""}` }, phase);
}

// Server-sent events by fetch, which can carry the token; asks again when they break, and by plain calls meanwhile.
async function follow(path, heard, look) {
  for (let failures = 0; ; failures += 1) {
    try {
      await listen(path, (name, data) => {
        failures = 0;
        link("live", "live");
        heard(name, data);
      });
    } catch (e) {
      if (e instanceof Denied) return gate(e.message);
    }
    try {
      await look();
      link("", "asking every few seconds");
    } catch (e) {
      if (e instanceof Denied) return gate(e.message);
      link("lost", "no connection, trying again");
    }
    await wait(Math.min(GLANCE * (failures + 1), LONGEST_WAIT));
  }
}

async function listen(path, heard) {
  const stop = new AbortController();
  let silence = setTimeout(() => stop.abort(), SILENCE);
  try {
    const answer = await call(path, { signal: stop.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(), SILENCE);
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const field = (name) => part.split("\n").find((l) => l.startsWith(`${name}: `))?.slice(name.length + 2);
        if (field("data")) heard(field("event"), JSON.parse(field("data")));
      }
    }
  } finally {
    clearTimeout(silence);
  }
}

// Asks for the token, once.
function gate(error = "") {
  sessionStorage.removeItem(TOKEN);
  $("leave").hidden = true;
  link("", "");
  const field = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const form = h("form", {
    submit: (e) => {
      e.preventDefault();
      sessionStorage.setItem(TOKEN, field.value.trim());
      start();
    },
  }, h("label", {}, "Admin token ", field), h("p", { class: "bad", role: "alert" }, error),
  h("p", { class: "row" }, h("button", { class: "main", type: "submit" }, "Show releases")));
  main.replaceChildren(h("section", {}, h("h1", {}, "Who is there?"),
    h("p", {}, "Releases are shown to those who have the admin token. It lies in the state folder: ",
      h("code", {}, "cat serin-state/admin-token"), ". This tab remembers it until you close it."), form));
  field.focus();
}

// Whether another controller of the cluster has the evidence.
let standsBy = false;

// In a cluster: who answers and who leads.
async function whoLeads() {
  for (;;) {
    try {
      const c = await get("/controller");
      const forward = `kubectl -n ${c.namespace} port-forward pod/${c.leader} ${c.port}`;
      standsBy = !c.leads;
      const texts = c.leads ? [] : c.leader && c.leader !== c.identity
        ? [`${c.identity} stands by: it shows what is on record, without live curves, and passes orders on. ${c.leader} decides; its page: `, h("code", {}, forward)]
        : ["No controller leads at the moment; what stands here is on record, and weights stay as they are."];
      const key = `${c.leads} ${c.leader}`;
      if ($("lead").seen !== key) $("lead").replaceChildren(...texts);
      $("lead").seen = key;
      $("lead").hidden = texts.length === 0;
      $("ask-where").textContent = `kubectl -n ${c.namespace} get secret serin-page -o go-template='{{.data.token | base64decode}}'`;
    } catch {
      // The other calls say that there is no connection.
    }
    await wait(LEAD_PACE);
  }
}

// The list.
function list() {
  document.title = "Releases · Serin";
  const body = h("tbody");
  const empty = h("p", { class: "empty" }, CLUSTER ? "There is no Rollout yet." : "No service is known yet.");
  const table = h("table", { class: "list", hidden: true }, h("thead", {}, h("tr", {},
    [CLUSTER ? "Rollout" : "Service", "Phase", "Versions", "Weight", "Verdict", "Why"].map((t) => h("th", { scope: "col" }, t)))), body);
  main.replaceChildren(h("section", {}, h("h1", {}, "Releases"), empty, table));
  const show = (all) => {
    empty.hidden = all.length > 0;
    table.hidden = all.length === 0;
    all.forEach((s, i) => {
      const row = body.children[i] ?? body.appendChild(h("tr"));
      const text = JSON.stringify(s);
      if (row.seen === text) return;
      row.seen = text;
      const focused = row.contains(document.activeElement);
      const cell = (label, ...c) => h("td", { "data-label": label }, ...c);
      row.replaceChildren(
        cell("", h("a", { href: `/ui/${inPath(s.service)}` }, s.service)), cell("", badge(s.phase)),
        cell("Versions", versions(s)), cell("Weight", weights(s)), cell("Verdict", verdict(s)), cell("", s.reason));
      if (focused) row.querySelector("a").focus();
    });
    while (body.children.length > all.length) body.lastChild.remove();
  };
  follow("/events", (_, all) => show(all), async () => show(await get("/rollouts")));
}

const versions = (s) => (s.canaryVersion ? `${s.stableVersion} → ${s.canaryVersion}` : s.stableVersion);
const weights = (s) => `${share(s.wanted)} wanted, ${percent(s.taken)} taken`;

function verdict(s) {
  if (s.verdict !== "NotYet") return s.verdict;
  return s.needed ? `waiting: ${s.figures.canary.requests} of about ${s.needed} requests` : "none yet";
}

// One release.
class Release {
  constructor(name) {
    this.name = name;
    this.path = `/rollouts/${inPath(name)}`;
    // An earlier release: it stands still.
    this.began = new URLSearchParams(location.search).get("release");
    this.status = null;
    this.series = null;
    this.decisions = new Map();
    this.quantile = 0.95;
    this.worded = 0;
    this.build();
  }

  build() {
    document.title = `${this.name} · Serin`;
    const id = (tag, attributes, ...c) => h(tag, attributes, ...c);
    this.badge = id("span");
    this.versions = id("p", { class: "versions" });
    this.reason = id("p", { class: "reason" }, "Looking…");
    this.steps = id("ol", { class: "steps", "aria-label": "Phases" });
    this.facts = id("dl", { class: "facts" });
    this.actions = id("p", { class: "row" });
    this.told = id("p", { class: "told", role: "status" });
    this.note = id("p", { class: "meta" });
    this.releases = id("p", { class: "row", hidden: true });
    this.words = id("div", { class: "words" });
    this.timeline = id("ol", { class: "timeline" });
    this.charts = {
      weight: new Chart("weight", "Weight", "Share of the traffic that the canary gets."),
      errors: new Chart("errors", "Error rate", "Since the release began, with bounds that hold at every look at once (95 %)."),
      latency: new Chart("latency", "Latency", "The same for the time to answer, the warm-up apart."),
      evidence: new Chart("evidence", "Evidence", "How many times likelier than under the contrary; decided at the dotted lines."),
    };
    this.charts.latency.extra.append(h("label", {}, "Quantile ", h("select", {
      change: (e) => { this.quantile = Number(e.target.value); this.draw(); },
    }, [0.5, 0.95, 0.99].map((p) => h("option", { value: p, selected: p === this.quantile }, `p${p * 100}`)))));
    main.replaceChildren(
      h("section", { "aria-labelledby": "name" }, h("div", { class: "head" }, h("h1", { id: "name", tabindex: "-1" }, this.name), this.badge, this.versions, this.releases),
        this.steps, this.reason, this.facts, this.actions, this.told, this.note),
      h("div", { class: "charts" }, Object.values(this.charts).map((c) => c.element)),
      h("section", {}, h("h2", {}, "In words"), this.words),
      h("section", {}, h("h2", {}, "What happened"), this.timeline));
  }

  start() {
    if (this.began !== null) return void this.past();
    this.load().catch(() => {});
    follow(`${this.path}/events`, (name, data) => this.heard(name, data), () => this.load());
  }

  // A release that another one came after.
  async past() {
    try {
      const [series, decisions, releases] = await Promise.all([
        get(`${this.path}/series?began=${encodeURIComponent(this.began)}`), get(`${this.path}/decisions`), get(`${this.path}/releases`)]);
      this.choose(releases);
      if (!series) return void (this.reason.textContent = "The curves of this release are not kept any more. What is on record of all stands below.");
      const next = releases.find((r) => r.began > series.began);
      this.series = series;
      decisions.filter((d) => !next || d.at < next.began - 0.5).forEach((d) => this.decisions.set(d.number, d));
      const last = series.points[series.points.length - 1];
      const mine = this.mine();
      this.badge.replaceChildren(badge(last?.phase ?? "Idle"));
      document.title = `${last?.phase} · ${this.name} · Serin`;
      this.versions.textContent = `${series.stableVersion} → ${series.canaryVersion}`;
      this.reason.textContent = mine[mine.length - 1]?.reason ?? "";
      this.note.textContent = "An earlier release. It is over, and nothing on it moves.";
      this.road(last?.phase ?? "Idle");
      this.happened();
      this.draw();
      const weighed = mine.findLast((d) => d.figures.canary.requests > 0) ?? mine[mine.length - 1];
      if (weighed) this.words.replaceChildren(...(await this.told_of(weighed.number)));
    } catch (e) {
      if (e instanceof Denied) return gate(e.message);
      this.reason.textContent = e.message;
    }
  }

  // The releases whose curves are kept, the last one first.
  choose(releases) {
    this.releases.hidden = releases.length < 2 && this.began === null;
    const key = JSON.stringify(releases);
    if (this.releases.hidden || this.releases.seen === key) return;
    this.releases.seen = key;
    const named = (r) => `${new Date(r.began * 1000).toLocaleDateString()} ${clock(r.began, false)} ${r.canaryVersion} ${r.phase}`;
    const last = releases[releases.length - 1]?.began;
    const option = (r) => h("option", { value: r.began === last ? "" : r.began, selected: String(r.began) === this.began }, named(r));
    this.releases.replaceChildren(h("label", {}, "Release ", h("select", { id: "releases",
      change: (e) => location.assign(`${location.pathname}${e.target.value && `?release=${e.target.value}`}`) }, [...releases].reverse().map(option))));
  }

  async load() {
    const [status, series, decisions, releases] = await Promise.all([
      call(this.path, { any: true }).then((a) => (a.ok ? a.json() : null)), get(`${this.path}/series`), get(`${this.path}/decisions`),
      get(`${this.path}/releases`)]);
    this.series = series;
    this.choose(releases);
    decisions.forEach((d) => this.decisions.set(d.number, d));
    this.show(status);
    this.draw();
  }

  heard(name, data) {
    if (name === "status") return this.show(data);
    if (this.series?.began !== data.began || this.series?.step !== data.step) return void this.load().catch(() => {});
    const { points } = this.series;
    if (points.length && points[points.length - 1].at >= data.point.at) return;
    points.push(data.point);
    this.draw();
  }

  show(status) {
    if (!status) {
      this.reason.textContent = CLUSTER ? "There is no such Rollout." : "This service is not configured any more. What is on record of it stands below.";
      this.happened();
      return;
    }
    const before = this.status;
    this.status = status;
    status.decisions.forEach((d) => this.decisions.set(d.number, d));
    if (before?.phase !== status.phase) {
      this.badge.replaceChildren(badge(status.phase));
      $("said").textContent = `${this.name}: ${status.phase}. ${status.reason}`;
      document.title = `${status.phase} · ${this.name} · Serin`;
      this.worded = 0;
    }
    this.versions.textContent = versions(status);
    this.reason.textContent = status.reason;
    this.road(status.phase);
    this.figures(status);
    this.buttons(status);
    this.happened();
    this.explain();
  }

  // The steps of this release; where it went back, only those that it had seen.
  road(phase) {
    const place = (p) => (["Holding", "Paused", "Undecided"].includes(p) ? 2 : ROAD.indexOf(p));
    let steps = ROAD.map((p, i) => (i === place(phase) && i === 2 ? phase : p));
    let now = steps.indexOf(phase);
    if (BACK.includes(phase)) {
      const most = Math.max(0, ...this.mine().map((d) => place(d.to)));
      steps = [...ROAD.slice(0, most + 1).filter((p) => p !== "Succeeded"), ...BACK];
      now = steps.indexOf(phase);
    }
    const key = steps.join() + now;
    if (this.steps.seen === key) return;
    this.steps.seen = key;
    const is = (i) => (i === now ? `now ${TONES[phase] ?? ""}` : i < now ? `done ${BACK.includes(steps[i]) ? "bad" : ""}` : "");
    this.steps.replaceChildren(...steps.map((p, i) => h("li", { class: is(i), "aria-current": i === now ? "step" : null }, p)));
  }

  figures(s) {
    const f = s.figures;
    const of = (c) => `${c.bad} bad of ${c.requests}`;
    const facts = [["Weight", weights(s)], ["Verdict", verdict(s)], [`Stable ${s.stableVersion}`, of(f.stable)],
      [`Canary ${s.canaryVersion}`, of(f.canary)], ["Evidence to roll back", `${odds(f.logRollback)} of ${odds(f.rollbackAt)}`],
      ["Evidence to promote", `${odds(f.logPromote)} of ${odds(f.promoteAt)}`]];
    if (s.steps) facts.push(["Steps", `${s.steps[0]} of ${s.steps[1]}`]);
    for (const c of s.checks ?? []) facts.push([`Check ${c.name}`, `${c.missing ?? c.value} (${c.limit})${c.breach ? ", beyond it" : ""}`]);
    const key = JSON.stringify(facts);
    if (this.facts.seen === key) return;
    this.facts.seen = key;
    this.facts.replaceChildren(...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  }

  buttons(s) {
    const gated = gateOf(s);
    const shown = Object.entries(ACTIONS).filter(([name, a]) => (name === "approve" ? gated : a.when.includes(s.phase)));
    const label = (name, a) => (name === "approve" ? `Approve ${gated}` : a.label);
    const key = shown.map(([name, a]) => label(name, a)).join();
    if (this.actions.seen === key) return;
    this.actions.seen = key;
    const focused = this.actions.contains(document.activeElement);
    this.actions.replaceChildren(...shown.map(([name, a]) => h("button", {
      type: "button", class: a.tone ?? "", "data-action": name, click: () => this.ask(name),
    }, label(name, a))));
    if (focused) $("name").focus();
  }

  // Says what will happen, asks for a yes, does it, tells the result.
  ask(name) {
    const action = ACTIONS[name];
    const [dialog, yes, s] = [$("ask"), $("ask-yes"), this.status];
    $("ask-title").textContent = `${action.label} ${this.name}?`;
    $("ask-what").textContent = action.what(s);
    $("ask-weight-field").hidden = name !== "weight";
    $("ask-weight").value = "";
    this.gate = gateOf(s);
    $("ask-token-field").hidden = token() !== "";
    $("ask-token").value = "";
    $("ask-who").value = sessionStorage.getItem(WHO) ?? "";
    $("ask-why").value = "";
    $("ask-error").textContent = "";
    yes.textContent = action.label;
    yes.className = `main ${action.tone ?? ""}`;
    yes.disabled = false;
    // The button that was pressed may be gone by then.
    dialog.onclose = () => document.activeElement === document.body && $("name").focus();
    $("ask-no").onclick = () => dialog.close();
    $("ask-form").onsubmit = (e) => {
      e.preventDefault();
      this.answer(name);
    };
    dialog.showModal();
    if (name === "weight") $("ask-weight").focus();
    else $("ask-no").focus();
  }

  async answer(name) {
    $("ask-error").textContent = "";
    if (!$("ask-token-field").hidden) {
      if (!$("ask-token").value.trim()) return void ($("ask-error").textContent = "Give the admin token; nothing was changed.");
      sessionStorage.setItem(TOKEN, $("ask-token").value.trim());
    }
    const body = name === "approve" ? { approve: this.gate } : name === "weight" ? { weight: { weight: $("ask-weight").value.trim().replace(/\s*%$/, ""), total: 100 } } : name;
    sessionStorage.setItem(WHO, $("ask-who").value.trim());
    $("ask-yes").disabled = true;
    try {
      const status = await this.order(body);
      $("ask").close();
      this.told.className = "told";
      this.told.textContent = `Done: ${status.reason || status.phase}.`;
      $("leave").hidden = !token();
      this.show(status);
    } catch (e) {
      if (e instanceof Denied) {
        sessionStorage.removeItem(TOKEN);
        $("leave").hidden = true;
        $("ask-token-field").hidden = false;
      }
      $("ask-error").textContent = e.message;
    }
    $("ask-yes").disabled = false;
  }

  async order(body) {
    const headers = { "content-type": "application/json" };
    if ($("ask-who").value.trim()) headers["x-serin-actor"] = bytes($("ask-who").value.trim());
    if ($("ask-why").value.trim()) headers["x-serin-cause"] = bytes($("ask-why").value.trim());
    return (await call(`${this.path}/command`, { method: "POST", body: JSON.stringify(body), headers })).json();
  }

  // When the release that is shown began: a controller that stands by hears of it a little later than it was decided.
  start_of() {
    const { began = 0, canaryVersion = "" } = this.series ?? {};
    const first = [...this.decisions.values()].filter((d) => d.to === "Starting" && d.from !== "Starting" && d.version === canaryVersion && d.at > began - LATE && d.at <= began);
    return Math.min(began, ...first.map((d) => d.at));
  }

  // Decisions of the release that is shown.
  mine() {
    const began = this.start_of();
    return [...this.decisions.values()].filter((d) => d.at >= began);
  }

  happened() {
    const all = [...this.decisions.values()].sort((a, b) => b.number - a.number);
    const key = all.map((d) => d.number).join() + this.series?.began;
    if (this.timeline.seen === key) return;
    this.timeline.seen = key;
    const began = this.start_of();
    const [mine, older] = [all.filter((d) => d.at >= began), all.filter((d) => d.at < began)];
    const open = new Set([...this.timeline.querySelectorAll("details[open]")].map((d) => d.dataset.number));
    const items = mine.map((d) => this.decision(d, open));
    if (older.length) {
      items.push(h("li", {}, h("details", { "data-number": "older", open: open.has("older") }, h("summary", {}, `Earlier releases: ${older.length} decisions`),
        h("ol", { class: "timeline" }, older.map((d) => this.decision(d, open))))));
    }
    this.timeline.replaceChildren(...(items.length ? items : [h("li", { class: "empty" }, "Nothing yet.")]));
  }

  decision(d, open) {
    const words = h("div", { class: "words" });
    const fill = async (e) => {
      if (e.target.open && !words.firstChild) words.replaceChildren(...(await this.told_of(d.number)));
    };
    const at = new Date(d.at * 1000);
    return h("li", { class: TONES[d.to] ?? "" },
      h("p", { class: "meta" }, h("time", { datetime: at.toISOString(), title: at.toString() }, `${at.toLocaleDateString()} ${clock(d.at)}`),
        ` · ${d.from === d.to ? d.to : `${d.from} → ${d.to}`} · weight ${share(d.weight)} · by ${d.by}`),
      h("p", {}, d.reason),
      h("details", { "data-number": d.number, open: open.has(String(d.number)), toggle: fill }, h("summary", {}, "Why, in words"), words));
  }

  async told_of(number) {
    try {
      return spoken(await (await call(`${this.path}/words?decision=${number}`)).text());
    } catch (e) {
      return [h("p", { class: "bad" }, e.message)];
    }
  }

  async explain() {
    if (Date.now() - this.worded < WORDS_PACE) return;
    this.worded = Date.now();
    try {
      const text = await (await call(`${this.path}/words`)).text();
      if (this.words.seen === text) return;
      this.words.seen = text;
      this.words.replaceChildren(...spoken(text));
    } catch {
      this.worded = 0;
    }
  }

  draw() {
    const points = this.series?.points ?? [];
    const phase = this.status?.phase;
    const events = this.mine().filter((d) => d.from !== d.to).map((d) => d.at);
    if (this.began === null) this.note.textContent = phase === "Idle" && points.length ? `Nothing is under way. Below stands the last release, to ${this.series.canaryVersion}.` : "";
    const base = { times: points.map((p) => p.at), events, bands: [], limits: [] };
    const bare = standsBy && !points.some((p) => p.judged);
    for (const name of ["errors", "latency", "evidence"]) this.charts[name].element.hidden = bare;
    this.charts.weight.update(weightOf(points, base));
    this.charts.errors.update(errorsOf(points, base));
    this.charts.latency.update(latencyOf(points, base, this.quantile));
    this.charts.evidence.update(evidenceOf(points, base));
  }
}

function start() {
  $("leave").hidden = !token();
  const name = location.pathname.startsWith("/ui/") ? location.pathname.slice(4).split("/").map(decodeURIComponent).join("/") : "";
  if (name) new Release(name).start();
  else list();
}

// `serin demo` prints a link that carries its token; it does not stay in the address.
if (location.hash.startsWith("#token=")) {
  sessionStorage.setItem(TOKEN, location.hash.slice(7));
  history.replaceState(null, "", location.pathname);
}
$("leave").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN);
  location.reload();
});
if (CLUSTER) {
  $("where").hidden = true;
  whoLeads();
}
if (token() || CLUSTER) start();
else gate();
