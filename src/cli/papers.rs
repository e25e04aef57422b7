//! What can be typed to get the words of the command line in other forms.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// `serin completions`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  source <(serin completions bash)\n  serin completions bash > /etc/bash_completion.d/serin\n  serin completions zsh > \"${fpath[1]}/_serin\"\n  serin completions fish > ~/.config/fish/completions/serin.fish"
)]
pub struct CompletionsArgs {
    /// Of which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Shells whose command lines can be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// `serin man`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  serin man | man -l -\n  serin man ~/.local/share/man/man1 && man serin-watch"
)]
pub struct ManArgs {
    /// Write a page of each command into this folder [default: print that of serin]
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}
