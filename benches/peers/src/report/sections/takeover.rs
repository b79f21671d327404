//! From a dead process to another.

use std::path::Path;

use anyhow::Result;

use super::{Better, ahead, image, ranked, section};
use crate::contestant::Entry;
use crate::report::chart;
use crate::report::table::{Table, number};
use crate::report::view::{View, label};

pub fn takeover(view: &View<'_>, charts: &Path) -> Result<String> {
    let (kill, renewal) = ("from the kill", "from the last renewal");
    let median = |case: &str, entry: &Entry| view.sample("takeover", case, entry, 0.5);
    let ranked = ranked(view.contestants("takeover", kill), Better::Less, |one| median(kill, one));
    if ranked.is_empty() {
        return Ok(String::new());
    }
    let mut table = Table::new([
        "",
        "from the kill, median",
        "longest",
        "from the last renewal, median",
        "longest",
        "takeovers",
    ]);
    for (entry, value) in &ranked {
        table.row([
            label(entry),
            number(Some(*value)),
            number(view.sample("takeover", kill, entry, 1.0)),
            number(median(renewal, entry)),
            number(view.sample("takeover", renewal, entry, 1.0)),
            view.samples("takeover", kill, entry).len().to_string(),
        ]);
    }
    let title = "Takeover after the holder was killed: ms from the kill";
    chart::bars(&charts.join("takeover.svg"), title, &ranked)?;
    let about = "The holder gets SIGKILL at a moment that has nothing to do with its renewals; how long until \
                 another process has the lock, in milliseconds. TTL 3 s; for ZooKeeper 4 s, its least. Who \
                 waits had begun before the kill; a *newcomer* came after it and calls `try_acquire` every \
                 100 ms. The last renewal is known of leaselock and, being the acquisition, of Redis. \
                 PostgreSQL has no lease: the kernel ends the dead process's connection, which it cannot \
                 do for a machine that has lost its power.";
    let image = image("takeover", title);
    let body = format!("{}{}\n{image}", ahead(&ranked, "ms"), table.markdown());
    Ok(section("Takeover", about, &body))
}
