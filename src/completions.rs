//! `serin completions`: what a shell needs to complete our command lines.

use crate::{
    calls::print_text,
    cli::{Cli, CompletionsArgs, Shell},
    fail::Failure,
};
use clap::CommandFactory;
use clap_complete::{
    Generator, generate,
    shells::{Bash, Fish, Zsh},
};
use std::process::ExitCode;

/// `serin completions`
pub fn main(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let script = match args.shell {
        Shell::Bash => script(Bash),
        Shell::Zsh => script(Zsh),
        Shell::Fish => script(Fish),
    };
    print_text(&script);
    Ok(ExitCode::SUCCESS)
}

fn script(shell: impl Generator) -> String {
    let mut out = Vec::new();
    generate(shell, &mut Cli::command(), "serin", &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
