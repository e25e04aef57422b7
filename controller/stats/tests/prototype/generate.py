"""Random traces and what the Python prototype of the evidence engine makes of them.

    python generate.py errors  --prototype DIR [--traces 40] [--ticks 40] [--seed 1] > errors.json
    python generate.py latency --prototype DIR --traces 16 --ticks 24 > latency.json

DIR holds the prototype's engine.py (also taken from SERIN_PROTOTYPE), which has the error processes and the
reference family of latency bets; the broad family is written here once more, apart from the program. numpy is
needed. The committed files were made with just these arguments, and `cargo test` recomputes every trace; `run DIR`
does so with many more.
"""
import argparse
import json
import math
import os
import statistics
import sys

import numpy as np

MARGINS = [(1.0, 0.0), (1.1, 0.0002), (1.5, 0.0002), (1.0, 0.01), (2.0, 0.0)]
PROMOTIONS = [(1.25, 0.001), (1.5, 0.002), (1.3, 0.02)]


def counts(rng, ticks, rate, weight, bad_stable, bad_canary, late):
    """Per tick (nS, xS, nC, xC) with idle ticks and idle arms; the canary turns bad at tick `late`."""
    busy = rng.random((2, ticks)) < rng.choice([0.5, 0.9, 1.0])
    n_stable = rng.poisson(rate * (1 - weight), ticks) * busy[0]
    n_canary = rng.poisson(rate * weight, ticks) * busy[1]
    bad = np.where(np.arange(ticks) >= late, bad_canary, bad_stable)
    x_stable, x_canary = rng.binomial(n_stable, bad_stable), rng.binomial(n_canary, bad)
    return np.stack([n_stable, x_stable, n_canary, x_canary], 1)


def errors(engine, rng, ticks):
    dt = int(rng.choice([1, 1, 1, 5]))
    rate, weight = 10 ** rng.uniform(-0.5, 4), rng.choice([0.01, 0.1, 0.5, 0.9])
    bad_stable = rng.choice([0.0, 0.0001, 0.001, 0.01, 0.2, 0.8])
    bad_canary = rng.choice([bad_stable, min(1, bad_stable * 1.5), min(1, bad_stable * 10), 0.5, 1.0])
    history_n = int(rng.integers(0, 100_000))
    history = (history_n, int(rng.binomial(history_n, bad_stable)))
    rho, d = MARGINS[rng.integers(len(MARGINS))]
    rho_p, d_p = PROMOTIONS[rng.integers(len(PROMOTIONS))]
    phi, a0 = float(rng.choice([1.0, 1.0, 2.7])), float(rng.choice([0.7, 0.3]))
    trace = counts(rng, ticks, rate, weight, bad_stable, bad_canary, int(rng.integers(0, ticks)))
    # The prototype sums `step` ticks of a second into one block; the first second carries the whole block here.
    seconds = np.zeros((4, 1, ticks * dt), dtype=np.int64)
    seconds[:, 0, ::dt] = trace.T
    p_hist = history[1] / history[0] if history[0] else 0.0
    roll = engine.errors_rollback(*seconds, p_hist, history[0], rho, d, a0, phi, dt)[0]
    promote = engine.errors_promote(*seconds, p_hist, history[0], rho_p, d_p, phi, dt)[0]
    # Its horizon counts blocks.
    return dict(dt=dt, history=history, roll_back=(rho, d), promote=(rho_p, d_p), phi=phi, head_start=a0,
                horizon=dt * ticks, ticks=trace.tolist(), log_roll=roll.tolist(), log_promote=promote.tolist())


def log_normal(buckets, median, sigma, hang):
    """Probabilities of buckets growing by 2^(1/4) from 5 ms, a share `hang` in the overflow."""
    edges = 0.005 * 2 ** (np.arange(buckets - 1) / 4)
    below = np.array([0.5 * (1 + math.erf(math.log(e / median) / sigma / math.sqrt(2))) for e in edges])
    cumulated = np.concatenate([[0], below * (1 - hang), [1]])
    return np.maximum(np.diff(cumulated), 0) / np.maximum(np.diff(cumulated), 0).sum()


def reference(engine, P):
    """Fixed bets, all weights, pseudo-requests of the learned bet: as the specification has them."""
    fixed, weights = engine.tilts(P)
    return fixed, np.append(weights / weights.sum() * (1 - engine.ISO_W), engine.ISO_W), 60.0


def rising(P, Q):
    """Q with the ratio Q/P made nondecreasing by pooling adjacent violators, normalised."""
    pools = []
    for p, q in zip(P, Q):
        pools.append([q, p, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last)]
    Q = P * np.concatenate([[q / p] * n for q, p, n in pools])
    return Q / Q.sum()


