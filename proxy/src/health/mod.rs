//! Active health checks: the control thread asks each endpoint whether it is well, and all workers look at what it found.

mod probe;

use crate::{evidence::pods::Pod, shared::Shared, table::Route, transport::Transport};
use contract::{file::HealthCheckEntry, names::Track};
use probe::{Ill, probe};
use std::{
    cell::Cell,
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// How often it is looked who is due.
const LOOK: Duration = Duration::from_millis(50);

/// One endpoint that is asked.
#[derive(Debug)]
struct Watched {
    pod: Arc<Pod>,
    due: Instant,
    series: Rc<Series>,
}

/// What it answered lately.
#[derive(Debug, Default)]
struct Series {
    /// Whether it is being asked now.
    open: Cell<bool>,
    /// Like answers in a row.
    row: Cell<u32>,
    last: Cell<bool>,
}

type Key = (String, usize, SocketAddr);

/// Watches all services until the process ends.
pub async fn watch(shared: Arc<Shared>) {
    let mut watched: BTreeMap<Key, Watched> = BTreeMap::new();
    loop {
        sleep(LOOK).await;
        let table = shared.table();
        let now = Instant::now();
        let mut seen: Vec<Key> = Vec::new();
        for route in &table.routes {
            look(route, now, &mut watched, &mut seen);
        }
        watched.retain(|key, one| {
            let stays = seen.contains(key);
            if !stays {
                // Nobody asks any more: what was found is no longer known.
                one.pod.set_well(true);
            }
            stays
        });
    }
}

/// Asks whoever is due.
fn look(route: &Route, now: Instant, watched: &mut BTreeMap<Key, Watched>, seen: &mut Vec<Key>) {
    let Some(check) = &route.resilience.health_check else {
        return;
    };
    for track in Track::BOTH {
        for pod in &route.pods[track.index()] {
            let key = (route.source.service.clone(), track.index(), pod.address);
            let one = watched.entry(key.clone()).or_insert_with(|| Watched {
                pod: Arc::clone(pod),
                due: now,
                series: Rc::default(),
            });
            one.pod = Arc::clone(pod);
            seen.push(key);
            if one.due <= now && !one.series.open.replace(true) {
                one.due = now + check.interval.duration();
                let transport = route.transports[track.index()].clone();
                let (pod, series) = (Arc::clone(pod), Rc::clone(&one.series));
                tokio::task::spawn_local(ask(check.clone(), transport, pod, series));
            }
        }
    }
}

async fn ask(check: HealthCheckEntry, transport: Transport, pod: Arc<Pod>, series: Rc<Series>) {
    let found = probe(&check, &transport, pod.address).await;
    series.open.set(false);
    series.note(found, &check, &pod);
}

impl Series {
    fn note(&self, found: Result<(), Ill>, check: &HealthCheckEntry, pod: &Pod) {
        let well = found.is_ok();
        let row = if self.last.replace(well) == well {
            self.row.get().saturating_add(1)
        } else {
            1
        };
        self.row.set(row);
        let needed = if well { check.healthy } else { check.unhealthy };
        if row < needed || pod.is_well() == well {
            return;
        }
        pod.set_well(well);
        match found {
            Ok(()) => tracing::info!(endpoint = %pod.address, "health checks find the endpoint well again"),
            Err(why) => {
                tracing::warn!(endpoint = %pod.address, "health checks find the endpoint unwell: {why}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_answers_in_a_row_change_a_mind() {
        let check = HealthCheckEntry {
            healthy: 2,
            unhealthy: 3,
            ..HealthCheckEntry::default()
        };
        let (pod, series) = (Pod::new(([127, 0, 0, 1], 1).into(), 1), Series::default());
        for (answer, well) in [
            (false, true),
            (false, true),
            (true, true),
            (false, true),
            (false, true),
            (false, false),
            (true, false),
            (false, false),
            (true, false),
            (true, true),
        ] {
            let answer = if answer { Ok(()) } else { Err(Ill::Silent) };
            series.note(answer, &check, &pod);
            assert_eq!(pod.is_well(), well);
        }
    }
}
