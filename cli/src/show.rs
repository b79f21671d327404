//! `leaselock show`: one lock whole.

use std::time::SystemTime;

use leaselock::record::Kind;
use leaselock::{DoneInfo, HolderInfo, LockInfo, Store, Tenure, WaiterInfo};

use crate::args::{Global, Show};
use crate::exit::Failure;
use crate::{clock, ls, people};

pub(crate) async fn show(global: &Global, args: &Show) -> Result<u8, Failure> {
    let store = crate::open(global).await?;
    let info = inspect(&store, &args.lock, args.once).await?;
    let kind = kind_of(&info, args.once);
    let text = if args.json { info.to_json() } else { lines(&info, kind).join("\n") };
    ls::print(&mut std::io::stdout().lock(), &text)?;
    Ok(0)
}

/// Reads a lock, or a key of `run --once`.
pub(crate) async fn inspect(store: &Store, name: &str, once: bool) -> Result<LockInfo, Failure> {
    Ok(match once {
        true => store.once(name).inspect().await?,
        false => store.lock(name).inspect().await?,
    })
}

/// What it is, or would be if there were anything.
pub(crate) fn kind_of(info: &LockInfo, once: bool) -> Kind {
    info.kind.unwrap_or(if once { Kind::Once } else { Kind::Lock })
}

/// All that the record says, for people.
pub(crate) fn lines(info: &LockInfo, kind: Kind) -> Vec<String> {
    let mut lines = vec![line(kind.as_str(), &people::plain(&info.name))];
    let share = people::share(info).map_or_else(String::new, |share| format!(" ({share})"));
    lines.push(line("state", &format!("{}{share}", info.state)));
    if let Some(problem) = &info.problem {
        lines.push(line("problem", &people::plain(problem)));
    }
    if let Some(token) = info.token {
        lines.push(line("token", &format!("{token} (the highest issued)")));
    }
    if let Some(time) = info.last_modified {
        lines.push(line("written", &time_and_age(time)));
    }
    for holder in &info.holders {
        lines.extend(holder_lines(holder, kind));
    }
    if !info.waiters.is_empty() {
        lines.push("queue".to_owned());
        let places = (1..).zip(&info.waiters);
        lines.extend(places.map(|(place, waiter)| waiter_line(place, waiter, kind)));
    }
    if let Some(payload) = &info.payload {
        lines.push(line("payload", &people::plain(&payload.to_json())));
    }
    if let Some(done) = &info.done {
        lines.extend(done_lines(done));
    }
    if !info.history.is_empty() {
        lines.push("history".to_owned());
        lines.extend(info.history.iter().map(tenure_line));
    }
    lines
}

fn holder_lines(holder: &HolderInfo, kind: Kind) -> Vec<String> {
    let mut lines = vec![line("holder", &people::owner(&holder.owner))];
    if let Some(note) = &holder.owner.note {
        lines.push(line("  note", &people::plain(note)));
    }
    lines.push(line("  id", &holder.id.to_string()));
    lines.push(line("  token", &holder.token.to_string()));
    match kind {
        Kind::RwLock => lines.push(line("  mode", holder.mode.as_str())),
        Kind::Semaphore => lines.push(line("  permits", &holder.permits.to_string())),
        _ => {}
    }
    lines.push(line("  acquired", &time_and_age(holder.acquired_at)));
    if let Some(session) = holder.session {
        // Its renewals and its end are in that one's record.
        lines.push(line("  session", &session.to_string()));
        lines.push(line("  ttl", &humantime::format_duration(holder.ttl).to_string()));
        return lines;
    }
    let renewed = format!("{}, {} times", time_and_age(holder.renewed_at), holder.renewals);
    lines.push(line("  renewed", &renewed));
    lines.push(line("  ttl", &humantime::format_duration(holder.ttl).to_string()));
    lines.push(line("  left", &people::duration(people::left(holder))));
    lines
}

fn waiter_line(place: usize, waiter: &WaiterInfo, kind: Kind) -> String {
    let what = match kind {
        Kind::RwLock => format!(", {}", waiter.mode.as_str()),
        Kind::Semaphore if waiter.permits == 1 => ", 1 permit".to_owned(),
        Kind::Semaphore => format!(", {} permits", waiter.permits),
        _ => String::new(),
    };
    format!(
        "  {place}  {}{what}, since {}, session {}",
        people::owner(&waiter.owner),
        time_and_age(waiter.since),
        waiter.session,
    )
}

fn done_lines(done: &DoneInfo) -> Vec<String> {
    let kept = done
        .retention
        .map_or_else(|| "for ever".to_owned(), |time| humantime::format_duration(time).to_string());
    vec![
        line("done", &time_and_age(done.at)),
        line("  by", &people::owner(&done.owner)),
        line("  token", &done.token.to_string()),
        line("  result", &people::plain(&done.result.to_json())),
        line("  kept", &kept),
    ]
}

fn tenure_line(tenure: &Tenure) -> String {
    let mut text = format!(
        "  {}  {}  {} for {}, {}",
        humantime::format_rfc3339_seconds(tenure.from),
        tenure.token,
        people::owner(&tenure.owner),
        people::duration(tenure.to.duration_since(tenure.from).unwrap_or_default()),
        people::plain(&tenure.ended),
    );
    if let Some(by) = &tenure.by {
        text.push_str(&format!(" by {}", people::plain(by)));
    }
    if let Some(reason) = &tenure.reason {
        text.push_str(&format!(": {}", people::plain(reason)));
    }
    text
}

fn time_and_age(time: SystemTime) -> String {
    let ago = people::duration(clock::age(time));
    format!("{} ({ago} ago)", humantime::format_rfc3339_seconds(time))
}

fn line(name: &str, value: &str) -> String {
    format!("{name:<12}{value}")
}
