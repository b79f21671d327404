//! A timeline as a picture: a lane for every user, with the requests of its process below, and what
//! was done to it as marks. Legible on light and on dark ground.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::trace::{Entry, Kind, Timeline};

const WIDTH: f64 = 1600.0;
const LEFT: f64 = 90.0;
const TOP: f64 = 60.0;
const LANE: f64 = 26.0;
const GAP: f64 = 14.0;

/// No variables: not everything that shows SVG knows them.
const STYLE: &str = "\
svg{font:11px system-ui,sans-serif}.ground{fill:#fff}text{fill:#222}.axis{stroke:#999;opacity:.4}\
.wait{fill:#e8b53a}.hold{fill:#2f8f4e}.pause{fill:#8a8fa0;opacity:.75}.dead{fill:#c9ccd6}\
.sent{stroke:#5a6ea8}.ok{stroke:#2f8f4e}.no{stroke:#c77c11}.lost{stroke:#c0392b;stroke-width:2}\
.fault{stroke:#c0392b;stroke-dasharray:3 2}.end{stroke:#c0392b;stroke-width:2.5}\
@media(prefers-color-scheme:dark){.ground{fill:#16181d}text{fill:#dde}.wait{fill:#b98a1c}\
.hold{fill:#37a35b}.pause{fill:#6d7283}.dead{fill:#3a3e4a}.sent{stroke:#8fa3e0}.ok{stroke:#4cc074}\
.no{stroke:#f0a63c}.lost,.fault,.end{stroke:#ff6b5b}}";

/// Draws a timeline as SVG.
pub fn draw(timeline: &Timeline) -> String {
    let stage = Stage::of(timeline);
    let mut picture = String::new();
    let height = stage.height() + 40.0;
    // Writing to a string cannot fail.
    let _ = write!(
        picture,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Timeline of a simulation\"><style>{STYLE}</style>\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>"
    );
    legend(&mut picture);
    axis(&mut picture, &stage);
    lanes(&mut picture, &stage, timeline);
    ticks(&mut picture, &stage, timeline);
    marks(&mut picture, &stage, timeline);
    picture.push_str("</svg>\n");
    picture
}

/// Where everything goes.
struct Stage {
    end: f64,
    /// The users of each process, by their numbers.
    users: BTreeMap<usize, Vec<String>>,
    /// Where each process begins.
    tops: BTreeMap<usize, f64>,
}

impl Stage {
    fn of(timeline: &Timeline) -> Self {
        let end = timeline.entries.last().map_or(1.0, |entry| entry.at.as_secs_f64()).max(0.001);
        let mut users: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for entry in &timeline.entries {
            let Some(process) = entry.process else { continue };
            let lanes = users.entry(process).or_default();
            if let Some(user) = user_of(entry)
                && !lanes.contains(&user)
            {
                lanes.push(user);
            }
        }
        let mut top = TOP;
        let mut tops = BTreeMap::new();
        for (process, lanes) in &users {
            tops.insert(*process, top);
            top += (lanes.len() + 1) as f64 * LANE + GAP;
        }
        Self { end, users, tops }
    }

    fn height(&self) -> f64 {
        self.users.values().map(|lanes| (lanes.len() + 1) as f64 * LANE + GAP).sum::<f64>() + TOP
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.end * (WIDTH - LEFT - 20.0)
    }

    fn lane(&self, process: usize, lane: usize) -> f64 {
        self.tops.get(&process).copied().unwrap_or(TOP) + lane as f64 * LANE
    }

    /// The lane of a process's requests.
    fn wire(&self, process: usize) -> f64 {
        self.lane(process, self.users.get(&process).map_or(0, Vec::len))
    }
}

fn user_of(entry: &Entry) -> Option<String> {
    let told = matches!(entry.kind, Kind::Waiting | Kind::Holding | Kind::Idle);
    told.then(|| entry.text.split(' ').next().unwrap_or_default().to_owned())
}

fn legend(picture: &mut String) {
    let mut x = LEFT;
    for (class, what) in
        [("wait", "waits"), ("hold", "holds"), ("pause", "stopped or frozen"), ("dead", "dead")]
    {
        let _ = write!(
            picture,
            "<rect class=\"{class}\" x=\"{x}\" y=\"12\" width=\"14\" height=\"12\"/>\
             <text x=\"{}\" y=\"22\">{what}</text>",
            x + 20.0
        );
        x += 130.0;
    }
    for (class, what) in [
        ("sent", "sent"),
        ("ok", "applied"),
        ("no", "refused, or not modified"),
        ("lost", "lost"),
        ("fault", "fault"),
    ] {
        let _ = write!(
            picture,
            "<line class=\"{class}\" x1=\"{x}\" x2=\"{x}\" y1=\"10\" y2=\"26\"/>\
             <text x=\"{}\" y=\"22\">{what}</text>",
            x + 8.0
        );
        x += 90.0 + if what.len() > 10 { 80.0 } else { 0.0 };
    }
}

