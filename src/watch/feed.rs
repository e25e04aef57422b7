//! Where news comes from: a machine's admin listener or a cluster, read beside whoever shows it.

use super::Sight;
use crate::{
    app::local_runtime,
    calls::{self, Admin},
    cli::{WatchArgs, Where},
    cluster,
    fail::Failure,
    guess,
};
use proxy::contract::{admin::ServiceState, release::Command, release::Status};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};

/// How often a machine is asked.
const GLANCE: Duration = Duration::from_millis(500);
/// How long a machine may be silent before lines end.
const PATIENCE: Duration = Duration::from_secs(15);

/// What has happened.
pub enum News {
    /// How all of them stand.
    Sights(Vec<Sight>),
    /// They cannot be seen at the moment, and why.
    Lost(String),
    /// What came of an order.
    Answer(Result<String, String>),
    /// They can never be seen again.
    End(Failure),
    /// The program is to end, by this signal.
    Stop(i32),
}

/// News, and the way to give orders.
pub struct Feed {
    news: Receiver<News>,
    sender: Sender<News>,
    at: Where,
    focus: Arc<Mutex<String>>,
}

impl Feed {
    /// Begins to listen.
    pub fn start(args: &WatchArgs) -> Result<Feed, Failure> {
        let (sender, news) = channel();
        let focus = Arc::new(Mutex::new(args.names.first().cloned().unwrap_or_default()));
        let source = Source {
            at: args.at.clone(),
            names: args.names.clone(),
            focus: focus.clone(),
            sender: sender.clone(),
        };
        for name in &args.names {
            calls::segment(name)?;
        }
        thread::spawn(move || source.listen());
        Ok(Feed {
            news,
            sender,
            at: args.at.clone(),
            focus,
        })
    }

    /// Signals become news, so that the terminal is given back first.
    pub fn catch_signals(&self) {
        let sender = self.sender.clone();
        thread::spawn(move || {
            if let Ok(runtime) = local_runtime() {
                runtime.block_on(async {
                    let number = caught().await;
                    let _ = sender.send(News::Stop(number));
                });
            }
        });
    }

    /// What has come since; waits so long for it.
    pub fn next(&self, wait: Duration) -> Option<News> {
        match self.news.recv_timeout(wait) {
            Ok(news) => Some(news),
            Err(RecvTimeoutError::Timeout) => None,
            // We hold a sender ourselves.
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Which release is looked at closely.
    pub fn focus(&self, name: &str) {
        name.clone_into(&mut self.focus.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Gives an order; its answer is news.
    pub fn order(&self, name: &str, command: Command) {
        let (at, name, sender) = (self.at.clone(), name.to_owned(), self.sender.clone());
        thread::spawn(move || {
            let done = match at.is_cluster() {
                true => cluster::order(&at, &name, command, None),
                false => calls::told(&at, &name, &command, None).map(|s| s.reason),
            };
            let _ = sender.send(News::Answer(done.map_err(|e| e.to_string())));
        });
    }
}

async fn caught() -> i32 {
    let kinds = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ];
    let [Ok(mut term), Ok(mut int), Ok(mut hup)] = kinds.map(signal) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => kinds[0].as_raw_value(),
        _ = int.recv() => kinds[1].as_raw_value(),
        _ = hup.recv() => kinds[2].as_raw_value(),
    }
}

struct Source {
    at: Where,
    names: Vec<String>,
    focus: Arc<Mutex<String>>,
    sender: Sender<News>,
}

impl Source {
    fn listen(self) {
        let end = match self.at.is_cluster() {
            true => self.cluster(),
            false => self.machine(),
        };
        if let Err(failure) = end {
            let _ = self.sender.send(News::End(failure));
        }
    }

    /// Until nobody listens, or the cluster cannot be watched.
    fn cluster(&self) -> Result<(), Failure> {
        let sender = self.sender.clone();
        cluster::follow(&self.at, &self.names, move |sights| {
            sender.send(News::Sights(sights)).is_ok()
        })
    }

    /// Until nobody listens. A first failure ends it; later ones are waited out.
    fn machine(&self) -> Result<(), Failure> {
        let mut heard: Option<Instant> = None;
        loop {
            let news = match (self.glance(), heard) {
                (Ok(sights), _) => {
                    heard = Some(Instant::now());
                    News::Sights(sights)
                }
                (Err(failure), Some(last)) if last.elapsed() < PATIENCE => News::Lost(failure.to_string()),
                (Err(failure), _) => return Err(failure),
            };
            if self.sender.send(news).is_err() {
                return Ok(());
            }
            thread::sleep(GLANCE);
        }
    }

    fn glance(&self) -> Result<Vec<Sight>, Failure> {
        let admin = Admin::find(&self.at)?;
        let mut all: Vec<Status> = admin.get("/rollouts")?;
        if let Some(missing) = self.names.iter().find(|n| all.iter().all(|s| s.service != **n)) {
            let known: Vec<&str> = all.iter().map(|s| s.service.as_str()).collect();
            return Err(Failure::refused(guess::absent("service", missing, &known)));
        }
        let services: Vec<ServiceState> = admin.get("/services").unwrap_or_default();
        all.retain(|s| self.names.is_empty() || self.names.contains(&s.service));
        let focus = self.focus.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sole = all.len() == 1;
        let sights = all.into_iter().map(|status| {
            let is_near = sole || status.service == focus;
            let path = format!("/rollouts/{}/explanation", status.service);
            Sight {
                name: status.service.clone(),
                namespace: String::new(),
                explanation: is_near.then(|| admin.get(&path).ok().flatten()).flatten(),
                places: places(&services, &status.service),
                needs_you: None,
                status,
            }
        });
        Ok(sights.collect())
    }
}

/// `stable 2, canary 1`
fn places(services: &[ServiceState], name: &str) -> String {
    let found = services.iter().find(|s| s.entry.name == name);
    found.map_or_else(String::new, |s| {
        format!(
            "stable {}, canary {}",
            s.entry.stable.endpoints.len(),
            s.entry.canary.endpoints.len()
        )
    })
}
