//! `leaselock history`: who held a lock, when, for how long, and how it ended.

use std::fs;
use std::time::{Duration, SystemTime};

use leaselock::{LockInfo, Owner, Tenure};
use serde_json::{Value, json};

use crate::args::{Global, History};
use crate::exit::{self, Failure};
use crate::{clock, ls, people, show};

mod svg;

/// What somebody had, from when to when; without an end it still has it.
struct Span {
    from: SystemTime,
    to: Option<SystemTime>,
    token: String,
    holder: String,
    /// The same without the process: a job that is run every night is the same one.
    row: String,
    /// `released`, `expired`, `broken`, `finished`; `held` of what has not ended.
    how: String,
    /// Who ended it, and why.
    more: String,
}

pub(crate) async fn history(global: &Global, args: &History) -> Result<u8, Failure> {
    let store = crate::open(global).await?;
    let info = show::inspect(&store, &args.lock, args.once).await?;
    if let Some(problem) = &info.problem {
        let message = format!("{}: {}", people::plain(&info.name), people::plain(problem));
        return Err(Failure::new(exit::CONFIGURATION, message));
    }
    let spans = spans(&info);
    if let Some(path) = &args.svg {
        let picture = svg::timeline(&info.name, &spans, clock::now());
        fs::write(path, picture).map_err(|error| {
            let message = format!("cannot write {}: {error}", path.display());
            Failure::new(exit::CONFIGURATION, message)
        })?;
    }
    let text = match args.json {
        true => json(&info)?.to_string(),
        false if args.svg.is_some() => return Ok(0),
        false if spans.is_empty() => format!("{} has no history", people::plain(&info.name)),
        false => table(&spans),
    };
    ls::print(&mut std::io::stdout().lock(), &text)?;
    Ok(0)
}

/// The past, and then whoever has it now; the oldest first.
fn spans(info: &LockInfo) -> Vec<Span> {
    let past = info.history.iter().map(|tenure| Span {
        from: tenure.from,
        to: Some(tenure.to),
        token: tenure.token.to_string(),
        holder: people::owner(&tenure.owner),
        row: row(&tenure.owner),
        how: people::plain(&tenure.ended),
        more: more(tenure),
    });
    let present = info.holders.iter().map(|holder| Span {
        from: holder.acquired_at,
        to: None,
        token: holder.token.to_string(),
        holder: people::owner(&holder.owner),
        row: row(&holder.owner),
        how: info.state.to_string(),
        more: holder.owner.note.as_deref().map(people::plain).unwrap_or_default(),
    });
    past.chain(present).collect()
}

fn row(owner: &Owner) -> String {
    let mut owner = owner.clone();
    owner.pid = None;
    people::owner(&owner)
}

fn more(tenure: &Tenure) -> String {
    let by = tenure.by.as_deref().map(|by| format!("by {}", people::plain(by)));
    let reason = tenure.reason.as_deref().map(people::plain);
    by.into_iter().chain(reason).collect::<Vec<_>>().join(": ")
}

impl Span {
    /// By the wall clocks of those who wrote it, which may differ.
    fn length(&self) -> Duration {
        match self.to {
            Some(to) => to.duration_since(self.from).unwrap_or_default(),
            None => clock::age(self.from),
        }
    }
}

fn table(spans: &[Span]) -> String {
    let row = |from: &str, held: &str, how: &str, token: &str, holder: &str| {
        format!("{from:<20}  {held:<8}  {how:<8}  {token:<16}  {holder}")
    };
    let mut lines = vec![row("FROM", "HELD", "END", "TOKEN", "HOLDER")];
    lines.extend(spans.iter().map(|span| {
        let from = humantime::format_rfc3339_seconds(span.from).to_string();
        let mut holder = span.holder.clone();
        if !span.more.is_empty() {
            holder.push_str(&format!(" ({})", span.more));
        }
        row(&from, &people::duration(span.length()), &span.how, &span.token, &holder)
    }));
    lines.join("\n")
}

/// The same objects as in `show --json`.
fn json(info: &LockInfo) -> Result<Value, Failure> {
    let whole: Value = serde_json::from_str(&info.to_json())
        .map_err(|error| Failure::new(exit::INTERNAL, error.to_string()))?;
    let part = |name: &str| whole.get(name).cloned().unwrap_or(Value::Null);
    Ok(json!({
        "name": part("name"),
        "state": part("state"),
        "history": part("history"),
        "holders": part("holders"),
    }))
}
