//! `serin deploy`: an image for the stable workload, by way of a canary; and for a pipeline, how it ended.

use super::{
    Cluster,
    ending::{End, Outcome, Wait},
    order, page,
    rollout::{self, Rollout},
};
use crate::{
    app::local_runtime,
    calls::{print_json, print_text},
    ci::Pipeline,
    cli::{DeployArgs, Output},
    fail::Failure,
    guess, view, watch,
};
use kube::{
    Api,
    api::{DynamicObject, Patch},
    core::{ApiResource, GroupVersionKind},
};
use proxy::contract::{
    names::{CHANGE_CAUSE, DEPLOY_IMAGE, PREFIX},
    release::Phase,
    rollout::WorkloadKind,
};
use serde_json::{Value, json};
use std::{env, process::ExitCode, time::Duration};
use tokio::time::{Instant, timeout};

/// How often the time is looked at while nothing changes.
const TICK: Duration = Duration::from_secs(1);

/// `serin deploy`
pub fn main(args: &DeployArgs) -> Result<ExitCode, Failure> {
    if !args.at.is_cluster() {
        return Err(Failure::usage(
            "serin deploy works in a cluster: give -n, --context or --kubeconfig; without one, write the canary into serin.toml",
        ));
    }
    local_runtime()?.block_on(async {
        let cluster = Cluster::connect(&args.at).await?;
        let before = cluster.rollout(&args.name).await?;
        let release = match &args.image {
            Some(image) => write(&cluster, &before, image, args).await?,
            None => Written::Image(None),
        };
        let image = match release {
            Written::Nothing(end) => return finish(args, &before, end),
            Written::Image(image) => image,
        };
        if !args.wait {
            print_text(&format!(
                "{} is to be released; `serin deploy {} --wait` follows it\n",
                image.unwrap_or_default(),
                args.name
            ));
            return Ok(ExitCode::SUCCESS);
        }
        let (end, last) = follow(&cluster, before, image, args).await?;
        finish(args, &last, end)
    })
}

/// What came of writing the image down.
enum Written {
    /// It is written, with this value.
    Image(Option<String>),
    /// There is nothing to release.
    Nothing(End),
}

async fn write(
    cluster: &Cluster,
    before: &Rollout,
    image: &str,
    args: &DeployArgs,
) -> Result<Written, Failure> {
    let (workloads, name) = (workloads(cluster, before), &before.spec.stable.name);
    let what = |verb: &str| format!("{verb} {} {name}", kind(before).to_lowercase() + "s");
    let stable = cluster
        .ask(workloads.get(name))
        .await
        .map_err(|t| t.told(&what("get")))?;
    let wanted = Image::choose(&stable.data, image, args.container.as_deref())?;
    if let Some(end) = already(before, &wanted, name)? {
        return Ok(Written::Nothing(end));
    }
    let notes = json!({
        format!("{PREFIX}{DEPLOY_IMAGE}"): wanted.value,
        format!("{PREFIX}{CHANGE_CAUSE}"): cause(args.cause.as_deref(), image, |key| env::var(key).ok()),
    });
    let patch = Patch::Merge(json!({"metadata": {"annotations": notes}}));
    let written = cluster.ask(workloads.patch(name, &order::params(), &patch)).await;
    written.map_err(|t| t.told(&what("patch")))?;
    Ok(Written::Image(Some(wanted.value)))
}

fn kind(rollout: &Rollout) -> &'static str {
    match rollout.spec.stable.kind {
        WorkloadKind::Deployment => "Deployment",
        WorkloadKind::DaemonSet => "DaemonSet",
    }
}

fn workloads(cluster: &Cluster, rollout: &Rollout) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind(rollout)));
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource)
}

/// Whether nothing needs to be released: stable has it, or it was refused.
fn already(before: &Rollout, wanted: &Image, stable: &str) -> Result<Option<End>, Failure> {
    let (status, name) = (&before.status, &before.name);
    if wanted.is_running && status.phase.is_final() {
        let reason = format!("already stable: {stable} runs {}", wanted.value);
        return Ok(Some(End::new(Outcome::Promoted, reason)));
    }
    if wanted.is_running {
        return Err(Failure::refused(format!(
            "{stable} runs {} already, and a release of {} is under way; `serin abort {name}` ends that one",
            wanted.value, status.canary_version
        )));
    }
    let was_refused =
        status.phase == Phase::RolledBack && status.deploy_image.as_deref() == Some(&wanted.value);
    Ok(was_refused.then(|| {
        let reason = format!(
            "it was rolled back before: {}; `serin retry {name}` runs it again",
            before.verdict_reason()
        );
        End::new(Outcome::RolledBack, reason)
    }))
}

