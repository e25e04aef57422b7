//! People at a cluster: the lever that controller and people share. The lines of README are in `commands.rs`.
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
