//! One section for each scenario: what was done, who was faster, the table, the chart.

use std::path::Path;

use anyhow::Result;

use super::chart::{self, Line};
use super::table::{Table, number, ratio};
use super::view::{View, label, store};
use crate::contestant::{Entry, Kind};
use crate::place::Place;

type Section = fn(&View<'_>, &Path) -> Result<String>;

pub const ALL: [Section; 9] =
    [cycle, many_locks, one_lock, processes, handover, takeover, held, growth, latency];

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

fn cycle(view: &View<'_>, charts: &Path) -> Result<String> {
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

fn many_locks(view: &View<'_>, charts: &Path) -> Result<String> {
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

fn one_lock(view: &View<'_>, charts: &Path) -> Result<String> {
    if !view.was_measured("one_lock") {
        return Ok(String::new());
    }
    let about = "Eight tasks of one process that want the same lock again and again, and hold it for no \
                 time. Jain's index is 1 when all got it equally often, and 0.125 when one got it always. \
                 The longest wait may have been cut off by the end of the measurement.";
    let body = rates(view, charts, "one_lock", "8 tasks", "one-lock")?;
    Ok(section("One lock, one process", about, &body))
}

fn processes(view: &View<'_>, charts: &Path) -> Result<String> {
    if !view.was_measured("processes") {
        return Ok(String::new());
    }
    let about = "Eight processes that want the same lock again and again. A lock that is released and \
                 taken again at once by the same process, before others have asked, has a high rate and a \
                 low Jain's index: the rate alone says little. Requests are counted where a store is asked.";
    let mut body = String::new();
    for case in view.cases("processes") {
        let chart = format!("processes-{}", case.replace(' ', "-"));
        let rates = rates(view, charts, "processes", &case, &chart)?;
        body.push_str(&format!("### {case}\n\n{rates}\n"));
    }
    Ok(section("One lock, eight processes", about, &body))
}

fn handover(view: &View<'_>, charts: &Path) -> Result<String> {
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

fn takeover(view: &View<'_>, charts: &Path) -> Result<String> {
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

fn held(view: &View<'_>, _: &Path) -> Result<String> {
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

fn growth(view: &View<'_>, charts: &Path) -> Result<String> {
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

fn latency(view: &View<'_>, _: &Path) -> Result<String> {
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
