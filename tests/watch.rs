//! `serin watch` in a real terminal (tmux), in pipes, and in the logs of pipelines.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::{
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};
use support::*;

const LIMIT: Duration = Duration::from_secs(20);
/// One weight for long, so that people decide; and a second service, that rests.
const REST: &str = r#"
[service.rollout.pacing]
steps = [{ weight = 20, hold = "30m" }]
[service.rollout.judgement]
warmUp = "0s"
[service.rollout.promotion]
watch = "2s"

[[service]]
name = "shop"
hosts = ["shop.test"]
stable = { version = "s1", endpoints = ["127.0.0.1:9"] }
"#;

/// A terminal with a shell in it.
struct Terminal {
    socket: PathBuf,
    scratch: PathBuf,
}

impl Terminal {
    fn open(run: &Run, width: u16, height: u16) -> Terminal {
        let terminal = Terminal {
            socket: run.scratch.path("tmux"),
            scratch: run.scratch.0.clone(),
        };
        let (x, y) = (width.to_string(), height.to_string());
        let shell = "env PS1='ready> ' TERM=screen-256color LC_ALL=C.UTF-8 sh";
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &x, "-y", &y, shell]);
        terminal.tmux(&["set-option", "-g", "status", "off"]);
        terminal.tmux(&["resize-window", "-x", &x, "-y", &y]);
        terminal.wait("the prompt", |s| s.contains("ready>"));
        terminal
    }

    fn tmux(&self, args: &[&str]) -> String {
        let run = Command::new("tmux")
            .args(["-u", "-S"])
            .arg(&self.socket)
            .args(args)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .output()
            .expect("tmux runs; Debian package tmux");
        assert!(run.status.success(), "tmux {args:?}: {}", stderr(&run));
        stdout(&run)
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn line(&self, text: &str) {
        self.keys(&[text, "Enter"]);
    }

    fn resize(&self, width: u16, height: u16) {
        let (x, y) = (width.to_string(), height.to_string());
        self.tmux(&["resize-window", "-x", &x, "-y", &y]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let end = std::time::Instant::now() + LIMIT;
        while std::time::Instant::now() < end {
            last = self.screen();
            if is_so(&last) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        panic!("waited {LIMIT:?} in vain: {what}; the screen:\n{last}");
    }

    /// A screen whose boxes are whole, of this size.
    fn whole(&self, what: &str, width: usize, height: usize, words: &[&str]) -> String {
        let is_so = |s: &str| words.iter().all(|w| s.contains(w)) && broken(s, width, height).is_none();
        let end = std::time::Instant::now() + LIMIT;
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                println!("--- {what}, {width}x{height}\n{screen}");
                return screen;
            }
            assert!(
                std::time::Instant::now() < end,
                "{what}: {words:?}, {:?}; the screen:\n{screen}",
                broken(&screen, width, height)
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Without boxes, but whole: what matters, and how to leave.
    fn narrow(&self, width: usize, height: usize) {
        self.resize(width as u16, height as u16);
        let screen = self.wait("a narrow terminal", |s| {
            s.contains("Shifting  weight 20 %") && s.lines().last().is_some_and(|l| l.contains("? help"))
        });
        println!("--- {width}x{height}\n{screen}");
        let rows: Vec<&str> = screen.lines().collect();
        assert!(rows.len() <= height && rows.iter().all(|r| r.chars().count() <= width));
        assert!(!screen.contains('┌') && rows[0].contains("serin"), "{screen}");
    }

    /// Nothing is drawn twice: in quiet seconds the screen is never emptied, and little is sent.
    fn does_not_flicker(&self) {
        let stream = self.scratch.join("stream");
        self.tmux(&["pipe-pane", &format!("cat > {}", stream.display())]);
        let before = self.screen();
        self.wait("the counts go on", |s| s != before);
        std::thread::sleep(Duration::from_secs(3)); // the time in which bytes are counted
        self.tmux(&["pipe-pane"]);
        let sent = String::from_utf8_lossy(&std::fs::read(&stream).unwrap()).into_owned();
        let emptied = ["\u{1b}[2J", "\u{1b}[3J", "\u{1b}[J"].map(|code| sent.matches(code).count());
        println!("{} octets in 3 s, emptied {emptied:?} times", sent.len());
        assert_eq!(emptied, [0; 3], "the screen was emptied");
        assert!(
            !sent.is_empty() && sent.len() < 12_000,
            "{} octets in 3 s",
            sent.len()
        );
    }

    fn is_alternate(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on}"]).trim() == "1"
    }

    /// The shell has its terminal back, as it was.
    fn given_back(&self, code: &str) {
        self.wait("the prompt is back", |s| s.contains(code));
        assert!(!self.is_alternate(), "the alternate screen is left");
        self.line("clear; stty -a | tr '\\n' ' '");
        let shown = self.wait("the terminal's modes", |s| s.contains("icanon"));
        let flat = shown.replace('\n', "");
        assert!(flat.contains(" icanon") && flat.contains(" echo "), "{shown}");
        assert_eq!(
            self.tmux(&["display-message", "-p", "#{cursor_flag}"]).trim(),
            "1"
        );
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let kill = Command::new("tmux")
            .arg("-S")
            .arg(&self.socket)
            .arg("kill-server")
            .output();
        drop(kill);
        drop(std::fs::remove_file(self.scratch.join("tmux")));
    }
}

/// What is wrong with the boxes of a screen.
fn broken(screen: &str, width: usize, height: usize) -> Option<String> {
    let rows: Vec<Vec<char>> = screen.lines().map(|l| l.chars().collect()).collect();
    if rows.len() > height {
        return Some(format!("{} rows", rows.len()));
    }
    let at = |y: usize, x: usize| rows.get(y).and_then(|r| r.get(x)).copied().unwrap_or(' ');
    let (mut boxes, mut rightmost) = (0, 0);
    for (y, row) in rows.iter().enumerate() {
        if row.len() > width {
            return Some(format!("row {y} has {} columns", row.len()));
        }
        for x in (0..row.len()).filter(|x| row[*x] == '┌') {
            let Some(end) = (x..row.len()).find(|e| row[*e] == '┐') else {
                return Some(format!("the box at {y},{x} has no corner"));
            };
            let mut below = y + 1;
            while at(below, x) == '│' && at(below, end) == '│' {
                below += 1;
            }
            if at(below, x) != '└' || at(below, end) != '┘' {
                return Some(format!("the box at {y},{x} is broken in row {below}"));
            }
            (boxes, rightmost) = (boxes + 1, rightmost.max(end + 1));
        }
    }
    match (boxes, rightmost == width) {
        (0, _) => Some("there is no box".to_owned()),
        (_, false) => Some(format!("the boxes end at column {rightmost}")),
        _ => None,
    }
}

fn begin() -> (Run, [Process; 2], Users) {
    let ports = free_ports::<5>();
    let apps = [app(ports[3], "v1", &[]), app(ports[4], "v2", &[])];
    let own = [ports[0], ports[1], ports[2]];
    let run = Run::start(own, &file(own, 1, &[ports[3]], &[ports[4]], &[], REST));
    let users = Users::start(run.listen, 100.0, 5);
    (run, apps, users)
}

fn watch_line(run: &Run, rest: &str) -> String {
    let file = run.scratch.path("serin.toml");
    format!("{SERIN} watch -f {} {rest}; echo code $?", file.display())
}

#[test]
fn a_release_is_followed_and_steered_in_a_terminal() {
    let (run, _apps, users) = begin();
    let terminal = Terminal::open(&run, 80, 24);
    terminal.line(&format!("clear; SERIN_ACTOR=ann {}", watch_line(&run, "echo")));
    let shown = terminal.whole(
        "shifting",
        80,
        24,
        &[
            "[Shifting]",
            "20 % / 20 %",
            "v1 -> v2",
            "worse, roll back",
            "good, promote",
            "p99",
            "Starting -> Shifting",
            "stable 1, canary 1",
            "q quit",
        ],
    );
    assert!(terminal.is_alternate(), "{shown}");
    terminal.does_not_flicker();
    // Every size, also the smallest, and back.
    terminal.resize(200, 50);
    terminal.whole(
        "shifting",
        200,
        50,
        &[
            "[Shifting]",
            "p95 (bounds)",
            "weight of the canary",
            "what it rests on",
        ],
    );
    terminal.narrow(40, 10);
    terminal.keys(&["Space"]);
    terminal.wait("a question that is cut", |s| {
        s.contains("pause echo? the weight stays") && s.contains("…  [y/N]")
    });
    terminal.keys(&["n"]);
    terminal.narrow(30, 6);
    terminal.resize(80, 24);
    terminal.whole("shifting again", 80, 24, &["[Shifting]"]);
    // Nothing happens without a yes.
    terminal.keys(&["Space"]);
    terminal.wait("the question", |s| {
        s.contains("pause echo? the weight stays at 20 %  [y/N]")
    });
    terminal.keys(&["n"]);
    terminal.wait("no", |s| s.contains("nothing was done"));
    assert_eq!(run.phase(), "Shifting");
    terminal.keys(&["Space"]);
    terminal.wait("the question", |s| s.contains("[y/N]"));
    terminal.keys(&["y"]);
    terminal.whole("paused", 80, 24, &["[Paused]", "ann", "space resumes"]);
    terminal.keys(&["Space"]);
    terminal.wait("the question", |s| s.contains("resume echo?"));
    terminal.keys(&["y"]);
    terminal.whole("resumed", 80, 24, &["[Shifting]"]);
    terminal.keys(&["?"]);
    terminal.wait("the keys", |s| s.contains("each of these is asked once more"));
    terminal.keys(&["?"]);
    terminal.keys(&["p"]);
    terminal.wait("the question", |s| s.contains("promote echo now?"));
    terminal.keys(&["y"]);
    terminal.resize(200, 50);
    terminal.whole("promoted", 200, 50, &["[Succeeded]", "100 %"]);
    terminal.keys(&["q"]);
    terminal.given_back("code 0");
    assert_eq!(users.stop().broken, 0);
}

#[test]
fn many_releases_are_chosen_from_and_a_signal_gives_the_terminal_back() {
    let (run, _apps, _users) = begin();
    run.wait_phase(&["Shifting"], LIMIT);
    let terminal = Terminal::open(&run, 80, 24);
    terminal.line(&format!("clear; {}", watch_line(&run, "")));
    terminal.whole("two", 80, 24, &["> echo", "1 of 2", "shop", "[Shifting]"]);
    terminal.does_not_flicker();
    terminal.narrow(40, 10);
    terminal.resize(80, 24);
    terminal.whole("two again", 80, 24, &["> echo", "1 of 2", "shop", "[Shifting]"]);
    terminal.keys(&["j"]);
    terminal.whole("the other", 80, 24, &["> shop", "2 of 2", "[Idle]"]);
    terminal.resize(200, 50);
    terminal.whole("the other", 200, 50, &["> shop", "[Idle]"]);
    terminal.keys(&["k"]);
    terminal.whole("back", 200, 50, &["> echo", "[Shifting]"]);
    terminal.keys(&["a"]);
    terminal.wait("the question", |s| {
        s.contains("abort echo? everybody goes back to v1")
    });
    terminal.keys(&["y"]);
    terminal.whole("rolled back", 200, 50, &["[RolledBack]", "serin retry echo"]);
    let file = run.scratch.path("serin.toml").display().to_string();
    let listed = Command::new("pgrep")
        .args(["-f", &format!("serin watch -f {file}")])
        .output()
        .unwrap();
    let pids = stdout(&listed);
    // The shell's own line has the same words; whoever is the program has no shell in its name.
    let pid = pids.lines().find(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "serin"
    });
    let pid = pid.unwrap_or_else(|| panic!("no process: {pids}"));
    assert!(
        Command::new("kill")
            .args(["-TERM", pid])
            .status()
            .unwrap()
            .success()
    );
    terminal.given_back("code 143");
}

/// Whether there is such a process that still does anything.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|s| s.chars().next())
        .unwrap_or('Z');
    state != 'Z' && state != 'X'
}