def moved(P, times):
    """Every request slower by a factor; buckets grow by 2^(1/4)."""
    steps = 4 * math.log2(times)
    whole, part = int(steps), steps - int(steps)
    def up(k):
        out = np.zeros(len(P))
        np.add.at(out, np.minimum(np.arange(len(P)) + k, len(P) - 1), P)
        return out
    return rising(P, np.maximum((1 - part) * up(whole) + part * up(whole + 1), 1e-12))


def broad(engine, P):
    normal = statistics.NormalDist()
    ranks = np.clip(P.cumsum() - P / 2, 1e-6, 1 - 1e-6)
    scores = P * np.exp(0.15 * np.array([normal.inv_cdf(r) for r in ranks]))
    tail = P[::-1].cumsum()[::-1]
    edge = int(np.argmin(np.abs(np.log(tail[1:] + 1e-12) - np.log(1e-4)))) + 1
    step = P * np.where(np.arange(len(P)) >= edge, 600.0, 1.0)
    parts = [(0.2, 2), (0.05, 3), (0.03, 10), (0.01, 10), (0.003, 30)]
    fixed = [scores / scores.sum(), moved(P, 1.25), moved(P, 2)]
    fixed += [rising(P, (1 - share) * P + share * moved(P, times)) for share, times in parts]
    return np.array(fixed + [step / step.sum()]), np.array(BROAD), 200.0


def latency(engine, rng, ticks):
    family = str(rng.choice(list(FAMILIES)))
    buckets, shift = int(rng.choice([12, 40])), int(rng.choice([0, 1, 3]))
    median, sigma = 10 ** rng.uniform(-2.2, -0.7), rng.uniform(0.2, 1.0)
    slower, hang = rng.choice([1.0, 1.0, 1.1, 1.5, 3.0]), rng.choice([0.0, 0.0, 0.01, 0.3])
    p_stable = log_normal(buckets, median, sigma, 0)
    p_canary = log_normal(buckets, median * slower, sigma, hang)
    rate, weight = 10 ** rng.uniform(-0.5, 3.5), rng.choice([0.01, 0.1, 0.5, 0.9])
    busy = rng.random((2, ticks)) < rng.choice([0.6, 1.0])
    stable = rng.multinomial(rng.poisson(rate * (1 - weight), ticks) * busy[0], p_stable)
    canary = rng.multinomial(rng.poisson(rate * weight, ticks) * busy[1], p_canary)
    history = rng.multinomial(int(10 ** rng.uniform(0, 5)), p_stable)
    phi, a0 = float(rng.choice([1.0, 2.7])), float(rng.choice([0.7, 0.3]))

    shifted = np.concatenate([canary[:, :shift + 1].sum(1, keepdims=True), canary[:, shift + 1:],
                              np.zeros((ticks, shift), int)], 1).astype(float)
    P = (history + 0.5) / (history + 0.5).sum()
    fixed, weights, kappa = FAMILIES[family](engine, P)
    mixture, past, roll = engine.Mixture(1, weights, ticks, a0, phi), np.zeros((1, buckets)), []
    for s, c in zip(stable[:, None].astype(float), shifted[:, None]):
        learned = engine.iso_alt(past, P, kappa)[:, None, :]
        log_e = np.concatenate([engine.hist_log_e(s, c, P, fixed), engine.hist_log_e(s, c, P, learned)], 1)
        roll.append(float(mixture.update(log_e)[0]))
        past += c
    return dict(family=family, history=history.tolist(), shift=shift, phi=phi, head_start=a0, horizon=ticks,
                stable=stable.tolist(), canary=canary.tolist(), log_roll=roll)


BROAD = [.26, .04, .04, .07, .09, .07, .10, .06, .03, .24]
FAMILIES = {"Reference": reference, "Broad": broad}
KINDS = {"errors": errors, "latency": latency}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("kind", choices=KINDS)
    options.add_argument("--prototype", default=os.environ.get("SERIN_PROTOTYPE"))
    options.add_argument("--traces", type=int, default=40)
    options.add_argument("--ticks", type=int, default=40)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    if not given.prototype:
        options.error("say with --prototype or SERIN_PROTOTYPE where the prototype is")
    sys.path.insert(0, given.prototype)
    import engine
    rng = np.random.default_rng(given.seed)
    traces = [KINDS[given.kind](engine, rng, given.ticks) for _ in range(given.traces)]
    print("[" + ",\n".join(json.dumps(trace, separators=(",", ":")) for trace in traces) + "]")


if __name__ == "__main__":
    main()
