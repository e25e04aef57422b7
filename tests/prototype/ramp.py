"""The closed loop of the statistics' prototype with Serin's defaults: what `serin simulate --reference defaults` is
compared with.

    python3 ramp.py DIR [--runs N] [--rate R ...] > ramp.json

DIR holds the prototype's `engine.py`; numpy and scipy are needed. Errors only, one proxy, no promotion watch. What
differs from the table of plain `--reference`: margins 1.1 + 0.0002, errors have half of the capital, blocks close by
counts, the weight rises by half or more and at least five seconds apart, soak 180 s, the first 30 s are no evidence for a
promotion.
"""
import argparse
import json
import sys

import numpy as np
from scipy.special import betaincinv

ALPHA, BETA = 0.01, 0.05
ROLLBACK, PROMOTE = (1.1, 0.0002), (1.25, 0.001)
SHARE_OF_ERRORS = 0.5
HEAD_START, PLANNED = 0.7, 1800
HALF_LIFE = 600
BUDGET, REACTION = 10.0, 3
LEAST_WEIGHT, MOST_WEIGHT = 0.001, 0.5
FACTOR, APART = 1.5, 5
SOAK, WARM_UP, HORIZON = 180, 30, 3600
BLOCK_REQUESTS, BLOCK_AGE = 2, 30

WORLDS = [("healthy", 0.001, 0), ("x2", 0.002, 0), ("x3", 0.003, 0), ("1%", 0.01, 0), ("5%", 0.05, 0), ("50%", 0.5, 0),
          ("100%", 1.0, 0), ("late", 0.5, 120)]
STABLE = 0.001


class Runs:
    """Releases side by side, one row each; rows go when they are decided."""

    def __init__(self, engine, rate, runs, rng):
        past = rate * 600
        self.engine, self.rate, self.rng = engine, rate, rng
        self.log_weights = np.log(engine.ERR_W / engine.ERR_W.sum())
        self.rows = dict(
            id=np.arange(runs), sx=rng.binomial(past, STABLE, runs).astype(float), sn=np.full(runs, float(past)),
            cx=np.zeros(runs), cn=np.zeros(runs), capital=np.full((runs, 7), np.log(HEAD_START)), m=np.full(runs, 0.0),
            promote=np.zeros(runs), block=np.zeros((runs, 4)), age=np.zeros(runs),
            weight=np.full(runs, np.clip(BUDGET / (rate * REACTION), LEAST_WEIGHT, MOST_WEIGHT)), since=np.zeros(runs),
            falls=np.full(runs, -1), bad=np.zeros(runs))

    def keep(self, which):
        self.rows = {k: v[which] for k, v in self.rows.items()}

    def second(self, t, canary):
        r, rng = self.rows, self.rng
        n_c = rng.poisson(self.rate * r["weight"])
        n_s = rng.poisson(self.rate * (1 - r["weight"]))
        x_c, x_s = rng.binomial(n_c, canary), rng.binomial(n_s, STABLE)
        r["bad"] += x_c
        r["block"] += np.stack([n_s, x_s, n_c, x_c], 1)
        r["age"] += 1
        least = np.minimum(r["block"][:, 0], r["block"][:, 2])
        full = (least >= BLOCK_REQUESTS) | ((r["age"] >= BLOCK_AGE) & (least >= 1)) | (t == WARM_UP)
        self.tick(full, t, 1)

    def tick(self, full, t, dt):
        """Judges the blocks that are `full`; `dt` seconds pass for all."""
        r, log_e = self.rows, self.engine.log_e
        if full.any():
            n_s, x_s, n_c, x_c = r["block"][full].T
            p = (r["sx"][full] + 0.5) / (r["sn"][full] + 1)
            near = np.clip(ROLLBACK[0] * p + ROLLBACK[1], 1e-9, 0.6)
            worse = self.engine.err_alts(near, r["cx"][full], r["cn"][full])
            gain = np.zeros_like(r["capital"])
            gain[full] = log_e(n_s[:, None], x_s[:, None], n_c[:, None], x_c[:, None], p[:, None], worse, *ROLLBACK)
            if t > WARM_UP:
                r["promote"][full] += log_e(n_s, x_s, n_c, x_c, p, p, *PROMOTE, -1)
        else:
            gain = 0.0
        fresh = (1 - HEAD_START) * dt / PLANNED if t <= PLANNED else 0.0
        r["capital"] = gain + (np.logaddexp(r["capital"], np.log(fresh)) if fresh else r["capital"])
        cash = max(1e-300, (1 - HEAD_START) * (1 - min(t, PLANNED) / PLANNED))
        parts = np.logaddexp(r["capital"], np.log(cash)) + self.log_weights
        top = parts.max(1)
        r["m"] = top + np.log(np.exp(parts - top[:, None]).sum(1)) + np.log(SHARE_OF_ERRORS)
        decay = 0.5 ** (dt / HALF_LIFE)
        taken = np.where(full[:, None], r["block"], 0.0)
        r["sn"], r["sx"] = r["sn"] * decay + taken[:, 0], r["sx"] * decay + taken[:, 1]
        r["cn"], r["cx"] = r["cn"] + taken[:, 2], r["cx"] + taken[:, 3]
        r["block"], r["age"] = r["block"] - taken, np.where(full, 0, r["age"])

    def pace(self, t):
        r = self.rows
        upper = betaincinv(r["cx"] + 0.5, r["cn"] - r["cx"] + 0.5, 0.9)
        excess = np.maximum(upper - r["sx"] / r["sn"], 1e-4)
        wanted = np.clip(BUDGET / (self.rate * REACTION * excess), LEAST_WEIGHT, MOST_WEIGHT)
        free = (r["m"] <= 0.5 * np.log(1 / ALPHA)) & (t - r["since"] >= APART)
        rises = free & (wanted >= FACTOR * r["weight"] * (1 - 1e-3)) & (r["falls"] < 0)
        self.tick(rises & (r["age"] > 0), t, 0)
        r["weight"] = np.where(rises, wanted, r["weight"])
        r["since"] = np.where(rises, t, r["since"])


