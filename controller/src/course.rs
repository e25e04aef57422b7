//! The course of each release, kept for charts: a point a second and one for each decision. Beside the turns, and no
//! decision rests on it.

use crate::{store::Shelf, turn::unix_now};
use contract::{
    release::{Phase, Status},
    series::{Judged, Point, Series},
};
use engine::{Grounds, Recorded};
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

/// Time between two looks.
const PACE: Duration = Duration::from_secs(1);

/// Releases of one service whose course is kept.
pub(crate) const KEPT: usize = 5;

/// Seconds by which a decision comes after the look before it, at least.
const LATER: f64 = 0.001;

/// The courses of each service's last releases, oldest first; never none.
pub(crate) type Courses = BTreeMap<String, Vec<Series>>;
/// A decision of a service.
pub(crate) type Decided = (String, Recorded);

/// Keeps the courses.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub statuses: watch::Receiver<Vec<Status>>,
    pub grounds: watch::Receiver<BTreeMap<String, Grounds>>,
    pub decided: mpsc::UnboundedReceiver<Decided>,
    pub courses: watch::Sender<Courses>,
    pub shelf: Shelf,
    /// Releases of all services whose course is kept, at most.
    pub most: usize,
}

/// What a point is made of.
struct Moment {
    at: f64,
    phase: Phase,
    wanted: f64,
    version: String,
    grounds: Option<Grounds>,
}

impl Recorder {
    /// Until the runtime ends.
    pub async fn run(mut self) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                // A decision is older than a look that is due.
                biased;
                Some((service, recorded)) = self.decided.recv() => self.mark(&service, recorded).await,
                _ = pace.tick() => self.look().await,
            }
        }
    }

    /// The moment of a decision, with just what it rested on.
    async fn mark(&mut self, service: &str, recorded: Recorded) {
        let status = self
            .statuses
            .borrow()
            .iter()
            .find(|s| s.service == service)
            .cloned();
        let Some(status) = status else { return };
        let decision = recorded.decision;
        // A look may have come while the turn was under way: the decision is later all the same.
        let last = self
            .courses
            .borrow()
            .get(service)
            .and_then(|all| Some(all.last()?.points.last()?.at));
        let moment = Moment {
            at: decision.at.max(last.map_or(0.0, |at| at + LATER)),
            phase: decision.to,
            wanted: decision.weight.share(),
            version: decision.version,
            grounds: recorded.grounds,
        };
        self.note(&status, moment).await;
    }

    async fn look(&mut self) {
        let now = unix_now();
        let statuses = self.statuses.borrow().clone();
        for status in statuses {
            let grounds = self.grounds.borrow().get(&status.service).cloned();
            let moment = Moment {
                at: now,
                phase: status.phase,
                wanted: status.wanted.share(),
                version: status.canary_version.clone(),
                grounds,
            };
            self.note(&status, moment).await;
        }
    }

    async fn note(&mut self, status: &Status, moment: Moment) {
        self.know(&status.service);
        let begins = {
            let courses = self.courses.borrow();
            let known = courses.get(&status.service).and_then(|all| all.last());
            let begins = begins(known, &moment);
            if !begins && !known.is_some_and(|s| is_news(s, &moment)) {
                return;
            }
            begins
        };
        let judged = match moment.grounds {
            Some(grounds) => spawn_blocking(move || Judged::from(grounds.explain())).await.ok(),
            None => None,
        };
        let point = Point {
            at: moment.at,
            phase: moment.phase,
            wanted: moment.wanted,
            taken: status.taken,
            judged,
        };
        let series = begins.then(|| begun(status, moment.version, moment.at));
        self.keep(&status.service, series, point);
    }

    /// What was kept before the start.
    fn know(&mut self, service: &str) {
        if self.courses.borrow().contains_key(service) {
            return;
        }
        let kept = self.shelf.read(service);
        if !kept.is_empty() {
            self.courses.send_modify(|all| {
                all.insert(service.to_owned(), kept);
            });
        }
    }

    fn keep(&mut self, service: &str, begun: Option<Series>, point: Point) {
        self.courses.send_modify(|all| {
            if let Some(series) = begun {
                let mine = all.entry(service.to_owned()).or_default();
                mine.push(series);
                let surplus = mine.len().saturating_sub(KEPT);
                mine.drain(..surplus);
                bound(all, self.most);
            }
            if let Some(series) = all.get_mut(service).and_then(|mine| mine.last_mut()) {
                series.push(point);
            }
        });
        let courses = self.courses.borrow();
        if let Some(series) = courses.get(service).and_then(|all| all.last())
            && let Err(e) = self.shelf.keep(series)
        {
            tracing::debug!(service, "the course of the release is not on disk: {e}");
        }
    }
}

