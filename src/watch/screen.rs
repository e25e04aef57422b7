//! The live view: what is shown, which keys do what, and how the terminal is given back.

use super::{
    Sight, draw,
    feed::{Feed, News},
};
use crate::{
    cli::WatchArgs,
    fail::Failure,
    terminal::{self, BY_SIGNAL},
    view,
};
use proxy::contract::release::{Command, Phase};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Longest wait for a key before news is looked at.
const FRAME: Duration = Duration::from_millis(100);
/// How often it is drawn when nothing changes: the clock goes on.
const CLOCK: Duration = Duration::from_secs(1);
/// How long an answer stands in the last line.
const ANSWER: Duration = Duration::from_secs(10);
/// Weights that are kept for the curve of one release.
const CURVE: usize = 600;

/// Everything that is drawn.
pub struct View {
    /// The releases, by name.
    pub all: Vec<Sight>,
    /// Which one is looked at.
    pub chosen: usize,
    /// Wanted weights in thousandths, by name.
    pub curves: BTreeMap<String, Vec<u64>>,
    /// What is asked before it is done.
    pub asks: Option<Asked>,
    /// What the last line says besides the keys.
    pub says: Option<(String, Instant)>,
    /// Why nothing can be seen.
    pub lost: Option<String>,
    /// Whether the keys are explained.
    pub helps: bool,
    /// Whether there is any news yet.
    pub heard: bool,
}

/// An order that waits for `y`.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Of which release.
    pub name: String,
    /// What.
    pub command: Command,
    /// The question, with what will happen.
    pub question: String,
}

/// How it ends.
enum End {
    /// Somebody wants to leave.
    Left,
    /// A signal.
    Stopped(i32),
    /// Nothing can be seen any more.
    Failed(Failure),
    /// All releases have ended, and that was waited for.
    Ended(u8),
}

/// Until somebody leaves.
pub fn play(args: &WatchArgs, feed: &Feed) -> Result<ExitCode, Failure> {
    let broken = |e: std::io::Error| Failure::refused(format!("the terminal failed: {e}; try --plain"));
    // From here on a panic gives the terminal back before it is told.
    let mut screen = ratatui::try_init().map_err(broken)?;
    terminal::end_with_it();
    feed.catch_signals();
    let mut view = View::new();
    let played = frames(&mut screen, args, feed, &mut view);
    ratatui::restore();
    match played.map_err(broken)? {
        End::Left => Ok(ExitCode::SUCCESS),
        End::Stopped(number) => Ok(ExitCode::from(u8::try_from(BY_SIGNAL + number).unwrap_or(1))),
        End::Failed(failure) => Err(failure),
        End::Ended(code) => {
            for s in &view.all {
                println!("{}: {}: {}", s.name, s.status.phase, view::why(&s.status));
            }
            Ok(ExitCode::from(code))
        }
    }
}

fn frames(
    terminal: &mut DefaultTerminal,
    args: &WatchArgs,
    feed: &Feed,
    view: &mut View,
) -> std::io::Result<End> {
    let mut drawn: Option<Instant> = None;
    loop {
        let mut is_new = drawn.is_none_or(|at| at.elapsed() >= CLOCK);
        while let Some(news) = feed.next(Duration::ZERO) {
            is_new = true;
            if let Some(end) = view.take(news, feed) {
                return Ok(end);
            }
        }
        if let Some(code) = super::all_ended(&view.all).filter(|_| args.wait && view.heard) {
            return Ok(End::Ended(code));
        }
        if is_new {
            terminal.draw(|frame| draw::draw(frame, view))?;
            drawn = Some(Instant::now());
        }
        if event::poll(FRAME)? {
            // Whatever came, a resize too, is drawn at once.
            drawn = None;
            if let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
                && view.press(key, feed)
            {
                return Ok(End::Left);
            }
        }
    }
}

impl View {
    /// Nothing is known yet.
    pub fn new() -> View {
        View {
            all: Vec::new(),
            chosen: 0,
            curves: BTreeMap::new(),
            asks: None,
            says: None,
            lost: None,
            helps: false,
            heard: false,
        }
    }

