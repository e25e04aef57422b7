//! `serin controller`: the control plane of a cluster.

use crate::{
    cli::ControllerArgs,
    fail::Failure,
    plane::{random_token, stop_signal},
};
use controller::kubernetes::{self, Options};
use std::process::ExitCode;

/// Characters of a random name.
const RANDOM: usize = 8;

/// `serin controller`
pub fn main(args: &ControllerArgs) -> Result<ExitCode, Failure> {
    let options = Options {
        namespace: args.namespace.clone(),
        lease_namespace: args.lease_namespace.clone(),
        identity: args.identity.clone().unwrap_or_else(random_name),
        listen: args.listen,
        evidence: args.evidence_dir.clone(),
        audit: args.audit_log.clone(),
        prefix: args.annotation_prefix.clone(),
    };
    let runtime = crate::app::local_runtime()?;
    let served = runtime.block_on(kubernetes::serve(options, stop_signal()));
    // A check's host name may still be looked up; that is not waited for.
    runtime.shutdown_background();
    served.map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}

fn random_name() -> String {
    let mut token = random_token();
    token.truncate(RANDOM);
    format!("serin-controller-{token}")
}
