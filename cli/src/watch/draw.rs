//! The screen: a title, a row for each lock, and what there is to say at the bottom.

use leaselock::LockState;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::clock::Moment;
use crate::people;
use crate::watch::bar::{Urgency, bar, urgency};
use crate::watch::columns::{BAR, Column, columns, fit};
use crate::watch::model::{Mode, Model};
use crate::watch::rota::NAMES;
use crate::watch::seen::Seen;
use crate::watch::strip::{COLOURS, newest};

mod popup;

/// What is shown besides the locks.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Where the locks are.
    pub(crate) place: String,
    pub(crate) now: Moment,
    /// How many requests have been made.
    pub(crate) requests: String,
}

/// How it is drawn, whatever it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Not where `NO_COLOR` is set.
    pub(crate) colours: bool,
    /// The first lock on the screen.
    top: usize,
    /// Whether a question can be read as a whole.
    asks: bool,
}

/// Rows that are not of locks: title, headings, message, state of affairs.
const FRAME: u16 = 4;

impl View {
    pub(crate) fn new(colours: bool) -> Self {
        Self { colours, top: 0, asks: false }
    }

    /// Whether there is a question on the screen, and all of it: nothing else may be answered.
    pub(crate) fn asks(&self) -> bool {
        self.asks
    }

    pub(crate) fn draw(&mut self, frame: &mut Frame<'_>, model: &Model, facts: &Facts) {
        let all = frame.area();
        if all.height <= FRAME {
            // Locks before anything else.
            self.rows(frame, all, model, facts);
        } else {
            self.framed_rows(frame, all, model, facts);
        }
        self.asks = false;
        match model.mode() {
            Mode::Details(top) => popup::details(frame, all, model, *top),
            Mode::Confirm(target) => self.asks = popup::question(frame, all, target),
            Mode::Help => popup::help(frame, all),
            Mode::List | Mode::Filter => {}
        }
    }

    fn framed_rows(&mut self, frame: &mut Frame<'_>, all: Rect, model: &Model, facts: &Facts) {
        let line = |y| Rect { x: all.x, y, width: all.width, height: 1 };
        let bottom = all.y + all.height;
        let body = Rect { y: all.y + 2, height: all.height - FRAME, ..all };
        put(frame, line(all.y), Line::styled(title(model, facts), Modifier::BOLD));
        put(frame, line(all.y + 1), headings(all.width));
        put(frame, line(bottom - 2), self.message(model));
        put(frame, line(bottom - 1), Line::styled(footer(model, facts), Modifier::DIM));
        self.rows(frame, body, model, facts);
    }

    fn rows(&mut self, frame: &mut Frame<'_>, area: Rect, model: &Model, facts: &Facts) {
        let shown = model.shown();
        let selected = model.selected().map(|lock| lock.name.as_str());
        let height = usize::from(area.height);
        let place = shown.iter().position(|lock| Some(lock.name.as_str()) == selected);
        self.top = window(self.top, place.unwrap_or_default(), height, shown.len());
        if shown.is_empty() {
            put(frame, area, Line::raw(nothing(model)));
            return;
        }
        let widths = columns(usize::from(area.width));
        let rows = shown.iter().skip(self.top).take(height).map(|lock| {
            let row = self.row(lock, &widths, facts.now);
            match Some(lock.name.as_str()) == selected {
                true => row.patch_style(Modifier::REVERSED),
                false => row,
            }
        });
        frame.render_widget(Paragraph::new(rows.collect::<Vec<_>>()), area);
    }

