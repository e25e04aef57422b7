//! The panels of one release.

use super::{
    draw::{bold, colour, dim, mood, version},
    sight::{Row, Sight, latency_text, rate_text},
};
use crate::{curve, figures::percent, view};
use ratatui::{
    Frame,
    layout::Rect,
    style::Color,
    text::{Line, Span},
    widgets::{Block, Paragraph, Wrap},
};

/// Columns of the words before a bar, and of those behind it.
const BEFORE: usize = 18;
const BEHIND: usize = 22;

/// The phases, the present one marked.
pub fn road(sight: &Sight, width: usize) -> Line<'static> {
    let now = sight.status.phase;
    let mut spans = vec![Span::raw(" ")];
    let step = sight
        .status
        .steps
        .map_or(String::new(), |(done, all)| format!("  step {done}/{all}"));
    let is_on_road = view::ROAD.contains(&now);
    for (i, phase) in view::ROAD.into_iter().enumerate() {
        if i > 0 {
            spans.push(Span::styled(" > ", dim()));
        }
        if phase == now {
            spans.push(Span::styled(format!("[{phase}]"), mood(phase)));
        } else {
            spans.push(Span::styled(phase.to_string(), dim()));
        }
    }
    let used: usize = spans.iter().map(|s| s.content.chars().count()).sum();
    if !is_on_road && width < used + 16 {
        spans = vec![Span::raw(" ")];
    }
    if !is_on_road {
        spans.push(Span::styled(format!("  [{now}]"), mood(now)));
    }
    spans.push(Span::raw(step));
    Line::from(spans)
}

/// The weight as one line, or with its curve where there is room.
pub fn weight(frame: &mut Frame, area: Rect, sight: &Sight, weights: &[u64]) {
    let s = &sight.status;
    if area.height < 3 {
        let head = format!(" weight     {} (wanted / taken)  ", view::weight(s));
        let room = usize::from(area.width).saturating_sub(head.chars().count() + 2);
        let full = (s.wanted.share() * room as f64).round() as usize;
        let bar = "█".repeat(full.min(room)) + &"·".repeat(room.saturating_sub(full));
        let line = vec![Span::raw(head), Span::styled(bar, colour(bold(), Color::Yellow))];
        return frame.render_widget(Paragraph::new(Line::from(line)), area);
    }
    let title = format!(" weight of the canary: {} (wanted / taken) ", view::weight(s));
    curve::draw(
        frame,
        area,
        title,
        weights,
        colour(ratatui::style::Style::new(), Color::Yellow),
    );
}

/// Requests, error rates and latencies of both tracks with their bounds.
pub fn tracks(frame: &mut Frame, area: Rect, sight: &Sight) {
    let is_wide = area.width >= 110;
    let inner = usize::from(area.width.saturating_sub(2));
    let mut lines = vec![Line::styled(heads(is_wide), dim())];
    for (row, tint) in sight.rows().iter().zip([Color::Cyan, Color::Yellow]) {
        let text: String = cells(row, is_wide).chars().take(inner).collect();
        lines.push(Line::styled(text, colour(ratatui::style::Style::new(), tint)));
    }
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(" tracks ")),
        area,
    );
}

fn heads(is_wide: bool) -> String {
    match is_wide {
        true => format!(
            " {:<7}{:<14}{:>10}{:>8}  {:<26}{:<20}{:<20}{}",
            "",
            "version",
            "requests",
            "bad",
            "error rate (bounds)",
            "p50 (bounds)",
            "p95 (bounds)",
            "p99 (bounds)"
        ),
        false => format!(
            " {:<7}{:>9}{:>7}  {:<24}{:<11}{}",
            "", "requests", "bad", "error rate (bounds)", "p50", "p99 (bounds)"
        ),
    }
}

fn cells(row: &Row, is_wide: bool) -> String {
    let (requests, bad, rate) = (row.counts.requests, row.counts.bad, rate_text(row));
    let quantile = |i: usize| latency_text(row.latency.get(i));
    let bare = |i: usize| quantile(i).split(" (").next().unwrap_or_default().to_owned();
    match is_wide {
        true => {
            let short: String = version(&row.version).chars().take(13).collect();
            format!(
                " {:<7}{short:<14}{requests:>10}{bad:>8}  {rate:<26}{:<20}{:<20}{}",
                row.track,
                quantile(0),
                quantile(1),
                quantile(2)
            )
        }
        false => format!(
            " {:<7}{requests:>9}{bad:>7}  {rate:<24}{:<11}{}",
            row.track,
            bare(0),
            quantile(2)
        ),
    }
}