    /// The one that is looked at.
    pub fn sight(&self) -> Option<&Sight> {
        self.all.get(self.chosen)
    }

    fn take(&mut self, news: News, feed: &Feed) -> Option<End> {
        match news {
            News::Sights(all) => self.see(all, feed),
            News::Lost(why) => self.lost = Some(why),
            News::Answer(Ok(text)) if text.is_empty() => self.say("done".to_owned()),
            News::Answer(Ok(text)) => self.say(format!("done: {text}")),
            News::Answer(Err(why)) => self.say(format!("refused: {why}")),
            News::End(failure) => return Some(End::Failed(failure)),
            News::Stop(number) => return Some(End::Stopped(number)),
        }
        None
    }

    /// The chosen one stays chosen by its name, wherever it stands now.
    pub fn see(&mut self, all: Vec<Sight>, feed: &Feed) {
        let name = self.sight().map(|s| s.name.clone());
        for s in &all {
            let curve = self.curves.entry(s.name.clone()).or_default();
            if curve.len() >= CURVE {
                curve.remove(0);
            }
            curve.push((s.status.wanted.percent() * 10.0) as u64);
        }
        self.chosen = name
            .and_then(|name| all.iter().position(|s| s.name == name))
            .unwrap_or(0);
        (self.all, self.lost, self.heard) = (all, None, true);
        if let Some(s) = self.sight() {
            feed.focus(&s.name);
        }
    }

    fn say(&mut self, text: String) {
        self.says = Some((text, Instant::now() + ANSWER));
    }

    /// Whether the key leaves.
    fn press(&mut self, key: KeyEvent, feed: &Feed) -> bool {
        let is_ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_ctrl && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return true;
        }
        if let Some(asked) = self.asks.take() {
            match key.code {
                KeyCode::Char('y' | 'Y') => {
                    self.say(format!("{} …", asked.name));
                    feed.order(&asked.name, asked.command);
                }
                _ => self.say("nothing was done".to_owned()),
            }
            return false;
        }
        if std::mem::take(&mut self.helps) {
            return false;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('?' | 'h') => self.helps = true,
            KeyCode::Char('j') | KeyCode::Down => self.choose(self.chosen.saturating_add(1), feed),
            KeyCode::Char('k') | KeyCode::Up => self.choose(self.chosen.saturating_sub(1), feed),
            KeyCode::Home => self.choose(0, feed),
            KeyCode::End => self.choose(usize::MAX, feed),
            KeyCode::Char(c) => self.asks = self.sight().and_then(|s| asked(c, s)),
            _ => {}
        }
        false
    }

    fn choose(&mut self, place: usize, feed: &Feed) {
        self.chosen = place.min(self.all.len().saturating_sub(1));
        if let Some(s) = self.sight() {
            feed.focus(&s.name);
        }
    }
}

/// What a key asks for, with what will happen if it is done.
fn asked(key: char, sight: &Sight) -> Option<Asked> {
    let (s, name) = (&sight.status, &sight.name);
    let (command, question) = match key {
        'p' => (
            Command::Promote,
            format!(
                "promote {name} now? {} serves everybody, whatever the evidence says",
                s.canary_version
            ),
        ),
        'a' => (
            Command::Abort,
            format!("abort {name}? everybody goes back to {}", s.stable_version),
        ),
        ' ' if s.phase == Phase::Paused => (
            Command::Resume,
            format!("resume {name}? the weight follows the evidence again"),
        ),
        ' ' => (
            Command::Pause,
            format!("pause {name}? the weight stays at {}", s.wanted),
        ),
        _ => return None,
    };
    Some(Asked {
        name: name.clone(),
        command,
        question,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::sight::tests::sight;

    #[test]
    fn space_pauses_and_a_pause_is_resumed() {
        let mut s = sight("echo");
        assert_eq!(asked(' ', &s).unwrap().command, Command::Pause);
        s.status.phase = Phase::Paused;
        assert_eq!(asked(' ', &s).unwrap().command, Command::Resume);
        assert!(asked('a', &s).unwrap().question.contains("back to v1"));
        assert!(asked('x', &s).is_none());
    }
}
