//! The queue of one receiver, and the task that empties it.

use super::{Outcomes, letter::Letter};
use crate::{client::Client, gates::signature};
use bytes::Bytes;
use contract::policy::{Address, Notify};
use http::{Request, header};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::sleep;

/// Messages that wait for one receiver at most: an hour of decisions, several times.
const ROOM: usize = 100;
/// First and longest pause between two attempts.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);
/// Octets of an answer that are read: only its status counts.
const LIMIT: usize = 0;
const ID: &str = "x-serin-id";
const SEQUENCE: &str = "x-serin-sequence";
const TIMESTAMP: &str = "x-serin-timestamp";
const SIGNATURE: &str = "x-serin-signature";

/// One receiver.
pub(super) struct Lane {
    service: String,
    file: Option<PathBuf>,
    outcomes: Outcomes,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    kept: Kept,
    aim: Option<(Notify, String)>,
    /// Whether a task empties it.
    busy: bool,
}

/// What outlives a restart.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Kept {
    /// The last number that was queued: a turn that is repeated tells nothing twice.
    last: u64,
    letters: VecDeque<Letter>,
}

impl Lane {
    /// With what an earlier process has left.
    pub fn open(service: &str, file: Option<PathBuf>, outcomes: Outcomes) -> Lane {
        let kept = file.as_ref().and_then(|path| match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| tracing::warn!("{}: waiting notifications are lost: {e}", path.display()))
                .ok(),
            Err(_) => None,
        });
        Lane {
            service: service.to_owned(),
            file,
            outcomes,
            queue: Mutex::new(Queue {
                kept: kept.unwrap_or_default(),
                ..Queue::default()
            }),
        }
    }

    /// Where messages go from now on.
    pub fn aim(&self, receiver: Notify, key: String) {
        self.queue().aim = Some((receiver, key));
    }

    /// At the end of the queue, and on disk before the turn goes on: whoever sees the decision can trust that it is told.
    pub fn put(&self, letter: Letter) {
        if self.queued(letter) {
            self.save();
        }
    }

    /// Whether it was new; the oldest makes room for it.
    fn queued(&self, letter: Letter) -> bool {
        let mut queue = self.queue();
        if letter.sequence <= queue.kept.last {
            return false;
        }
        queue.kept.last = letter.sequence;
        queue.kept.letters.push_back(letter);
        if queue.kept.letters.len() > ROOM
            && let Some(oldest) = queue.kept.letters.pop_front()
        {
            let name = queue.aim.as_ref().map_or("", |(n, _)| n.name.as_str());
            tracing::warn!(
                service = self.service,
                receiver = name,
                "the notification {} is dropped: {ROOM} newer ones wait",
                oldest.id
            );
            self.count("dropped");
        }
        true
    }

    /// Empties the queue in a task of its own, unless one does already.
    pub fn wake(self: &Arc<Lane>) {
        let mut queue = self.queue();
        if queue.busy || queue.kept.letters.is_empty() {
            return;
        }
        queue.busy = true;
        drop(queue);
        let lane = self.clone();
        tokio::spawn(async move { lane.empty().await });
    }

    async fn empty(&self) {
        let mut pause = FIRST;
        while let Some((letter, (receiver, key))) = self.next() {
            match post(&receiver, &letter, &key).await {
                Ok(()) => {
                    self.gone(&letter, "delivered");
                    pause = FIRST;
                }
                Err(why) => {
                    self.count("failed");
                    tracing::info!(
                        service = self.service,
                        receiver = receiver.name,
                        "the notification {} is sent again: {why}",
                        letter.id
                    );
                    sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST);
                }
            }
        }
    }

    /// The oldest message that is not too old; without one the task ends.
    fn next(&self) -> Option<(Letter, (Notify, String))> {
        loop {
            let mut queue = self.queue();
            let found = queue.kept.letters.front().cloned().zip(queue.aim.clone());
            let Some((letter, aim)) = found else {
                queue.busy = false;
                return None;
            };
            drop(queue);
            let age = now() - letter.at;
            if age <= aim.0.max_age.as_seconds() {
                return Some((letter, aim));
            }
            tracing::warn!(
                service = self.service,
                receiver = aim.0.name,
                "the notification {} is given up after {age:.0} s",
                letter.id
            );
            self.gone(&letter, "expired");
        }
    }

    /// Takes it away, unless it had to make room meanwhile.
    fn gone(&self, letter: &Letter, outcome: &str) {
        let mut queue = self.queue();
        if queue.kept.letters.front().is_some_and(|l| l.id == letter.id) {
            queue.kept.letters.pop_front();
        }
        drop(queue);
        self.count(outcome);
        self.save();
    }

    fn save(&self) {
        let Some(path) = &self.file else { return };
        let kept = self.queue().kept.clone();
        let beside = path.with_extension("new");
        let text = serde_json::to_vec(&kept).map_err(io::Error::other);
        let written = text
            .and_then(|t| fs::write(&beside, t))
            .and_then(|()| fs::rename(&beside, path));
        if let Err(e) = written {
            tracing::warn!("{}: a restart would lose notifications: {e}", path.display());
        }
    }

    fn count(&self, outcome: &str) {
        self.outcomes.with_label_values(&[outcome]).inc();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt. The signature covers the time too, so that a receiver can refuse what somebody has recorded.
async fn post(receiver: &Notify, letter: &Letter, key: &str) -> Result<(), String> {
    let url = match receiver.url_from.as_str() {
        "" => receiver.url.clone(),
        name => std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?,
    };
    let (address, is_secure) =
        Address::secure(&url).map_err(|(reason, _)| format!("its address {reason}"))?;
    let time = format!("{:.0}", now());
    let signed = format!("{time}.{}", letter.body);
    let request = Request::post(&address.path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(ID, &letter.id)
        .header(SEQUENCE, letter.sequence)
        .header(TIMESTAMP, time)
        .header(SIGNATURE, signature(key, signed.as_bytes()))
        .body(Bytes::from(letter.body.clone()))
        .map_err(|e| format!("its address cannot be asked: {e}"))?;
    let mut client = Client::new(address.authority.clone(), receiver.timeout.duration()).limited(LIMIT);
    if is_secure {
        client = client.secured(trusted()?, server(&address.authority)?);
    }
    match client.call(request).await? {
        (status, _) if status.is_success() => Ok(()),
        (status, _) => Err(format!("it answered {status}")),
    }
}

fn server(authority: &str) -> Result<ServerName<'static>, String> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_matches(['[', ']']).to_owned();
    ServerName::try_from(host).map_err(|e| format!("its name cannot be proven: {e}"))
}

/// The authorities that this system trusts; read once.
fn trusted() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if good == 0 {
        return Err(
            "this system has no certificates of authorities; mount a bundle and set SSL_CERT_FILE".to_owned(),
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

/// Half to all of it: receivers that come back are not asked by everybody at once.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0u8];
    let _ = SystemRandom::new().fill(&mut byte);
    pause.mul_f64(0.5 + f64::from(byte[0]) / 510.0)
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(sequence: u64) -> Letter {
        Letter {
            id: format!("echo/{sequence}"),
            sequence,
            at: now(),
            body: "{}".into(),
        }
    }

    #[test]
    fn the_queue_is_bounded_and_takes_each_number_once() {
        let lane = Lane::open("echo", None, super::super::outcomes().unwrap());
        for n in (1..=ROOM as u64 + 3).chain([5, 7]) {
            lane.put(letter(n));
        }
        let queue = lane.queue();
        assert_eq!(queue.kept.letters.len(), ROOM);
        assert_eq!(queue.kept.letters.front().map(|l| l.sequence), Some(4));
        assert_eq!(lane.outcomes.with_label_values(&["dropped"]).get(), 3);
    }

    #[test]
    fn what_waits_outlives_a_restart_and_damage_is_no_failure() {
        let file = std::env::temp_dir().join(format!("serin-notify-{}.json", std::process::id()));
        let lane = || Lane::open("echo", Some(file.clone()), super::super::outcomes().unwrap());
        let first = lane();
        first.put(letter(1));
        assert_eq!(lane().queue().kept.letters[0].id, "echo/1");
        lane().put(letter(1));
        fs::write(&file, "{").unwrap();
        assert!(lane().queue().kept.letters.is_empty());
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn pauses_are_spread() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(10));
            assert!((5.0..=10.01).contains(&pause.as_secs_f64()), "{pause:?}");
        }
    }
}
