// Looks at the page as people do, in a real browser: `node browse.mjs '{"tour": "good", …}'`. Lines on its standard output
// are JSON: what it has seen, and at last what it has found. Anything that goes wrong ends it with 1.
import { createRequire } from "node:module";
import { mkdirSync, writeFileSync } from "node:fs";

const given = JSON.parse(process.argv[2]);
const { chromium } = createRequire(`${given.packages}/`)("playwright-core");
const host = given.admin;
const base = `http://${host}`;
const problems = [];
let forgiven = null; // what may fail for a while: a pattern of addresses and messages
const PATIENCE = 60000;
mkdirSync(given.out, { recursive: true });

const tell = (value) => console.log(JSON.stringify(value));
const wrong = (text) => (forgiven?.test(text) ? undefined : problems.push(text));
const must = (holds, text) => (holds ? undefined : problems.push(text));
const api = async (path, options = {}) => fetch(base + path, { ...options, headers: { authorization: `Bearer ${given.token}`, ...options.headers } });
const json = async (path) => (await api(path)).json();
const status = () => json("/rollouts/echo");
const picture = (page, name) => page.screenshot({ path: `${given.out}/${given.tour}-${name}.png`, fullPage: true });

function watched(page) {
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && wrong(`console: ${m.text()} ${m.location().url}`));
  page.on("pageerror", (e) => wrong(`page: ${e.message}`));
  page.on("request", (r) => {
    const url = new URL(r.url());
    if (url.protocol !== "data:" && url.host !== host) wrong(`request to another host: ${r.url()}`);
  });
  page.on("requestfailed", (r) => {
    // Whoever leaves a page leaves its stream.
    if (!/\/events$/.test(r.url())) wrong(`failed: ${r.url()} ${r.failure()?.errorText}`);
  });
  page.on("response", (r) => r.status() >= 400 && wrong(`answered ${r.status()}: ${r.url()}`));
  return page;
}

const phaseOf = (page) => page.locator(".head .badge").first().textContent();
const until = (page, phases) => page.waitForFunction((all) => all.includes(document.querySelector(".head .badge")?.textContent), phases, { timeout: PATIENCE });

// A page that stands still at each phase until it was photographed.
function standing() {
  let open = () => {};
  let gate = Promise.resolve();
  let last = "";
  window.goOn = () => open();
  const look = () => {
    const phase = document.querySelector(".head .badge")?.textContent ?? "";
    if (phase === last) return;
    last = phase;
    gate = new Promise((done) => { open = done; });
  };
  // One event at a time: two that come together would be shown as one.
  const events = new WeakMap();
  const read = ReadableStreamDefaultReader.prototype.read;
  ReadableStreamDefaultReader.prototype.read = async function held() {
    await Promise.resolve();
    await gate;
    const waiting = events.get(this) ?? [];
    if (waiting.length) return { value: waiting.shift(), done: false };
    const result = await read.call(this);
    if (typeof result.value !== "string") return result;
    const [first, ...rest] = result.value.split(/(?<=\n\n)/);
    events.set(this, rest);
    return { value: first, done: false };
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true });
}

async function photographer(context, end, seen) {
  const page = watched(await context.newPage());
  await page.addInitScript(standing);
  await page.goto(`${base}/ui/echo`);
  let last = "";
  for (;;) {
    await page.waitForFunction((before) => (document.querySelector(".head .badge")?.textContent ?? before) !== before, last, { timeout: 120000 });
    last = await phaseOf(page);
    await page.waitForTimeout(100); // the charts follow in the next frame
    await picture(page, last);
    if (!seen.includes(last)) seen.push(last);
    tell({ phase: last });
    await page.evaluate(() => window.goOn());
    if (end.includes(last)) return page.close();
  }
}

// Everything that proxies have told, second by second.
function collector() {
  const cohorts = new Map();
  let on = true;
  const run = (async () => {
    while (on) {
      // It may be restarting.
      const told = await fetch(`http://${given.signals}/evidence?since=0`).then((a) => a.json()).catch(() => null);
      for (const c of told?.services.echo?.cohorts ?? []) cohorts.set(`${c.second} ${c.hash}`, c);
      await new Promise((done) => setTimeout(done, 1000));
    }
  })();
  return async () => {
    on = false;
    await run;
    return [...cohorts.values()].sort((a, b) => a.second - b.second);
  };
}