    fn row(self, lock: &Seen, widths: &[(Column, usize)], now: Moment) -> Line<'static> {
        let mut spans = Vec::new();
        for (column, width) in widths {
            if !spans.is_empty() {
                spans.push(Span::raw(" "));
            }
            match column {
                Column::Name => spans.push(Span::raw(fit(&people::plain(&lock.name), *width))),
                Column::State => spans.push(self.state(lock, *width)),
                Column::Holder => spans.push(Span::raw(fit(&lock.who(), *width))),
                Column::Left => spans.push(self.left(lock, now, *width)),
                Column::Age => {
                    let age = lock.age(now).map_or_else(|| "-".to_owned(), people::duration);
                    spans.push(Span::raw(fit(&age, *width)));
                }
                Column::Queue => {
                    let waiters = match lock.waiters {
                        0 => "-".to_owned(),
                        waiters => waiters.to_string(),
                    };
                    spans.push(Span::raw(fit(&waiters, *width)));
                }
                Column::Recent => spans.extend(self.recent(lock, *width)),
            }
        }
        Line::from(spans)
    }

    fn state(self, lock: &Seen, width: usize) -> Span<'static> {
        let (word, colour) = match lock.state {
            None => ("…", Color::Reset),
            Some(state) => (
                state.as_str(),
                match state {
                    LockState::Held => Color::Green,
                    LockState::Expired => Color::Yellow,
                    LockState::Unreadable => Color::Red,
                    _ => Color::Reset,
                },
            ),
        };
        Span::styled(fit(word, width), self.coloured(colour))
    }

    fn left(self, lock: &Seen, now: Moment, width: usize) -> Span<'static> {
        let Some((left, ttl)) = lock.left(now) else {
            let instead = if lock.is_under_session() { "by session" } else { "-" };
            return Span::raw(fit(instead, width));
        };
        let colour = match urgency(left, ttl) {
            Urgency::Calm => Color::Green,
            Urgency::Late => Color::Yellow,
            Urgency::Last => Color::Red,
        };
        let text = format!("{} {}", bar(left, ttl, BAR), people::duration(left));
        Span::styled(fit(&text, width), self.coloured(colour))
    }

    fn recent(self, lock: &Seen, width: usize) -> Vec<Span<'static>> {
        const OF_HOLDERS: [Color; COLOURS] = [
            Color::Cyan,
            Color::Magenta,
            Color::Green,
            Color::Yellow,
            Color::Blue,
            Color::LightRed,
        ];
        let marks = newest(&lock.marks, width);
        let mut spans: Vec<_> = marks
            .iter()
            .map(|mark| {
                let colour = OF_HOLDERS.get(mark.colour).copied().unwrap_or(Color::Reset);
                Span::styled(mark.shape.to_string(), self.coloured(colour))
            })
            .collect();
        spans.push(Span::raw(" ".repeat(width - marks.len())));
        spans
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn message(self, model: &Model) -> Line<'static> {
        if *model.mode() == Mode::Filter {
            return Line::raw(format!("/{}_", people::plain(model.filter())));
        }
        Line::styled(people::plain(model.message()), self.coloured(Color::Yellow))
    }
}

/// The first row to show, so that the selected one can be seen and as little moves as possible.
fn window(top: usize, selected: usize, height: usize, count: usize) -> usize {
    let lowest = (selected + 1).saturating_sub(height);
    // Nothing is left blank at the end either.
    top.max(lowest).min(selected).min(count.saturating_sub(height).max(lowest))
}

fn nothing(model: &Model) -> &'static str {
    match (model.is_listed(), model.count()) {
        (false, _) => "listing …",
        (true, 0) => "there are no locks here",
        (true, _) => "the filter hides all locks; Esc clears it",
    }
}

fn title(model: &Model, facts: &Facts) -> String {
    let count = match (model.is_cut(), model.count()) {
        (true, _) => format!("the first {NAMES} locks"),
        (false, 1) => "1 lock".to_owned(),
        (false, count) => format!("{count} locks"),
    };
    format!("leaselock  {count} in {}", people::plain(&facts.place))
}

fn headings(width: u16) -> Line<'static> {
    let columns = columns(usize::from(width));
    let words: Vec<_> =
        columns.iter().map(|(column, width)| fit(column.heading(), *width)).collect();
    Line::styled(words.join(" "), Modifier::UNDERLINED)
}

fn footer(model: &Model, facts: &Facts) -> String {
    let mut text = format!("{} | by {}", facts.requests, model.order().word());
    if !model.filter().is_empty() {
        let shown = model.shown().len();
        text.push_str(&format!(" | {shown} with {:?}", people::plain(model.filter())));
    }
    text + " | s sort  / filter  b break  ? help  q quit"
}

fn put(frame: &mut Frame<'_>, area: Rect, line: Line<'static>) {
    frame.render_widget(Paragraph::new(line), area);
}

#[cfg(test)]
mod tests;
