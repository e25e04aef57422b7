//! The terminal that a live view is drawn in.

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use std::{
    fs::File,
    io::{self, IsTerminal},
    os::fd::{AsFd, OwnedFd},
    process, thread,
};
use tokio::signal::unix::SignalKind;

/// What a shell adds to the number of a signal that ended a program.
pub const BY_SIGNAL: i32 = 128;

/// From now on the program ends with its terminal. The kernel's signal is not enough: who is in no session of the terminal,
/// or runs under `nohup`, is not told, and whoever waits for a key there tries to read again for ever.
pub fn end_with_it() {
    thread::spawn(|| {
        if gone().is_ok() {
            // There is nothing to give back, and nobody to be told.
            process::exit(BY_SIGNAL + SignalKind::hangup().as_raw_value());
        }
    });
}

fn gone() -> io::Result<()> {
    let keys = keys()?;
    loop {
        // Of nothing that was asked for, a hang-up is told all the same.
        match poll(&mut [PollFd::new(&keys, PollFlags::empty())], None) {
            Ok(0) | Err(Errno::INTR) => {}
            told => return told.map(drop).map_err(Into::into),
        }
    }
}

/// Where keys are read, as crossterm chooses it.
fn keys() -> io::Result<OwnedFd> {
    let input = io::stdin();
    if input.is_terminal() {
        input.as_fd().try_clone_to_owned()
    } else {
        Ok(File::open("/dev/tty")?.into())
    }
}
