//! Rates: with a lock for each, with one for all, and with more and more who want it.

use std::path::Path;

use anyhow::Result;

use super::{Better, ahead, image, ranked, section};
use crate::contestant::{Entry, Kind};
use crate::report::chart::{self, Line};
use crate::report::table::{Table, number, ratio};
use crate::report::view::{View, label};

pub fn many_locks(view: &View<'_>, charts: &Path) -> Result<String> {
    let case = "32 tasks";
    let rate = |entry: &Entry| view.figure("many_locks", case, entry, "rate_per_s");
    let ranked = ranked(view.contestants("many_locks", case), Better::More, rate);
    if ranked.is_empty() {
        return Ok(String::new());
    }
    let mut table = Table::new(["", "cycles per second", "of the raw requests'"]);
    for (entry, rate) in &ranked {
        let floor = entry.place.as_ref().map(|place| Entry::on(Kind::Floor, place));
        let share =
            floor.and_then(|floor| view.ratio("many_locks", case, (entry, &floor), "rate_per_s"));
        table.row([label(entry), number(Some(*rate)), ratio(share)]);
    }
    let title = "Cycles per second, 32 tasks on 32 locks";
    chart::bars(&charts.join("many-locks.svg"), title, &ranked)?;
    let about = "32 tasks of one process, each with a lock of its own that it takes and gives back. The \
                 last column is the share of what raw requests do with 32 tasks.";
    let image = image("many-locks", title);
    let body = format!("{}{}\n{image}", ahead(&ranked, "per second"), table.markdown());
    Ok(section("Many locks", about, &body))
}

pub fn one_lock(view: &View<'_>, charts: &Path) -> Result<String> {
    if !view.was_measured("one_lock") {
        return Ok(String::new());
    }
    let about = "Eight tasks of one process that want the same lock again and again, and hold it for no \
                 time. Jain's index is 1 when all got it equally often, and 0.125 when one got it always. \
                 The longest wait may have been cut off by the end of the measurement.";
    let body = rates(view, charts, "one_lock", "8 tasks", "one-lock")?;
    Ok(section("One lock, one process", about, &body))
}

pub fn processes(view: &View<'_>, charts: &Path) -> Result<String> {
    if !view.was_measured("processes") {
        return Ok(String::new());
    }
    let about = "Eight processes that want the same lock again and again. A lock that is released and \
                 taken again at once by the same process, before others have asked, has a high rate and a \
                 low Jain's index: the rate alone says little. All begin at the same moment; the first second is not counted. \
                 Requests are counted where a store is asked.";
    let mut body = String::new();
    for case in view.cases("processes") {
        let chart = format!("processes-{}", case.replace(' ', "-"));
        let rates = rates(view, charts, "processes", &case, &chart)?;
        body.push_str(&format!("### {case}\n\n{rates}\n"));
    }
    Ok(section("One lock, eight processes", about, &body))
}

/// A table of rates, with what becomes of the waiting.
fn rates(
    view: &View<'_>,
    charts: &Path,
    scenario: &str,
    case: &str,
    chart: &str,
) -> Result<String> {
    let rate = |entry: &Entry| view.figure(scenario, case, entry, "rate_per_s");
    let ranked = ranked(view.contestants(scenario, case), Better::More, rate);
    let has_requests =
        ranked.iter().any(|(entry, _)| view.figure(scenario, case, entry, "requests").is_some());
    let mut head =
        vec!["", "per second", "Jain", "wait p50, ms", "wait p99, ms", "longest wait, ms"];
    if has_requests {
        head.push("requests each");
    }
    let mut table = Table::new(head);
    for (entry, rate) in &ranked {
        let figure = |name| number(view.figure(scenario, case, entry, name));
        let mut row = vec![label(entry), number(Some(*rate))];
        row.extend(["jain", "wait_p50_ms", "wait_p99_ms", "wait_max_ms"].map(figure));
        if has_requests {
            row.push(figure("requests"));
        }
        table.row(row);
    }
    let title = format!("Acquisitions per second, {case}");
    chart::bars(&charts.join(format!("{chart}.svg")), &title, &ranked)?;
    Ok(format!("{}{}\n{}", ahead(&ranked, "per second"), table.markdown(), image(chart, &title)))
}

pub fn growth(view: &View<'_>, charts: &Path) -> Result<String> {
    let cases = view.cases("growth");
    let mut body = String::new();
    for (kind, below, name, title) in [
        ("a lock for each of", "tasks, each with its lock", "growth-locks", "A lock for each task"),
        ("one lock for", "tasks of one process", "growth-tasks", "One lock for all tasks"),
        ("one lock for", "processes", "growth-processes", "One lock for all processes"),
    ] {
        let unit = if name == "growth-processes" { "processes" } else { "tasks" };
        let sizes: Vec<(f64, &String)> = cases
            .iter()
            .filter(|case| case.starts_with(kind) && case.ends_with(unit))
            .filter_map(|case| Some((case.split(' ').rev().nth(1)?.parse().ok()?, case)))
            .collect();
        let Some((_, first)) = sizes.first() else { continue };
        let mut table = Table::new(
            std::iter::once(below.to_owned())
                .chain(sizes.iter().map(|(size, _)| size.to_string()))
                .collect::<Vec<_>>()
                .iter()
                .map(String::as_str),
        );
        let mut lines = Vec::new();
        for entry in view.contestants("growth", first) {
            let rate = |case: &str| view.figure("growth", case, &entry, "rate_per_s");
            let cells = sizes.iter().map(|(_, case)| number(rate(case)));
            table.row(std::iter::once(label(&entry)).chain(cells));
            let points = sizes.iter().filter_map(|(size, case)| Some((*size, rate(case)?)));
            lines.push(Line { label: label(&entry), points: points.collect() });
        }
        let title = format!("{title}: acquisitions per second");
        chart::lines(&charts.join(format!("{name}.svg")), &title, below, &lines)?;
        body.push_str(&format!("{}\n{}\n", table.markdown(), image(name, &title)));
    }
    if body.is_empty() {
        return Ok(body);
    }
    let about =
        "Acquisitions per second, held for no time, by the number of contenders. One round.";
    Ok(section("More contenders", about, &body))
}
