//! From pages to blocks (statistics 2h).
//!
//! A second is published whole, once, in start order: when nothing of it and of all earlier ones is pending, or at the
//! outcome age. What comes later is discarded. A new process is a new stream; the gap between is not counted. A block
//! never spans two hashes or two shares, so it closes before any weight change.

use super::{
    Judge,
    calibration::Manner,
    cursor::{Closed, Cursor, is_same},
    event::Event,
    evidence::Past,
    outcome::{Outcome, STALL_AGE, durations, stalled},
};
use crate::observation::{Observation, Told};
use contract::{
    evidence::{Bad, Cohort, Minute, Noise, SLICES, ServicePage, Tally},
    latency::EDGES,
    names::Track,
};
use serde::{Deserialize, Serialize};
use stats::{Arm, Counts, latency::Histograms};
use std::collections::BTreeMap;

/// Milliseconds after its end in which a second may still receive requests that workers have not yet counted.
const GRACE_MS: u64 = 20;
/// Seconds after the outcome age in which a page still shows what was known at that age.
const TIMELY_MS: u64 = 2_000;
/// Seconds of a block of slices: half a burst.
const SLICE_SECONDS: f64 = 10.0;
/// Minutes of stable's past that make the baseline.
const BASELINE_MINUTES: u64 = 10;

/// How seconds are read in the present phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Terms {
    /// Age at which a request counts as it stands, seconds.
    pub outcome_age: f64,
    /// The share that is wanted.
    pub share: f64,
    /// Whether seconds count as soak.
    pub soaks: bool,
    /// Whether seconds count towards the deadline.
    pub spends: bool,
}

/// What has been read of one proxy process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stream {
    proxy: String,
    process: String,
    whole: Cursor<Outcome>,
    /// At [`STALL_AGE`]; `None` when only errors are judged.
    early: Option<Cursor<Counts>>,
}

/// One proxy's page.
struct Report<'a> {
    proxy: &'a str,
    process: &'a str,
    now_ms: u64,
    since: u64,
    page: &'a ServicePage,
}

impl Stream {
    pub fn next(&self) -> u64 {
        let whole = self.whole.next;
        self.early.as_ref().map_or(whole, |c| whole.min(c.next))
    }

    pub fn is_of(&self, proxy: &str) -> bool {
        self.proxy == proxy
    }

    fn begin(told: &Report, judge: &Judge) -> Stream {
        let next = told.now_ms / 1000;
        Stream {
            proxy: told.proxy.to_owned(),
            process: told.process.to_owned(),
            whole: Cursor::begin(next, judge.seconds),
            early: judge.buckets().map(|_| Cursor::begin(next, judge.ahead)),
        }
    }

    fn skip_gap(&mut self, now_ms: u64) {
        self.whole.skip_gap(now_ms);
        self.early.iter_mut().for_each(|c| c.skip_gap(now_ms));
    }
}

/// A stream for each proxy that told something.
pub(super) fn streams(judge: &Judge, seen: &Observation) -> Vec<Stream> {
    told(seen).map(|t| Stream::begin(&t, judge)).collect()
}

/// Publishes what has become known, proxy by proxy in the order of the observation.
pub(super) fn read(judge: &mut Judge, seen: &Observation, terms: &Terms) {
    for told in told(seen) {
        let mut stream = take_stream(judge, &told);
        stream.skip_gap(told.now_ms);
        // A page that begins later says nothing about the seconds before: they are no empty seconds.
        if told.since <= stream.next() {
            read_page(judge, &mut stream, &told, terms);
        }
        judge.streams.push(stream);
    }
    judge.streams.sort_by(|a, b| a.proxy.cmp(&b.proxy));
}

fn told(seen: &Observation) -> impl Iterator<Item = Report<'_>> {
    seen.proxies.iter().filter_map(|p| match &p.told {
        Told::Page {
            process,
            now_ms,
            since,
            page,
        } => Some(Report {
            proxy: &p.name,
            process,
            now_ms: *now_ms,
            since: *since,
            page,
        }),
        Told::Missing { .. } => None,
    })
}

