//! Acquiring and releasing a free lock.

use std::path::Path;

use anyhow::Result;

use super::{Better, ahead, image, ranked, section, wrapped};
use crate::contestant::{Entry, Kind};
use crate::report::chart;
use crate::report::table::{Table, number, ratio};
use crate::report::view::{View, label, store};

pub fn cycle(view: &View<'_>, charts: &Path) -> Result<String> {
    let figure = |case: &'static str, name: &'static str| {
        move |entry: &Entry| view.figure("cycle", case, entry, name)
    };
    let warm = ranked(view.contestants("cycle", "warm"), Better::Less, figure("warm", "p50_us"));
    if warm.is_empty() {
        return Ok(String::new());
    }
    let mut table =
        Table::new(["", "warm p50, µs", "warm p99, µs", "cold p50, µs", "cold p99, µs"]);
    for (entry, p50) in &warm {
        table.row([
            label(entry),
            number(Some(*p50)),
            number(figure("warm", "p99_us")(entry)),
            number(figure("cold", "p50_us")(entry)),
            number(figure("cold", "p99_us")(entry)),
        ]);
    }
    let title = "Acquire and release, known lock: p50 in µs";
    chart::bars(&charts.join("cycle.svg"), title, &warm)?;
    let body = format!(
        "{}{}\n{}\n### Against the store's own time\n\n{}\n{}",
        ahead(&warm, "µs"),
        table.markdown(),
        image("cycle", title),
        wrapped(
            "Warm over two conditional writes; cold over a read and two conditional writes: 1 is the \
             least that a lock on that store can take. (Below 1: the raw requests run on the \
             harness's threads, the library's on its own.) In memory a request takes next to \
             nothing, so that the library's own work is all there is."
        ) + "\n",
        against_the_store(view).markdown()
    );
    let about = "One task takes a free lock and gives it back: *warm*, one that this process has just \
                 had; *cold*, one that it has never seen.";
    Ok(section("Acquire and release", about, &body))
}

fn against_the_store(view: &View<'_>) -> Table {
    let mut table = Table::new(["store", "warm / 2 PUT", "cold / (GET + 2 PUT)", "requests, warm"]);
    for ours in view.contestants("cycle", "warm") {
        if let (Kind::Leaselock, Some(place)) = (ours.kind, &ours.place) {
            let floor = Entry::on(Kind::Floor, place);
            let over = |case| view.ratio("cycle", case, (&ours, &floor), "p50_us");
            let requests = view.figure("cycle", "warm", &ours, "requests");
            table.row([store(place), ratio(over("warm")), ratio(over("cold")), number(requests)]);
        }
    }
    table
}
