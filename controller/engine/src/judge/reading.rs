//! From pages to blocks (statistics 2h).
//!
//! A second is published whole, once, in start order: when nothing of it and of all earlier ones is pending, or at the
//! outcome age. What comes later is discarded. A new process is a new stream; the gap between is not counted. A block
//! never spans two hashes or two shares, so it closes before any weight change.

use super::Judge;
use crate::observation::{Observation, Told};
use contract::{
    evidence::{Bad, Cohort, Minute, RING_SECONDS, ServicePage, Tally},
    names::Track,
};
use serde::{Deserialize, Serialize};
use stats::{Arm, Counts, blocks::Closer};

/// Milliseconds after its end in which a second may still receive requests that workers have not yet counted.
const GRACE_MS: u64 = 20;
/// Seconds after the outcome age in which a page still shows what was known at that age.
const TIMELY_MS: u64 = 2_000;
/// Minutes of stable's past that make the baseline.
const BASELINE_MINUTES: u64 = 10;
/// Two shares nearer than this are one: both were computed from the same fraction.
const SAME_SHARE: f64 = 1e-9;

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
    /// First second that is not yet published.
    next: u64,
    /// Judged seconds, counted from the start of the run: the leading stream drives the time.
    counted: u64,
    drawn: Option<Drawn>,
    block: Closer<Counts>,
}

/// The split that the open block was drawn under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Drawn {
    hash: String,
    share: f64,
}

/// One proxy's page.
struct Report<'a> {
    proxy: &'a str,
    process: &'a str,
    now_ms: u64,
    page: &'a ServicePage,
}

impl Stream {
    pub fn next(&self) -> u64 {
        self.next
    }

    fn begin(told: &Report, counted: u64) -> Stream {
        Stream {
            proxy: told.proxy.to_owned(),
            process: told.process.to_owned(),
            next: told.now_ms / 1000,
            counted,
            drawn: None,
            block: Closer::default(),
        }
    }

    /// Closes the block when this cohort was drawn under another split.
    fn turn_to(&mut self, cohort: &Cohort) -> Option<Counts> {
        let same = |d: &Drawn| d.hash == cohort.hash && (d.share - cohort.share).abs() < SAME_SHARE;
        if self.drawn.as_ref().is_some_and(same) {
            return None;
        }
        self.drawn = Some(Drawn {
            hash: cohort.hash.clone(),
            share: cohort.share,
        });
        self.block.close()
    }

    /// Seconds that have fallen out of the ring are a gap: they count nowhere.
    fn skip_gap(&mut self, now_ms: u64) {
        self.next = self.next.max((now_ms / 1000).saturating_sub(RING_SECONDS - 1));
    }

    fn share(&self) -> f64 {
        self.drawn.as_ref().map_or(0.0, |d| d.share)
    }
}

/// A stream for each proxy that told something.
pub(super) fn streams(seen: &Observation) -> Vec<Stream> {
    told(seen).map(|t| Stream::begin(&t, 0)).collect()
}

/// Publishes what has become known, proxy by proxy in the order of the observation.
pub(super) fn read(judge: &mut Judge, seen: &Observation, terms: &Terms) {
    for told in told(seen) {
        let mut stream = take_stream(judge, &told);
        stream.skip_gap(told.now_ms);
        let first = told.page.cohorts.partition_point(|c| c.second < stream.next);
        read_page(judge, &mut stream, &told, first, terms);
        judge.streams.push(stream);
    }
    judge.streams.sort_by(|a, b| a.proxy.cmp(&b.proxy));
}

fn told(seen: &Observation) -> impl Iterator<Item = Report<'_>> {
    seen.proxies.iter().filter_map(|p| match &p.told {
        Told::Page {
            process,
            now_ms,
            page,
        } => Some(Report {
            proxy: &p.name,
            process,
            now_ms: *now_ms,
            page,
        }),
        Told::Missing { .. } => None,
    })
}

/// The stream of this process. Of an earlier process of the same proxy the open block is closed and judged.
fn take_stream(judge: &mut Judge, told: &Report) -> Stream {
    let Some(at) = judge.streams.iter().position(|s| s.proxy == told.proxy) else {
        return Stream::begin(told, judge.seconds);
    };
    let mut stream = judge.streams.swap_remove(at);
    if stream.process == told.process {
        return stream;
    }
    if let Some(block) = stream.block.close() {
        judge.tick(0.0, &[block]);
    }
    Stream::begin(told, judge.seconds)
}

