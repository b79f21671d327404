//! `leaselock latch` and `leaselock barrier`: arrive, wait for the others, look.

use std::time::{Duration, SystemTime};

use leaselock::{Arrival, Barrier, GatheringInfo, Latch, Passed, Waited};
use serde_json::json;

use crate::args::{BarrierCall, Global, LatchCall};
use crate::exit::{self, Failure};
use crate::signals::Signals;
use crate::{clock, ls, people};

/// What `latch --help` says besides the options and the exit codes.
pub(crate) const LATCH_HELP: &str = "\
A latch opens when N different members have arrived, and stays open until it is
reset. A member counts once, however often it arrives: whatever runs again after
a crash arrives again under the same --member, and nothing changes. There is no
default for --member for that reason: a host and process id would be another
member every time.

A reset begins the next epoch; epochs count from 0. With --json one object is
printed on stdout: epoch, arrived, needed, open.";

/// What `barrier --help` says besides the options and the exit codes.
pub(crate) const BARRIER_HELP: &str = "\
N members wait at a barrier for each other, round after round. The arrival that
completes an epoch begins the next; epochs count from 0. A member counts once in
an epoch, however often it arrives.

Whatever may crash, or give up waiting, says which round it is in with --epoch:
what has passed returns at once, and may be repeated. With --json one object is
printed on stdout: epoch, arrived, needed, open (the epoch has passed).";

pub(crate) async fn latch(global: &Global, call: &LatchCall) -> Result<u8, Failure> {
    let store = crate::open(global).await?;
    match call {
        LatchCall::Arrive { name, needed, member, json } => {
            let latch = store.latch(name, *needed);
            let arrival = latch.arrive(member).await?;
            tell(global, name, arrival, *json)?;
            Ok(0)
        }
        LatchCall::Wait { name, needed, wait, json } => {
            let latch = store.latch(name, *needed);
            wait_for(global, name, *needed, *json, wait_at_latch(&latch, *wait)).await
        }
        // What is on record is shown, whatever number was meant.
        LatchCall::Show { name, json } => {
            show("latch", store.latch(name, 1).inspect().await?, *json)
        }
        LatchCall::Reset { name, needed, epoch, json } => {
            let latch = store.latch(name, *needed);
            let epoch = match epoch {
                Some(epoch) => latch.reset_from(*epoch).await?,
                None => latch.reset().await?,
            };
            match (*json, global.quiet) {
                (true, _) => print(&json!({ "epoch": epoch }).to_string()),
                (false, true) => Ok(()),
                (false, false) => print(&format!("{}: in epoch {epoch}", people::plain(name))),
            }?;
            Ok(0)
        }
    }
}

pub(crate) async fn barrier(global: &Global, call: &BarrierCall) -> Result<u8, Failure> {
    let store = crate::open(global).await?;
    match call {
        BarrierCall::Arrive { name, parties, member, json } => {
            let arrival = store.barrier(name, *parties).arrive(member).await?;
            tell(global, name, arrival, *json)?;
            Ok(0)
        }
        BarrierCall::Wait { name, parties, member, epoch, wait, json } => {
            let barrier = store.barrier(name, *parties);
            let waiting = wait_at_barrier(&barrier, *epoch, member, *wait);
            wait_for(global, name, *parties, *json, waiting).await
        }
        BarrierCall::Show { name, json } => {
            show("barrier", store.barrier(name, 1).inspect().await?, *json)
        }
    }
}

async fn wait_at_latch(latch: &Latch, wait: Option<Duration>) -> leaselock::Result<Waited> {
    match wait {
        Some(time) => latch.wait_timeout(time).await,
        None => latch.wait().await.map(Waited::Passed),
    }
}

async fn wait_at_barrier(
    barrier: &Barrier,
    epoch: Option<u64>,
    member: &str,
    wait: Option<Duration>,
) -> leaselock::Result<Waited> {
    match (epoch, wait) {
        (Some(epoch), Some(time)) => barrier.wait_at_timeout(epoch, member, time).await,
        (Some(epoch), None) => barrier.wait_at(epoch, member).await.map(Waited::Passed),
        (None, Some(time)) => barrier.wait_timeout(member, time).await,
        (None, None) => barrier.wait(member).await.map(Waited::Passed),
    }
}

/// Waits, unless a signal ends that. What has arrived has arrived.
async fn wait_for(
    global: &Global,
    name: &str,
    needed: u32,
    json: bool,
    waiting: impl Future<Output = leaselock::Result<Waited>>,
) -> Result<u8, Failure> {
    let mut signals = Signals::listen()
        .map_err(|error| Failure::new(exit::INTERNAL, format!("cannot listen: {error}")))?;
    let waited = tokio::select! {
        biased;
        signal = signals.request() => return Ok(exit::by_signal(signal as i32)),
        waited = waiting => waited?,
    };
    match waited {
        Waited::Passed(Passed { epoch, .. }) => {
            let line = format!("{}: epoch {epoch}: all {needed} have arrived", people::plain(name));
            say(global, &object(epoch, needed, needed, true), &line, json)?;
            Ok(0)
        }
        Waited::TimedOut(arrival) => {
            tell(global, name, arrival, json)?;
            Ok(exit::BUSY)
        }
    }
}

fn tell(global: &Global, name: &str, arrival: Arrival, json: bool) -> Result<(), Failure> {
    let Arrival { epoch, arrived, needed, is_open, .. } = arrival;
    let name = people::plain(name);
    let line = format!("{name}: epoch {epoch}: {arrived} of {needed} have arrived");
    say(global, &object(epoch, arrived, needed, is_open), &line, json)
}

fn object(epoch: u64, arrived: u32, needed: u32, open: bool) -> String {
    json!({ "epoch": epoch, "arrived": arrived, "needed": needed, "open": open }).to_string()
}

fn say(global: &Global, object: &str, line: &str, json: bool) -> Result<(), Failure> {
    match (json, global.quiet) {
        (true, _) => print(object),
        (false, true) => Ok(()),
        (false, false) => print(line),
    }
}

fn show(kind: &str, info: GatheringInfo, json: bool) -> Result<u8, Failure> {
    let text = if json { info.to_json() } else { lines(kind, &info).join("\n") };
    print(&text)?;
    Ok(0)
}

fn lines(kind: &str, info: &GatheringInfo) -> Vec<String> {
    let line = |name: &str, value: &str| format!("{name:<12}{value}");
    let mut lines = vec![line(kind, &people::plain(&info.name))];
    lines.push(line("epoch", &info.epoch.to_string()));
    let open = if info.is_open { ": open" } else { "" };
    let arrived = info.members.len();
    lines.push(line("arrived", &format!("{arrived} of {}{open}", info.needed)));
    for member in &info.members {
        lines.push(line(
            "  member",
            &format!("{}, {}", people::plain(&member.member), when(member.at)),
        ));
    }
    if let Some(token) = info.token {
        lines.push(line("token", &token.to_string()));
    }
    if let Some(time) = info.last_modified {
        lines.push(line("written", &when(time)));
    }
    lines
}

fn when(time: SystemTime) -> String {
    let ago = people::duration(clock::age(time));
    format!("{} ({ago} ago)", humantime::format_rfc3339_seconds(time))
}

fn print(text: &str) -> Result<(), Failure> {
    ls::print(&mut std::io::stdout().lock(), text).map(drop)
}
