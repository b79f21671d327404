//! The same on a store that is far.

use std::path::Path;

use anyhow::Result;

use super::section;
use crate::contestant::{Entry, Kind};
use crate::report::table::{Table, number, ratio};
use crate::report::view::{View, label};

pub fn far(view: &View<'_>, _: &Path) -> Result<String> {
    let entries = view.contestants("latency", "warm");
    if entries.is_empty() {
        return Ok(String::new());
    }
    let mut times = Table::new([
        "",
        "warm p50, ms",
        "over 2 PUT",
        "cold p50, ms",
        "over GET + 2 PUT",
        "hand-over p50, ms",
        "longest",
    ]);
    let mut rates = Table::new([
        "",
        "32 tasks, 32 locks",
        "8 tasks, 1 lock",
        "Jain",
        "8 processes, 1 lock",
        "Jain",
        "requests each",
    ]);
    for entry in entries {
        let figure = |case: &str, name: &str| view.figure("latency", case, &entry, name);
        let floor = entry.place.as_ref().map(|place| Entry::on(Kind::Floor, place));
        let over = |case| {
            let floor = floor.as_ref().filter(|floor| **floor != entry)?;
            view.ratio("latency", case, (&entry, floor), "p50_us")
        };
        let millis = |case| number(figure(case, "p50_us").map(|micros| micros / 1e3));
        times.row([
            label(&entry),
            millis("warm"),
            ratio(over("warm")),
            millis("cold"),
            ratio(over("cold")),
            number(view.sample("latency", "hand-over", &entry, 0.5)),
            number(view.sample("latency", "hand-over", &entry, 1.0)),
        ]);
        rates.row([
            label(&entry),
            number(figure("32 locks", "rate_per_s")),
            number(figure("8 tasks", "rate_per_s")),
            number(figure("8 tasks", "jain")),
            number(figure("8 processes", "rate_per_s")),
            number(figure("8 processes", "jain")),
            number(figure("8 processes", "requests")),
        ]);
    }
    let about = "ministack behind a connection that brings answers 0, 10 and 50 ms late, as a store in a cloud \
                 does: what a lock costs there is round trips. Held for about 200 ms before a hand-over; for \
                 no time where rates are given, in acquisitions per second.";
    let body = format!("{}\n{}", times.markdown(), rates.markdown());
    Ok(section("A store that is far", about, &body))
}
