//! One section for each scenario: what was done, who was faster, the table, the chart.

mod contention;
mod cycle;
mod far;
mod handover;
mod held;
mod takeover;

use std::path::Path;

use anyhow::Result;

use super::table::number;
use super::view::{View, label, store};
use crate::contestant::{Entry, Kind};
use crate::place::Place;

type Section = fn(&View<'_>, &Path) -> Result<String>;

/// In the order in which they are read.
pub const ALL: [Section; 9] = [
    cycle::cycle,
    contention::many_locks,
    contention::one_lock,
    contention::processes,
    handover::handover,
    takeover::takeover,
    held::held,
    contention::growth,
    far::far,
];

/// Which way is better.
#[derive(Clone, Copy, PartialEq)]
enum Better {
    Less,
    More,
}

/// The best first; who has no value is left out.
fn ranked(
    entries: Vec<Entry>,
    better: Better,
    value: impl Fn(&Entry) -> Option<f64>,
) -> Vec<(Entry, f64)> {
    let valued = entries.into_iter().filter_map(|entry| value(&entry).map(|value| (entry, value)));
    let mut ranked: Vec<_> = valued.collect();
    ranked.sort_by(|(_, one), (_, other)| match better {
        Better::Less => one.total_cmp(other),
        Better::More => other.total_cmp(one),
    });
    ranked
}

/// Which peers are ahead of leaselock on the best of its stores; memory is no store that anybody
/// shares.
fn ahead(ranked: &[(Entry, f64)], unit: &str) -> String {
    let is_ours =
        |entry: &Entry| entry.kind == Kind::Leaselock && entry.place != Some(Place::Memory);
    let Some(at) = ranked.iter().position(|(entry, _)| is_ours(entry)) else {
        return String::new();
    };
    let (ours, best) = &ranked[at];
    let named = |(entry, value): &(Entry, f64)| {
        format!("{} ({} {unit})", label(entry), number(Some(*value)))
    };
    let on = ours.place.as_ref().map_or(String::new(), store);
    let ours = format!("leaselock where it did best ({on}, {} {unit})", number(Some(*best)));
    let list = |some: &[(Entry, f64)]| {
        let peers = some.iter().filter(|(entry, _)| Kind::PEERS.contains(&entry.kind));
        peers.map(named).collect::<Vec<_>>().join(", ")
    };
    let (before, after) = (list(&ranked[..at]), list(&ranked[at + 1..]));
    let mut text = match before.is_empty() {
        true => format!("No peer is ahead of {ours}."),
        false => format!("Ahead of {ours}: {before}."),
    };
    if !after.is_empty() {
        text.push_str(&format!(" Behind it: {after}."));
    }
    wrapped(&text) + "\n\n"
}

fn section(title: &str, about: &str, body: &str) -> String {
    format!("## {title}\n\n{}\n\n{}\n\n", wrapped(about), body.trim_end())
}

/// In lines of up to so many characters.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 116;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a first one");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= WIDTH {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

fn image(name: &str, title: &str) -> String {
    format!("![{title}](benchmarks/{name}.svg)\n")
}
