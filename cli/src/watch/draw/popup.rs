//! What lies over the locks: the details of one, a question, the help.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use crate::people;
use crate::watch::keys::HELP;
use crate::watch::model::{Model, Target};

pub(super) fn details(frame: &mut Frame<'_>, all: Rect, model: &Model, top: usize) {
    let Some(lock) = model.selected() else { return };
    let lines: Vec<_> = lock.details.iter().skip(top).map(|line| Line::raw(line.clone())).collect();
    show(frame, all, " j k scroll, b break, Esc back ", lines);
}

/// Answers whether all of it can be read.
pub(super) fn question(frame: &mut Frame<'_>, all: Rect, target: &Target) -> bool {
    let mut lines = vec![
        Line::raw(format!("Put the holder of {} out?", people::plain(&target.name))),
        Line::raw(""),
        Line::raw(format!("  holder  {}", target.holder)),
        Line::raw(format!("  token   {}", target.token)),
    ];
    if let Some(note) = &target.note {
        lines.push(Line::raw(format!("  note    {note}")));
    }
    if target.others > 0 {
        lines.push(Line::raw(format!("  {} more hold it and keep it", target.others)));
    }
    lines.push(Line::raw(""));
    lines.push(Line::raw("It notices when it renews, and may act until then."));
    lines.push(Line::raw("y break   n leave it"));
    let area = middle(all, 64, &lines);
    let is_whole = area.height < all.height && area.width > 20;
    if !is_whole {
        lines = vec![Line::raw("n: the terminal is too small to ask")];
    }
    show(frame, area, " break ", lines);
    is_whole
}

pub(super) fn help(frame: &mut Frame<'_>, all: Rect) {
    let lines = HELP.map(Line::raw).to_vec();
    show(frame, middle(all, 72, &lines), " help ", lines);
}

fn show(frame: &mut Frame<'_>, area: Rect, title: &'static str, lines: Vec<Line<'static>>) {
    frame.render_widget(Clear, area);
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(text.block(Block::bordered().title(title)), area);
}

/// In the middle of the screen, with room for these lines; all of the height when that is too little.
fn middle(all: Rect, width: u16, lines: &[Line<'_>]) -> Rect {
    let width = width.min(all.width);
    let inside = usize::from(width.saturating_sub(2)).max(1);
    // Words that do not fit begin a line: a long text takes at most twice the lines it would fill.
    let rows = |line: &Line<'_>| match line.width().div_ceil(inside) {
        0 | 1 => 1,
        rows => rows * 2,
    };
    let rows: usize = lines.iter().map(rows).sum();
    let height = u16::try_from(rows + 2).unwrap_or(u16::MAX).min(all.height);
    let (x, y) = (all.x + (all.width - width) / 2, all.y + (all.height - height) / 2);
    Rect { x, y, width, height }
}