/// The stream of this process. Of an earlier process of the same proxy the open blocks are closed and judged.
fn take_stream(judge: &mut Judge, told: &Report) -> Stream {
    let Some(at) = judge.streams.iter().position(|s| s.proxy == told.proxy) else {
        return Stream::begin(told, judge);
    };
    let mut stream = judge.streams.swap_remove(at);
    if stream.process == told.process {
        return stream;
    }
    let whole = Closed::one(stream.whole.close());
    judge.whole(0.0, whole);
    let early = Closed::one(stream.early.as_mut().and_then(Cursor::close));
    judge.early(0.0, early);
    Stream::begin(told, judge)
}

/// What may be published next of a page.
enum Next<'a> {
    Stalled(&'a [Cohort]),
    Whole(&'a [Cohort], Age),
}

/// Second by second, so that what is read late is judged in nearly the order in which it came.
fn read_page(judge: &mut Judge, stream: &mut Stream, told: &Report, terms: &Terms) {
    while !judge.evidence.is_worse() {
        match next(stream, told, terms) {
            Some(Next::Stalled(cohorts)) => judge.stalled_second(stream, cohorts),
            Some(Next::Whole(cohorts, age)) => judge.second(stream, cohorts, age, terms, told.page.share),
            None => return,
        }
    }
}

/// The earliest second that may be published.
fn next<'a>(stream: &Stream, told: &Report<'a>, terms: &Terms) -> Option<Next<'a>> {
    let second = |s: u64| {
        let cohorts = &told.page.cohorts;
        let (from, to) = (
            cohorts.partition_point(|c| c.second < s),
            cohorts.partition_point(|c| c.second <= s),
        );
        cohorts.get(from..to).unwrap_or_default()
    };
    let early = stream.early.as_ref().and_then(|cursor| {
        let cohorts = second(cursor.next);
        publishable(cursor.next, cohorts, told.now_ms, STALL_AGE)?;
        Some((cursor.next, Next::Stalled(cohorts)))
    });
    let cohorts = second(stream.whole.next);
    let whole = publishable(stream.whole.next, cohorts, told.now_ms, terms.outcome_age)
        .map(|age| (stream.whole.next, Next::Whole(cohorts, age)));
    // Of the same second, what came of it first: a failure must not be told as a silence.
    whole
        .into_iter()
        .chain(early)
        .min_by_key(|(second, _)| *second)
        .map(|(_, next)| next)
}

/// How the requests of a second are counted if it may be published now.
fn publishable(second: u64, cohorts: &[Cohort], now_ms: u64, outcome_age: f64) -> Option<Age> {
    let end = second.saturating_add(1).saturating_mul(1000);
    let age = now_ms.checked_sub(end.saturating_add(GRACE_MS))?;
    let limit = (outcome_age * 1000.0) as u64;
    let finished = cohorts.iter().all(Cohort::is_finished);
    (finished || age >= limit).then(|| Age::of(age, limit))
}

/// The age by which a request must have failed to be bad. It depends on ages alone, never on outcomes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Age {
    By1s,
    By5s,
    By30s,
    Ever,
}

impl Age {
    /// Ages that a page keeps apart are exact at any time. Others are exact while the page is read in time; when it is
    /// read late, the nearest one below serves.
    fn of(age_ms: u64, limit_ms: u64) -> Age {
        match limit_ms {
            1_000 => Age::By1s,
            5_000 => Age::By5s,
            30_000 => Age::By30s,
            limit if age_ms <= limit.saturating_add(TIMELY_MS) => Age::Ever,
            limit if limit < 5_000 => Age::By1s,
            limit if limit < 30_000 => Age::By5s,
            _ => Age::By30s,
        }
    }

    fn count(self, bad: &Bad) -> u64 {
        match self {
            Age::By1s => bad.by_1s,
            Age::By5s => bad.by_5s,
            Age::By30s => bad.by_30s,
            Age::Ever => bad.ever,
        }
    }
}

