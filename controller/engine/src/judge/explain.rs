//! The evidence taken apart, for people (statistics 2g). No decision uses anything of this.

mod bets;

use super::{
    evidence::{Evidence, METRICS, Metric},
    speed::Speed,
};
use contract::{
    explanation::{self, Bounds, Explanation, MetricPart, Need, Quantile, Silence, Track},
    latency::{EDGES, edge_seconds},
    policy,
};
use stats::{
    Arm, Counts, bounds, combine,
    errors::{ErrorProcess, Phi},
    halfplane::{Margin, Rates, Side},
    information::{Outlook, information},
};
use std::sync::Arc;

/// Chance that a bound that is shown does not hold.
const DOUBT: f64 = 0.05;
/// Quantiles that are shown.
const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];
/// Part of the errors' stake that a typical winning bet starts with: its weight times the head start.
const TYPICAL_BET: f64 = 0.22 * 0.7;
/// Range in which a rate can be bet on, seconds of an hour, evidence from which on its growth is taken for steady.
const RATES: (f64, f64) = (1e-9, 0.999);
const HOUR: f64 = 3600.0;
const STEADY: f64 = 0.1;

/// One moment, from which an explanation can be made at leisure.
#[derive(Clone, Debug, PartialEq)]
pub struct Grounds {
    pub(crate) basis: Basis,
    pub(crate) setting: Setting,
}

/// What the judge knows of a moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Basis {
    pub evidence: Arc<Evidence>,
    /// Requests per second, both tracks.
    pub rate: f64,
    /// Seconds of judged traffic.
    pub seconds: f64,
    pub soaked: f64,
    pub warm_up_left: f64,
}

/// What the release knows of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Setting {
    /// The share that is wanted from now on.
    pub share: f64,
    /// The share since the evidence began, if it was one.
    pub steady: Option<f64>,
    pub soak_left: f64,
    pub errors: policy::Margins,
}

impl Grounds {
    /// The explanation. Takes about a millisecond.
    pub fn explain(&self) -> Explanation {
        self.basis.evidence.explain(&self.basis, &self.setting)
    }
}

impl Evidence {
    fn explain(&self, basis: &Basis, setting: &Setting) -> Explanation {
        Explanation {
            log_rollback: finite(self.log_rollback()),
            rollback_at: self.rollback_at(),
            log_promote: self.log_promote(),
            promote_at: self.promote_at(),
            events: self.events(),
            metrics: self.metric_parts(),
            stable: self.track(|c| c.stable, |s| &s.seen().stable),
            canary: self.track(|c| c.canary, |s| &s.seen().canary),
            ratio: self.ratio(setting),
            traffic: traffic(basis, setting),
            margins: self.margins(setting),
            noise: self.noise(setting.share),
            placebos: self.placebo_facts(),
            outlook: self.outlook(basis, setting),
            next_errors: self.next_errors(setting.share),
            promotion: self.needs(),
        }
    }

    fn metric_parts(&self) -> Vec<MetricPart> {
        let parts = self.parts();
        let guilty = combine::guilty_among(&parts, self.risk().alpha);
        let all = log_sum(parts.iter().filter_map(stake));
        let mut shown: Vec<MetricPart> = METRICS
            .into_iter()
            .zip(parts.iter().zip(guilty))
            .map(|(metric, (part, guilty))| {
                let share = stake(part).map_or(0.0, |log| (log - all).exp());
                MetricPart {
                    metric: name(metric),
                    weight: part.weight,
                    log_evidence: finite(part.log_m),
                    share,
                    guilty,
                    silence: self.silence(metric),
                    bets: self.bets(metric, share),
                }
            })
            .collect();
        shown.sort_by(|a, b| b.share.total_cmp(&a.share));
        shown
    }

    fn silence(&self, metric: Metric) -> Option<Silence> {
        let speed = self.speed().filter(|_| metric == Metric::Latency)?;
        let Some(process) = speed.process() else {
            return Some(Silence::Learning);
        };
        let proven = process.log_roll() >= self.rollback_at();
        (proven && speed.log_latency() <= 0.0).then_some(Silence::Tolerated)
    }

