//! Many locks that one process holds.

use std::path::Path;

use anyhow::Result;

use super::section;
use crate::contestant::{Entry, Kind};
use crate::place::Place;
use crate::report::table::{Table, number};
use crate::report::view::View;

pub fn held(view: &View<'_>, _: &Path) -> Result<String> {
    let mut table = Table::new([
        "10,000 locks held",
        "bytes each",
        "requests per second",
        "acquired per second",
    ]);
    let ours = Entry::on(Kind::Leaselock, &Place::Memory);
    let cases = view.cases("held");
    for case in &cases {
        let figure = |name| number(view.figure("held", case, &ours, name));
        let name = if case == "leases" { "each by its lease" } else { "under one session" };
        let figures = ["bytes_each", "requests_per_s", "acquired_per_s"].map(figure);
        table.row(std::iter::once(name.to_owned()).chain(figures));
    }
    if cases.is_empty() {
        return Ok(String::new());
    }
    let about = "One process that holds 10,000 locks, TTL 30 s, on a store in its own memory: how much it has \
                 grown, without the records, and what it asks of the store to keep them. Not measured for \
                 the peers: etcd and ZooKeeper renew one lease or session for all locks of a process, \
                 PostgreSQL none, Redis each key.";
    Ok(section("Many locks held", about, &table.markdown()))
}
