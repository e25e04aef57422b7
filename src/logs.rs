//! Where log lines go: standard error, with colour only in a terminal.

use crate::cli::{Cli, Command};
use std::io::IsTerminal;
use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging at the level asked for. The long-running planes say what they do without being asked.
pub fn start(cli: &Cli) {
    let spoken = matches!(
        cli.command,
        Command::Run(_) | Command::Proxy(_) | Command::Controller(_)
    );
    let level = cli.log.unwrap_or(if spoken { Level::INFO } else { Level::WARN });
    if matches!(cli.command, Command::Demo(_)) && cli.log.is_none() {
        // The demo tells its story itself; a log line would tear the live view.
        return;
    }
    let mut targets = Targets::new().with_default(level);
    if cli.log.is_none() {
        // It tells each failed call to the API server as an error; whoever made the call tells it once, with the remedy.
        targets = targets.with_target("kube_client", tracing_subscriber::filter::LevelFilter::OFF);
    }
    if matches!(cli.command, Command::Run(_)) && cli.log.is_none() {
        // `serin run` prints each decision itself, in fewer words.
        targets = targets.with_target("controller::turn", Level::WARN);
    }
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(targets).init();
}