    fn bets(&self, metric: Metric, share: f64) -> Vec<explanation::Bet> {
        let shares = match metric {
            Metric::Errors => bets::of_errors(self.errors(), "errors"),
            Metric::Latency if self.speed().is_some_and(Speed::counts) => self
                .speed()
                .and_then(Speed::process)
                .map_or(Vec::new(), bets::of_latency),
            Metric::Latency => Vec::new(),
            Metric::Stalled => {
                let speed = self.speed();
                speed.map_or(Vec::new(), |s| bets::of_errors(s.stalled(), "unanswered"))
            }
        };
        let mut bets: Vec<explanation::Bet> = shares
            .into_iter()
            .map(|(on, part)| explanation::Bet {
                on,
                share: share * part,
            })
            .collect();
        bets.sort_by(|a, b| b.share.total_cmp(&a.share));
        bets
    }

    fn track(&self, arm: impl Fn(Counts) -> Arm, histogram: impl Fn(&Speed) -> &Vec<u64>) -> Track {
        let counts = arm(self.totals());
        let (low, high) = bounds::proportion(counts, DOUBT);
        Track {
            counts: super::shown(counts),
            rate: Bounds {
                low,
                high: Some(high),
            },
            unanswered: self.speed().map(|s| super::shown(arm(s.stalled_counts()))),
            latency: self
                .speed()
                .map_or(Vec::new(), |speed| quantiles(histogram(speed))),
        }
    }

    fn ratio(&self, setting: &Setting) -> Option<Bounds> {
        let totals = self.totals();
        let share = setting.steady.filter(|share| is_drawn(&totals, *share))?;
        let found = bounds::ratio(&totals, share, DOUBT)?.ratio;
        (totals.canary.n > 0 && totals.stable.n > 0).then_some(Bounds {
            low: found.low,
            high: found.high,
        })
    }

    fn margins(&self, setting: &Setting) -> explanation::Margins {
        let config = self.errors().config();
        explanation::Margins {
            rollback: margin(config.roll_back),
            promote: margin(config.promote),
            policy_rollback: setting.errors.rollback,
            slower: self.speed().map(Speed::tolerance),
        }
    }

    fn noise(&self, share: f64) -> explanation::Noise {
        let found = self.calibration();
        explanation::Noise {
            dispersion: found.phi,
            dispersion_now: found.phi_at(share).get(),
            pod_spread: found.spread,
            endpoints: found.endpoints,
        }
    }

    fn placebo_facts(&self) -> Option<explanation::Placebos> {
        let placebos = self.placebos()?;
        Some(explanation::Placebos {
            groups: placebos.groups() as u64,
            largest: placebos.largest()?,
            alarm_at: -self.risk().alpha.ln() + (placebos.groups() as f64).ln(),
            alarmed: self.alarm().map(|i| i + 1),
        })
    }

    fn outlook(&self, basis: &Basis, setting: &Setting) -> explanation::Outlook {
        let phi = self.calibration().phi_at(setting.share);
        let outlook = self.prospect(basis.rate, setting.share, phi);
        explanation::Outlook {
            rollback_if_so: self.seconds_to_rollback(&outlook),
            promote_if_same: self.seconds_to_promotion(&outlook, basis, setting),
            visible_in_an_hour: outlook.smallest_visible(self.stable_rate(), HOUR),
        }
    }

    fn prospect(&self, rate: f64, weight: f64, phi: Phi) -> Outlook {
        let config = self.errors().config();
        let errors = self.parts().first().map_or(1.0, |m| m.weight);
        Outlook {
            rate,
            weight,
            phi,
            alpha: self.risk().alpha,
            beta: self.risk().beta,
            roll_back: config.roll_back,
            promote: config.promote,
            stake: errors * TYPICAL_BET,
        }
    }

