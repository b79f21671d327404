//! One lock as it was last read: what a row and the details of it are made of.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use leaselock::{FencingToken, HolderInfo, LockInfo, LockState};

use crate::clock::Moment;
use crate::watch::strip::{self, Mark};
use crate::{people, show};

/// A lock that was listed. All texts are harmless for a terminal.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// As the library calls it.
    pub(crate) name: String,
    /// `None` until it has been read.
    pub(crate) state: Option<LockState>,
    /// The first of those who hold it.
    pub(crate) holder: Option<Holder>,
    /// How many hold it besides.
    pub(crate) others: usize,
    /// What is wrong with its record.
    pub(crate) problem: Option<String>,
    pub(crate) waiters: usize,
    /// Its last tenures, and the present one, oldest first.
    pub(crate) marks: Vec<Mark>,
    /// What `leaselock show` says of it.
    pub(crate) details: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) text: String,
    pub(crate) note: Option<String>,
    pub(crate) token: FencingToken,
    /// By its wall clock.
    pub(crate) acquired: SystemTime,
    /// `None` under a session, whose end is in another record.
    pub(crate) lease: Option<Lease>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) ttl: Duration,
    /// By this machine's boot clock; an estimate.
    pub(crate) ends: Duration,
}

impl Seen {
    /// One that is known by its name only.
    pub(crate) fn listed(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: None,
            holder: None,
            others: 0,
            problem: None,
            waiters: 0,
            marks: Vec::new(),
            details: vec!["not read yet".to_owned()],
        }
    }

    /// One that was read just now.
    pub(crate) fn read(info: &LockInfo, now: Moment) -> Self {
        Self {
            name: info.name.clone(),
            state: Some(info.state),
            holder: info.holders.first().map(|holder| Holder::of(holder, now)),
            others: info.holders.len().saturating_sub(1),
            problem: info.problem.as_deref().map(people::plain),
            waiters: info.waiters.len(),
            marks: strip::marks(info),
            details: show::lines(info, show::kind_of(info, false)),
        }
    }

    /// Who holds it, or what is wrong with it.
    pub(crate) fn who(&self) -> String {
        match (&self.holder, self.others, &self.problem) {
            (Some(holder), 0, _) => holder.text.clone(),
            // First, because the text may be cut off.
            (Some(holder), others, _) => format!("+{others} {}", holder.text),
            (None, _, Some(problem)) => problem.clone(),
            (None, _, None) => "-".to_owned(),
        }
    }

    /// How long the lease lasts still, and its whole.
    pub(crate) fn left(&self, now: Moment) -> Option<(Duration, Duration)> {
        if self.state == Some(LockState::Expired) {
            return None;
        }
        let lease = self.holder.as_ref()?.lease?;
        Some((lease.ends.saturating_sub(now.boot), lease.ttl))
    }

    /// Whether how long it lasts is in another record: a session's.
    pub(crate) fn is_under_session(&self) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.lease.is_none())
    }

    /// For how long it has been held.
    pub(crate) fn age(&self, now: Moment) -> Option<Duration> {
        let acquired = self.holder.as_ref()?.acquired.duration_since(UNIX_EPOCH);
        Some(now.wall.saturating_sub(acquired.unwrap_or_default()))
    }

    /// Whether its name or who holds it contains `text`.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.name.contains(text)
            || self.holder.as_ref().is_some_and(|holder| holder.text.contains(text))
    }
}

impl Holder {
    fn of(holder: &HolderInfo, now: Moment) -> Self {
        let ends = now.boot.saturating_add(people::left(holder));
        Self {
            text: people::owner(&holder.owner),
            note: holder.owner.note.as_deref().map(people::plain),
            token: holder.token,
            acquired: holder.acquired_at,
            lease: holder.session.is_none().then_some(Lease { ttl: holder.ttl, ends }),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const NOW: Moment =
        Moment { boot: Duration::from_secs(1_000), wall: Duration::from_secs(1_795_000_000) };

    /// A lock of this state; `holder` with so many seconds of 30 left, since so many seconds.
    pub(crate) fn seen(name: &str, state: LockState, holder: Option<(&str, u64, u64)>) -> Seen {
        let holder = holder.map(|(text, left, age)| Holder {
            text: text.to_owned(),
            note: None,
            token: "17".parse().unwrap(),
            acquired: UNIX_EPOCH + NOW.wall - Duration::from_secs(age),
            lease: Some(Lease {
                ttl: Duration::from_secs(30),
                ends: NOW.boot + Duration::from_secs(left),
            }),
        });
        let details = vec![format!("lock        {name}")];
        Seen { state: Some(state), holder, details, ..Seen::listed(name) }
    }

    #[test]
    fn time_passes_between_reads() {
        let lock = seen("a", LockState::Held, Some(("crew", 20, 5)));
        let later = NOW.plus(Duration::from_secs(12));
        assert_eq!(lock.left(later), Some((Duration::from_secs(8), Duration::from_secs(30))));
        assert_eq!(lock.age(later), Some(Duration::from_secs(17)));
        assert_eq!(lock.left(NOW.plus(Duration::from_secs(99))).unwrap().0, Duration::ZERO);
        let expired = seen("a", LockState::Expired, Some(("crew", 20, 5)));
        assert_eq!(expired.left(NOW), None);
    }

    #[test]
    fn several_holders_are_counted_before_the_name() {
        let mut lock = seen("a", LockState::Held, Some(("crew", 20, 5)));
        assert_eq!(lock.who(), "crew");
        lock.others = 2;
        assert_eq!(lock.who(), "+2 crew");
    }
}
