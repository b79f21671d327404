//! The bar that shows how much of a lease is left.

use std::time::Duration;

/// As long as the lease has still to last; empty only when nothing is left.
pub(crate) fn bar(left: Duration, ttl: Duration, width: usize) -> String {
    let full = cells(left, ttl, width);
    "█".repeat(full) + &"░".repeat(width - full)
}

fn cells(left: Duration, ttl: Duration, width: usize) -> usize {
    if ttl.is_zero() || left.is_zero() {
        return 0;
    }
    // Rounded up. Clocks differ: what is left may seem to be more than the whole.
    let part = left.as_millis().saturating_mul(width as u128).div_ceil(ttl.as_millis().max(1));
    usize::try_from(part).unwrap_or(width).min(width)
}

/// How urgent it is that the lease is renewed, which happens when a third of it has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    Calm,
    /// A renewal is overdue.
    Late,
    /// Nearly at its end.
    Last,
}

pub(crate) fn urgency(left: Duration, ttl: Duration) -> Urgency {
    match cells(left, ttl, 6) {
        0..=1 => Urgency::Last,
        2..=3 => Urgency::Late,
        _ => Urgency::Calm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    #[test]
    fn a_bar_is_as_long_as_what_is_left() {
        assert_eq!(bar(TTL, TTL, 6), "██████");
        assert_eq!(bar(TTL / 2, TTL, 6), "███░░░");
        assert_eq!(bar(Duration::from_millis(1), TTL, 6), "█░░░░░");
        assert_eq!(bar(Duration::ZERO, TTL, 6), "░░░░░░");
    }

    #[test]
    fn nonsense_is_no_panic() {
        assert_eq!(bar(TTL * 9, TTL, 4), "████");
        assert_eq!(bar(TTL, Duration::ZERO, 2), "░░");
        assert_eq!(bar(Duration::MAX, Duration::from_nanos(1), 2), "██");
        assert_eq!(bar(TTL, TTL, 0), "");
    }

    #[test]
    fn it_becomes_urgent_when_no_renewal_comes() {
        assert_eq!(urgency(TTL * 2 / 3, TTL), Urgency::Calm);
        assert_eq!(urgency(TTL / 2, TTL), Urgency::Late);
        assert_eq!(urgency(TTL / 10, TTL), Urgency::Last);
    }
}
