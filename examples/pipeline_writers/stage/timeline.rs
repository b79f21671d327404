//! Who held the lock when, as a picture: a lane for every writer. Legible on light and on dark ground.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use leaselock::clock::Boot;

use super::director::{Deed, Play, Scene};
use super::event::What;

const WIDTH: f64 = 1400.0;
const LEFT: f64 = 84.0;
const TOP: f64 = 72.0;
const LANE: f64 = 34.0;
const BAR: f64 = 20.0;

/// No variables: not everything that shows SVG knows them.
const STYLE: &str = "\
svg{font:12px system-ui,sans-serif}.ground{fill:#fff}text{fill:#222}.axis{stroke:#888;opacity:.35}\
.lane{fill:#eef0f4}.held{fill:#2f8f4e}.stale{fill:#e0a526}.frozen{fill:#7f8fb8;opacity:.55}\
.kill{stroke:#c0392b;stroke-width:2.5}.fenced{fill:#8e2bc0}.odd{fill:#c77c11}\
@media(prefers-color-scheme:dark){.ground{fill:#16181d}text{fill:#dde}.lane{fill:#22252d}\
.held{fill:#3fb566}.stale{fill:#d9a02c}.frozen{fill:#7186c9;opacity:.5}.kill{stroke:#ff6b5b}\
.fenced{fill:#c98bff}.odd{fill:#f0a63c}}";

/// Draws a run as SVG.
pub(crate) fn draw(play: &Play, writers: usize, title: &str) -> String {
    let stage = Stage { from: play.from, end: seconds(play.from, play.to).max(0.001) };
    let height = TOP + writers as f64 * LANE + 16.0;
    let mut picture = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        picture,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{0}\"><title>{0}</title><style>{STYLE}</style>\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\
         <text x=\"{LEFT}\" y=\"18\" font-weight=\"600\">{0}</text>",
        escaped(title)
    );
    legend(&mut picture);
    axis(&mut picture, &stage, height);
    for writer in 0..writers {
        let y = lane(writer);
        let width = WIDTH - LEFT - 20.0;
        let _ = write!(
            picture,
            "<rect class=\"lane\" x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" height=\"{BAR}\"/>\
             <text x=\"12\" y=\"{}\">writer {writer}</text>",
            y + 15.0
        );
    }
    let frozen = outages(play);
    for hold in holds(play) {
        let what = format!("token {}", hold.token);
        bar(&mut picture, &stage, &hold.span, "held", &what);
        // A lease whose holder cannot use it.
        let what = format!("{what}: its lease runs out");
        let dead = hold.killed.map(|from| Span { from, ..hold.span.clone() });
        for stale in frozen.iter().chain(&dead).filter_map(|outage| outage.within(&hold.span)) {
            bar(&mut picture, &stage, &stale, "stale", &what);
        }
    }
    for span in &frozen {
        let (x, width) = stage.extent(span);
        let _ = write!(
            picture,
            "<rect class=\"frozen\" x=\"{x:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"8\">\
             <title>frozen {:.3} s to {:.3} s</title></rect>",
            lane(span.writer) + BAR,
            span.from,
            span.to
        );
    }
    for scene in &play.scenes {
        mark(&mut picture, &stage, scene);
    }
    picture.push_str("</svg>\n");
    picture
}

#[derive(Clone, Debug)]
struct Span {
    writer: usize,
    from: f64,
    to: f64,
}

impl Span {
    /// The part of it that lies within another of the same writer.
    fn within(&self, other: &Self) -> Option<Self> {
        let (from, to) = (self.from.max(other.from), self.to.min(other.to));
        (self.writer == other.writer && from < to).then_some(Self { writer: self.writer, from, to })
    }
}

struct Hold {
    token: u64,
    span: Span,
    killed: Option<f64>,
}

/// Every tenure, in the order of tokens: until it was given back, or somebody else came.
fn holds(play: &Play) -> Vec<Hold> {
    let end = seconds(play.from, play.to);
    let mut holds: BTreeMap<u64, Hold> = BTreeMap::new();
    let mut current: BTreeMap<usize, u64> = BTreeMap::new();
    for scene in &play.scenes {
        let (writer, at) = (scene.writer, seconds(play.from, scene.at));
        match &scene.deed {
            Deed::Told(What::Acquired { token }) => {
                let span = Span { writer, from: at, to: end };
                current.insert(writer, *token);
                holds.insert(*token, Hold { token: *token, span, killed: None });
            }
            // A lease that nobody gives back goes on without its holder.
            Deed::Killed => {
                if let Some(hold) = current.remove(&writer).and_then(|token| holds.get_mut(&token))
                {
                    hold.killed = Some(at);
                }
            }
            // An attempt that failed drops its guard, which gives the lock back if it can.
            Deed::Told(What::Releasing | What::Unconfirmed | What::Failed { .. }) => {
                if let Some(hold) = current.remove(&writer).and_then(|token| holds.get_mut(&token))
                {
                    hold.span.to = at;
                }
            }
            _ => {}
        }
    }
    let mut next = f64::INFINITY;
    let mut holds: Vec<Hold> = holds.into_values().collect();
    for hold in holds.iter_mut().rev() {
        hold.span.to = hold.span.to.min(next).max(hold.span.from);
        next = hold.span.from;
    }
    holds
}