    /// The rest of the way of the bet that is ahead, at the pace of what has been seen.
    fn seconds_to_rollback(&self, now: &Outlook) -> Option<f64> {
        if self.is_worse() {
            return Some(0.0);
        }
        let canary = self.totals().canary;
        let rates = Rates {
            stable: self.stable_rate(),
            canary: (canary.bad() / canary.requests()).clamp(RATES.0, RATES.1),
        };
        let nats = information(rates, now.weight, now.roll_back, Side::Worse);
        let errors = self.parts().first().and_then(stake)?;
        let best = self.errors().shares().into_iter().map(|(_, part)| part);
        let held = errors + best.fold(0.0, f64::max).ln();
        let rest = (self.rollback_at() - held).max(0.0);
        sensible(rest * now.phi.get() / (now.rate * nats))
    }

    /// The part that takes longest: errors by what a canary as good as stable would show, latency at its pace so far.
    fn seconds_to_promotion(&self, now: &Outlook, basis: &Basis, setting: &Setting) -> Option<f64> {
        let stable = self.stable_rate();
        let same = Rates {
            stable,
            canary: stable,
        };
        let nats = information(same, now.weight, now.promote, Side::Good);
        let rest = (self.promote_at() - self.errors().log_promote()).max(0.0);
        let errors = if rest > 0.0 {
            sensible(rest * now.phi.get() / (now.rate * nats))?
        } else {
            0.0
        };
        let latency = match self.speed().map(Speed::log_promote) {
            None => 0.0,
            Some(has) if has >= self.promote_at() => 0.0,
            Some(has) if has > STEADY => basis.seconds * (self.promote_at() / has - 1.0),
            Some(_) => return None,
        };
        Some(errors.max(latency).max(setting.soak_left))
    }

    fn stable_rate(&self) -> f64 {
        self.errors().baseline().clamp(RATES.0, RATES.1)
    }

    fn next_errors(&self, share: f64) -> explanation::NextErrors {
        let errors = self.errors_at(share);
        explanation::NextErrors {
            to_rollback: self.errors_needed().and_then(|needed| errors.errors_to(needed)),
            one_adds: errors.next_error_gain(),
        }
    }

    /// The dispersion follows the share, and a tick without requests has none.
    fn errors_at(&self, share: f64) -> ErrorProcess {
        let mut errors = self.errors().clone();
        errors.set_phi(self.calibration().phi_at(share));
        errors
    }

    /// What the errors by themselves must reach for a rollback while the others stay as they are; `None`: the errors
    /// have no say.
    fn errors_needed(&self) -> Option<f64> {
        let parts = self.parts();
        let (errors, others) = parts.split_first()?;
        let at = self.rollback_at();
        let beside = others.iter().filter(|m| m.release == errors.release);
        let beside = log_sum(beside.filter_map(stake));
        // ln(e^at - e^beside): what the others of the same cohorts leave to do.
        let left = at + (-(beside - at).exp()).ln_1p();
        let carried = errors.log_m - self.errors().log_roll();
        (errors.weight > 0.0).then_some(if beside >= at {
            f64::NEG_INFINITY
        } else {
            left - errors.weight.ln() - carried
        })
    }

    fn needs(&self) -> Vec<Need> {
        let need = |of: &str, has: f64| Need {
            of: of.to_owned(),
            has,
            needs: self.promote_at(),
        };
        let errors = need("errors", self.errors().log_promote());
        let quantiles = self.speed().map(Speed::log_promote_by_quantile);
        let quantiles = quantiles
            .into_iter()
            .flat_map(|logs| ["p50", "p95", "p99"].into_iter().zip(logs));
        [errors]
            .into_iter()
            .chain(quantiles.map(|(of, has)| need(of, has)))
            .collect()
    }
}

fn traffic(basis: &Basis, setting: &Setting) -> explanation::Traffic {
    explanation::Traffic {
        rate: basis.rate,
        share: setting.share,
        steady: setting.steady.is_some(),
        seconds: basis.seconds,
        warm_up_left: basis.warm_up_left,
        soak_left: setting.soak_left,
    }
}

/// What a metric puts into the verdict; `None` without a stake.
fn stake(metric: &combine::Metric) -> Option<f64> {
    (metric.weight > 0.0).then(|| metric.weight.ln() + metric.log_m)
}

fn log_sum(terms: impl Iterator<Item = f64>) -> f64 {
    let terms: Vec<f64> = terms.collect();
    combine::average(&terms, &vec![1.0; terms.len()])
}

