//! The live view, drawn. Colours only where they are wanted; words carry everything that colours do.

use super::{
    panels::{decisions, evidence, explained, road, tracks, weight},
    screen::View,
    sight::Sight,
};
use crate::{cluster::now, view};
use proxy::contract::release::Phase;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Margin, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Wrap},
};
use std::time::Instant;

/// The smallest terminal in which panels make sense.
const LEAST: (u16, u16) = (60, 18);
/// From this width on the list of releases stands beside the one that is looked at.
const WIDE: u16 = 130;
/// Columns of that list.
const LIST: u16 = 44;
/// Most lines of the list above it.
const LISTED: u16 = 6;
/// From this height on there is room for the weight's curve.
const TALL: u16 = 36;

const KEYS: &str = " p promote  space pause/resume  a abort  j/k choose  ? help  q quit";
const FEW_KEYS: &str = " p  space  a  j/k   ? help  q quit";
/// What a question ends with, also where there is no room for all of it.
const YES_OR_NO: &str = "  [y/N]";
const HELP: [&str; 10] = [
    "p          promote now, whatever the evidence says",
    "space      pause: the weight stays, a worse canary is still rolled back;",
    "           or resume, where it is paused",
    "a          abort: everybody goes back to stable",
    "           each of these is asked once more: y does it, any other key does not",
    "j k ↓ ↑    choose another release",
    "q Esc ^C   leave; releases go on without you",
    "",
    "Rates and latencies stand with their 95 % anytime bounds.",
    "Evidence is on a log scale: at its threshold it decides.",
];

/// Colours, unless `NO_COLOR` says otherwise.
pub fn colour(style: Style, colour: Color) -> Style {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    if is_plain { style } else { style.fg(colour) }
}

/// Less important.
pub fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

/// More important.
pub fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// The colour of a phase.
pub fn mood(phase: Phase) -> Style {
    match phase {
        Phase::RollingBack | Phase::RolledBack => colour(bold(), Color::Red),
        Phase::Succeeded => colour(bold(), Color::Green),
        Phase::Paused | Phase::Holding | Phase::Undecided => colour(bold(), Color::Yellow),
        _ => bold(),
    }
}

/// One frame.
pub fn draw(frame: &mut Frame, view: &View) {
    let area = frame.area();
    let rows = [Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(rows).areas(area);
    frame.render_widget(Paragraph::new(heading(view, usize::from(head.width))), head);
    frame.render_widget(Paragraph::new(footer(view, usize::from(foot.width))), foot);
    match view.sight() {
        None => frame.render_widget(Paragraph::new(nothing(view)), body),
        Some(sight) if area.width < LEAST.0 || area.height < LEAST.1 => small(frame, body, sight),
        Some(sight) => releases(frame, body, view, sight),
    }
    if view.helps {
        help(frame, area);
    }
}

fn nothing(view: &View) -> &'static str {
    match view.heard {
        true => " no release is known here; `serin deploy`, or an edit of the file, begins one",
        false => " reading …",
    }
}

/// Name and versions on the left, how many and the time on the right.
fn heading(view: &View, width: usize) -> Line<'static> {
    let badge = Span::styled(
        " serin ",
        Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
    );
    let title = view.sight().map_or(String::new(), |s| {
        let space = if s.namespace.is_empty() {
            String::new()
        } else {
            format!("{}/", s.namespace)
        };
        format!(
            "  {space}{}  {} -> {}",
            s.name,
            version(&s.status.stable_version),
            version(&s.status.canary_version)
        )
    });
    let place = match view.all.len() {
        0 | 1 => String::new(),
        n => format!("{} of {n}  ", view.chosen + 1),
    };
    let right = format!("{place}{} ", view::clock(now()));
    let room = width.saturating_sub(7 + right.chars().count() + 1);
    let title: String = title.chars().take(room).collect();
    let gap = " ".repeat(room.saturating_sub(title.chars().count()) + 1);
    Line::from(vec![
        badge,
        Span::styled(title, bold()),
        Span::raw(gap),
        Span::styled(right, dim()),
    ])
}

/// Of a version that may be none.
pub fn version(name: &str) -> &str {
    if name.is_empty() { "(none)" } else { name }
}

/// A question, an answer, a trouble, or the keys.
fn footer(view: &View, width: usize) -> Line<'static> {
    if let Some(asked) = &view.asks {
        let question = fit(&asked.question, width.saturating_sub(1 + YES_OR_NO.len()));
        return Line::styled(format!(" {question}{YES_OR_NO}"), colour(bold(), Color::Yellow));
    }
    if let Some(why) = &view.lost {
        let text = fit(&format!(" not seen at the moment: {why}"), width);
        return Line::styled(text, colour(bold(), Color::Red));
    }
    match &view.says {
        Some((text, until)) if Instant::now() < *until => {
            Line::styled(fit(&format!(" {text}"), width), bold())
        }
        _ if width < KEYS.len() => Line::styled(FEW_KEYS, dim()),
        _ => Line::styled(KEYS, dim()),
    }
}

/// Cut, and seen to be cut, where it is longer than the room.
fn fit(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let begin: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{begin}…")
}

