//! The pipelines of `k8s/pipeline`: the lines of their jobs as they stand there, in a shell with the variables that GitLab and
//! GitHub give, against a cluster.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/town.rs"]
#[allow(dead_code)] // each test binary uses its part
mod town;

use cluster::{harness::own_network, load::Traffic};
use serde_json::Value;
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::PathBuf};
use town::{Controller, LIMIT, RATE, Town};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
/// A release that never gets enough evidence, and is asked soon.
const OPEN: &str = r#"{"spec":{"deadline":"4s","pacing":{"soak":"30m"}}}"#;
const CLOSED: &str = r#"{"spec":{"deadline":"1h","pacing":{"soak":"3s"}}}"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    GitLab,
    GitHub,
}

/// What a pipeline knows of one commit.
struct Commit {
    host: Host,
    /// The first twelve digits.
    short: String,
    /// The job's number.
    number: u32,
}

/// How a job ended.
struct Ended {
    code: i32,
    log: String,
}

impl Ended {
    fn last(&self) -> &str {
        self.log.lines().last().unwrap_or_default()
    }
}

impl Commit {
    fn sha(&self) -> String {
        format!("{:0<40}", self.short)
    }

    /// Where people look.
    fn url(&self) -> String {
        match self.host {
            Host::GitLab => format!("https://git.example.org/shop/echo/-/jobs/{}", self.number),
            Host::GitHub => format!("https://github.com/shop/echo/actions/runs/{}", self.number),
        }
    }

    fn image(&self) -> String {
        match self.host {
            Host::GitLab => format!("registry.example.org/shop/echo:{}", self.short),
            Host::GitHub => format!("ghcr.io/shop/echo:{}", self.sha()),
        }
    }

    /// The variables that the host itself gives.
    fn given(&self, town: &Town) -> BTreeMap<String, String> {
        let number = self.number.to_string();
        let (sha, url) = (self.sha(), self.url());
        let temporary = town.world.folder().display().to_string();
        let all = match self.host {
            Host::GitLab => vec![
                ("CI", "true"),
                ("GITLAB_CI", "true"),
                ("CI_COMMIT_SHA", &sha),
                ("CI_COMMIT_SHORT_SHA", &self.short),
                ("CI_COMMIT_REF_NAME", "main"),
                ("CI_JOB_ID", &number),
                ("CI_JOB_URL", &url),
                ("CI_REGISTRY_IMAGE", "registry.example.org/shop/echo"),
                ("GITLAB_USER_LOGIN", "ann"),
            ],
            Host::GitHub => vec![
                ("CI", "true"),
                ("GITHUB_ACTIONS", "true"),
                ("GITHUB_SHA", &sha),
                ("GITHUB_REF_NAME", "main"),
                ("GITHUB_RUN_ID", &number),
                ("GITHUB_SERVER_URL", "https://github.com"),
                ("GITHUB_REPOSITORY", "shop/echo"),
                ("GITHUB_ACTOR", "ann"),
                ("RUNNER_TEMP", &temporary),
            ],
        };
        all.into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }

    /// Runs the lines of a job, as they stand in the file.
    fn run(&self, town: &Town, job: &str) -> Ended {
        let (lines, variables) = match self.host {
            Host::GitLab => self.gitlab(town, job),
            Host::GitHub => self.github(town, job),
        };
        // As the runners call it: bash, which ends at the first line that fails; one log for both outputs.
        let options = match self.host {
            Host::GitLab => "set -eo pipefail",
            Host::GitHub => "set -e",
        };
        let repository = town.world.folder().join("repository");
        fs::create_dir_all(&repository).unwrap();
        fs::copy(pipeline("canary.yml"), repository.join("canary.yml")).unwrap();
        let mut command = town.command(&format!("exec 2>&1\n{options}\n{lines}"));
        for foreign in [
            "GITLAB_CI",
            "GITHUB_ACTIONS",
            "CI_JOB_URL",
            "CI_COMMIT_SHA",
            "GITHUB_SHA",
        ] {
            command.env_remove(foreign);
        }
        if self.host == Host::GitHub {
            command.env_remove("KUBECONFIG"); // the job makes its own
        }
        let run = command.current_dir(repository).envs(variables).output().unwrap();
        let ended = Ended {
            code: run.status.code().unwrap(),
            log: String::from_utf8_lossy(&run.stdout).into_owned(),
        };
        println!(
            "--- {:?} {job} of {}: exit code {}\n{}",
            self.host, self.short, ended.code, ended.log
        );
        self.is_readable(&ended);
        ended
    }