fn name(metric: Metric) -> explanation::Metric {
    match metric {
        Metric::Errors => explanation::Metric::Errors,
        Metric::Latency => explanation::Metric::Latency,
        Metric::Stalled => explanation::Metric::Unanswered,
    }
}

fn margin(margin: Margin) -> policy::Margin {
    policy::Margin {
        ratio: margin.ratio(),
        absolute: margin.absolute(),
    }
}

fn quantiles(buckets: &[u64]) -> Vec<Quantile> {
    let shown = |p: f64| {
        let found = bounds::quantile(buckets, p, DOUBT);
        Some(Quantile {
            p,
            seconds: super::speed::quantile_seconds(buckets, p)?,
            bounds: Bounds {
                // The quantile may lie anywhere in the first bucket that may hold it.
                low: found
                    .low
                    .unwrap_or(buckets.len().saturating_sub(1))
                    .checked_sub(1)
                    .map_or(0.0, edge),
                high: found.high.map(edge),
            },
        })
    };
    QUANTILES.into_iter().filter_map(shown).collect()
}

fn edge(bucket: usize) -> f64 {
    edge_seconds(bucket.min(EDGES - 1))
}

/// A time that can be told to people.
fn sensible(seconds: f64) -> Option<f64> {
    seconds.is_finite().then_some(seconds)
}

/// JSON knows no infinity; evidence of a metric without a stake may be one.
fn finite(log: f64) -> f64 {
    log.clamp(-f64::MAX, f64::MAX)
}