impl Judge {
    /// One second of one stream: a tick for each cohort, of which the first carries the time.
    fn second(&mut self, stream: &mut Stream, cohorts: &[Cohort], age: Age, terms: &Terms, in_force: f64) {
        let cursor = &mut stream.whole;
        let leads = cursor.advance(&mut self.seconds);
        if leads {
            self.recent.advance();
            self.warm += u64::from(is_shared(cohorts));
        }
        let time = if leads { 1.0 } else { 0.0 };
        // A proxy without a request is at the weight that it tells: it may lead, and time must pass all the same.
        let idle = cohorts.is_empty().then_some(in_force);
        let at_weight = idle.map_or(cursor.is_at(terms.share), |share| is_same(share, terms.share));
        let whole = at_weight && cohorts.iter().all(|c| is_same(c.share, terms.share));
        if cohorts.is_empty() {
            let closed = Closed::one(cursor.idle());
            self.whole(time, closed);
        }
        for (i, cohort) in cohorts.iter().enumerate() {
            let first = if i == 0 { 1.0 } else { 0.0 };
            self.cohort(cursor, cohort, age, (first, first * time));
        }
        self.slices(time, cohorts, age);
        if leads {
            // A second in which the weight changed, or before which it was another, is not wholly at this weight.
            self.at_weight += u64::from(whole);
            self.soaked += u64::from(terms.soaks && idle.unwrap_or(cursor.share()) > 0.0);
            self.spent += u64::from(terms.spends);
        }
    }

    fn cohort(&mut self, cursor: &mut Cursor<Outcome>, cohort: &Cohort, age: Age, (own, common): (f64, f64)) {
        self.recent.add(&failed(cohort, age));
        let counts = judged(cohort, age);
        if cohort.share > 0.0 {
            self.totals = self.totals.plus(counts);
            let pending = cohort.tracks[Track::Canary.index()].pending();
            self.unanswered = self.unanswered.saturating_add(pending);
        }
        let latency = self
            .buckets()
            .map_or(Histograms::default(), |n| durations(cohort, n));
        let cold = self.warm <= self.warm_up;
        let closed = cursor.push(cohort, cold, own, &Outcome { counts, latency });
        self.whole(common, closed);
    }

    /// The blocks of one tick, which carries its time once, and when there is none too.
    fn whole(&mut self, dt: f64, closed: Closed<Outcome>) {
        for tick in closed.ticks(dt) {
            self.take(Event::Whole(tick));
        }
    }

    fn early(&mut self, dt: f64, closed: Closed<Counts>) {
        for tick in closed.ticks(dt) {
            self.take(Event::Early(tick));
        }
    }

    /// One second of one stream at [`STALL_AGE`].
    fn stalled_second(&mut self, stream: &mut Stream, cohorts: &[Cohort]) {
        let Some(cursor) = stream.early.as_mut() else {
            return;
        };
        let leads = cursor.advance(&mut self.ahead);
        let time = if leads { 1.0 } else { 0.0 };
        self.warm_ahead += u64::from(leads && is_shared(cohorts));
        let cold = self.warm_ahead <= self.warm_up;
        if cohorts.is_empty() {
            let closed = Closed::one(cursor.idle());
            self.early(time, closed);
        }
        for (i, cohort) in cohorts.iter().enumerate() {
            let first = if i == 0 { 1.0 } else { 0.0 };
            let closed = cursor.push(cohort, cold, first, &stalled(cohort));
            self.early(first * time, closed);
        }
    }

    /// Stable of one second by slices, for the placebos: told in longer blocks, since nothing waits for them.
    fn slices(&mut self, dt: f64, cohorts: &[Cohort], age: Age) {
        if self.evidence.placebos().is_none() {
            return;
        }
        let (seconds, slices) = &mut self.slices;
        *seconds += dt;
        for (i, slice) in cohorts
            .iter()
            .flat_map(|c| c.slices.iter().take(SLICES).enumerate())
        {
            let pending = slice.started.saturating_sub(slice.finished);
            let bad = age.count(&slice.bad).saturating_add(pending);
            slices.resize(slices.len().max(i + 1), Arm::default());
            if let Some(sum) = slices.get_mut(i) {
                *sum = Arm::plus(*sum, Arm::new(slice.started, bad.min(slice.started)));
            }
        }
        if *seconds >= SLICE_SECONDS {
            let (dt, slices) = std::mem::take(&mut self.slices);
            self.take(Event::Slices { dt, slices });
        }
    }
}