fn read_page(judge: &mut Judge, stream: &mut Stream, told: &Report, first: usize, terms: &Terms) {
    let mut cohorts = told.page.cohorts.get(first..).unwrap_or_default();
    while !judge.worse {
        let n = cohorts.partition_point(|c| c.second <= stream.next);
        let (second, rest) = cohorts.split_at(n);
        let Some(age) = publishable(stream.next, second, told.now_ms, terms) else {
            return;
        };
        judge.second(stream, second, age, terms);
        cohorts = rest;
    }
}

/// How the requests of a second are counted if it may be published now.
fn publishable(second: u64, cohorts: &[Cohort], now_ms: u64, terms: &Terms) -> Option<Age> {
    let end = second.saturating_add(1).saturating_mul(1000);
    let age = now_ms.checked_sub(end.saturating_add(GRACE_MS))?;
    let limit = (terms.outcome_age * 1000.0) as u64;
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
    fn second(&mut self, stream: &mut Stream, cohorts: &[Cohort], age: Age, terms: &Terms) {
        stream.next += 1;
        stream.counted += 1;
        let leads = stream.counted > self.seconds;
        if leads {
            self.seconds = stream.counted;
            self.recent.advance();
        }
        let time = if leads { 1.0 } else { 0.0 };
        if cohorts.is_empty() {
            let closed = stream.block.push(1.0, &Counts::default());
            self.tick(time, closed.as_slice());
        }
        for (i, cohort) in cohorts.iter().enumerate() {
            let first = if i == 0 { 1.0 } else { 0.0 };
            self.cohort(stream, cohort, age, (first, first * time));
        }
        if leads {
            self.count_second(stream.share(), terms);
        }
    }

    fn cohort(&mut self, stream: &mut Stream, cohort: &Cohort, age: Age, (own, common): (f64, f64)) {
        let counts = counts(cohort, age);
        self.recent.add(&counts);
        if cohort.share > 0.0 {
            self.totals = self.totals.plus(counts);
        }
        let closed = [stream.turn_to(cohort), stream.block.push(own, &counts)];
        let blocks: Vec<Counts> = closed.into_iter().flatten().collect();
        self.tick(common, &blocks);
    }

    fn tick(&mut self, dt: f64, blocks: &[Counts]) {
        self.errors.tick(dt, blocks);
        self.worse |= self.log_rollback() >= self.rollback_at();
    }

    /// A second counts for its last split: traffic must have come under it.
    fn count_second(&mut self, share: f64, terms: &Terms) {
        let at_weight = (share - terms.share).abs() < SAME_SHARE;
        self.at_weight += u64::from(at_weight);
        self.soaked += u64::from(terms.soaks && share > 0.0);
        self.spent += u64::from(terms.spends);
    }
}

fn counts(cohort: &Cohort, age: Age) -> Counts {
    let arm = |t: &Tally| Arm::new(t.started, age.count(&t.bad).min(t.started));
    let [stable, canary] = Track::BOTH.map(|t| arm(&cohort.tracks[t.index()]));
    Counts { stable, canary }
}

/// Stable's last ten minutes, summed over proxies, and the requests per second of the last one or two.
pub(super) fn before(seen: &Observation) -> (Arm, f64) {
    told(seen).fold((Arm::default(), 0.0), |(sum, rate), t| {
        let minute = t.now_ms / 60_000;
        let recent = |n: u64| {
            t.page
                .history
                .iter()
                .filter(move |m| m.minute.saturating_add(n) >= minute)
        };
        let arm = recent(BASELINE_MINUTES).fold(sum, |sum, m| sum.plus(arm(m)));
        let from_ms = minute.saturating_sub(1) * 60_000;
        let requests: f64 = recent(1).map(|m| m.started as f64).sum();
        (arm, rate + requests * 1000.0 / (t.now_ms - from_ms).max(1) as f64)
    })
}

fn arm(minute: &Minute) -> Arm {
    Arm::new(minute.started, minute.bad.min(minute.started))
}