/// Forgets what was told longest ago.
fn bound(all: &mut Courses, most: usize) {
    while all.values().map(Vec::len).sum::<usize>() > most {
        let last = |series: &Series| series.points.last().map_or(series.began, |p| p.at);
        let oldest = all
            .iter()
            .filter_map(|(name, mine)| Some((last(mine.first()?), name)));
        let Some(name) = oldest
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, name)| name.clone())
        else {
            return;
        };
        if let Some(mine) = all.get_mut(&name) {
            mine.remove(0);
        }
        all.retain(|_, mine| !mine.is_empty());
    }
}

fn begun(status: &Status, version: String, at: f64) -> Series {
    Series {
        service: status.service.clone(),
        stable_version: status.stable_version.clone(),
        canary_version: version,
        began: at,
        step: 0.0,
        points: Vec::new(),
    }
}

/// Whether another release begins. One that is under way at its end, or goes back, is the one before.
fn begins(known: Option<&Series>, moment: &Moment) -> bool {
    let Some(series) = known else {
        return !moment.phase.is_final();
    };
    let early = matches!(
        moment.phase,
        Phase::Starting | Phase::Verifying | Phase::Shifting | Phase::Holding | Phase::Paused
    );
    let is_over = series.points.last().is_some_and(|last| last.phase.is_final());
    early && (is_over || series.canary_version != moment.version)
}

/// Whether a moment belongs into a course: what has ended stays as it ended.
fn is_news(series: &Series, moment: &Moment) -> bool {
    let last = series.points.last();
    let ended = last.is_some_and(|last| last.phase.is_final() && last.phase == moment.phase);
    let decided = last.is_none_or(|last| last.at < moment.at);
    moment.phase != Phase::Idle && !ended && decided && series.wants(moment.at, moment.phase, moment.wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(at: f64, phase: Phase, version: &str) -> Moment {
        Moment {
            at,
            phase,
            wanted: 0.1,
            version: version.into(),
            grounds: None,
        }
    }

    fn course(phases: &[Phase]) -> Series {
        let mut series = Series {
            service: "echo".into(),
            stable_version: "v1".into(),
            canary_version: "v2".into(),
            began: 0.0,
            step: 0.0,
            points: Vec::new(),
        };
        for (at, phase) in (0..).map(f64::from).zip(phases) {
            series.push(Point {
                at,
                phase: *phase,
                wanted: 0.0,
                taken: None,
                judged: None,
            });
        }
        series
    }

    #[test]
    fn a_course_is_that_of_one_release() {
        assert!(!begins(None, &moment(1.0, Phase::Idle, "v2")));
        assert!(begins(None, &moment(1.0, Phase::Starting, "v2")));
        let under_way = course(&[Phase::Starting, Phase::Shifting]);
        assert!(!begins(Some(&under_way), &moment(9.0, Phase::Shifting, "v2")));
        assert!(begins(Some(&under_way), &moment(9.0, Phase::Starting, "v3")));
        let over = course(&[Phase::Shifting, Phase::RolledBack]);
        assert!(
            begins(Some(&over), &moment(9.0, Phase::Starting, "v2")),
            "a retry"
        );
        assert!(
            !begins(Some(&over), &moment(9.0, Phase::Promoting, "v2")),
            "a late promotion"
        );
    }

    #[test]
    fn of_too_many_courses_those_go_that_were_told_longest_ago() {
        let named = |began: f64| Series { began, ..course(&[]) };
        let mut all = Courses::from([
            ("a".to_owned(), vec![named(1.0), named(7.0)]),
            ("b".to_owned(), vec![named(3.0)]),
        ]);
        bound(&mut all, 2);
        assert_eq!(all["a"].iter().map(|s| s.began).collect::<Vec<_>>(), [7.0]);
        bound(&mut all, 1);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn what_has_ended_stays_as_it_ended() {
        let over = course(&[Phase::Shifting, Phase::Succeeded]);
        assert!(!is_news(&over, &moment(9.0, Phase::Succeeded, "v2")));
        assert!(!is_news(&over, &moment(9.0, Phase::Idle, "v3")));
        assert!(is_news(&over, &moment(9.0, Phase::RollingBack, "v2")), "an undo");
    }
}