/// Whether the canary had a share: time without is no warm-up.
fn is_shared(cohorts: &[Cohort]) -> bool {
    cohorts.iter().any(|c| c.share > 0.0)
}

/// Requests that ended badly. Only these say that stable is degraded: a service whose answers take long is not.
fn failed(cohort: &Cohort, age: Age) -> Counts {
    counts(cohort, |t| age.count(&t.bad))
}

/// Requests that are bad, or unfinished at the outcome age, in both arms alike (2h): a canary that accepts and never
/// answers must not look good.
fn judged(cohort: &Cohort, age: Age) -> Counts {
    counts(cohort, |t| age.count(&t.bad).saturating_add(t.pending()))
}

fn counts(cohort: &Cohort, bad: impl Fn(&Tally) -> u64) -> Counts {
    let arm = |t: &Tally| Arm::new(t.started, bad(t).min(t.started));
    let [stable, canary] = Track::BOTH.map(|t| arm(&cohort.tracks[t.index()]));
    Counts { stable, canary }
}

/// Stable's last ten minutes, summed over proxies, and the requests per second of the last one or two.
pub(super) fn before(seen: &Observation) -> (Past, f64) {
    let (mut past, rate) = told(seen).fold((Past::default(), 0.0), |(mut past, rate), t| {
        let minute = t.now_ms / 60_000;
        let recent = |n: u64| {
            t.page
                .history
                .iter()
                .filter(move |m| m.minute.saturating_add(n) >= minute)
        };
        past.counts = recent(BASELINE_MINUTES).fold(past.counts, |sum, m| sum.plus(arm(m)));
        past.latency.extend(&t.page.latency);
        let from_ms = minute.saturating_sub(1) * 60_000;
        let requests: f64 = recent(1).map(|m| m.started as f64).sum();
        (
            past,
            rate + requests * 1000.0 / (t.now_ms - from_ms).max(1) as f64,
        )
    });
    past.manner = manner(seen);
    (past, rate)
}

/// What stable's half hour says about its pods.
fn manner(seen: &Observation) -> Manner {
    let mut manner = Manner::default();
    let mut pods: BTreeMap<&str, (Arm, f64, f64)> = BTreeMap::new();
    let mut buckets = Vec::new();
    for page in told(seen).map(|t| t.page) {
        manner.proxies += 1;
        manner.noise.extend(page.history.iter().map(|minute| Noise {
            found: minute.noise.found.map(finite),
            expected: minute.noise.expected.map(finite),
        }));
        for pod in page.pods.iter().filter(|p| p.track == Track::Stable) {
            let (arm, finished, buckets) = pods.entry(&pod.endpoint).or_default();
            *arm = arm.plus(Arm::new(pod.started, pod.bad.min(pod.started)));
            *finished += pod.finished as f64;
            *buckets += (pod.buckets as f64).min(pod.finished as f64 * EDGES as f64);
        }
        buckets.extend(&page.latency);
        let counted = page.endpoints.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        manner.endpoints = [0, 1].map(|i| manner.endpoints[i].max(counted[i]));
        manner.is_divided |= page.cohorts.iter().any(|c| !c.slices.is_empty());
    }
    manner.within = variance(&buckets);
    manner.durations = pods
        .values()
        .map(|(_, finished, sum)| (*finished, *sum))
        .collect();
    manner.pods = pods.into_values().map(|(arm, ..)| arm).collect();
    manner.is_divided |= manner.pods.len() > 1;
    manner
}

/// Variance of the bucket of a request.
fn variance(buckets: &[(u16, u64)]) -> f64 {
    let moment = |k: i32| -> f64 {
        let parts = buckets.iter().map(|(b, n)| f64::from(*b).powi(k) * *n as f64);
        parts.sum()
    };
    let requests = moment(0).max(1.0);
    moment(2) / requests - (moment(1) / requests).powi(2)
}

/// Sums of squares from outside: what is no number says nothing.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value.max(0.0) } else { 0.0 }
}

