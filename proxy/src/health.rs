//! Active health checks: the control thread asks each endpoint whether it is well, and all workers look at what it found.

use crate::{evidence::pods::Pod, shared::Shared, table::Route, wire::response::Head};
use bytes::{Bytes, BytesMut};
use contract::{
    backends::AppProtocol,
    file::HealthCheckEntry,
    names::{HEADER_SYNTHETIC, Track},
};
use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// How often it is looked who is due.
const LOOK: Duration = Duration::from_millis(50);
/// Longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;

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
                let protocol = route.source.backends(track).protocol;
                let (pod, series) = (Arc::clone(pod), Rc::clone(&one.series));
                tokio::task::spawn_local(ask(check.clone(), protocol, pod, series));
            }
        }
    }
}

async fn ask(check: HealthCheckEntry, protocol: AppProtocol, pod: Arc<Pod>, series: Rc<Series>) {
    let answer = timeout(
        check.timeout.duration(),
        status(&check.path, protocol, pod.address),
    )
    .await;
    let well = matches!(answer, Ok(Ok(200..=399)));
    series.open.set(false);
    series.note(well, &check, &pod);
}

impl Series {
    fn note(&self, well: bool, check: &HealthCheckEntry, pod: &Pod) {
        let row = if self.last.replace(well) == well {
            self.row.get().saturating_add(1)
        } else {
            1
        };
        self.row.set(row);
        let needed = if well { check.healthy } else { check.unhealthy };
        if row >= needed && pod.is_well() != well {
            pod.set_well(well);
            tracing::info!(endpoint = %pod.address, well, "health checks have changed their mind about the endpoint");
        }
    }
}

/// The status of an answer. Of an endpoint that does not speak plain HTTP/1.1 it is asked only whether it takes a
/// connection.
async fn status(path: &str, protocol: AppProtocol, at: SocketAddr) -> io::Result<u16> {
    let mut stream = TcpStream::connect(at).await?;
    if protocol != AppProtocol::Http {
        return Ok(200);
    }
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {at}\r\nuser-agent: serin\r\n{HEADER_SYNTHETIC}: 1\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut read = BytesMut::new();
    while read.len() < MAX_HEAD {
        if stream.read_buf(&mut read).await? == 0 {
            break;
        }
        match Head::parse(&Bytes::copy_from_slice(&read), false) {
            Ok(Some((head, _))) if head.status >= 200 => return Ok(head.status),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Err(io::ErrorKind::InvalidData.into())
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
            series.note(answer, &check, &pod);
            assert_eq!(pod.is_well(), well);
        }
    }
}
