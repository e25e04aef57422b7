//! `serin crd`

use crate::fail::Failure;
use std::process::ExitCode;

/// `serin crd`
pub fn main() -> Result<ExitCode, Failure> {
    let text =
        serde_saphyr::to_string(&controller::kubernetes::crd::definition()).map_err(Failure::refused)?;
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}
