//! People at a cluster: the README's lines as they stand there, and the lever that controller and people share.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/town.rs"]
#[allow(dead_code)] // each test binary uses its part
mod town;

use cluster::load::Traffic;
use std::{
    fs::{self, File},
    process::Child,
    time::{Duration, Instant},
};
use town::{Controller, LIMIT, RATE, RELEASE, Town, in_town};

/// `kubectl get rollout -w` in the background; what it has printed.
struct Watch {
    child: Child,
    file: std::path::PathBuf,
}

impl Watch {
    fn start(town: &Town) -> Watch {
        let file = town.world.folder().join("watch.txt");
        let mut command = town.command("exec kubectl get rollout -w");
        let child = command.stdout(File::create(&file).unwrap()).spawn().unwrap();
        Watch { child, file }
    }

    fn end(mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        fs::read_to_string(&self.file).unwrap()
    }
}

/// Columns as `kubectl get rollout` prints them; a header of two or more blanks between.
fn header(text: &str) -> Vec<&str> {
    text.lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect()
}

#[test]
fn a_weight_by_annotation_pauses_under_its_writers_name_and_resume_goes_on() {
    let test = "a_weight_by_annotation_pauses_under_its_writers_name_and_resume_goes_on";
    in_town(test, Controller::Cluster, |town| {
        println!("{}", town.sh("kubectl version"));
        let load = town.world.load("echo", Traffic::at(RATE));
        let watch = Watch::start(town);
        town.canary("v2.0.0", 3);
        town.above(0.0, LIMIT);
        town.sh("kubectl annotate service echo serin.dev/canary-weight=25 --overwrite");
        let status = town.phase("Paused", LIMIT);
        let reason = status["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("kubectl-annotate"), "{reason}");
        stays(town, 25.0, Duration::from_secs(4));
        let since = Instant::now() - Duration::from_secs(3);
        let shown = town.sh("kubectl get rollout");
        assert_eq!(
            header(&shown),
            ["NAME", "PHASE", "STEP", "WEIGHT", "VERDICT", "REASON", "AGE"]
        );
        let row = shown.lines().nth(1).unwrap_or_default();
        assert!(
            row.starts_with("echo") && row.contains("Paused") && row.contains("25/25"),
            "{shown}"
        );
        assert!(row.contains("kubectl-annotate"), "{shown}");
        let share = load.report().share("v2.0.0", since, Instant::now()).unwrap();
        assert!((share - 0.25).abs() < 0.05, "{share}");
        town.sh("serin resume echo");
        let weight = town.above(25.0, LIMIT);
        println!("the weight rises again: {weight}");
        town.sh("kubectl wait --for=condition=Promoted rollout/echo --timeout=90s");
        town.phase("Succeeded", RELEASE);
        let described = town.sh("kubectl describe rollout echo");
        let events = described.rsplit("\nEvents:").next().unwrap_or_default();
        for reason in ["ReleaseStarted", "Paused", "Resumed", "Promoted"] {
            assert!(events.contains(reason), "no {reason} in:\n{described}");
        }
        assert!(events.contains("kubectl-annotate"), "{events}");
        let told = watch.end();
        for phase in [
            "Starting",
            "Shifting",
            "Paused",
            "Promoting",
            "Watching",
            "Succeeded",
        ] {
            assert!(told.contains(phase), "no {phase} in:\n{told}");
        }
        load.stop().no_loss();
    });
}

/// The weight does not move for so long.
fn stays(town: &Town, percent: f64, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        let (weight, phase) = (town.weight(), town.status()["phase"].clone());
        assert!(
            (weight - percent).abs() < 1e-9 && phase == "Paused",
            "{weight} % in {phase}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The indented lines of the README's section about clusters, without their comments.
fn readme() -> Vec<String> {
    let text = include_str!("../README.md");
    let section = text.split("\n## In a cluster\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter_map(|line| line.strip_prefix("    "));
    lines
        .map(|line| {
            line.split("  #")
                .next()
                .unwrap()
                .split("   #")
                .next()
                .unwrap()
                .trim()
                .to_owned()
        })
        .filter(|line| !line.is_empty())
        .collect()
}

/// Lines that need what no test has.
const ELSEWHERE: [(&str, &str); 3] = [
    ("docker build", "the node maps the image to the built binary"),
    (
        "kubectl port-forward",
        "the node has no streaming; clients speak to pods",
    ),
    (
        "serin ping http://127.0.0.1",
        "goes with the port that is forwarded",
    ),
];

#[test]
fn the_lines_of_the_readme_do_what_they_say() {
    let test = "the_lines_of_the_readme_do_what_they_say";
    cluster::harness::own_network(test, || {
        let town = Town::empty();
        let lines = readme();
        assert!(lines.len() >= 14, "{lines:#?}");
        let mut readers = Readers::default();
        for line in &lines {
            readers.type_in(&town, line);
        }
        readers.leave(&town);
    });
}

/// Somebody who follows the README to the letter.
#[derive(Default)]
struct Readers {
    watch: Option<Watch>,
    load: Option<cluster::load::Load>,
    deploy: Option<Child>,
}

impl Readers {
    fn type_in(&mut self, town: &Town, line: &str) {
        if let Some((_, why)) = ELSEWHERE.iter().find(|(begin, _)| line.starts_with(begin)) {
            println!("NOT RUN: {line}: {why}");
            return;
        }
        println!("$ {line}");
        match line {
            "kubectl get rollout -w" => {
                town.hurry();
                self.watch = Some(Watch::start(town));
                town.phase("Idle", LIMIT);
                town.world.ready("serin.dev/proxy=echo", 2, LIMIT);
                town.world.ready("app=echo,track=stable", 3, LIMIT);
                town.heard();
                self.load = Some(town.world.load("echo", Traffic::at(RATE)));
            }
            line if line.starts_with("serin deploy") => {
                let mut command = town.command(line);
                self.deploy = Some(command.spawn().unwrap());
                town.phase("Shifting", LIMIT);
                town.above(0.0, LIMIT);
            }
            line if line.starts_with("serin front") => {
                self.leave_traffic(town);
                town.sh("kubectl kustomize k8s/app > app.yaml");
                town.sh(line);
            }
            line => print!("{}", town.sh(line)),
        }
        match line {
            line if line.starts_with("kubectl wait --for=condition=Promoted") => {
                town.phase("Succeeded", RELEASE);
            }
            line if line.starts_with("kubectl annotate service echo") => {
                town.phase("Paused", LIMIT);
                stays(town, 25.0, Duration::from_secs(2));
            }
            "serin resume echo" => self.deployed(),
            _ => {}
        }
    }

    /// The pipeline's end: 0, promoted.
    fn deployed(&mut self) {
        let run = self.deploy.take().unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        let error = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(0), "{said}{error}");
        assert!(
            said.lines().last().unwrap_or_default().starts_with("PROMOTED"),
            "{said}"
        );
    }

    fn leave_traffic(&mut self, town: &Town) {
        town.phase("Succeeded", RELEASE);
        let server = town.world.json("apps/v1/Deployment", "server").unwrap();
        let image = &server["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(image, "registry.example.org/echo:v2.0.0");
        let seen = self.load.take().unwrap().stop();
        println!("{} requests, none lost", seen.no_loss());
        let told = self.watch.take().unwrap().end();
        for phase in ["Shifting", "Paused", "Succeeded"] {
            assert!(told.contains(phase), "no {phase} in:\n{told}");
        }
    }

    fn leave(self, _town: &Town) {
        assert!(
            self.watch.is_none() && self.deploy.is_none(),
            "the README has lost a line that this test needs"
        );
    }
}
