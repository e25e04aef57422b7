//! Where log lines go: standard error, with colour only in a terminal.

use crate::cli::{Cli, Command};
use std::io::IsTerminal;
use tracing::Level;

/// Starts logging at the level asked for. The long-running planes say what they do without being asked.
pub fn start(cli: &Cli) {
    let spoken = matches!(cli.command, Command::Run(_) | Command::Proxy(_));
    let level = cli.log.unwrap_or(if spoken { Level::INFO } else { Level::WARN });
    if matches!(cli.command, Command::Demo(_)) && cli.log.is_none() {
        // The demo tells its story itself; a log line would tear the live view.
        return;
    }
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
