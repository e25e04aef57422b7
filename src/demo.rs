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
    plane::stop_signal,
    run::Planes,
};
use proxy::contract::{
    Span,
    fault::listing,
    file::{File, ServiceEntry},
    policy::{Judgement, Pacing, Policy, Promotion},
    release::{Phase, Status},
    routes::Backends,
};
use std::{
    io::IsTerminal,
    net::SocketAddr,
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
    println!("{}", scene.last_line(args));
    if args.stay {
        println!("still on {}; Ctrl-C ends it", stage.page());
        app::local_runtime()?.block_on(stop_signal());
    }
    stage.clear();
    Ok(ExitCode::from(u8::from(!scene.ended_well(args.fault))))
}

/// Everything that runs.
pub struct Stage {
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
        let file = file(stable);
        let planes = Planes::start_in_memory(text(&file)?, args.record.as_deref())?;
        let uri = format!("http://{}/", planes.proxy.addresses().listen)
            .parse()
            .map_err(Failure::refused)?;
        let seen = load::start(uri, args.rps, args.seed.wrapping_add(2));
        Ok(Stage {
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
        }
    }

    /// The new version appears in the file, as a person or a pipeline would write it. (The demo's file is in memory: it
    /// leaves nothing behind, and runs where nothing can be written.)
    fn release(&self) {
        let mut file = self.file.clone();
        file.service[0].canary = Backends {
            version: CANARY.into(),
            endpoints: vec![self.canary.to_string()],
            ..Backends::default()
        };
        let reload = async {
            self.planes
                .proxy
                .reload(text(&file)?)
                .await
                .map_err(|f| Failure::refused(listing(&f)))
        };
        if let Err(e) = app::local_runtime().and_then(|r| r.block_on(reload)) {
            tracing::error!("the new version cannot appear: {e}");
        }
    }

    /// Where the data plane listens.
    pub fn addresses(&self) -> proxy::Addresses {
        self.planes.proxy.addresses()
    }

    /// Where the page is, token and all: it dies with the demo.
    pub fn page(&self) -> String {
        self.planes.page_for_all()
    }

    /// The policy of the story.
    pub fn policy(&self) -> &Policy {
        &self.file.service[0].rollout
    }

    fn clear(self) {
        self.planes.stop();
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
        faults_while: None,
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
            ..Backends::default()
        },
        rollout: Policy {
            pacing: Pacing {
                soak: Span::seconds(25),
                interval: Span::seconds(2),
                ..Pacing::default()
            },
            judgement: Judgement {
                warm_up: Span::seconds(5),
                ..Judgement::default()
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

fn text(file: &File) -> Result<String, Failure> {
    toml::to_string(file).map_err(Failure::refused)
}

/// Whether a phase is an end of the story.
fn is_end(phase: Phase) -> bool {
    matches!(phase, Phase::Succeeded | Phase::RolledBack | Phase::Undecided)
}
