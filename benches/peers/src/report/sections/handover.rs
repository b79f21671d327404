//! From one process to another.

use std::path::Path;

use anyhow::Result;

use super::{Better, ahead, image, ranked, section};
use crate::contestant::Entry;
use crate::report::chart;
use crate::report::table::{Table, number};
use crate::report::view::{View, label};

pub fn handover(view: &View<'_>, charts: &Path) -> Result<String> {
    let cases = view.cases("handover");
    let Some(middle) = cases.get(1).or(cases.first()) else { return Ok(String::new()) };
    let sample =
        |case: &str, entry: &Entry, fraction| view.sample("handover", case, entry, fraction);
    let ranked =
        ranked(view.contestants("handover", middle), Better::Less, |one| sample(middle, one, 0.5));
    let heads: Vec<String> =
        cases.iter().flat_map(|case| [format!("{case}: p50"), "p99".to_owned()]).collect();
    let mut table = Table::new(std::iter::once("held for").chain(heads.iter().map(String::as_str)));
    for (entry, _) in &ranked {
        let cells = cases
            .iter()
            .flat_map(|case| [0.5, 0.99].map(|fraction| number(sample(case, entry, fraction))));
        table.row(std::iter::once(label(entry)).chain(cells));
    }
    let count =
        ranked.first().map_or(0, |(entry, _)| view.samples("handover", middle, entry).len());
    let title = format!("Hand-over after holding for {middle}: p50 in ms");
    chart::bars(&charts.join("handover.svg"), &title, &ranked)?;
    let about = format!(
        "From the moment before a process releases the lock until another process, which began to wait \
         when the lock was taken, has it; in milliseconds. Of {count} values in the middle columns: the \
         p99 of so few is the longest."
    );
    let image = image("handover", &title);
    let body = format!("{}{}\n{image}", ahead(&ranked, "ms"), table.markdown());
    Ok(section("Hand-over between processes", &about, &body))
}
