//! What the report says before and after the figures.

use super::table::Table;
use super::view::label;
use crate::contestant::Entry;
use crate::results::{Failure, Results};

pub fn beginning(results: &Results) -> String {
    let about = &results.about;
    let mut text = String::from(
        "# Benchmarks

leaselock beside other locks, beside the simplest lock on an object store, and beside the store itself,
on one machine in one run. This file is written by `benches/run`; nothing in it is asserted by a test.

A lock on object storage is as a rule **slower than a lock server**: each step is a request that has to be
durable, and who waits has to ask. What it has instead is no server to run, and a fencing token. Where one
figure decides, the table begins with the fastest.

",
    );
    if about.quick {
        text.push_str("**A trial run, of too few values to say anything.**\n\n");
    }
    text.push_str(&machine(results));
    text.push_str(METHOD);
    text.push_str(GUARANTEES);
    text
}

fn machine(results: &Results) -> String {
    let about = &results.about;
    let mut table = Table::new(["measured on", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("date", about.date.clone());
    row("commit", about.commit.clone());
    row("processor", format!("{}, {} cores", about.processor, about.cores));
    row("memory", about.memory.clone());
    row("system", format!("{}, {}", about.system, about.kernel));
    row("load averages before", about.load.clone());
    for (name, version) in &about.versions {
        row(name, version.clone());
    }
    let quick = if about.quick { " --quick" } else { "" };
    row("command", format!("`benches/run{quick}`, {} s", about.seconds));
    format!("{}\n", table.markdown())
}

const METHOD: &str = "\
## How

- Every contestant is one implementation of a trait with `lock` and `unlock`, in `benches/peers/`. Each round
  runs all of them once, beginning with another one, so that what the machine does meanwhile hits all alike.
  Figures are medians over rounds; ratios are taken within a round first. Percentiles of hand-overs and
  takeovers are over all values of all rounds.
- **create/delete** is the lock that everybody writes first: create an object unless it is there, delete it to
  unlock, ask every 100 ms. **raw requests** are no lock: two conditional writes of as many bytes as
  leaselock's record has, and one read before them when nothing is known of the object.
- leaselock runs as it is without options, TTL 30 s. Redis: `SET NX PX` and a script that deletes, asking
  every 100 ms as redis-py does; Redlock: five servers, asking after 100 to 300 ms as node-redlock does. etcd:
  a lease and the server's lock service. ZooKeeper: the recipe with ephemeral sequential nodes.
  PostgreSQL: `pg_advisory_lock`, a connection for each contender.
- etcd's server attends to watches that begin in the past every 100 ms (`syncWatchersLoop`), and waiters of its
  lock service watch what they have just read: that shows wherever the lock changes hands within 100 ms.
- Redis writes nothing to disk. etcd and ZooKeeper are single nodes that sync their logs. PostgreSQL has its
  default settings; its advisory locks are in memory. `file://` syncs every write; the emulators do not all.
- Wherever contenders want the same lock, whoever has it also takes a lock of the kernel's on a file (`flock`,
  a few µs), which fails if anybody else has it: a lock that lets two in fails here.
- A time between processes is a difference of readings of `CLOCK_BOOTTIME`, which all of them share.
- Charts have logarithmic scales. What was measured is in [benchmarks/results.json](benchmarks/results.json),
  and `benches/run --report` makes this file from it.

";

const GUARANTEES: &str = "\
## What each of them promises

Times are only comparable between locks that promise the same.

| | token to fence with | the holder dies | who waits | the server restarts |
| --- | --- | --- | --- | --- |
| leaselock | yes, growing with every acquisition | free after the TTL; a live holder renews, and knows when it has lost the lock | no order; `fair`: in order | nothing is lost that the store keeps |
| create/delete | none | taken for ever | no order | nothing is lost that the store keeps |
| Redis | none | free after the TTL; here nobody renews, so a slow holder loses the lock unawares | no order | here: all locks are forgotten |
| Redlock | none | as Redis | no order | a majority has to survive; timing is trusted |
| etcd | the revision of the key | free after the lease's TTL; a live holder renews | in order | nothing is lost |
| ZooKeeper | the node's sequence number or zxid | free after the session's time-out; a live holder renews | in order | nothing is lost |
| PostgreSQL | none | free at once when its process dies; when its machine or network does, after TCP's time-outs | in order | all locks are forgotten, and all connections end |

";

pub fn end(results: &Results) -> String {
    format!("{}{LIMITS}", failures(results))
}

fn failures(results: &Results) -> String {
    if results.failures.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["did not get through", "where", "times", "the first time"]);
    let same = |one: &Failure, other: &Failure| {
        (&one.scenario, &one.case, &one.contestant)
            == (&other.scenario, &other.case, &other.contestant)
    };
    for (at, failure) in results.failures.iter().enumerate() {
        if results.failures[..at].iter().any(|earlier| same(earlier, failure)) {
            continue;
        }
        let times = results.failures.iter().filter(|other| same(other, failure)).count();
        let who = failure.contestant.parse::<Entry>();
        let who = who.map_or_else(|_| failure.contestant.clone(), |entry| label(&entry));
        let place = match &*failure.scenario {
            "all" => "everything".to_owned(),
            scenario => format!("{scenario}, {}", failure.case),
        };
        // Some errors tell of every layer that they went through.
        let why: String = failure.why.replace(['|', '\n'], " ").chars().take(140).collect();
        table.row([who, place, times.to_string(), why]);
    }
    format!("## Failures\n\n{}\n", table.markdown())
}

const LIMITS: &str = "\
## What this does not show

- **No network.** Everything is on the loopback interface. Far from its server a lock server takes its round
  trips, too; an object store in a cloud takes some 10 to 50 ms for each request, as in the last section.
- **Few cores, shared by servers, clients and emulators.** Who needs little of the processor looks good, and
  who is served by a process of its own is ahead of who has none.
- **Emulators are not clouds.** They differ from them, and from each other, in speed, in durability and in what
  they do under contention; none of them throttles. One object of Google's takes about one write a second.
- **Durability differs**, as said above: a lock in the memory of one server is compared with locks that are on
  disk, in a real cloud on several.
- **One node of etcd and of ZooKeeper.** In production three or five agree on every write, which takes a round
  trip more; Redlock's five servers share one machine's clock, disk and fate.
- **Client libraries differ.** Another language's may poll, pool and line up otherwise; the intervals at which
  Redis, Redlock and create/delete are asked are choices, and cost hand-overs what they save requests.
- **No failures but one.** Holders are killed; networks are not cut, clocks not moved, servers not restarted. What
  becomes of leaselock then is what [TESTING.md](TESTING.md) is about.
- **Not the price.** Requests cost money on a cloud; servers cost money all the time.
";
