//! The whole story on one machine: two versions, both planes, users, and what one sees of it.
//!
//! 1. v1.0.0 serves everybody.
//! 2. v2.0.0 appears beside it.
//! 3. Serin takes it to stable, or back.
//! 4. One sentence says why.

mod screen;
mod story;

use crate::{
    app::{self, Behaviour},
    cli::{DemoArgs, Fault},
    fail::Failure,
    load::{self, Seen},
    plane::Place,
    run::Planes,
};
use proxy::contract::{
    Span,
    file::{File, ServiceEntry},
    policy::{Pacing, Policy, Promotion},
    release::{Phase, Status},
    routes::Backends,
};
use std::{
    fs,
    io::IsTerminal,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
pub use story::Scene;

/// The old version.
pub const STABLE: &str = "v1.0.0";
/// The new version.
pub const CANARY: &str = "v2.0.0";
/// How long the old version serves alone: what stable's error rate is known from.
const ALONE: Duration = Duration::from_secs(4);
/// When a story that has not ended is given up.
const TOO_LONG: Duration = Duration::from_secs(110);
/// How often the view is renewed.
const FRAME: Duration = Duration::from_millis(100);
/// Share of requests that a fault concerns.
const ERRORS: f64 = 0.2;
/// Share of requests that fail once a late fault has begun.
const LATE_ERRORS: f64 = 0.5;
/// When a late fault begins, after the canary's first request.
const LATE: Duration = Duration::from_secs(15);
/// Delay of a slow version.
const LATENCY: Duration = Duration::from_millis(150);

/// `serin demo`
pub fn main(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let stage = Stage::build(args)?;
    let live = !args.plain && std::io::stdout().is_terminal();
    let scene = if live {
        screen::play(&stage, args)?
    } else {
        story::play(&stage, args)
    };
    stage.clear();
    println!("{}", scene.last_line(args));
    Ok(ExitCode::from(u8::from(!scene.ended_well(args.fault))))
}

/// Everything that runs.
pub struct Stage {
    folder: PathBuf,
    file: File,
    canary: SocketAddr,
    planes: Planes,
    seen: Arc<Mutex<Seen>>,
    begin: Instant,
    released: std::cell::Cell<bool>,
}

impl Stage {
    fn build(args: &DemoArgs) -> Result<Stage, Failure> {
        let stable = app::spawn(behaviour(STABLE, Fault::None, args.seed))?;
        let canary = app::spawn(behaviour(CANARY, args.fault, args.seed.wrapping_add(1)))?;
        let folder = std::env::temp_dir().join(format!("serin-demo-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|e| {
            Failure::refused(format!(
                "cannot make {}: {e}; set TMPDIR to a writable folder",
                folder.display()
            ))
        })?;
        let file = file(stable);
        let path = write(&folder, &file)?;
        let planes = Planes::start(&path, &Place::of_file(&path)?, Some(1))?;
        let uri = format!("http://{}/", planes.proxy.addresses().listen)
            .parse()
            .map_err(Failure::refused)?;
        let seen = load::start(uri, args.rps, args.seed.wrapping_add(2));
        Ok(Stage {
            folder,
            file,
            canary,
            planes,
            seen,
            begin: Instant::now(),
            released: false.into(),
        })
    }

    /// What is to be seen now. When the old version has served alone long enough, the new one appears.
    pub fn look(&self) -> Scene {
        let elapsed = self.begin.elapsed();
        if elapsed > ALONE && !self.released.replace(true) {
            self.release();
        }
        let statuses = self.planes.controller.statuses();
        let status: Option<Status> = statuses.borrow().first().cloned();
        Scene {
            elapsed,
            released: self.released.get(),
            status,
            seen: load::look(&self.seen),
            file_policy: self.policy().clone(),
        }
    }

    /// The new version appears in the watched file, as a person or a pipeline would write it.
    fn release(&self) {
        let mut file = self.file.clone();
        file.service[0].canary = Backends {
            version: CANARY.into(),
            endpoints: vec![self.canary.to_string()],
        };
        if let Err(e) = write(&self.folder, &file) {
            tracing::error!("{e}");
        }
    }

    /// The policy of the story.
    pub fn policy(&self) -> &Policy {
        &self.file.service[0].rollout
    }

    fn clear(self) {
        self.planes.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn behaviour(version: &str, fault: Fault, seed: u64) -> Behaviour {
    Behaviour {
        version: version.into(),
        errors: match fault {
            Fault::Errors => ERRORS,
            Fault::Late => LATE_ERRORS,
            _ => 0.0,
        },
        hang: if fault == Fault::Hang { ERRORS } else { 0.0 },
        latency: if fault == Fault::Latency {
            LATENCY
        } else {
            Duration::ZERO
        },
        late: if fault == Fault::Late {
            LATE
        } else {
            Duration::ZERO
        },
        seed,
    }
}

/// The demo's file: the defaults, with a soak, a watch and an interval that fit into a minute.
fn file(stable: SocketAddr) -> File {
    let mut file = File::default();
    file.proxy.listen = "127.0.0.1:0".into();
    file.proxy.signals = "127.0.0.1:0".into();
    file.proxy.admin = "127.0.0.1:0".into();
    file.proxy.request_timeout = Span::seconds(3);
    file.proxy.drain_grace = Span::seconds(0);
    file.proxy.drain_deadline = Span::seconds(1);
    file.service = vec![ServiceEntry {
        name: "server".into(),
        stable: Backends {
            version: STABLE.into(),
            endpoints: vec![stable.to_string()],
        },
        rollout: Policy {
            pacing: Pacing {
                soak: Span::seconds(25),
                interval: Span::seconds(2),
                ..Pacing::default()
            },
            promotion: Promotion {
                watch: Span::seconds(10),
                ..Promotion::default()
            },
            deadline: Span::seconds(90),
            ..Policy::default()
        },
        ..ServiceEntry::default()
    }];
    file
}

fn write(folder: &std::path::Path, file: &File) -> Result<PathBuf, Failure> {
    let path = folder.join("serin.toml");
    let next = folder.join("serin.toml.next");
    let text = toml::to_string(file).map_err(Failure::refused)?;
    fs::write(&next, text)
        .and_then(|()| fs::rename(&next, &path))
        .map_err(|e| Failure::refused(format!("cannot write {}: {e}", path.display())))?;
    Ok(path)
}

/// Whether a phase is an end of the story.
fn is_end(phase: Phase) -> bool {
    matches!(phase, Phase::Succeeded | Phase::RolledBack | Phase::Undecided)
}