#[test]
fn the_program_ends_with_its_terminal_whoever_is_told() {
    let (run, _apps, _users) = begin();
    run.wait_phase(&["Shifting"], LIMIT);
    let file = run.scratch.path("serin.toml").display().to_string();
    let watch = format!("watch -f {file}");
    // Told by a signal; deaf to it; and in no session of the terminal, so that nobody tells it.
    for (how, before, shell, command, shows) in [
        ("as it comes", "", "sh", watch.as_str(), "[Shifting]"),
        ("deaf", "trap '' HUP; ", "sh", &watch, "[Shifting]"),
        (
            "a session of its own",
            "trap '' HUP; ",
            "setsid --wait sh",
            &watch,
            "[Shifting]",
        ),
        ("the demo", "trap '' HUP; ", "sh", "demo --rps 50", "q: leave"),
    ] {
        let noted = run.scratch.path("pid");
        drop(std::fs::remove_file(&noted));
        let terminal = Terminal::open(&run, 80, 24);
        let script = run.scratch.path("script");
        let text = format!("echo $$ > {}\n{before}exec {SERIN} {command}\n", noted.display());
        std::fs::write(&script, text).unwrap();
        terminal.line(&format!("{shell} {}", script.display()));
        terminal.wait(how, |s| s.contains(shows));
        let pid = std::fs::read_to_string(&noted).unwrap().trim().to_owned();
        assert!(is_alive(&pid));
        terminal.tmux(&["kill-server"]);
        let begun = std::time::Instant::now();
        until(how, Duration::from_secs(2), || (!is_alive(&pid)).then_some(()));
        println!("{how}: gone after {:?}", begun.elapsed());
    }
}