async function signIn(page, path) {
  await page.goto(base + path);
  await page.locator("#token").fill(given.token);
  await page.keyboard.press("Enter");
}

// The confirmed click; the fields are optional.
async function order(page, name, { weight, who, why } = {}) {
  await page.locator(`[data-action=${name}]`).click();
  if (weight) await page.locator("#ask-weight").fill(weight);
  if (who) await page.locator("#ask-who").fill(who);
  if (why) await page.locator("#ask-why").fill(why);
  must((await page.locator("#ask-what").textContent()).length > 20, `${name}: what will happen is said`);
  await page.locator("#ask-yes").click();
}

async function strangersChangeNothing(page) {
  const before = await status();
  forgiven = /401|Unauthorized/;
  // The wrong token, given by hand.
  await page.evaluate(() => sessionStorage.removeItem("serin-token"));
  await page.locator("[data-action=abort]").click();
  await page.locator("#ask-yes").click();
  await page.getByText("Give the admin token").waitFor();
  await page.locator("#ask-token").fill("0123456789abcdef0123456789abcdef");
  await page.locator("#ask-yes").click();
  await page.locator("#ask-error").getByText("token is wrong").waitFor();
  await picture(page, "wrong-token");
  // None, a forged one, and one in the wrong place.
  const tried = await page.evaluate(async () => {
    const send = async (headers, path = "/rollouts/echo/command") => (await fetch(path, { method: "POST", headers, body: '"abort"' })).status;
    const bearer = (t) => ({ authorization: `Bearer ${t}` });
    return [await send({}), await send(bearer("")), await send(bearer("forged")), await send({ authorization: "forged" }),
      await send({ cookie: "token=forged" }, "/rollouts/echo/command?token=forged")];
  });
  must(tried.every((s) => s === 401), `strangers were answered ${tried}`);
  const after = await status();
  must(after.decisions.every((d) => d.by === before.decisions[0].by), `somebody has decided: ${JSON.stringify(after.decisions)}`);
  must(!["RollingBack", "RolledBack"].includes(after.phase), "a stranger has aborted it");
  // The right one goes on from there.
  await page.locator("#ask-no").click();
  await page.locator("[data-action=pause]").click();
  await page.locator("#ask-token").fill(given.token);
  await page.locator("#ask-who").fill("<b>Ann</b>");
  await page.locator("#ask-why").fill("<img src=x onerror=alert(1)> Zürich");
  await page.locator("#ask-yes").click();
  await until(page, ["Paused"]);
  await page.locator(".told").getByText("Done").waitFor();
  forgiven = null;
  const said = await page.locator(".timeline").textContent();
  must(said.includes("<b>Ann</b>") && said.includes("<img src=x onerror=alert(1)> Zürich"), "names are shown as they are");
}

async function keyboardOnly(page) {
  const press = async (wanted) => {
    for (let i = 0; i < 60; i += 1) {
      await page.keyboard.press("Tab");
      const found = await page.evaluate((w) => {
        const e = document.activeElement;
        const style = getComputedStyle(e);
        return { here: e.matches(w), seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0, tag: e.outerHTML.slice(0, 80) };
      }, wanted);
      must(found.seen, `the focus is not to be seen on ${found.tag}`);
      if (found.here) return;
    }
    problems.push(`Tab does not lead to ${wanted}`);
  };
  await page.locator("#main").focus();
  await press("[data-action=resume]");
  await page.keyboard.press("Enter");
  await press("#ask-yes");
  await page.keyboard.press("Enter");
  await until(page, ["Shifting"]);
  await press("#errors");
  const now = await page.locator("#errors-readout").textContent();
  await page.keyboard.press("Home");
  must((await page.locator("#errors-readout").textContent()) !== now, "the arrows move along the chart");
}