    fn gitlab(&self, town: &Town, job: &str) -> (String, BTreeMap<String, String>) {
        let file: Value =
            serde_saphyr::from_str(&fs::read_to_string(pipeline(".gitlab-ci.yml")).unwrap()).unwrap();
        let mut variables = self.given(town);
        variables.insert("KUBE_CONTEXT".into(), context(town));
        for (name, value) in file["variables"].as_object().unwrap() {
            let mut text = value.as_str().unwrap().to_owned();
            for (known, value) in &variables {
                // Longer names first: one may begin with another.
                text = text.replace(&format!("${known}:"), &format!("{value}:"));
            }
            text = text.replace("$CI_COMMIT_SHORT_SHA", &self.short);
            assert!(!text.contains('$'), "{text}");
            variables.insert(name.clone(), text);
        }
        let lines = file[job]["script"].as_array().unwrap().iter();
        let lines: Vec<&str> = lines.map(|l| l.as_str().unwrap()).collect();
        (lines.join("\n"), variables)
    }

    fn github(&self, town: &Town, job: &str) -> (String, BTreeMap<String, String>) {
        let file: Value =
            serde_saphyr::from_str(&fs::read_to_string(pipeline("github-actions.yml")).unwrap()).unwrap();
        let job = &file["jobs"][job];
        let mut variables = self.given(town);
        for (name, value) in [&file["env"], &job["env"]]
            .into_iter()
            .flat_map(|e| e.as_object().unwrap())
        {
            variables.insert(name.clone(), self.expanded(town, value.as_str().unwrap()));
        }
        let mut lines = Vec::new();
        for step in job["steps"].as_array().unwrap() {
            match (step["name"].as_str(), step["run"].as_str()) {
                (Some("tools"), Some(_)) => println!("NOT RUN: the step `tools`: serin is on the PATH"),
                (_, Some(run)) => lines.push(run.to_owned()),
                (_, None) => {}
            }
        }
        let lines = lines.join("\n");
        assert!(
            !lines.contains("${{"),
            "whoever writes a branch's name could write a command: {lines}"
        );
        (lines, variables)
    }

    /// `${{ github.sha }}` and its like.
    fn expanded(&self, town: &Town, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in [
            ("github.repository", "shop/echo".to_owned()),
            ("github.sha", self.sha()),
            (
                "secrets.KUBECONFIG",
                fs::read_to_string(town.world.kubeconfig()).unwrap(),
            ),
            ("vars.SERIN_IMAGE", "ghcr.io/shop/serin:1".to_owned()),
        ] {
            text = text.replace(&format!("${{{{ {name} }}}}"), &value);
        }
        assert!(!text.contains("${{"), "{text}");
        text
    }

    /// A line a change, and what can be folded is.
    fn is_readable(&self, ended: &Ended) {
        let (log, last) = (&ended.log, ended.last());
        let (begin, end) = match self.host {
            Host::GitLab => ("\u{1b}[0Ksection_start:", "\u{1b}[0Ksection_end:"),
            Host::GitHub => ("::group::", "::endgroup::"),
        };
        if last.contains("already stable") {
            return;
        }
        assert_eq!(
            (log.matches(begin).count(), log.matches(end).count()),
            (1, 1),
            "{log}"
        );
        assert!(
            log.rfind(end) < log.rfind(last),
            "the reason is not hidden: {log}"
        );
        let is_progress = |l: &&str| l.split(' ').next().is_some_and(|clock| clock.ends_with('Z'));
        let lines: Vec<&str> = log.lines().filter(is_progress).collect();
        assert!(
            (3..40).contains(&lines.len()) && lines.windows(2).all(|w| w[0] != w[1]),
            "a line a change, not a line a second: {log}"
        );
        if self.host == Host::GitHub {
            assert!(!log.contains('\u{1b}'), "{log}");
        }
    }