/// What matters, where there is no room for more.
fn small(frame: &mut Frame, area: Rect, sight: &Sight) {
    let s = &sight.status;
    let lines = vec![
        Line::styled(format!(" {}  weight {}", s.phase, view::weight(s)), mood(s.phase)),
        Line::raw(format!(
            " canary {} bad, stable {} bad",
            s.figures.canary, s.figures.stable
        )),
        Line::raw(format!(" {}", s.reason)),
    ];
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

/// The list of many, and the one that is looked at.
fn releases(frame: &mut Frame, area: Rect, view: &View, sight: &Sight) {
    let count = u16::try_from(view.all.len()).unwrap_or(u16::MAX);
    if count < 2 {
        return one(frame, area, view, sight);
    }
    let (list, rest) = if area.width >= WIDE {
        let columns = Layout::horizontal([Constraint::Length(LIST), Constraint::Min(1)]);
        let [list, rest] = columns.areas(area);
        (list, rest)
    } else {
        // Panels need what is left.
        let lines = count.min(LISTED).min(area.height.saturating_sub(LEAST.1)).max(1);
        let [list, rest] = Layout::vertical([Constraint::Length(lines), Constraint::Min(1)]).areas(area);
        (list, rest)
    };
    let first = view
        .chosen
        .saturating_sub(usize::from(list.height.saturating_sub(1)));
    let lines: Vec<Line> = (view.all.iter().enumerate().skip(first))
        .map(|(i, s)| entry(s, i == view.chosen, usize::from(list.width)))
        .collect();
    frame.render_widget(Paragraph::new(lines), list);
    one(frame, rest, view, sight);
}

fn entry(sight: &Sight, is_chosen: bool, width: usize) -> Line<'static> {
    let s = &sight.status;
    let mark = if is_chosen { '>' } else { ' ' };
    let text = format!(
        "{mark} {:<20} {:<11} {:>7}",
        sight.name,
        s.phase.to_string(),
        s.weight_column()
    );
    let text: String = text.chars().take(width).collect();
    Line::styled(text, if is_chosen { mood(s.phase) } else { Style::new() })
}

/// One release.
fn one(frame: &mut Frame, area: Rect, view: &View, sight: &Sight) {
    let is_tall = area.height >= TALL;
    let checks = u16::try_from(sight.status.checks.len().min(4)).unwrap_or(0);
    let waits = sight.waits();
    let waiting = u16::try_from(waits.len().clamp(1, if is_tall { 4 } else { 2 })).unwrap_or(1);
    let rows = [
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(if is_tall { 8 } else { 1 }),
        Constraint::Length(5),
        Constraint::Length(4),
        Constraint::Length(checks),
        Constraint::Length(waiting),
        Constraint::Length(1),
        Constraint::Min(0),
    ];
    let [way, reason, lever, table, bars, limits, wait, places, log] = Layout::vertical(rows).areas(area);
    frame.render_widget(Paragraph::new(road(sight, usize::from(way.width))), way);
    let why = sight.needs_you.as_ref().unwrap_or(&sight.status.reason);
    let why = Paragraph::new(why.as_str())
        .style(bold())
        .wrap(Wrap { trim: true });
    frame.render_widget(why, reason.inner(Margin::new(1, 0)));
    let curve = view
        .curves
        .get(&sight.name)
        .map(Vec::as_slice)
        .unwrap_or_default();
    weight(frame, lever, sight, curve);
    tracks(frame, table, sight);
    evidence(frame, bars, sight);
    let lines = sight.status.checks.iter().map(|c| Line::raw(view::check_line(c)));
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), limits);
    frame.render_widget(Paragraph::new(waiting_lines(&waits)), wait);
    frame.render_widget(Paragraph::new(format!(" serves     {}", sight.places)), places);
    if area.width >= WIDE - LIST && area.height >= TALL && sight.explanation.is_some() {
        let [left, right] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(log);
        decisions(frame, left, sight);
        explained(frame, right, sight);
    } else {
        decisions(frame, log, sight);
    }
}

fn waiting_lines(waits: &[String]) -> Vec<Line<'static>> {
    let line = |(i, text): (usize, &String)| {
        let head = if i == 0 { " waits for " } else { "           " };
        Line::raw(format!("{head} {text}"))
    };
    waits.iter().enumerate().map(line).collect()
}

fn help(frame: &mut Frame, area: Rect) {
    let (width, height) = (78.min(area.width), (HELP.len() as u16 + 2).min(area.height));
    let place = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    let lines: Vec<Line> = HELP.iter().map(|l| Line::raw(*l)).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(
        Paragraph::new(lines)
            .wrap(Wrap { trim: false })
            .block(Block::bordered().title(" keys ")),
        place,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::sight::tests::sight;
    use ratatui::{Terminal, backend::TestBackend};

    fn drawn(width: u16, height: u16, view: &View) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect();
        (0..height).map(row).collect()
    }

    fn view(n: usize) -> View {
        let names = ["echo", "payments", "shop"];
        View {
            all: names.iter().take(n).map(|n| sight(n)).collect(),
            heard: true,
            ..View::new()
        }
    }

    #[test]
    fn every_size_can_be_drawn_and_the_usual_ones_show_everything() {
        for (width, height) in [
            (1, 1),
            (20, 5),
            (59, 17),
            (60, 18),
            (80, 24),
            (100, 30),
            (129, 40),
            (200, 50),
        ] {
            for n in 0..=3 {
                let lines = drawn(width, height, &view(n));
                assert_eq!(lines.len(), usize::from(height));
            }
        }
        for (size, n) in [((80, 24), 1), ((80, 24), 3), ((200, 50), 3)] {
            let text = drawn(size.0, size.1, &view(n)).join("\n");
            for word in [
                "echo",
                "Shifting",
                "waiting for evidence",
                "stable",
                "canary",
                "worse",
                "good",
                "v2 appeared",
                "812",
                "q quit",
                "stable 2, canary 1",
            ] {
                assert!(text.contains(word), "{word} at {size:?} with {n}:\n{text}");
            }
        }
    }

    #[test]
    fn a_question_and_the_help_are_seen() {
        let mut v = view(1);
        v.helps = true;
        assert!(
            drawn(80, 24, &v)
                .join("\n")
                .contains("each of these is asked once more")
        );
    }
}
