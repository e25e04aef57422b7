//! `serin man`: the words of `--help` as manual pages.

use crate::{
    calls::print_text,
    cli::{Cli, ManArgs},
    fail::Failure,
};
use clap::CommandFactory;
use clap_mangen::{Man, generate_to};
use std::{fs, path::Path, process::ExitCode};

/// `serin man`
pub fn main(args: &ManArgs) -> Result<ExitCode, Failure> {
    match &args.folder {
        Some(folder) => write(folder)?,
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command())
                .render(&mut page)
                .map_err(Failure::refused)?;
            print_text(&String::from_utf8_lossy(&page));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A page of each command.
fn write(folder: &Path) -> Result<(), Failure> {
    let written = fs::create_dir_all(folder).and_then(|()| generate_to(Cli::command(), folder));
    written.map_err(|e| {
        Failure::refused(format!(
            "cannot write manual pages to {}: {e}; name a folder that you may write to, such as ~/.local/share/man/man1",
            folder.display()
        ))
    })?;
    print_text(&format!(
        "the manual pages are in {0}: man {0}/serin.1\n",
        folder.display()
    ));
    Ok(())
}