fn axis(picture: &mut String, stage: &Stage) {
    let step = [0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0]
        .into_iter()
        .find(|step| stage.end / step <= 25.0)
        .unwrap_or(3600.0);
    let mut at = 0.0;
    while at <= stage.end {
        let x = stage.x(at);
        let _ = write!(
            picture,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at} s</text>",
            TOP - 10.0,
            stage.height(),
            TOP - 16.0
        );
        at += step;
    }
}

/// Who waits, who holds, and for whom time stands still.
fn lanes(picture: &mut String, stage: &Stage, timeline: &Timeline) {
    for (process, users) in &stage.users {
        for (number, user) in users.iter().enumerate() {
            let y = stage.lane(*process, number);
            let _ = write!(picture, "<text x=\"8\" y=\"{:.1}\">p{process} {user}</text>", y + 14.0);
            let mut since: Option<(f64, &str)> = None;
            for entry in &timeline.entries {
                if entry.process != Some(*process) {
                    continue;
                }
                let ends =
                    matches!(entry.kind, Kind::Dead) || user_of(entry).as_ref() == Some(user);
                if !ends {
                    continue;
                }
                let at = entry.at.as_secs_f64();
                if let Some((from, class)) = since.take() {
                    bar(picture, stage, (from, at), (y + 2.0, 16.0), class, user);
                }
                since = match entry.kind {
                    Kind::Waiting => Some((at, "wait")),
                    Kind::Holding => Some((at, "hold")),
                    _ => None,
                };
            }
            if let Some((from, class)) = since {
                bar(picture, stage, (from, stage.end), (y + 2.0, 16.0), class, user);
            }
        }
        let height = users.len() as f64 * LANE;
        shade(picture, stage, timeline, *process, (stage.lane(*process, 0), height));
        let _ = write!(
            picture,
            "<text x=\"8\" y=\"{:.1}\">p{process} requests</text>",
            stage.wire(*process) + 14.0
        );
    }
}

fn shade(
    picture: &mut String,
    stage: &Stage,
    timeline: &Timeline,
    process: usize,
    (y, height): (f64, f64),
) {
    let mut since: Option<(f64, &str)> = None;
    for entry in timeline.entries.iter().filter(|entry| entry.process == Some(process)) {
        let next = match entry.kind {
            Kind::Paused => Some("pause"),
            Kind::Dead => Some("dead"),
            Kind::Alive | Kind::Resumed => None,
            _ => continue,
        };
        let at = entry.at.as_secs_f64();
        if let Some((from, class)) = since.take() {
            bar(picture, stage, (from, at), (y, height), class, "");
        }
        since = next.map(|class| (at, class));
    }
    if let Some((from, class)) = since {
        bar(picture, stage, (from, stage.end), (y, height), class, "");
    }
}

fn bar(
    picture: &mut String,
    stage: &Stage,
    (from, to): (f64, f64),
    (y, height): (f64, f64),
    class: &str,
    what: &str,
) {
    let (x, width) = (stage.x(from), (stage.x(to) - stage.x(from)).max(1.0));
    let _ = write!(
        picture,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
         height=\"{height:.1}\"><title>{what} {from:.3} s to {to:.3} s</title></rect>"
    );
}

/// Requests and what became of them.
fn ticks(picture: &mut String, stage: &Stage, timeline: &Timeline) {
    for entry in &timeline.entries {
        let Some(process) = entry.process else { continue };
        let (class, from, to) = match entry.kind {
            Kind::Sent => ("sent", 0.0, 8.0),
            Kind::Applied => ("ok", 8.0, 18.0),
            Kind::Refused => ("no", 8.0, 18.0),
            Kind::Lost => ("lost", 4.0, 20.0),
            _ => continue,
        };
        line(picture, stage, entry, class, stage.wire(process) + from, stage.wire(process) + to);
    }
}

/// What was done to a process, or to all.
fn marks(picture: &mut String, stage: &Stage, timeline: &Timeline) {
    for entry in &timeline.entries {
        let (class, all) = match entry.kind {
            Kind::Fault => ("fault", false),
            Kind::Violation => ("end", true),
            _ => continue,
        };
        let (from, to) = match entry.process {
            Some(process) if !all => (stage.lane(process, 0), stage.wire(process) + 20.0),
            _ => (TOP - 10.0, stage.height()),
        };
        line(picture, stage, entry, class, from, to);
        if all {
            let _ = write!(
                picture,
                "<text x=\"{LEFT}\" y=\"{:.1}\">{}</text>",
                stage.height() + 20.0,
                escaped(&entry.text)
            );
        }
    }
}

fn line(picture: &mut String, stage: &Stage, entry: &Entry, class: &str, from: f64, to: f64) {
    let at = entry.at.as_secs_f64();
    let x = stage.x(at);
    let _ = write!(
        picture,
        "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{from:.1}\" y2=\"{to:.1}\">\
         <title>{at:.6} s: {}</title></line>",
        escaped(&entry.text)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
