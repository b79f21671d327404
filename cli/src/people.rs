//! What people read: who, and how long.

use std::io::{self, Write};
use std::time::Duration;

use leaselock::record::{Kind, Mode};
use leaselock::{HolderInfo, LockInfo, LockState, Owner, QuorumInfo, WaiterInfo};
use nix::unistd::{User, gethostname, getuid};

use crate::clock;

/// One line on stderr.
///
/// Unlike `eprintln!` it does not panic when nobody reads any more (`leaselock … 2>&1 | head`): a
/// lock is not lost for that.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "leaselock: {text}");
}

/// `3m 20s`; below a second `0s`.
pub(crate) fn duration(time: Duration) -> String {
    // Two units are enough: seconds of a day-old lock interest nobody.
    let seconds = time.as_secs();
    let rounded = match seconds {
        0..3_600 => seconds,
        3_600..86_400 => seconds / 60 * 60,
        _ => seconds / 3_600 * 3_600,
    };
    humantime::format_duration(Duration::from_secs(rounded)).to_string()
}

/// `label (host, pid 123)`
pub(crate) fn owner(owner: &Owner) -> String {
    let mut place = owner.host.clone();
    if let Some(pid) = owner.pid {
        if !place.is_empty() {
            place.push_str(", ");
        }
        place.push_str(&format!("pid {pid}"));
    }
    plain(&match (owner.label.is_empty(), place.is_empty()) {
        (true, _) => place,
        (false, true) => owner.label.clone(),
        (false, false) => format!("{} ({place})", owner.label),
    })
}

/// Until the lease ends, as far as this machine can tell.
pub(crate) fn left(holder: &HolderInfo) -> Duration {
    holder.remaining.unwrap_or_else(|| clock::ahead(holder.expires_at))
}

/// One line about what somebody waits for.
pub(crate) fn situation(info: &LockInfo) -> String {
    let mut text = match (info.state, info.holders.as_slice()) {
        (LockState::Held | LockState::Expired, [holder, rest @ ..]) => {
            let mut text = format!("{} is held by {}", info.name, owner(&holder.owner));
            if !rest.is_empty() {
                text.push_str(&format!(" and {} more", rest.len()));
            }
            text.push_str(&format!(" for {}", duration(clock::age(holder.acquired_at))));
            // A session's end is not in this record.
            if rest.is_empty() && holder.session.is_none() {
                text.push_str(&format!(", {} left unless renewed", duration(left(holder))));
            }
            text
        }
        (state, _) => format!("{} is {state}", info.name),
    };
    if let Some(share) = share(info) {
        text.push_str(&format!(" ({share})"));
    }
    match (place(&info.waiters), info.waiters.len()) {
        (_, 0) => {}
        (Some(place), count) => text.push_str(&format!("; number {place} of {count} in the queue")),
        (None, count) => text.push_str(&format!("; {count} in the queue")),
    }
    text
}

/// The same about a lock on several stores.
pub(crate) fn situation_of_quorum(info: &QuorumInfo) -> String {
    let answered = info.members.iter().filter(|member| member.answer.is_ok()).count();
    let stores = format!("{answered} of {} stores answer", info.members.len());
    match &info.holder {
        Some(holder) => format!(
            "{} is held by {} for {}; {stores}",
            info.name,
            owner(&holder.owner),
            duration(clock::age(holder.acquired_at)),
        ),
        None => format!("no majority says who holds {}; {stores}", info.name),
    }
}

/// What is held of it: where that need not be the whole.
pub(crate) fn share(info: &LockInfo) -> Option<String> {
    match (info.kind?, info.limit, info.holders.as_slice()) {
        (Kind::Semaphore, Some(limit), holders) => {
            let held: u32 = holders.iter().map(|holder| holder.permits).sum();
            Some(format!("{held} of {limit} permits"))
        }
        (Kind::RwLock, _, [one, ..]) if one.mode == Mode::Exclusive => Some("exclusive".to_owned()),
        (Kind::RwLock, _, [_, ..]) => Some("shared".to_owned()),
        _ => None,
    }
}

/// This process's place in a queue, from 1.
fn place(waiters: &[WaiterInfo]) -> Option<usize> {
    Some(waiters.iter().position(|waiter| is_this_process(&waiter.owner))? + 1)
}

pub(crate) fn is_this_process(owner: &Owner) -> bool {
    owner.pid == Some(std::process::id()) && gethostname().is_ok_and(|host| *owner.host == *host)
}

/// Text from a record, made harmless for a terminal: labels and notes are written by whoever may
/// write to the store.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Whether nobody has asked for text without colours (no-color.org).
pub(crate) fn colours_are_welcome() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The name of whoever runs this.
pub(crate) fn user() -> String {
    // Asking the system last: the user database may be far away (LDAP).
    ["USER", "LOGNAME"]
        .into_iter()
        .filter_map(|variable| std::env::var(variable).ok())
        .find(|name| !name.is_empty())
        .or_else(|| Some(User::from_uid(getuid()).ok()??.name))
        .unwrap_or_else(|| format!("uid {}", getuid()))
}

/// `user@host`, as far as the host is known.
pub(crate) fn user_at_host() -> String {
    match gethostname() {
        Ok(host) => format!("{}@{}", user(), host.to_string_lossy()),
        Err(_) => user(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(Duration::from_millis(900)), "0s");
        assert_eq!(duration(Duration::from_secs(200)), "3m 20s");
        assert_eq!(duration(Duration::from_secs(3_725)), "1h 2m");
        assert_eq!(duration(Duration::from_secs(90_061)), "1day 1h");
    }

    #[test]
    fn text_of_others_cannot_drive_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
    }
}