async function isAccessible(page) {
  const nameless = await page.evaluate(() => {
    const name = (e) => e.getAttribute("aria-label") || e.labels?.[0]?.textContent.trim() || e.textContent.trim()
      || (e.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join("");
    return [...document.querySelectorAll("button, a, input, select, summary, [tabindex='0']")].filter((e) => !name(e)).map((e) => e.outerHTML.slice(0, 90));
  });
  must(nameless.length === 0, `without a name: ${nameless}`);
  for (const role of ["banner", "main", "contentinfo"]) must((await page.getByRole(role).count()) === 1, `one ${role}`);
  must((await page.locator("h1").count()) === 1, "one h1");
  must((await page.locator("[aria-live=polite]").count()) > 0, "changes are announced");
}

async function fits(page, colors, width) {
  await page.emulateMedia({ colorScheme: colors });
  await page.setViewportSize({ width, height: 780 });
  await page.waitForTimeout(200);
  const wide = await page.evaluate(() => {
    const reach = (e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !e.closest(".scroll, pre, .skip, .unseen");
    return { page: document.scrollingElement.scrollWidth, out: [...document.querySelectorAll("main *")].filter(reach).map((e) => e.outerHTML.slice(0, 90)).slice(0, 3) };
  });
  must(wide.page <= width && !wide.out.length, `${width} px: ${wide.page} wide, ${wide.out}`);
  await picture(page, `${colors}-${width}`);
}

// What is drawn, turned back into numbers, beside what the controller says.
async function drawnAsTold(page) {
  const drawn = await page.evaluate(() => ["errors", "latency"].map((id) => {
    const svg = document.getElementById(id);
    const bands = [...svg.querySelectorAll(".band")].map((b) => b.getAttribute("d"));
    return { id, bands, ...Object.fromEntries(["low", "high", "top", "bottom", "points"].map((k) => [k, Number(svg.dataset[k])])) };
  }));
  const { points } = await json("/rollouts/echo/series");
  let compared = 0;
  for (const chart of drawn) {
    const bounds = (point, track) => {
      const of = point.judged?.[track];
      if (!of) return null;
      if (chart.id === "errors") return of.counts.requests ? of.rate : null;
      return of.latency.find((q) => q.p === 0.95)?.bounds ?? null;
    };
    ["stable", "canary"].forEach((track, t) => {
      const known = points.slice(0, chart.points).map((p) => bounds(p, track));
      const runs = known.reduce((all, b, i) => (b ? (known[i - 1] ? all[all.length - 1].push(b) : all.push([b]), all) : all), []);
      const pieces = chart.bands[t].split("Z").filter(Boolean).map((d) => d.slice(1).split("L").map((xy) => Number(xy.split(" ")[1])));
      must(pieces.length === runs.length, `${chart.id} ${track}: ${pieces.length} pieces for ${runs.length}`);
      const unit = (chart.high - chart.low) / (chart.bottom - chart.top);
      const clamp = (v) => Math.max(chart.low, Math.min(chart.high, v ?? Infinity));
      runs.forEach((run, r) => {
        const ys = pieces[r] ?? [];
        run.forEach((b, i) => {
          const value = (y) => chart.low + (chart.bottom - y) * unit;
          const [high, low] = [value(ys[i]), value(ys[ys.length - 1 - i])];
          const same = Math.abs(high - clamp(b.high)) <= unit * 0.06 && Math.abs(low - clamp(b.low)) <= unit * 0.06;
          must(same, `${chart.id} ${track} ${i}: drawn ${low} to ${high}, told ${JSON.stringify(b)}`);
          compared += 1;
        });
      });
    });
  }
  must(compared > 10, `only ${compared} bounds were compared`);
  return compared;
}

const TOURS = {
  // A good release: a list, a stranger, a pause, another weight, the keyboard; then it goes on by itself.
  async good(context, found) {
    const list = watched(await context.newPage());
    await signIn(list, "/");
    await list.getByRole("link", { name: "echo" }).waitFor();
    await picture(list, "list");
    await isAccessible(list);
    // The other tabs of this tour have it already: a tab keeps the token for itself.
    await context.addInitScript((t) => sessionStorage.setItem("serin-token", t), given.token);
    const camera = photographer(context, ["Succeeded"], found.phases);
    camera.catch((e) => problems.push(`no pictures: ${e}`));
    const page = watched(await context.newPage());
    await page.goto(`${base}/ui/echo`);
    await until(page, ["Shifting"]);
    await page.waitForFunction(() => Number(document.getElementById("errors").dataset.points) > 6, null, { timeout: PATIENCE });
    await strangersChangeNothing(page);
    await isAccessible(page);
    await fits(page, "dark", 1200);
    await fits(page, "dark", 390);
    await fits(page, "light", 390);
    await fits(list, "light", 390);
    await fits(page, "light", 320);
    await page.setViewportSize({ width: 1200, height: 900 });
    await order(page, "weight", { weight: "7", who: "Ann" });
    await page.waitForFunction(() => document.querySelector(".facts").textContent.includes("7 % taken"), null, { timeout: PATIENCE });
    await keyboardOnly(page);
    found.compared = await drawnAsTold(page);
    await page.getByRole("button", { name: "Approve board" }).waitFor({ timeout: PATIENCE });
    await picture(page, "gate");
    await order(page, "approve", { who: "Ann", why: "the board agrees" });
    await camera;
    await until(page, ["Succeeded"]);
  },
  // A bad one, tried again, and aborted by hand.
  async bad(context, found) {
    await context.addInitScript((t) => sessionStorage.setItem("serin-token", t), given.token);
    const camera = photographer(context, ["RolledBack"], found.phases);
    const page = watched(await context.newPage());
    await page.goto(`${base}/ui/echo`);
    await camera;
    await until(page, ["RolledBack"]);
    found.compared = await drawnAsTold(page);
    found.series = await json("/rollouts/echo/series");
    await page.getByText("Why, in words").first().click();
    await page.locator(".timeline details[open] .words h3, .timeline details[open] .words p").first().waitFor();
    await picture(page, "why");
    await order(page, "retry", { who: "Ann", why: "once more" });
    await until(page, ["Starting", "Verifying", "Shifting"]);
    await order(page, "abort", { who: "Ann", why: "enough" });
    await until(page, ["RolledBack"]);
    const last = (await status()).decisions.findLast((d) => d.to === "RollingBack");
    must(last.by === "Ann" && last.reason.includes("enough"), `aborted by Ann: ${JSON.stringify(last)}`);
    // The first run is still there, under an address of its own.
    const earlier = watched(await context.newPage());
    await earlier.goto(`${base}/ui/echo`);
    await until(earlier, ["RolledBack"]);
    const choices = await earlier.locator("#releases option").count();
    must(choices === 2, `${choices} releases to choose from`);
    await earlier.locator("#releases").selectOption({ index: 1 });
    await earlier.waitForURL(/release=/);
    await earlier.waitForFunction((n) => Number(document.getElementById("errors").dataset.points) === n, found.series.points.length, { timeout: PATIENCE });
    must((await earlier.locator("[data-action]").count()) === 0, "an earlier release has no buttons");
    must(!(await earlier.locator(".timeline").textContent()).includes("enough"), "an earlier release has its own decisions alone");
    await picture(earlier, "earlier");
  },
  // Both versions are bad: it waits, and blames nobody.
  async hold(context, found) {
    await context.addInitScript((t) => sessionStorage.setItem("serin-token", t), given.token);
    const camera = photographer(context, ["Holding"], found.phases);
    await camera;
    const now = await status();
    must(now.phase !== "RolledBack", `somebody was blamed: ${JSON.stringify(now.decisions)}`);
  },
  // For the documents: a release that went back, at its end.
  async picture(context) {
    await context.addInitScript((t) => sessionStorage.setItem("serin-token", t), given.token);
    const page = watched(await context.newPage());
    await page.setViewportSize({ width: 1200, height: 1164 });
    await page.goto(`${base}/ui/server`);
    await page.waitForFunction(() => document.querySelector(".head .badge")?.textContent === "RolledBack", null, { timeout: 120000 });
    await page.waitForTimeout(1500); // the last point
    await page.screenshot({ path: given.file });
  },
  // A release in a cluster: anybody looks, the token acts, whoever stands by says who leads.
  async cluster(context, found) {
    const list = watched(await context.newPage());
    await list.goto(`${base}/`);
    await list.getByRole("link", { name: "default/echo" }).waitFor();
    await picture(list, "list");
    await list.getByRole("link", { name: "default/echo" }).click();
    await until(list, ["Idle"]);
    tell({ phase: "Idle" });
    const page = watched(await context.newPage());
    await page.goto(`${base}/ui/default/echo`);
    await until(page, ["Shifting"]);
    found.phases.push("Shifting");
    await page.waitForFunction(() => Number(document.getElementById("errors").dataset.points) > 6, null, { timeout: PATIENCE });
    must(await page.locator("#lead").isHidden(), "whoever leads need not say so");
    // A wrong token first.
    forgiven = /403|Forbidden/;
    await page.locator("[data-action=abort]").click();
    await page.locator("#ask-token").fill("0123456789abcdef0123456789abcdef");
    await page.locator("#ask-yes").click();
    await page.locator("#ask-error").getByText("token is wrong").waitFor();
    must((await page.locator("#ask-where").textContent()).includes("get secret serin-page"), "where the token lies is said");
    await picture(page, "wrong-token");
    must((await phaseOf(page)) === "Shifting", "a stranger has changed something");
    await page.locator("#ask-no").click();
    forgiven = null;
    await page.locator("[data-action=pause]").click();
    await page.locator("#ask-token").fill(given.token);
    await page.locator("#ask-who").fill("Ann");
    await page.locator("#ask-yes").click();
    await until(page, ["Paused"]);
    must((await page.locator(".timeline").textContent()).includes("Ann (on the page)"), "who paused it is told");
    await picture(page, "Paused");
    await fits(page, "dark", 390);
    await fits(page, "light", 1200);
    // The other controller: on record, and who leads.
    const other = await context.newPage();
    await other.goto(`http://${given.other}/ui/default/echo`);
    await until(other, ["Paused"]);
    must((await other.locator("#lead").textContent()).includes("port-forward pod/"), "who leads, and how to get there");
    await picture(other, "standing-by");
    await order(page, "abort", { who: "Ann", why: "enough" });
    await until(page, ["RolledBack"]);
    await picture(page, "RolledBack");
    await until(other, ["RolledBack"]);
  },
  // A promotion by hand.
  async promote(context) {
    await context.addInitScript((t) => sessionStorage.setItem("serin-token", t), given.token);
    const page = watched(await context.newPage());
    await page.goto(`${base}/ui/echo`);
    await until(page, ["Shifting"]);
    await order(page, "promote", { who: "Ann", why: "it is the fix" });
    await until(page, ["Promoting", "Watching", "Succeeded"]);
    await until(page, ["Succeeded"]);
    const by = (await status()).decisions.find((d) => d.to === "Promoting");
    must(by?.by === "Ann" && by.reason.includes("it is the fix"), `promoted by Ann: ${JSON.stringify(by)}`);
    forgiven = /ERR_|failed|fetch/;
    tell({ ready: "to be killed" });
    await page.waitForFunction(() => document.getElementById("link").className.includes("lost"), null, { timeout: PATIENCE });
    await picture(page, "lost");
    tell({ ready: "to be started" });
    await page.waitForFunction(() => document.getElementById("link").className.includes("live"), null, { timeout: PATIENCE });
    forgiven = null;
    await until(page, ["Succeeded"]);
    const fresh = watched(await context.newPage());
    await fresh.goto(`${base}/ui/echo`);
    await until(fresh, ["Succeeded"]);
    await fresh.waitForFunction(() => Number(document.getElementById("weight").dataset.points) > 2, null, { timeout: PATIENCE });
    must((await fresh.locator(".timeline").textContent()).includes("it is the fix"), "the history is still there");
    await picture(fresh, "after-restart");
  },
};

const browser = await chromium.launch({
  executablePath: given.browser,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
});
const found = { phases: [] };
try {
  const stop = given.signals ? collector() : async () => [];
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, colorScheme: "light" });
  await TOURS[given.tour](context, found);
  if (given.signals) found.series ??= await json("/rollouts/echo/series");
  found.cohorts = await stop();
} catch (e) {
  problems.push(String(e.stack ?? e));
} finally {
  await browser.close();
}
writeFileSync(`${given.out}/${given.tour}.json`, JSON.stringify(found));
tell({ problems });
process.exit(problems.length ? 1 : 0);
