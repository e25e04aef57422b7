//! What is written for people holds together: links lead somewhere, and commands that are shown exist.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page that is kept in the repository.
fn pages() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.md",
        ])
        .current_dir(root())
        .output()
        .expect("git lists the pages");
    assert!(listed.status.success(), "{listed:?}");
    let names = String::from_utf8(listed.stdout).unwrap();
    names
        .split('\0')
        .filter(|n| !n.is_empty())
        .map(|n| root().join(n))
        .collect()
}

/// The text without fenced or indented code, in which a bracket is no link.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence && !line.starts_with("    ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Where the links of a page lead.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let begins = prose.match_indices("](").map(|(at, _)| at + 2);
    begins
        .filter_map(|at| prose[at..].split_once(')'))
        .map(|(link, _)| link.split_whitespace().next().unwrap_or_default().to_owned())
        .collect()
}

/// What a heading is called in a link, as GitHub has it.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|l| l.starts_with('#'));
    headings
        .map(|l| l.trim_start_matches('#').trim().to_lowercase())
        .map(|l| {
            l.chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let (mut count, mut broken) = (0, Vec::new());
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            count += 1;
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            let found = target.exists()
                && (anchor.is_empty()
                    || fs::read_to_string(&target).is_ok_and(|t| anchors(&t).contains(anchor)));
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(count > 8, "only {count} links were found");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The words after `serin` that are shown in pages, in code.
fn shown(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("serin ") {
        let before = text[..at].chars().next_back();
        if !matches!(before, Some('`' | ' ' | '\n')) {
            continue;
        }
        let line_start = text[..at].rfind('\n').map_or(0, |n| n + 1);
        // In running text "serin" is a word; as code it stands in backticks or in an indented line.
        if before != Some('`') && !text[line_start..].starts_with("    ") {
            continue;
        }
        let word: String = text[at + 6..]
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '-')
            .collect();
        if !word.is_empty() && !word.starts_with('-') {
            found.insert(word);
        }
    }
    found
}

#[test]
fn commands_that_are_shown_exist() {
    let help = Command::new(env!("CARGO_BIN_EXE_serin"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let known: BTreeSet<String> = help
        .lines()
        .skip_while(|l| !l.starts_with("Commands:"))
        .skip(1)
        .take_while(|l| !l.is_empty())
        .filter(|l| l.starts_with("  ") && !l.starts_with("   "))
        .filter_map(|l| l.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    assert!(known.contains("demo") && known.len() > 15, "{known:?}");
    let mut seen = BTreeSet::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for word in shown(&text) {
            assert!(
                known.contains(&word),
                "{}: `serin {word}` is no command",
                page.display()
            );
            seen.insert(word);
        }
    }
    assert!(seen.len() > 10, "only {seen:?} were found");
}