def simulate(engine, rate, canary, change_at, runs, rng):
    """Seconds, verdict (1 promoted, -1 rolled back, 0 neither) and bad requests of each release."""
    all_runs = Runs(engine, rate, runs, rng)
    seconds, verdict, bad = np.full(runs, np.inf), np.zeros(runs, int), np.zeros(runs)

    def end(which, how, t):
        ids = all_runs.rows["id"][which]
        seconds[ids], verdict[ids], bad[ids] = t, how, all_runs.rows["bad"][which]

    for t in range(1, HORIZON + 1):
        all_runs.second(t, canary if t > change_at else STABLE)
        r = all_runs.rows
        hit = (r["m"] >= np.log(1 / ALPHA)) & (r["falls"] < 0)
        r["falls"][hit] = t + REACTION - 1
        fallen = r["falls"] == t
        good = (r["falls"] < 0) & (r["promote"] >= np.log(1 / BETA)) & (t >= SOAK)
        end(fallen, -1, t)
        end(good, 1, t)
        if (fallen | good).any():
            all_runs.keep(~(fallen | good))
        if not len(all_runs.rows["id"]):
            break
        all_runs.pace(t)
    end(np.full(len(all_runs.rows["id"]), True), 0, np.inf)
    return seconds, verdict, bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--rate", type=int, nargs="+", default=[10, 100, 1000])
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.directory)
    import engine
    rows = []
    for rate in arguments.rate:
        for name, canary, change_at in WORLDS:
            rng = np.random.default_rng([rate, len(rows)])
            seconds, verdict, bad = simulate(engine, rate, canary, change_at, arguments.runs, rng)
            median = float(np.median(seconds))
            rows.append(dict(
                rps=rate, world=name, runs=arguments.runs, promoted=float((verdict == 1).mean()),
                rolledBack=float((verdict == -1).mean()), medianSeconds=median if np.isfinite(median) else None,
                badMean=float(bad.mean()), bad95=float(np.quantile(bad, 0.95))))
            print(rows[-1], file=sys.stderr, flush=True)
    json.dump(rows, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
