//! A weight over time, in a terminal.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    widgets::{Block, Sparkline},
};

/// All that is known of a weight (permille) in the width there is: each column shows the largest of its stretch.
pub fn draw(frame: &mut Frame, area: Rect, title: String, weights: &[u64], style: Style) {
    let width = usize::from(area.width.saturating_sub(2)).max(1);
    let data: Vec<u64> = weights
        .chunks(weights.len().div_ceil(width).max(1))
        .map(|c| c.iter().copied().max().unwrap_or(0))
        .collect();
    let line = Sparkline::default()
        .block(Block::bordered().title(title))
        .data(data)
        .max(1000)
        .style(style);
    frame.render_widget(line, area);
}