/// Whether the canary has had about its share of the requests: under a cohort rule the share is one of users, and says
/// nothing of requests.
fn is_drawn(totals: &Counts, share: f64) -> bool {
    let requests = totals.canary.requests() + totals.stable.requests();
    let chance = (requests * share * (1.0 - share)).sqrt();
    (totals.canary.requests() - share * requests).abs() <= 8.0 + 4.0 * chance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        judge::{Event, Outcome, Risk, Tick, evidence::Past},
        plan::Plan,
    };
    use contract::file::ServiceEntry;
    use stats::latency::Histograms;

    const SHARE: f64 = 0.1;

    /// A service with 0.5 % errors, answers after some 15 ms.
    fn evidence() -> Evidence {
        let plan = Plan::of(&ServiceEntry::default()).unwrap();
        let past = Past {
            counts: Arm::new(60_000, 300),
            latency: vec![(20, 60_000)],
            ..Past::default()
        };
        let risk = Risk {
            alpha: 0.01,
            beta: 0.05,
        };
        Evidence::start(&plan, risk, &past)
    }

    fn histogram(at: usize, n: u64) -> Vec<u64> {
        let mut buckets = vec![0; at + 1];
        buckets[at] = n;
        buckets
    }

    /// A second of 90 and 10 requests; `bad` of the canary's are bad, and all of them in this bucket.
    fn second(bad: u64, bucket: usize) -> Event {
        let latency = Histograms {
            stable: histogram(20, 90),
            canary: histogram(bucket, 10),
        };
        tick(bad, latency)
    }

    /// The same without durations: the latency is left as it is.
    fn tick(bad: u64, latency: Histograms) -> Event {
        Event::Whole(Tick {
            dt: 1.0,
            share: SHARE,
            cold: false,
            blocks: vec![Outcome {
                counts: Counts::new((90, 0), (10, bad)),
                latency,
            }],
        })
    }

    fn after(seconds: &[(u64, usize)]) -> Evidence {
        let mut evidence = evidence();
        for (bad, bucket) in seconds {
            evidence.apply(&second(*bad, *bucket));
        }
        evidence
    }

    fn explain(evidence: &Evidence) -> Explanation {
        let basis = Basis {
            evidence: Arc::new(evidence.clone()),
            rate: 100.0,
            seconds: evidence.events() as f64,
            soaked: 0.0,
            warm_up_left: 0.0,
        };
        let setting = Setting {
            share: SHARE,
            steady: Some(SHARE),
            soak_left: 0.0,
            errors: policy::Margins::default(),
        };
        Grounds { basis, setting }.explain()
    }

    #[test]
    fn shares_sum_to_one_and_those_of_bets_to_less_than_their_metrics() {
        for seconds in [&[][..], &[(1, 20); 9], &[(0, 28); 30], &[(10, 40); 12]] {
            let e = explain(&after(seconds));
            let all: f64 = e.metrics.iter().map(|m| m.share).sum();
            assert!((all - 1.0).abs() < 1e-9, "{all}");
            for m in &e.metrics {
                let bets: f64 = m.bets.iter().map(|b| b.share).sum();
                assert!(bets <= m.share + 1e-12, "{bets} of {}", m.share);
            }
        }
    }

    #[test]
    fn the_metric_that_is_worse_has_the_largest_share() {
        let e = explain(&after(&[(5, 20); 6]));
        assert_eq!(
            (e.metrics[0].metric, e.metrics[0].guilty),
            (explanation::Metric::Errors, true)
        );
        assert!(e.is_worse());
        let e = explain(&after(&[(0, 40); 30]));
        assert_eq!(e.metrics[0].metric, explanation::Metric::Latency);
        assert!(e.metrics[0].share > 0.9, "{:?}", e.metrics[0].share);
    }

    #[test]
    fn so_many_errors_roll_back_and_one_fewer_does_not() {
        for seconds in [&[(0, 20); 3][..], &[(1, 20); 2], &[(0, 20); 20], &[(2, 20); 1]] {
            let now = after(seconds);
            let e = explain(&now);
            let errors = e.next_errors.to_rollback.unwrap();
            assert!(
                (1..=10).contains(&errors),
                "{errors}: more than the second has requests"
            );
            let rolls_back = |bad: u64| {
                let mut next = now.clone();
                next.apply(&tick(bad, Histograms::default()));
                next.is_worse()
            };
            assert!(rolls_back(errors) && !rolls_back(errors - 1), "{errors}");
            assert!(e.next_errors.one_adds > 0.0);
        }
        assert_eq!(
            explain(&evidence()).next_errors.to_rollback,
            None,
            "nothing to go by"
        );
        assert_eq!(explain(&after(&[(9, 20); 9])).next_errors.to_rollback, Some(0));
    }

    #[test]
    fn bounds_hold_what_was_counted() {
        let e = explain(&after(&[(1, 22); 9]));
        for track in [&e.stable, &e.canary] {
            let rate = track.counts.bad as f64 / track.counts.requests as f64;
            assert!(track.rate.low <= rate && track.rate.high.unwrap() >= rate);
            assert_eq!(track.latency.len(), 3);
            for q in &track.latency {
                assert!(q.bounds.low <= q.seconds, "{:?}", q.bounds);
                assert!(
                    q.bounds.high.is_none_or(|high| high >= q.seconds),
                    "{:?}",
                    q.bounds
                );
            }
        }
        assert!(e.ratio.unwrap().low > 1.0);
    }

    #[test]
    fn an_end_is_in_sight_where_the_traffic_leads_and_nowhere_else() {
        let bad = explain(&after(&[(1, 20); 2])).outlook;
        assert!(
            bad.rollback_if_so.is_some_and(|s| s > 0.0 && s < 600.0),
            "{:?}",
            bad.rollback_if_so
        );
        let good = explain(&after(&[(0, 20); 300]));
        assert_eq!(good.outlook.rollback_if_so, None);
        let seconds = good.outlook.promote_if_same.unwrap();
        assert!(seconds > 1.0 && seconds < 7200.0, "{seconds}");
        let visible = good.outlook.visible_in_an_hour.unwrap();
        assert!(visible > 0.005 && visible < 0.05, "{visible}");
        let needs: Vec<&str> = good.promotion.iter().map(|n| n.of.as_str()).collect();
        assert_eq!(needs, ["errors", "p50", "p95", "p99"]);
    }

    #[test]
    fn an_explanation_of_nothing_is_a_value() {
        let e = explain(&evidence());
        assert_eq!(
            (e.canary.counts.requests, e.ratio, e.outlook.rollback_if_so),
            (0, None, None)
        );
        let text = serde_json::to_string(&e).unwrap();
        assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), e);
    }
}