/// Both kinds of evidence on a log scale towards their thresholds.
pub fn evidence(frame: &mut Frame, area: Rect, sight: &Sight) {
    let width = usize::from(area.width.saturating_sub(2));
    let names = [("worse, roll back", Color::Red), ("good, promote", Color::Green)];
    let lines: Vec<Line> = sight
        .evidence()
        .into_iter()
        .zip(names)
        .map(|(has, (name, tint))| bar(name, has, width, tint))
        .collect();
    let block = Block::bordered().title(" evidence (log scale) ");
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// ` worse, roll back  ██████······  x12 of x100`
fn bar(name: &str, (has, at): (f64, f64), width: usize, tint: Color) -> Line<'static> {
    let room = width.saturating_sub(BEFORE + BEHIND + 1);
    let full = ((view::progress(has, at) * room as f64).floor() as usize).min(room);
    let drawn = "█".repeat(full) + &"·".repeat(room - full);
    let told = if at > 0.0 {
        format!("  {} of {}", times(has), times(at))
    } else {
        "  nothing judged".to_owned()
    };
    let told: String = told.chars().take(BEHIND).collect();
    Line::from(vec![
        Span::raw(format!(" {name:<BEFORE$}")),
        Span::styled(drawn, colour(ratatui::style::Style::new(), tint)),
        Span::raw(told),
    ])
}

/// Odds, from their natural logarithm: `x12`.
fn times(log: f64) -> String {
    match log.exp() {
        odds if odds < 0.01 => "x0".to_owned(),
        odds if odds >= 1e6 => format!("x1e{:.0}", odds.log10().floor().min(99.0)),
        odds => format!("x{}", crate::figures::number(odds)),
    }
}

/// What happened, latest first.
pub fn decisions(frame: &mut Frame, area: Rect, sight: &Sight) {
    let lines: Vec<Line> = sight
        .status
        .decisions
        .iter()
        .rev()
        .map(|d| {
            let head = format!(" {} {} -> {} ", view::clock(d.at), d.from, d.to);
            Line::from(vec![
                Span::styled(head, mood(d.to)),
                Span::raw(format!("by {}: {}", d.by, d.reason)),
            ])
        })
        .collect();
    let block = Block::bordered().title(" what happened, latest first ");
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }).block(block), area);
}

/// Where the evidence comes from.
pub fn explained(frame: &mut Frame, area: Rect, sight: &Sight) {
    let Some(e) = &sight.explanation else { return };
    let mut lines = Vec::new();
    for m in &e.metrics {
        lines.push(format!(
            " {:?}: {} of the evidence for worse",
            m.metric,
            percent(m.share)
        ));
        lines.extend(
            m.bets
                .iter()
                .take(2)
                .map(|b| format!("   {} {}", b.on, percent(b.share))),
        );
    }
    lines.extend(
        e.promotion
            .iter()
            .map(|n| format!(" good in {}: {:.2} of {:.2}", n.of, n.has, n.needs)),
    );
    lines.push(format!(
        " noise: {:.1} times chance; {:.0} requests/s",
        e.noise.dispersion, e.traffic.rate
    ));
    let lines: Vec<Line> = lines.into_iter().map(Line::raw).collect();
    let block = Block::bordered().title(" what it rests on ");
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_are_short() {
        let shown = [-9.0, 0.0, 100f64.ln(), 40.0].map(times);
        assert_eq!(shown, ["x0", "x1", "x100", "x1e17"]);
    }

    #[test]
    fn a_bar_fills_its_line_and_no_more() {
        for has in [(f64::NEG_INFINITY, 4.6), (2.3, 4.6), (99.0, 4.6), (0.0, 0.0)] {
            let line = bar("worse, roll back", has, 78, Color::Red);
            assert!(line.width() <= 78, "{has:?}");
        }
    }
}