/// An image for one container.
#[derive(Debug, PartialEq, Eq)]
struct Image {
    /// As the annotation has it.
    value: String,
    /// Whether that container runs it now.
    is_running: bool,
}

impl Image {
    /// `image`, or `container=image`, for a workload.
    ///
    /// # Errors
    /// It has no such container, or several.
    fn choose(workload: &Value, given: &str, container: Option<&str>) -> Result<Image, Failure> {
        let (named, image) = match given.split_once('=') {
            Some((name, image)) => (Some(name), image),
            None => (container, given),
        };
        let containers = workload
            .pointer("/spec/template/spec/containers")
            .and_then(Value::as_array);
        let all: Vec<&Value> = containers.into_iter().flatten().collect();
        let name = |c: &Value| c["name"].as_str().unwrap_or_default().to_owned();
        let names = || all.iter().map(|c| name(c)).collect::<Vec<_>>().join(", ");
        let chosen = match (named, &all[..]) {
            _ if image.trim().is_empty() || image.contains(char::is_whitespace) => {
                return Err(Failure::usage(format!(
                    "`{image}` is no image; write for example registry.example.org/echo:v2.0.0"
                )));
            }
            (Some(wanted), _) => all.iter().find(|c| name(c) == wanted).ok_or_else(|| {
                let known: Vec<&str> = all.iter().filter_map(|c| c["name"].as_str()).collect();
                Failure::usage(guess::absent("container", wanted, &known))
            })?,
            (None, [only]) => only,
            (None, _) => {
                return Err(Failure::usage(format!(
                    "say which container gets the image, with --container: {}",
                    names()
                )));
            }
        };
        let value = named.map_or(image.to_owned(), |named| format!("{named}={image}"));
        Ok(Image {
            value,
            is_running: chosen["image"] == image,
        })
    }
}

/// Why, with the job and the commit where a pipeline says so.
fn cause(given: Option<&str>, image: &str, variable: impl Fn(&str) -> Option<String>) -> String {
    let own = given.map_or_else(|| format!("deploy {image}"), str::to_owned);
    let known = |keys: &[&str]| {
        keys.iter()
            .find_map(|key| variable(key).filter(|v| !v.is_empty()))
    };
    let github = || {
        let run = known(&["GITHUB_RUN_ID"])?;
        Some(format!(
            "{}/{}/actions/runs/{run}",
            known(&["GITHUB_SERVER_URL"])?,
            known(&["GITHUB_REPOSITORY"])?
        ))
    };
    let parts = [
        known(&["CI_JOB_URL"])
            .or_else(github)
            .map(|url| format!("job {url}")),
        known(&["CI_COMMIT_SHA", "GITHUB_SHA"]).map(|sha| format!("commit {sha}")),
        known(&["GITLAB_USER_LOGIN", "GITHUB_ACTOR"]).map(|who| format!("by {who}")),
    ];
    let told: Vec<String> = parts.into_iter().flatten().collect();
    if told.is_empty() {
        own
    } else {
        format!("{own} ({})", told.join(", "))
    }
}

/// Prints each change until the end, or until the time is over.
async fn follow(
    cluster: &Cluster,
    before: Rollout,
    image: Option<String>,
    args: &DeployArgs,
) -> Result<(End, Rollout), Failure> {
    let wait = Wait::new(&before, image);
    let until = Instant::now() + args.timeout.duration();
    let mut changes = std::pin::pin!(cluster.changes(&args.name));
    let (mut now, mut shown, mut since) = (before, String::new(), Instant::now());
    loop {
        if let Ok(next) = timeout(TICK, rollout::next(&mut changes, &args.name)).await {
            now = next?;
            since = Instant::now();
            shown = tell(args, &now, shown);
        }
        if let Some(end) = wait.look(&now, since.elapsed()) {
            return Ok((end, now));
        }
        if Instant::now() > until {
            let reason = format!(
                "still {} after {}: {}; the release goes on",
                now.status.phase, args.timeout, now.status.reason
            );
            return Ok((End::new(Outcome::Undecided, reason), now));
        }
    }
}

