//! How many requests a usage makes, and why. The numbers are those of `docs/GUARANTEES.md`, "What it
//! costs", which `cargo test --test budget` counts.

use std::ops::Add;
use std::time::Duration;

use super::usage::{HOURS_PER_MONTH, Usage, decimal, shown};

/// Conditional reads of one that waits, at most.
struct Waiting {
    first_minute: f64,
    each_minute_after: f64,
}

const WAITING: Waiting = Waiting { first_minute: 30.0, each_minute_after: 15.0 };

/// The lock client for DynamoDB polls every second unless told otherwise.
const LOCK_CLIENT_READS_PER_MINUTE: f64 = 60.0;

/// Requests, of the two kinds that have a price.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Count {
    pub(crate) reads: f64,
    pub(crate) writes: f64,
}

impl Count {
    pub(crate) fn times(self, factor: f64) -> Self {
        Self { reads: self.reads * factor, writes: self.writes * factor }
    }
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { reads: self.reads + other.reads, writes: self.writes + other.writes }
    }
}

/// Who makes the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Leaselock,
    /// Conditional writes to acquire, to send heartbeats and to release; one item per lock.
    DynamodbLockClient,
}

/// Requests of one kind in a month, and where they come from.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) kind: &'static str,
    pub(crate) count: Count,
    /// The same however many locks there are.
    pub(crate) shared: bool,
    pub(crate) because: String,
}

impl Client {
    pub(crate) const ALL: [Self; 2] = [Self::Leaselock, Self::DynamodbLockClient];

    /// As it is called in a file of prices.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Leaselock => "leaselock",
            Self::DynamodbLockClient => "dynamodb_lock_client",
        }
    }

    pub(crate) fn acquire(self, warm: bool) -> Count {
        // The lock client does not remember what it has released.
        let reads = if warm && self == Self::Leaselock { 0.0 } else { 1.0 };
        Count { reads, writes: 1.0 }
    }

    pub(crate) fn release(self) -> Count {
        Count { reads: 0.0, writes: 1.0 }
    }

    /// Of a lease that lasts for `held`.
    pub(crate) fn renew(self, ttl: Duration, held: Duration) -> Count {
        Count { reads: 0.0, writes: held.div_duration_f64(interval(ttl)).floor() }
    }

    /// Of one that waits for `wait`.
    pub(crate) fn wait(self, wait: Duration) -> Count {
        let minutes = wait.as_secs_f64() / 60.0;
        let reads = match self {
            Self::Leaselock => {
                WAITING.first_minute * minutes.min(1.0)
                    + WAITING.each_minute_after * (minutes - 1.0).max(0.0)
            }
            Self::DynamodbLockClient => LOCK_CLIENT_READS_PER_MINUTE * minutes,
        };
        Count { reads: reads.ceil(), writes: 0.0 }
    }

    /// Everything in a month.
    pub(crate) fn month(self, usage: &Usage) -> Vec<Line> {
        let cycles = usage.cycles_per_month();
        let line = |kind, count: Count, because| Line { kind, count, shared: false, because };
        let acquire = self.acquire(usage.warm);
        let release = self.release();
        let mut lines = vec![
            line("acquire", acquire.times(cycles), format!("{} a cycle", words(acquire))),
            line("release", release.times(cycles), format!("{} a cycle", words(release))),
        ];
        if usage.session && self == Self::Leaselock {
            lines.push(session(usage.ttl));
        } else {
            lines.push(self.renewals(usage, cycles));
        }
        if usage.waiters > 0.0 {
            let each = self.wait(usage.wait);
            let because = format!(
                "{} for each of {} that wait {} a cycle",
                words(each),
                decimal(usage.waiters),
                shown(usage.wait)
            );
            lines.push(line("wait", each.times(usage.waiters * cycles), because));
        }
        lines
    }

    fn renewals(self, usage: &Usage, cycles: f64) -> Line {
        let each = self.renew(usage.ttl, usage.hold);
        let interval = shown_interval(usage.ttl);
        let because =
            format!("{} a cycle: every {interval} for {}", words(each), shown(usage.hold));
        Line { kind: "renew", count: each.times(cycles), shared: false, because }
    }
}

