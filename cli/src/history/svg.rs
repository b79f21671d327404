//! A history as a picture: one row for each holder, one bar for each tenure.

use std::time::{Duration, SystemTime};

use super::Span;
use crate::people;

const WIDTH: f64 = 960.0;
/// Left of the bars stand the holders.
const NAMES: f64 = 240.0;
const MARGIN: f64 = 16.0;
const TITLE: f64 = 40.0;
const ROW: f64 = 28.0;
const BAR: f64 = 16.0;
const TICKS: u32 = 5;
/// A bar that would be too narrow to be seen is so wide.
const LEAST: f64 = 2.0;

/// An SVG document. Times are those of the record: by the wall clocks of those who wrote it.
pub(super) fn timeline(name: &str, spans: &[Span], now: SystemTime) -> String {
    let begin = spans.iter().map(|span| span.from).min().unwrap_or(now);
    let ends = spans.iter().map(|span| span.to.unwrap_or(now));
    let end = ends.max().unwrap_or(now);
    let whole = end.duration_since(begin).unwrap_or_default().max(Duration::from_millis(1));
    let at = |time: SystemTime| {
        let after = time.duration_since(begin).unwrap_or_default().min(whole);
        NAMES + (WIDTH - NAMES - MARGIN) * after.as_secs_f64() / whole.as_secs_f64()
    };
    // In the order of their first tenures.
    let mut holders = Vec::new();
    for span in spans {
        if !holders.contains(&&span.row) {
            holders.push(&span.row);
        }
    }
    let bottom = TITLE + ROW * holders.len() as f64;
    let height = bottom + 2.0 * ROW;

    let mut lines = vec![
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">"
        ),
        format!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>"),
        format!(
            "<text x=\"{MARGIN}\" y=\"24\" font-size=\"15\">{}</text>",
            escape(&people::plain(name))
        ),
    ];
    for (place, how) in (0_u32..).zip(["released", "expired", "broken", "held"]) {
        let x = WIDTH - MARGIN - 90.0 * f64::from(4 - place);
        let fill = colour(how);
        lines
            .push(format!("<rect x=\"{x}\" y=\"13\" width=\"12\" height=\"12\" fill=\"{fill}\"/>"));
        lines.push(format!("<text x=\"{}\" y=\"23\" fill=\"#555\">{how}</text>", x + 18.0));
    }
    for tick in 0..=TICKS {
        let time = begin + whole * tick / TICKS;
        let (x, label) = (at(time), humantime::format_rfc3339_seconds(time).to_string());
        let (day, hour) = label.split_at(label.find('T').unwrap_or(0));
        let hour = hour.trim_start_matches('T').trim_end_matches('Z');
        let anchor = if tick == TICKS { "end" } else { "middle" };
        lines.push(format!(
            "<line x1=\"{x:.1}\" y1=\"{TITLE}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>"
        ));
        for (row, text) in [(0.6, hour), (1.2, day)] {
            let y = bottom + ROW * row;
            lines.push(format!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#555\">{text}</text>"
            ));
        }
    }
    for (row, holder) in (0_u32..).zip(&holders) {
        let y = TITLE + ROW * f64::from(row) + ROW / 2.0 + 4.0;
        let holder = escape(holder);
        lines.push(format!("<text x=\"{MARGIN}\" y=\"{y}\">{holder}</text>"));
    }
    for span in spans {
        let row = holders.iter().take_while(|holder| **holder != &span.row).count() as f64;
        let (x, y) = (at(span.from), TITLE + ROW * row + (ROW - BAR) / 2.0);
        let width = (at(span.to.unwrap_or(now)) - x).max(LEAST);
        let told = escape(&tip(span));
        lines.push(format!(
            "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\" \
             fill=\"{}\"><title>{told}</title></rect>",
            colour(&span.how)
        ));
    }
    lines.push("</svg>\n".to_owned());
    lines.join("\n")
}

/// What is shown when somebody points at a bar.
fn tip(span: &Span) -> String {
    let from = humantime::format_rfc3339_seconds(span.from);
    let length = people::duration(span.length());
    let Span { holder, how, token, .. } = span;
    let mut text = format!("{holder}: {how} for {length} from {from}, token {token}");
    if !span.more.is_empty() {
        text.push_str(&format!(", {}", span.more));
    }
    text
}

fn colour(how: &str) -> &'static str {
    match how {
        "released" | "finished" => "#4c9f70",
        "held" => "#3b7dd8",
        "expired" => "#d98c2b",
        "broken" => "#c8443c",
        _ => "#888888",
    }
}

/// Names and notes are written by whoever may write to the store.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u64, to: Option<u64>, holder: &str, how: &str) -> Span {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Span {
            from: at(from),
            to: to.map(at),
            token: "7".to_owned(),
            holder: format!("{holder} (pid {from})"),
            row: holder.to_owned(),
            how: how.to_owned(),
            more: String::new(),
        }
    }

    #[test]
    fn each_holder_has_a_row_and_each_tenure_a_bar() {
        let spans = [
            span(100, Some(150), "a", "released"),
            span(150, Some(200), "<b>", "expired"),
            span(200, None, "a", "held"),
        ];
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(300);
        let picture = timeline("etl & co", &spans, now);
        assert_eq!(picture.matches("<title>").count(), 3);
        assert!(picture.contains(">etl &amp; co</text>"), "{picture}");
        assert!(picture.contains(">&lt;b&gt;</text>"), "{picture}");
        assert_eq!(picture.matches(">a</text>").count(), 1, "one row");
        // A quarter of the time, from the beginning of the bars, and the half that is not over.
        assert!(picture.contains("x=\"240.0\" y=\"46\" width=\"176.0\""), "{picture}");
        assert!(picture.contains("x=\"592.0\" y=\"46\" width=\"352.0\""), "{picture}");
    }

    #[test]
    fn a_lock_without_a_history_is_an_empty_picture() {
        let picture = timeline("new", &[], SystemTime::UNIX_EPOCH);
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
        assert!(!picture.contains("<title>"));
    }
}