/// A line a change: counts that grow are none.
fn tell(args: &DeployArgs, now: &Rollout, shown: String) -> String {
    let essence = watch::essence(&now.sight());
    let line = format!("{} {}\n", view::clock(page::now()), page::line(now));
    match args.output {
        _ if essence == shown => {}
        Output::Text => print_text(&line),
        Output::Json => eprint!("{line}"),
    }
    essence
}

fn finish(args: &DeployArgs, last: &Rollout, end: End) -> Result<ExitCode, Failure> {
    let code = end.outcome.code();
    match args.output {
        Output::Json => print_json(&json!({
            "name": last.name,
            "namespace": last.namespace,
            "outcome": end.outcome,
            "reason": end.reason,
            "exitCode": code,
            "status": last.told().status,
        }))?,
        Output::Text => {
            if let Some(pipeline) = Pipeline::here() {
                let title = format!("{}: counts, evidence and decisions", last.name);
                let key = format!("serin_{}", last.name);
                print_text(&pipeline.section(&key, &title, &page::detail(last), page::now()));
            }
            print_text(&format!("{}: {}\n", end.outcome.words(), end.reason));
        }
    }
    Ok(ExitCode::from(code))
}

#[cfg(test)]
mod tests {
    use super::super::rollout::tests::rollout;
    use super::*;

    fn workload(containers: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn the_only_container_gets_the_image_and_of_several_one_must_be_named() {
        let one = workload(json!([{"name": "server", "image": "a:1"}]));
        let two = workload(json!([{"name": "server", "image": "a:1"}, {"name": "log", "image": "l:1"}]));
        let image = |value: &str, is_running| Image {
            value: value.into(),
            is_running,
        };
        assert_eq!(Image::choose(&one, "a:2", None).unwrap(), image("a:2", false));
        assert_eq!(Image::choose(&one, "a:1", None).unwrap(), image("a:1", true));
        assert_eq!(
            Image::choose(&two, "log=l:1", None).unwrap(),
            image("log=l:1", true)
        );
        assert_eq!(
            Image::choose(&two, "a:2", Some("server")).unwrap(),
            image("server=a:2", false)
        );
        for (given, container, says) in [
            ("a:2", None, "--container: server, log"),
            ("a:2", Some("web"), "no container web"),
            (" ", None, "is no image"),
            ("log=", None, "is no image"),
        ] {
            let text = Image::choose(&two, given, container).unwrap_err().to_string();
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn what_is_stable_or_was_refused_is_not_released_again() {
        let image = |is_running| Image {
            value: "a:2".into(),
            is_running,
        };
        let at = |phase: &str, image: &str| {
            rollout(json!({"phase": phase, "deployImage": image, "reason": "too slow"}))
        };
        let end = already(&at("Succeeded", "a:2"), &image(true), "server")
            .unwrap()
            .unwrap();
        assert_eq!(
            (end.outcome.code(), end.reason.as_str()),
            (0, "already stable: server runs a:2")
        );
        let end = already(&at("RolledBack", "a:2"), &image(false), "server")
            .unwrap()
            .unwrap();
        assert!(end.outcome.code() == 1 && end.reason.contains("too slow; `serin retry echo`"));
        assert_eq!(
            already(&at("RolledBack", "a:9"), &image(false), "server").unwrap(),
            None
        );
        assert!(already(&at("Shifting", "a:9"), &image(true), "server").is_err());
    }

    #[test]
    fn the_cause_names_the_job_of_a_pipeline() {
        let gitlab = |key: &str| match key {
            "CI_JOB_URL" => Some("https://git/j/7".to_owned()),
            "CI_COMMIT_SHA" => Some("abc".to_owned()),
            _ => None,
        };
        assert_eq!(
            cause(None, "a:2", gitlab),
            "deploy a:2 (job https://git/j/7, commit abc)"
        );
        let github = |key: &str| {
            let value = match key {
                "GITHUB_SERVER_URL" => "https://github.com",
                "GITHUB_REPOSITORY" => "o/r",
                "GITHUB_RUN_ID" => "5",
                "GITHUB_ACTOR" => "ann",
                _ => return None,
            };
            Some(value.to_owned())
        };
        assert_eq!(
            cause(Some("fix"), "a:2", github),
            "fix (job https://github.com/o/r/actions/runs/5, by ann)"
        );
        assert_eq!(cause(None, "a:2", |_| None), "deploy a:2");
    }
}