#[test]
fn lines_end_when_nobody_reads_them() {
    let (run, _apps, _users) = begin();
    run.wait_phase(&["Shifting"], LIMIT);
    let file = run.scratch.path("serin.toml").display().to_string();
    let line = format!("{SERIN} watch -f {file} | head -1");
    let mut shell = Process::start(Command::new("bash").args(["-c", &line]));
    std::thread::scope(|scope| {
        // Changes, of which the second finds nobody who reads.
        scope.spawn(|| {
            run.command(&["pause", "echo"]);
            run.wait_phase(&["Paused"], LIMIT);
            run.command(&["resume", "echo"]);
        });
        until("it ends", LIMIT, || (!shell.is_running()).then_some(()));
    });
}

fn piped(run: &Run, args: &[&str], variable: &str) -> Output {
    Command::new(SERIN)
        .args(args)
        .arg("-f")
        .arg(run.scratch.path("serin.toml"))
        .env_remove("GITLAB_CI")
        .env_remove("GITHUB_ACTIONS")
        .env(variable, "true")
        .output()
        .unwrap()
}

#[test]
fn pipes_get_a_line_a_change_and_pipelines_can_fold_the_rest() {
    let (run, _apps, _users) = begin();
    run.wait_phase(&["Shifting"], LIMIT);
    let abort = || {
        let out = run.command(&["abort", "echo", "--cause", "ticket 12"]);
        assert!(out.status.success(), "{}", stderr(&out));
    };
    let (text, json) = std::thread::scope(|scope| {
        let text = scope.spawn(|| piped(&run, &["watch", "echo", "--wait"], "GITLAB_CI"));
        let json = scope.spawn(|| piped(&run, &["watch", "echo", "--wait", "--output", "json"], "NOBODY"));
        std::thread::sleep(Duration::from_secs(2)); // both have begun
        abort();
        (text.join().unwrap(), json.join().unwrap())
    });
    let shown = stdout(&text);
    println!("{shown}");
    assert_eq!(text.status.code(), Some(1), "{shown}{}", stderr(&text));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].contains("echo Shifting") && lines[0].contains("weight 20/"),
        "{shown}"
    );
    assert!(
        shown.contains("section_start:") && shown.contains("[collapsed=true]\r\u{1b}[0Kecho: counts"),
        "{shown}"
    );
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("echo: RolledBack: ") && last.contains("tester"),
        "{last}"
    );
    assert!(lines.len() < 40, "a line a change, not a line a second: {shown}");
    assert_eq!(json.status.code(), Some(1));
    let values: Vec<serde_json::Value> = stdout(&json)
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(values[0]["status"]["phase"], "Shifting");
    assert_eq!(values.last().unwrap()["status"]["phase"], "RolledBack");
    let hub = piped(&run, &["watch", "echo", "--wait"], "GITHUB_ACTIONS");
    let shown = stdout(&hub);
    assert!(
        shown.contains("::group::echo: counts") && shown.contains("::endgroup::"),
        "{shown}"
    );
    assert!(
        shown.lines().last().unwrap().starts_with("echo: RolledBack: "),
        "{shown}"
    );
    assert!(!shown.contains("\u{1b}["), "{shown}");
}

