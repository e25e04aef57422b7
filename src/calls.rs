//! Commands against a running Serin: small JSON calls to its admin listener.

use crate::{
    app::local_runtime,
    cli::{ApproveArgs, Output, StatusArgs, TargetArgs, WeightArgs, Where},
    cluster,
    fail::Failure,
    guess, plane, view,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, header};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use proxy::contract::{
    Split,
    admin::Refusal,
    names,
    release::{Command, Status},
};
use serde::de::DeserializeOwned;
use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most of an answer that is read.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// `serin status`
pub fn status(args: &StatusArgs) -> Result<ExitCode, Failure> {
    if args.at.is_cluster() {
        return cluster::status(args);
    }
    let admin = Admin::find(&args.at)?;
    let all: Vec<Status> = match &args.name {
        Some(name) => vec![admin.release(name)?],
        None => admin.get("/rollouts")?,
    };
    match args.output {
        Output::Json if args.name.is_some() => print_json(&all[0])?,
        Output::Json => print_json(&all)?,
        Output::Text if args.name.is_some() => print_text(&view::detail(&all[0])),
        Output::Text => print_text(&view::table(&all)),
    }
    Ok(ExitCode::SUCCESS)
}

/// `serin promote`, `abort`, `pause`, `resume`, `retry`, `undo`
pub fn command(args: &TargetArgs, command: Command) -> Result<ExitCode, Failure> {
    order(&args.at, &args.name, command, args.cause.as_deref())
}

/// `serin approve`
pub fn approve(args: &ApproveArgs) -> Result<ExitCode, Failure> {
    let command = Command::Approve(args.gate.clone());
    order(&args.at, &args.name, command, args.cause.as_deref())
}

fn order(at: &Where, name: &str, command: Command, cause: Option<&str>) -> Result<ExitCode, Failure> {
    match at.is_cluster() {
        true => cluster::command(at, name, command, cause),
        false => give(at, name, &command, cause),
    }
}

/// `serin weight`
pub fn weight(args: &WeightArgs) -> Result<ExitCode, Failure> {
    let split = Split::parse(&args.weight, args.total.as_deref(), "").map_err(|faults| {
        Failure::usage(format!(
            "this weight cannot be set:\n{}",
            proxy::contract::fault::listing(&faults)
        ))
    })?;
    if args.at.is_cluster() {
        return cluster::weight(args, split);
    }
    give(
        &args.at,
        &args.name,
        &Command::Weight(split),
        args.cause.as_deref(),
    )
}

fn give(at: &Where, name: &str, command: &Command, cause: Option<&str>) -> Result<ExitCode, Failure> {
    print_text(&view::table(&[told(at, name, command, cause)?]));
    Ok(ExitCode::SUCCESS)
}

/// Gives an order; how the release stands after it.
pub fn told(at: &Where, name: &str, command: &Command, cause: Option<&str>) -> Result<Status, Failure> {
    let admin = Admin::find(at)?;
    let body = serde_json::to_vec(command).map_err(Failure::refused)?;
    let path = format!("/rollouts/{}/command", segment(name)?);
    let done = admin.call(Method::POST, &path, body, cause);
    done.map_err(|failure| admin.meant(name, failure))
}

/// Prints a value for scripts.
pub fn print_json<T: serde::Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::refused)?;
    print_text(&format!("{text}\n"));
    Ok(())
}

/// Prints to whoever still reads: `| head` is no failure.
pub fn print_text(text: &str) {
    let _ = is_printed(text);
}

/// The same; whether anybody reads.
pub fn is_printed(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// A service name as it may stand in a path.
pub fn segment(name: &str) -> Result<&str, Failure> {
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    plain.then_some(name).ok_or_else(|| {
        Failure::usage(format!(
            "`{name}` is not a service name; `serin status` lists them"
        ))
    })
}

/// A running Serin: where its admin listener is, and the token.
pub struct Admin {
    address: SocketAddr,
    token: String,
}

impl Admin {
    /// By the file, or by address and token file.
    pub fn find(at: &Where) -> Result<Admin, Failure> {
        if let (Some(address), Some(file)) = (at.admin, &at.token_file) {
            return Ok(Admin {
                address,
                token: plane::read_token(file)?,
            });
        }
        let place = plane::Place::of_file(&at.file())?;
        let file = at.token_file.clone().unwrap_or_else(|| place.token_file());
        Ok(Admin {
            address: place.admin,
            token: plane::read_token(&file)?,
        })
    }

    /// The answer to a GET.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, Vec::new(), None)
    }

    /// Where one release stands.
    pub fn release(&self, name: &str) -> Result<Status, Failure> {
        let found = self.get(&format!("/rollouts/{}", segment(name)?));
        found.map_err(|failure| self.meant(name, failure))
    }

    /// The failure, or, where the name is the fault, the one that was probably meant.
    fn meant(&self, name: &str, failure: Failure) -> Failure {
        let Ok(all) = self.get::<Vec<Status>>("/rollouts") else {
            return failure;
        };
        let known: Vec<&str> = all.iter().map(|s| s.service.as_str()).collect();
        match known.contains(&name) {
            true => failure,
            false => Failure::refused(guess::absent("service", name, &known)),
        }
    }

    /// The answer to a POST of a value.
    pub fn post<T: DeserializeOwned>(&self, path: &str, value: &impl serde::Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(value).map_err(Failure::refused)?;
        self.call(Method::POST, path, body, None)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        cause: Option<&str>,
    ) -> Result<T, Failure> {
        let (status, answer) = local_runtime()?.block_on(self.exchange(method, path, body, cause))?;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|e| {
                Failure::refused(format!(
                    "the answer of {} is not understood: {e}; are both of one version?",
                    self.address
                ))
            });
        }
        Err(Failure::refused(refusal(status, &answer)))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        cause: Option<&str>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(names::HEADER_ACTOR, actor());
        if let Some(cause) = cause {
            request = request.header(names::HEADER_CAUSE, cause);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|_| {
            Failure::usage("the cause has characters that cannot be sent; use plain text on one line")
        })?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let whole = async {
            let response = client.request(request).await.map_err(|e| self.unreachable(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT)
                .collect()
                .await
                .map_err(Failure::refused)?;
            Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, whole)
            .await
            .unwrap_or_else(|_| Err(self.unreachable(&"no answer within 10 s")))
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::refused(format!(
            "cannot reach Serin's admin listener on {}: {why}; is `serin run` running, with this file?",
            self.address
        ))
    }
}

/// Who is asking: the login name, as the record will show it.
fn actor() -> String {
    let name = ["SERIN_ACTOR", "SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|v| std::env::var(v).ok());
    name.filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_graphic()))
        .unwrap_or_else(|| "someone".into())
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(r) if r.faults.is_empty() => r.error,
        Ok(r) => format!("{}\n{}", r.error, proxy::contract::fault::listing(&r.faults)),
        Err(_) => format!("refused with status {status}"),
    }
}
