//! Completions, manual pages, and what is said to who mistypes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::{fs, process::Command};
use support::*;

/// What bash offers for these words, of which the last is being typed.
fn offered(words: &[&str]) -> Vec<String> {
    let typed = words
        .iter()
        .map(|w| format!("'{w}'"))
        .collect::<Vec<_>>()
        .join(" ");
    let (last, before) = (words.len() - 1, words[words.len() - 2]);
    let script = format!(
        "source <({SERIN} completions bash); complete -p serin; COMP_WORDS=({typed}); COMP_CWORD={last}; \
         _serin serin '{}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words[last]
    );
    let run = Command::new("bash")
        .args(["--norc", "-ec", &script])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", stderr(&run));
    let shown = stdout(&run);
    let mut lines = shown.lines();
    assert!(lines.next().unwrap().contains("-F _serin"), "{shown}");
    lines.map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    assert_eq!(offered(&["serin", "wat"]), ["watch"]);
    assert_eq!(offered(&["serin", "deploy", "--time"]), ["--timeout"]);
    assert_eq!(offered(&["serin", "demo", "--fault", "la"]), ["latency", "late"]);
    assert_eq!(
        offered(&["serin", "completions", ""]),
        ["-h", "--log", "--help", "bash", "zsh", "fish"]
    );
    assert!(offered(&["serin", ""]).len() > 25);
}

#[test]
fn zsh_and_fish_get_every_command_too() {
    let commands = offered(&["serin", ""]);
    for (shell, begins) in [("zsh", "#compdef serin"), ("fish", "# Print an optspec")] {
        let script = stdout(&serin(&["completions", shell]));
        assert!(script.starts_with(begins), "{script:.200}");
        for command in commands.iter().filter(|c| !c.starts_with('-')) {
            assert!(
                script.contains(command.as_str()),
                "{shell} does not know {command}"
            );
        }
    }
    let refused = serin(&["completions", "bsh"]);
    assert!(stderr(&refused).contains("'bash'"), "{}", stderr(&refused));
}

#[test]
fn every_command_has_a_manual_page_without_warnings() {
    let scratch = Scratch::new();
    let folder = scratch.path("man1");
    let written = serin(&["man", folder.to_str().unwrap()]);
    assert!(written.status.success(), "{}", stderr(&written));
    let mut pages: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    pages.sort();
    assert!(pages.len() > 25, "{pages:?}");
    for page in &pages {
        let run = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww"])
            .env_remove("GROFF_NO_SGR")
            .arg(page)
            .output()
            .expect("groff runs; Debian package groff-base");
        assert!(
            run.status.success() && run.stderr.is_empty(),
            "{}: {}",
            page.display(),
            stderr(&run)
        );
        let shown = stdout(&run);
        // Bold is printed twice, as on paper: letter, step back, letter.
        let mut plain = String::new();
        for c in shown.chars() {
            if c == '\u{8}' {
                plain.pop();
            } else {
                plain.push(c);
            }
        }
        assert!(plain.contains("\nSYNOPSIS\n"), "{}: {plain}", page.display());
    }
    let watch = fs::read_to_string(folder.join("serin-watch.1")).unwrap();
    assert!(
        watch.contains("serin watch echo") && watch.contains("SERIN_ADMIN"),
        "{watch}"
    );
    let one = serin(&["man"]);
    assert_eq!(one.stdout, fs::read(folder.join("serin.1")).unwrap());
    let refused = serin(&["man", "/dev/null/man"]);
    assert!(stderr(&refused).contains("name a folder"), "{}", stderr(&refused));
}

#[test]
fn whoever_mistypes_is_told_what_was_meant() {
    for (args, meant) in [
        (&["dploy", "echo"][..], "'deploy'"),
        (&["watch", "--wiat"], "'--wait'"),
        (&["demo", "--fault", "eror"], "'errors'"),
    ] {
        let said = stderr(&serin(args));
        assert!(said.contains(meant), "{args:?}: {said}");
    }
    let scratch = Scratch::new();
    let path = scratch.path("serin.toml");
    let service = |more: &str| {
        format!("[[service]]\nname = \"echo\"\nstable = {{ endpoints = [\"127.0.0.1:9\"] }}\n{more}")
    };
    for (text, meant) in [
        (
            service("[service.annotations]\n\"serin.dev/canary-wieght\" = \"5\""),
            "did you mean serin.dev/canary-weight?",
        ),
        (
            service("[service.rollout.pacign]\nsoak = \"5s\""),
            "did you mean pacing?",
        ),
        (
            service("[service.rollout]\nundecided = \"rolback\""),
            "did you mean rollback?",
        ),
        (format!("[proxy.limts]\n{}", service("")), "did you mean limits?"),
    ] {
        fs::write(&path, &text).unwrap();
        let said = stderr(&serin(&["run", "--check", "-f", path.to_str().unwrap()]));
        assert!(said.contains(meant), "{text}\n{said}");
    }
}
