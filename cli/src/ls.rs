//! `leaselock ls`: every lock, one line each, as they are read.

use futures::StreamExt;
use leaselock::record::Kind;
use leaselock::{LockInfo, LockState};
use std::io::{self, Write};

use crate::args::{Global, Ls};
use crate::exit::{self, Failure};
use crate::ls::progress::Progress;
use crate::{clock, people};

mod progress;

pub(crate) async fn ls(global: &Global, args: &Ls) -> Result<u8, Failure> {
    let store = crate::open(global).await?;
    let mut locks = store.list(&args.prefix);
    let mut progress = Progress::of(global);
    let mut out = io::stdout().lock();
    let mut heading = !args.json;
    let mut failed = None;
    while let Some(info) = progress.during(locks.next()).await {
        progress.read();
        let line = match info {
            Ok(info) if !is_wanted(args, &info) => continue,
            Ok(info) if args.json => compact(&info.to_json())?,
            Ok(info) => row(&info),
            // The others are shown all the same; the last error decides the exit code.
            Err(error) => {
                if let Some(failure) = failed.replace(Failure::from(error)) {
                    progress.aside(|| failure.print());
                }
                continue;
            }
        };
        let printed = progress.line(|| {
            if std::mem::take(&mut heading)
                && !print(&mut out, &table("STATE", "TOKEN", "AGE", "LEFT", "LOCK", "HOLDER"))?
            {
                return Ok(false);
            }
            print(&mut out, &line)
        })?;
        if !printed {
            break;
        }
    }
    progress.end();
    match failed {
        Some(failure) => Err(failure),
        None => Ok(0),
    }
}

fn is_wanted(args: &Ls, info: &LockInfo) -> bool {
    let is_by = |text: &String| {
        info.holders.iter().any(|holder| people::owner(&holder.owner).contains(text.as_str()))
    };
    (!args.stale || info.state == LockState::Expired) && args.holder.as_ref().is_none_or(is_by)
}

/// Answers whether somebody still reads (`leaselock ls | head`).
pub(crate) fn print(out: &mut impl Write, line: &str) -> Result<bool, Failure> {
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(exit::INTERNAL, format!("cannot print: {error}"))),
    }
}

fn compact(json: &str) -> Result<String, Failure> {
    serde_json::from_str::<serde_json::Value>(json)
        .map(|value| value.to_string())
        .map_err(|error| Failure::new(exit::INTERNAL, error.to_string()))
}

fn row(info: &LockInfo) -> String {
    let token = info.token.map_or_else(|| "-".to_owned(), |token| token.to_string());
    let state = info.state.to_string();
    let name = people::plain(&info.name);
    let crowd = crowd(info);
    if let Some(holder) = info.holders.first() {
        let age = people::duration(clock::age(holder.acquired_at));
        let left = match info.state {
            LockState::Expired => "-".to_owned(),
            // The session's end is not in this record.
            _ if holder.session.is_some() => "-".to_owned(),
            _ => people::duration(people::left(holder)),
        };
        let holder = people::owner(&holder.owner) + &crowd;
        return table(&state, &token, &age, &left, &name, &holder);
    }
    let problem = info.problem.as_deref().map_or_else(|| "-".to_owned(), people::plain);
    table(&state, &token, "-", "-", &name, &(problem + &crowd))
}

/// What it is and how many hold it and wait; nothing of a lock that one holds and nobody waits for.
fn crowd(info: &LockInfo) -> String {
    let Some(kind) = info.kind else { return String::new() };
    let (holders, waiters) = (info.holders.len(), info.waiters.len());
    let mut parts = vec![kind.as_str().to_owned()];
    parts.extend(people::share(info));
    parts.extend((holders > 1).then(|| format!("{holders} hold it")));
    parts.extend((waiters > 0).then(|| format!("{waiters} in the queue")));
    if kind == Kind::Lock && parts.len() == 1 {
        return String::new();
    }
    format!("  [{}]", parts.join(", "))
}

/// The widths are fixed, because the lines are printed as they come.
fn table(state: &str, token: &str, age: &str, left: &str, name: &str, holder: &str) -> String {
    format!("{state:<10}  {token:<16}  {age:<8}  {left:<8}  {name:<24}  {holder}")
}