fn arm(minute: &Minute) -> Arm {
    Arm::new(minute.started, minute.bad.min(minute.started))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{judge::Risk, observation::Proxy, plan::Plan};
    use contract::{evidence::RING_SECONDS, file::ServiceEntry};

    const TERMS: Terms = Terms {
        outcome_age: 5.0,
        share: 0.1,
        soaks: true,
        spends: true,
    };

    fn page(cohorts: Vec<Cohort>) -> ServicePage {
        ServicePage {
            hash: "h".into(),
            share: 0.1,
            inflight: [0, 0],
            endpoints: [1, 1],
            guard: None,
            pods: Vec::new(),
            cohorts,
            history: vec![Minute {
                noise: Default::default(),
                minute: 0,
                started: 600,
                bad: 6,
            }],
            latency: Vec::new(),
            local: false,
            rejected: Vec::new(),
        }
    }

    /// A second with 9 stable and `canary` requests, of which `bad` are bad and `pending` have not ended.
    fn cohort(second: u64, hash: &str, (canary, bad, pending): (u64, u64, u64)) -> Cohort {
        let tally = |started, bad, pending| Tally {
            started,
            finished: started - pending,
            bad: Bad {
                by_1s: 0,
                by_5s: bad,
                by_30s: bad,
                ever: bad,
            },
            ..Tally::default()
        };
        let tracks = [tally(9, 0, 0), tally(canary, bad, pending)];
        Cohort {
            second,
            hash: hash.into(),
            share: 0.1,
            tracks,
            slices: Vec::new(),
        }
    }

    fn seen(told: &[(&str, &str, u64, Vec<Cohort>)]) -> Observation {
        let mut seen = Observation::nothing(0.0);
        seen.proxies = told
            .iter()
            .map(|(proxy, process, now_ms, cohorts)| Proxy {
                name: (*proxy).into(),
                told: Told::Page {
                    process: (*process).into(),
                    now_ms: *now_ms,
                    since: 0,
                    page: page(cohorts.clone()),
                },
            })
            .collect();
        seen
    }

    fn judge(start: &Observation) -> Judge {
        let plan = Plan::of(&ServiceEntry::default()).unwrap();
        Judge::start(
            &plan,
            Risk {
                alpha: 0.01,
                beta: 0.05,
            },
            start,
        )
    }

    fn canary(judge: &Judge) -> (u64, u64) {
        (judge.totals.canary.n, judge.totals.canary.x)
    }

    #[test]
    fn a_second_is_published_once_whole_and_in_order() {
        let at = |now, cohorts: &[Cohort]| seen(&[("p", "1", now, cohorts.to_vec())]);
        let mut judge = judge(&at(10_000, &[]));
        let (first, second) = (cohort(10, "h", (4, 1, 0)), cohort(11, "h", (4, 0, 0)));
        judge.read(&at(10_900, std::slice::from_ref(&first)), &TERMS);
        assert_eq!(canary(&judge), (0, 0), "the second has not ended");
        judge.read(&at(11_010, std::slice::from_ref(&first)), &TERMS);
        assert_eq!(canary(&judge), (0, 0), "workers may still count");
        for _ in 0..3 {
            judge.read(&at(11_030, std::slice::from_ref(&first)), &TERMS);
            assert_eq!(canary(&judge), (4, 1), "once");
        }
        judge.read(&at(12_030, &[first, second]), &TERMS);
        assert_eq!((canary(&judge), judge.seconds, judge.since()), ((8, 1), 2, 12));
    }

    #[test]
    fn pending_requests_hold_up_later_seconds_until_the_outcome_age() {
        let cohorts = vec![cohort(10, "h", (4, 1, 2)), cohort(11, "h", (4, 0, 0))];
        let at = |now| seen(&[("p", "1", now, cohorts.clone())]);
        let mut judge = judge(&at(10_000));
        judge.read(&at(15_900), &TERMS);
        assert_eq!(canary(&judge), (0, 0));
        judge.read(&at(16_030), &TERMS);
        assert_eq!(canary(&judge), (8, 3), "what is unfinished then is bad");
        let late = vec![cohort(10, "h", (4, 4, 0))];
        judge.read(&seen(&[("p", "1", 17_500, late)]), &TERMS);
        assert_eq!(canary(&judge), (8, 3), "late data are discarded");
    }

    #[test]
    fn the_age_that_counts_depends_on_ages_alone() {
        assert_eq!(Age::of(300, 1_000), Age::By1s);
        assert_eq!(Age::of(60_000, 5_000), Age::By5s);
        assert_eq!(Age::of(9_000, 10_000), Age::Ever);
        assert_eq!(Age::of(12_000, 10_000), Age::Ever);
        assert_eq!(Age::of(12_001, 10_000), Age::By5s);
        assert_eq!(Age::of(90_000, 40_000), Age::By30s);
    }

    #[test]
    fn seconds_without_requests_are_time_and_seconds_out_of_the_ring_are_not() {
        let at = |now| seen(&[("p", "1", now, Vec::new())]);
        let mut judge = judge(&at(10_000));
        judge.read(&at(30_030), &TERMS);
        assert_eq!((judge.seconds, judge.since()), (20, 30));
        judge.read(&at(1_000_030), &TERMS);
        assert_eq!((judge.seconds, judge.since()), (20 + RING_SECONDS - 1, 1000));
    }

    #[test]
    fn a_page_that_begins_later_is_no_silence() {
        let mut judge = judge(&seen(&[("p", "1", 10_000, Vec::new())]));
        let mut later = seen(&[("p", "1", 20_030, Vec::new())]);
        if let Told::Page { since, .. } = &mut later.proxies[0].told {
            *since = 15;
        }
        judge.read(&later, &TERMS);
        assert_eq!((judge.seconds, judge.since()), (0, 10));
    }

    #[test]
    fn a_new_process_is_a_new_stream_without_the_gap() {
        let mut judge = judge(&seen(&[("p", "1", 500_000, Vec::new())]));
        judge.read(
            &seen(&[("p", "1", 502_030, vec![cohort(500, "h", (1, 0, 0))])]),
            &TERMS,
        );
        judge.read(
            &seen(&[("p", "2", 3_000, vec![cohort(1, "h", (4, 4, 0))])]),
            &TERMS,
        );
        assert_eq!((judge.since(), judge.seconds), (3, 2));
        judge.read(
            &seen(&[("p", "2", 4_030, vec![cohort(3, "h", (4, 0, 0))])]),
            &TERMS,
        );
        assert_eq!((canary(&judge), judge.seconds), ((5, 0), 3));
    }

    #[test]
    fn a_block_closes_before_another_split() {
        let cohorts = vec![
            cohort(10, "h", (1, 1, 0)),
            cohort(10, "i", (1, 0, 0)),
            cohort(11, "i", (1, 0, 0)),
        ];
        let mut judge = judge(&seen(&[("p", "1", 10_000, Vec::new())]));
        judge.read(&seen(&[("p", "1", 11_030, cohorts[..2].to_vec())]), &TERMS);
        assert_eq!(
            (judge.evidence.errors().canary().n, judge.seconds),
            (1, 1),
            "the first block closed with one canary request"
        );
        judge.read(&seen(&[("p", "1", 12_030, cohorts)]), &TERMS);
        assert_eq!(
            (judge.evidence.errors().canary().n, judge.seconds),
            (3, 2),
            "the second one with two"
        );
    }

    #[test]
    fn two_proxies_share_one_clock() {
        let both = |now, n| {
            let cohorts: Vec<Cohort> = (0..n).map(|i| cohort(i, "h", (2, 0, 0))).collect();
            let later = cohorts
                .iter()
                .map(|c| Cohort {
                    second: c.second + 100,
                    ..c.clone()
                })
                .collect();
            seen(&[("p", "1", now, cohorts), ("q", "2", now + 100_000, later)])
        };
        let mut judge = judge(&both(0, 0));
        judge.read(&both(10_030, 10), &TERMS);
        assert_eq!((judge.seconds, canary(&judge), judge.soaked), (10, (40, 0), 10));
        assert_eq!(judge.rate(), 22.0);
    }

    #[test]
    fn the_past_of_stable_is_the_baseline_and_the_first_rate() {
        let (past, rate) = before(&seen(&[
            ("p", "1", 30_000, Vec::new()),
            ("q", "2", 60_000, Vec::new()),
        ]));
        assert_eq!(past.counts, Arm::new(1200, 12));
        assert_eq!(rate, 20.0 + 10.0);
    }
}