    /// Who, what, when and why is on record.
    fn is_told(&self, town: &Town) {
        let history = town.sh("serin history echo --namespace default");
        let mut begins = history.lines().filter(|l| l.contains("-> Starting"));
        let line = begins.next_back().unwrap_or_default();
        for word in [self.url(), self.sha(), "by ann".to_owned()] {
            assert!(line.contains(&word), "no {word} in {line}\n{history}");
        }
    }
}

fn pipeline(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("k8s/pipeline")
        .join(file)
}

fn context(town: &Town) -> String {
    town.sh("kubectl config current-context").trim().to_owned()
}

/// Images of this commit fail half of their requests.
fn bad(commits: &[Commit]) -> BTreeMap<String, PathBuf> {
    let folder = std::env::temp_dir().join(format!("serin-pipeline-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("bad");
    fs::write(&program, format!("#!/bin/sh\nexec {SERIN} \"$@\" --errors=0.5\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    commits.iter().map(|c| (c.image(), program.clone())).collect()
}

fn rolled_back(town: &Town, job: &str, commit: &Commit) {
    let ended = commit.run(town, job);
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert!(ended.last().starts_with("ROLLED BACK: "), "{}", ended.log);
    assert!(
        ended.last().contains("bad") || ended.last().contains("guard"),
        "{}",
        ended.last()
    );
    commit.is_told(town);
    town.phase("RolledBack", LIMIT);
}

fn promoted(town: &Town, job: &str, commit: &Commit) {
    let ended = commit.run(town, job);
    assert_eq!(ended.code, 0, "{}", ended.log);
    assert!(ended.last().starts_with("PROMOTED: "), "{}", ended.log);
    commit.is_told(town);
    let cause = town.note("apps/v1/Deployment/server", "kubernetes.io/change-cause");
    assert!(
        cause.contains(&commit.url()),
        "kubectl rollout history says: {cause}"
    );
    let server = town.world.json("apps/v1/Deployment", "server").unwrap();
    assert_eq!(
        server["spec"]["template"]["spec"]["containers"][0]["image"],
        commit.image()
    );
}

fn undecided(town: &Town, job: &str, commit: &Commit) {
    town.sh(&format!("kubectl patch rollout echo --type=merge -p '{OPEN}'"));
    let ended = commit.run(town, job);
    assert_eq!(ended.code, 2, "{}", ended.log);
    assert!(ended.last().starts_with("UNDECIDED: "), "{}", ended.log);
    commit.is_told(town);
    town.sh("serin abort echo --cause 'nobody knows'");
    town.phase("RolledBack", LIMIT);
    town.sh(&format!("kubectl patch rollout echo --type=merge -p '{CLOSED}'"));
}

/// Both jobs three times each: its image is bad, good, and nobody knows.
fn jobs(test: &str, host: Host) {
    let jobs = ["canary", "deploy"];
    own_network(test, || {
        let mut number = 0;
        let mut commit = |word: &str| {
            number += 1;
            Commit {
                host,
                short: format!("{word}{number:08}"),
                number,
            }
        };
        let all: Vec<[Commit; 3]> = jobs
            .iter()
            .map(|_| [commit("badc"), commit("cafe"), commit("beef")])
            .collect();
        let broken: Vec<BTreeMap<_, _>> = all.iter().map(|[b, ..]| bad(std::slice::from_ref(b))).collect();
        let town = Town::of(broken.into_iter().flatten().collect());
        town.found(Controller::Cluster);
        let load = town.world.load("echo", Traffic::at(RATE));
        for (job, [bad, good, open]) in jobs.into_iter().zip(&all) {
            rolled_back(&town, job, bad);
            promoted(&town, job, good);
            let again = good.run(&town, "deploy");
            assert_eq!(again.code, 0, "{}", again.log);
            assert!(
                again.last().starts_with("PROMOTED: already stable"),
                "{}",
                again.log
            );
            undecided(&town, job, open);
        }
        println!("{} requests, none lost", load.stop().no_loss());
    });
}

#[test]
fn the_jobs_of_gitlab_end_as_their_releases_do() {
    let test = "the_jobs_of_gitlab_end_as_their_releases_do";
    jobs(test, Host::GitLab);
}

#[test]
fn the_jobs_of_github_end_as_their_releases_do() {
    let test = "the_jobs_of_github_end_as_their_releases_do";
    jobs(test, Host::GitHub);
}
