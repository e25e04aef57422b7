//! `serin controller`: the control plane of a cluster.

use crate::{
    cli::ControllerArgs,
    explain,
    fail::Failure,
    plane::{random_token, stop_signal},
};
use controller::kubernetes::{self, Options, page};
use std::{process::ExitCode, sync::Arc};

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
        page: args.page.map(|listen| page::Options {
            listen,
            token: args.page_token_file.clone(),
            words: Arc::new(|handler, request| Box::pin(explain::answer(handler, request))),
        }),
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
