//! The demo as a live view in a terminal.

use super::{CANARY, FRAME, STABLE, Scene, Stage, story::opening};
use crate::{cli::DemoArgs, curve, fail::Failure, terminal, view};
use proxy::contract::release::Status;
use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Gauge, Paragraph, Wrap},
};

/// Weights kept for the curve.
const CURVE: usize = 600;

/// Plays it until it is over or the user leaves.
pub fn play(stage: &Stage, args: &DemoArgs) -> Result<Scene, Failure> {
    let mut screen = ratatui::try_init()
        .map_err(|e| Failure::refused(format!("cannot draw in this terminal: {e}; try --plain")))?;
    terminal::end_with_it();
    let played = frames(&mut screen, stage, args);
    ratatui::restore();
    let scene = played.map_err(|e| Failure::refused(format!("the terminal failed: {e}; try --plain")))?;
    if let Some(s) = &scene.status {
        print!("{}", view::detail(s));
        println!();
    }
    Ok(scene)
}

fn frames(terminal: &mut DefaultTerminal, stage: &Stage, args: &DemoArgs) -> std::io::Result<Scene> {
    let opening = opening(stage, args);
    let mut curve = Vec::new();
    loop {
        let scene = stage.look();
        let percent = scene.status.as_ref().map_or(0.0, |s| s.wanted.percent());
        curve.push((percent * 10.0) as u64);
        terminal.draw(|f| draw(f, &scene, &curve, &opening))?;
        if scene.is_over() || left()? {
            return Ok(scene);
        }
    }
}

/// Waits one frame; whether the user wants to leave.
fn left() -> std::io::Result<bool> {
    if !event::poll(FRAME)? {
        return Ok(false);
    }
    let Event::Key(key) = event::read()? else {
        return Ok(false);
    };
    let ctrl_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    Ok(key.kind == KeyEventKind::Press && (ctrl_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)))
}

fn draw(frame: &mut Frame, scene: &Scene, weights: &[u64], opening: &[String]) {
    let rows = [
        Constraint::Length(7),
        Constraint::Length(5),
        Constraint::Length(4),
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(1),
    ];
    let [head, weight, tracks, evidence, log, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(heading(scene, opening), head);
    draw_weight(frame, weight, scene, weights);
    frame.render_widget(track_lines(scene), tracks);
    draw_evidence(frame, evidence, scene);
    frame.render_widget(decisions(scene), log);
    let left = format!(" {:.0} s   q: leave", scene.elapsed.as_secs_f64());
    frame.render_widget(
        Paragraph::new(left).style(Style::new().add_modifier(Modifier::DIM)),
        foot,
    );
}

fn heading(scene: &Scene, opening: &[String]) -> Paragraph<'static> {
    let mut lines: Vec<Line> = opening.iter().map(|l| Line::from(l.clone())).collect();
    lines.insert(0, road(scene));
    Paragraph::new(lines)
}

fn road(scene: &Scene) -> Line<'static> {
    let now = scene.phase();
    let mut spans = vec![
        Span::styled(
            " serin ",
            Style::new()
                .fg(Color::Black)
                .bg(Color::Yellow)
                .add_modifier(Modifier::BOLD),
        ),
        Span::raw("  "),
    ];
    for phase in view::ROAD {
        let style = if phase == now {
            Style::new().fg(Color::Green).add_modifier(Modifier::BOLD)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        };
        spans.push(Span::styled(format!("{phase}  "), style));
    }
    if !view::ROAD.contains(&now) {
        spans.push(Span::styled(
            now.to_string(),
            Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        ));
    }
    Line::from(spans)
}

fn draw_weight(frame: &mut Frame, area: Rect, scene: &Scene, weights: &[u64]) {
    let title = scene.status.as_ref().map_or("weight".into(), |s| {
        format!("weight of {CANARY}: {} (wanted / taken)", view::weight(s))
    });
    let kept = &weights[weights.len().saturating_sub(CURVE)..];
    curve::draw(frame, area, title, kept, Style::new().fg(Color::Yellow));
}

fn track_lines(scene: &Scene) -> Paragraph<'static> {
    let row = |version: &str, colour| {
        let (good, bad) = scene.seen.answers(version);
        let text = format!("  {version:<8} {:>8} answers  {bad:>6} bad", good + bad);
        Line::styled(text, Style::new().fg(colour))
    };
    let lost = Line::from(format!(
        "  {:<8} {:>8} requests without an answer from either",
        "lost", scene.seen.lost
    ));
    Paragraph::new(vec![row(STABLE, Color::Cyan), row(CANARY, Color::Yellow), lost])
}

fn draw_evidence(frame: &mut Frame, area: Rect, scene: &Scene) {
    let [worse, good] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    let figures = scene.status.as_ref().map(|s| s.figures).unwrap_or_default();
    let bars = [
        (
            "  worse, roll back",
            figures.log_rollback,
            figures.rollback_at,
            Color::Red,
            worse,
        ),
        (
            "  good, promote",
            figures.log_promote,
            figures.promote_at,
            Color::Green,
            good,
        ),
    ];
    for (name, log, at, colour, place) in bars {
        let [label, bar] = Layout::horizontal([Constraint::Length(20), Constraint::Min(10)]).areas(place);
        frame.render_widget(Paragraph::new(name), label);
        let gauge = Gauge::default()
            .gauge_style(Style::new().fg(colour))
            .ratio(view::progress(log, at));
        frame.render_widget(gauge, bar);
    }
}

fn decisions(scene: &Scene) -> Paragraph<'static> {
    let decided = |s: &Status| {
        s.decisions
            .iter()
            .map(|d| Line::from(format!("{} -> {}: {}", d.from, d.to, d.reason)))
            .collect::<Vec<_>>()
    };
    let mut lines = scene.status.as_ref().map(decided).unwrap_or_default();
    let now = scene.status.as_ref().map_or(String::new(), |s| s.reason.clone());
    lines.push(Line::styled(
        format!("now: {now}"),
        Style::new().add_modifier(Modifier::BOLD),
    ));
    lines.reverse();
    Paragraph::new(lines)
        .wrap(Wrap { trim: true })
        .block(Block::bordered().title("what happened, latest first"))
}
