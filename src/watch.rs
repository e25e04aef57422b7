//! `serin watch`: one or many releases, live in a terminal, or a line a change.

mod draw;
mod feed;
mod panels;
mod plain;
mod screen;
mod sight;

pub use plain::essence;
pub use sight::Sight;

use crate::{
    cli::{Output, WatchArgs},
    fail::Failure,
};
use feed::Feed;
use proxy::contract::release::{Phase, Status};
use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

/// `serin watch`
pub fn main(args: &WatchArgs) -> Result<ExitCode, Failure> {
    let feed = Feed::start(args)?;
    if is_live(args) {
        screen::play(args, &feed)
    } else {
        plain::tell(args, &feed)
    }
}

/// A terminal that cannot move its cursor gets lines.
fn is_live(args: &WatchArgs) -> bool {
    let is_dumb = std::env::var("TERM").is_ok_and(|t| t == "dumb");
    !args.plain && args.output == Output::Text && !is_dumb && io::stdout().is_terminal()
}

/// How a release has ended, as `serin deploy` ends; `None`: it has not.
fn ended(status: &Status) -> Option<u8> {
    match status.phase {
        Phase::Idle | Phase::Succeeded => Some(0),
        Phase::RolledBack => Some(1),
        Phase::Undecided => Some(2),
        _ => None,
    }
}

/// The worst end of all; `None` while one is under way.
fn all_ended(all: &[Sight]) -> Option<u8> {
    let ends: Option<Vec<u8>> = all.iter().map(|s| ended(&s.status)).collect();
    // A rollback is worse than an end that is still open.
    ends?
        .into_iter()
        .max_by_key(|code| if *code == 1 { u8::MAX } else { *code })
}