/// One that stays open: created, renewed, closed by a write and a deletion, which costs nothing.
fn session(ttl: Duration) -> Line {
    let month = Duration::from_secs_f64(HOURS_PER_MONTH * 3_600.0);
    let renewals = Client::Leaselock.renew(ttl, month);
    let open_and_close = Count { reads: 0.0, writes: 2.0 };
    Line {
        kind: "session",
        count: renewals + open_and_close,
        shared: true,
        because: format!(
            "open, close, and 1 write every {} for all locks, all month",
            shown_interval(ttl)
        ),
    }
}

/// Between renewals: a third of the TTL; for TTLs under 6 s, 2 s or 0.4 × TTL, whichever is less.
pub(crate) fn interval(ttl: Duration) -> Duration {
    (ttl / 3).max(Duration::from_secs(2).min(ttl / 5 * 2))
}

/// To the millisecond.
fn shown_interval(ttl: Duration) -> String {
    let whole = Duration::from_millis(u64::try_from(interval(ttl).as_millis()).unwrap_or(u64::MAX));
    shown(whole)
}

fn words(count: Count) -> String {
    let part = |number: f64, what: &str| match number {
        0.0 => None,
        1.0 => Some(format!("1 {what}")),
        _ => Some(format!("{number} {what}s")),
    };
    let parts: Vec<_> =
        [part(count.reads, "read"), part(count.writes, "write")].into_iter().flatten().collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" + ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn usage() -> Usage {
        Usage {
            ttl: seconds(30),
            locks: 100,
            hold: seconds(3_600),
            cycles_per_day: 24.0,
            waiters: 0.0,
            wait: Duration::ZERO,
            session: false,
            warm: false,
        }
    }

    fn month(client: Client, usage: &Usage) -> Vec<(&'static str, f64, f64)> {
        let lines = client.month(usage);
        lines.iter().map(|line| (line.kind, line.count.reads, line.count.writes)).collect()
    }

    #[test]
    fn the_interval_is_the_documented_one() {
        let intervals = [1_000, 3_000, 5_000, 6_000, 30_000, 86_400_000]
            .map(|ttl| interval(Duration::from_millis(ttl)).as_millis());
        assert_eq!(intervals, [400, 1_200, 2_000, 2_000, 10_000, 28_800_000]);
    }

    #[test]
    fn a_hundred_locks_held_for_an_hour_without_a_break() {
        // 730 hours: 730 cycles a lock, 73,000 in all, with 360 renewals each.
        let expected = [
            ("acquire", 73_000.0, 73_000.0),
            ("release", 0.0, 73_000.0),
            ("renew", 0.0, 26_280_000.0),
        ];
        assert_eq!(month(Client::Leaselock, &usage()), expected);
        assert_eq!(month(Client::DynamodbLockClient, &usage()), expected);
    }

    #[test]
    fn a_session_is_renewed_once_for_all_and_only_here() {
        let usage = Usage { session: true, ..usage() };
        // 730 h × 360 renewals an hour, and two.
        assert_eq!(month(Client::Leaselock, &usage)[2], ("session", 0.0, 262_802.0));
        assert_eq!(month(Client::DynamodbLockClient, &usage)[2], ("renew", 0.0, 26_280_000.0));
    }

    #[test]
    fn what_was_just_released_is_not_read_again() {
        let usage = Usage { warm: true, ..usage() };
        assert_eq!(month(Client::Leaselock, &usage)[0], ("acquire", 0.0, 73_000.0));
        assert_eq!(month(Client::DynamodbLockClient, &usage)[0], ("acquire", 73_000.0, 73_000.0));
    }

    #[test]
    fn a_hold_shorter_than_the_interval_is_never_renewed() {
        let short = Usage { hold: seconds(9), ..usage() };
        assert_eq!(month(Client::Leaselock, &short)[2], ("renew", 0.0, 0.0));
        let longer = Usage { hold: seconds(29), ..usage() };
        assert_eq!(month(Client::Leaselock, &longer)[2], ("renew", 0.0, 146_000.0));
    }

    #[test]
    fn who_waits_reads_less_after_a_minute() {
        let reads = |wait| Client::Leaselock.wait(seconds(wait)).reads;
        assert_eq!([1, 30, 60, 120, 600, 3_600].map(reads), [1.0, 15.0, 30.0, 45.0, 165.0, 915.0]);
        assert_eq!(Client::DynamodbLockClient.wait(seconds(600)).reads, 600.0);
        let usage = Usage { waiters: 0.5, wait: seconds(600), ..usage() };
        // 73,000 cycles × 0.5 × 165.
        assert_eq!(month(Client::Leaselock, &usage)[3], ("wait", 6_022_500.0, 0.0));
    }
}