#[test]
fn history_says_who_what_when_and_why_also_when_nothing_runs() {
    let (mut run, _apps, _users) = begin();
    run.wait_phase(&["Shifting"], LIMIT);
    let out = run.command(&["abort", "echo", "--cause", "ticket 12"]);
    assert!(out.status.success(), "{}", stderr(&out));
    run.wait_phase(&["RolledBack"], LIMIT);
    run.process.kill();
    let shown = stdout(&run.command(&["history", "echo"]));
    println!("{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].starts_with("NO  WHEN") && lines[1].contains("Idle -> Starting"),
        "{shown}"
    );
    let abort = lines.iter().find(|l| l.contains("-> RollingBack")).unwrap();
    assert!(
        abort.contains(" tester ") && abort.contains("ticket 12") && abort.contains("v2"),
        "{shown}"
    );
    assert!(
        lines.last().unwrap().contains("RollingBack -> RolledBack"),
        "{shown}"
    );
    let out = run.command(&["history", "echo", "--output", "json"]);
    let all: Vec<serde_json::Value> = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(all.len() + 1, lines.len());
    assert!(
        all.windows(2)
            .all(|w| w[0]["number"].as_u64() < w[1]["number"].as_u64())
    );
    let out = run.command(&["history", "ehco"]);
    assert!(stderr(&out).contains("did you mean echo?"), "{}", stderr(&out));
}

#[test]
fn a_wrong_name_is_answered_with_the_right_one() {
    let (run, _apps, _users) = begin();
    run.wait_phase(&["Shifting", "Starting", "Verifying"], LIMIT);
    for command in [
        &["watch", "ehco"][..],
        &["status", "ehco"],
        &["pause", "ehco"],
        &["explain", "ehco"],
    ] {
        let out = run.command(command);
        assert!(!out.status.success());
        assert!(
            stderr(&out).contains("did you mean echo?"),
            "{command:?}: {}",
            stderr(&out)
        );
    }
    let out = serin(&["wach", "echo"]);
    assert!(stderr(&out).contains("'watch'"), "{}", stderr(&out));
}
