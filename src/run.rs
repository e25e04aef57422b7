//! `serin run`: both planes in one process, for real backends given in a file.

use crate::{
    app::local_runtime,
    cli::RunArgs,
    explain,
    fail::Failure,
    plane::{self, Place, stop_signal},
    view,
};
use controller::{Handler, Starter};
use hyper::{Request, Response, StatusCode, body::Bytes};
use proxy::{
    contract::{
        admin::{Refusal, TOKEN_FILE},
        release::Status,
    },
    server::{Body, whole},
};
use std::{collections::BTreeMap, path::Path, process::ExitCode, sync::Arc};

/// A file to start from. A test parses it.
const EXAMPLE: &str = include_str!("example.toml");

/// `serin run`
pub fn main(args: &RunArgs) -> Result<ExitCode, Failure> {
    if args.example {
        crate::calls::print_text(EXAMPLE);
        return Ok(ExitCode::SUCCESS);
    }
    let loaded = plane::load(&args.file)?;
    if args.check {
        plane::check_certificates(&args.file, &loaded)?;
        println!(
            "{} is fine: {} service(s)",
            args.file.display(),
            loaded.file.service.len()
        );
        return Ok(ExitCode::SUCCESS);
    }
    let place = Place::of(&args.file, &loaded);
    let planes = Planes::start(&args.file, &place)?;
    planes.announce();
    local_runtime()?.block_on(planes.tell());
    planes.stop();
    Ok(ExitCode::SUCCESS)
}

/// Both planes, running.
pub struct Planes {
    /// The data plane.
    pub proxy: proxy::Running,
    /// The control plane.
    pub controller: controller::Running,
    state: String,
    token: String,
}

impl Planes {
    /// With a watched file, and state in a folder.
    pub fn start(file: &Path, place: &Place) -> Result<Planes, Failure> {
        let state = controller::Options {
            state: place.state.clone(),
        };
        let token = place.token()?;
        let (handler, starter) = controller::prepare(state).map_err(Failure::refused)?;
        let mut options = proxy::Options::new(file, token);
        options.cache = Some(place.cache_file());
        Planes::join(options, handler, starter, place.state.display().to_string())
    }

    /// With a text in the place of the file, one worker, and nothing on disk but the log of blocks if it is wanted.
    pub fn start_in_memory(text: String, blocks: Option<&Path>) -> Result<Planes, Failure> {
        let (handler, starter) = controller::prepare_in_memory(blocks).map_err(Failure::refused)?;
        // It stands in a line of 80 columns, and dies with the demo: 128 bits.
        let mut token = plane::random_token();
        token.truncate(32);
        let mut options = proxy::Options::new("the demo's file", token);
        options.text = Some(text);
        options.workers = Some(1);
        Planes::join(options, handler, starter, "memory".to_owned())
    }

    /// 1. The controller's admin calls exist, 2. the proxy listens and answers them, 3. the controller begins.
    fn join(
        mut options: proxy::Options,
        handler: Handler,
        starter: Starter,
        state: String,
    ) -> Result<Planes, Failure> {
        let token = options.token.clone();
        let known = token.clone();
        options.extra_admin = Some(Arc::new(move |request| {
            let handler = handler.clone();
            Box::pin(async move { answer(&handler, request).await })
        }));
        options.pages = Some(controller::page::of_machine);
        let proxy = proxy::start(options).map_err(Failure::refused)?;
        let at = proxy.addresses();
        let addresses = controller::Addresses {
            signals: at.signals,
            admin: at.admin,
            token,
        };
        let controller = starter.start(addresses).map_err(Failure::refused)?;
        Ok(Planes {
            proxy,
            controller,
            state,
            token: known,
        })
    }

    fn announce(&self) {
        let at = self.proxy.addresses();
        let tls = at.tls.map(|a| format!(" and https://{a}")).unwrap_or_default();
        println!(
            "serving on http://{}{tls}, {} worker(s)",
            at.listen,
            self.proxy.workers()
        );
        println!("page on {} (token: {}/{TOKEN_FILE})", self.page(), self.state);
        println!(
            "signals on http://{}/metrics, admin on {}, state in {}",
            at.signals, at.admin, self.state
        );
    }

    /// Where the page is.
    pub fn page(&self) -> String {
        format!("http://{}/", self.proxy.addresses().admin)
    }

    /// The same with the token in its fragment, which no browser sends: for a token that dies with this process.
    pub fn page_for_all(&self) -> String {
        format!("{}#token={}", self.page(), self.token)
    }

    /// Prints each decision, until a signal comes.
    async fn tell(&self) {
        let mut statuses = self.controller.statuses();
        let mut told = BTreeMap::new();
        let mut stop = Box::pin(stop_signal());
        loop {
            tokio::select! {
                _ = &mut stop => return,
                changed = statuses.changed() => {
                    if changed.is_err() { return stop.await; }
                    for s in statuses.borrow_and_update().iter() { news(s, &mut told); }
                }
            }
        }
    }

    /// Drains the proxy, then ends the controller, so that the last counts are still judged.
    pub fn stop(self) {
        self.proxy.wait();
        self.controller.stop();
    }
}

/// The controller's answer to an admin call.
async fn answer(handler: &Handler, request: Request<Bytes>) -> Response<Body> {
    if let Some(stream) = handler.events(&request) {
        return stream;
    }
    if let Some(words) = explain::answer(handler, &request).await {
        return words.map(whole);
    }
    handler.handle(request).await.unwrap_or_else(unknown).map(whole)
}

/// The answer to a path that neither plane knows.
fn unknown() -> Response<Bytes> {
    let refusal = Refusal::because(
        "there is no such call; GET /services, PATCH /services/NAME/annotations, GET /rollouts and POST /rollouts/NAME/command are there, and a page at /",
    );
    let mut response = Response::new(Bytes::from(serde_json::to_vec(&refusal).unwrap_or_default()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// Prints the decisions of one service that have not been printed.
pub fn news(status: &Status, told: &mut BTreeMap<String, f64>) {
    let last = told.entry(status.service.clone()).or_insert(f64::NEG_INFINITY);
    for d in status.decisions.iter().filter(|d| d.at > *last) {
        let weight = format!("weight {}", d.weight);
        let (from, to, why) = (d.from, d.to, &d.reason);
        // The reason of a mere change of weight begins with it.
        let what = match why.starts_with(&weight) {
            true => format!("{from} -> {to}, {why}"),
            false => format!("{from} -> {to}, {weight}: {why}"),
        };
        println!("{}  {}: {what}", view::clock(d.at), status.service);
    }
    *last = status.decisions.iter().map(|d| d.at).fold(*last, f64::max);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy::contract::{names::PREFIX, policy::Policy};

    #[test]
    fn the_example_is_valid_and_states_the_true_defaults() {
        let file = proxy::source::file::parse(EXAMPLE.to_owned(), PREFIX)
            .unwrap()
            .file;
        assert_eq!(file.service[0].rollout, Policy::default());
        assert_eq!(file.proxy, Default::default());
    }
}
