//! What went wrong, once, in one voice.

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

/// A failure that ends the program: a text with cause and remedy, and the exit code.
#[derive(Debug)]
pub struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    /// Exit code 1: it was refused, or it ended badly.
    pub fn refused(text: impl fmt::Display) -> Failure {
        Failure {
            text: text.to_string(),
            code: 1,
        }
    }

    /// Exit code 2: it was asked wrongly.
    pub fn usage(text: impl fmt::Display) -> Failure {
        Failure {
            text: text.to_string(),
            code: 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_end())
    }
}

/// Prints the failure and gives its code.
pub fn report(failure: Failure) -> ExitCode {
    // Who has closed standard error gets the code alone.
    let _ = writeln!(io::stderr(), "error: {failure}");
    ExitCode::from(failure.code)
}