/// When writers were frozen.
fn outages(play: &Play) -> Vec<Span> {
    let mut since: BTreeMap<usize, f64> = BTreeMap::new();
    let mut spans = Vec::new();
    for scene in &play.scenes {
        let (writer, at) = (scene.writer, seconds(play.from, scene.at));
        if scene.deed == Deed::Frozen {
            since.insert(writer, at);
        } else if scene.deed == Deed::Thawed
            && let Some(from) = since.remove(&writer)
        {
            spans.push(Span { writer, from, to: at });
        }
    }
    spans
}

struct Stage {
    from: Boot,
    end: f64,
}

impl Stage {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.end * (WIDTH - LEFT - 20.0)
    }

    fn extent(&self, span: &Span) -> (f64, f64) {
        (self.x(span.from), (self.x(span.to) - self.x(span.from)).max(0.8))
    }
}

fn lane(writer: usize) -> f64 {
    TOP + writer as f64 * LANE
}

fn seconds(from: Boot, at: Boot) -> f64 {
    at.since(from).as_secs_f64()
}

fn bar(picture: &mut String, stage: &Stage, span: &Span, class: &str, what: &str) {
    let (x, width) = stage.extent(span);
    let _ = write!(
        picture,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"{BAR}\">\
         <title>{what}, {:.3} s to {:.3} s</title></rect>",
        lane(span.writer),
        span.from,
        span.to
    );
}

fn mark(picture: &mut String, stage: &Stage, scene: &Scene) {
    let at = seconds(stage.from, scene.at);
    let (x, y) = (stage.x(at), lane(scene.writer));
    let _ = match &scene.deed {
        Deed::Killed => write!(
            picture,
            "<path class=\"kill\" d=\"M{:.1} {}l12 12m0 -12l-12 12\"><title>{at:.3} s: killed</title></path>",
            x - 6.0,
            y + 4.0
        ),
        Deed::Told(What::Fenced { by }) => write!(
            picture,
            "<path class=\"fenced\" d=\"M{x:.1} {}l7 -12h-14z\"><title>{at:.3} s: its write was \
             fenced by token {by}</title></path>",
            y + 2.0
        ),
        Deed::Told(What::Unconfirmed) => odd(picture, x, y, at, "unconfirmed"),
        Deed::Told(What::Failed { why }) => odd(picture, x, y, at, why),
        _ => Ok(()),
    };
}

fn odd(picture: &mut String, x: f64, y: f64, at: f64, what: &str) -> std::fmt::Result {
    write!(
        picture,
        "<circle class=\"odd\" cx=\"{x:.1}\" cy=\"{}\" r=\"4\"><title>{at:.3} s: {}</title></circle>",
        y - 4.0,
        escaped(what)
    )
}

fn legend(picture: &mut String) {
    let shapes = [
        ("<rect class=\"held\" width=\"16\" height=\"12\"/>", "holds the lock"),
        ("<rect class=\"stale\" width=\"16\" height=\"12\"/>", "holds it, but frozen or dead"),
        ("<rect class=\"frozen\" y=\"3\" width=\"16\" height=\"8\"/>", "frozen"),
        ("<path class=\"kill\" d=\"M2 0l12 12m0 -12l-12 12\"/>", "killed"),
        ("<path class=\"fenced\" d=\"M8 12l7 -12h-14z\"/>", "late write refused by the store"),
        ("<circle class=\"odd\" cx=\"8\" cy=\"6\" r=\"4\"/>", "other failure"),
    ];
    let mut x = LEFT;
    for (shape, what) in shapes {
        let _ = write!(
            picture,
            "<g transform=\"translate({x} 28)\">{shape}<text x=\"22\" y=\"11\">{what}</text></g>"
        );
        x += 56.0 + 7.0 * what.len() as f64;
    }
}

fn axis(picture: &mut String, stage: &Stage, height: f64) {
    let steps = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
    let step = steps.into_iter().find(|step| stage.end / step <= 20.0).unwrap_or(600.0);
    let mut at = 0.0;
    while at <= stage.end {
        let x = stage.x(at);
        let _ = write!(
            picture,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{at} s</text>",
            TOP - 10.0,
            height - 4.0,
            TOP - 14.0
        );
        at += step;
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
