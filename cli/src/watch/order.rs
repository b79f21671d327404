//! In which order locks are shown.

use std::cmp::Ordering;

use leaselock::LockState;

use crate::watch::seen::Seen;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    Name,
    /// What needs attention first.
    State,
    /// Held longest first.
    Age,
    /// The lease that ends next first.
    Left,
}

impl Order {
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Name => Self::State,
            Self::State => Self::Age,
            Self::Age => Self::Left,
            Self::Left => Self::Name,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::State => "state",
            Self::Age => "age",
            Self::Left => "left",
        }
    }

    /// What is alike in it goes by the name.
    pub(crate) fn compare(self, a: &Seen, b: &Seen) -> Ordering {
        let first = match self {
            Self::Name => Ordering::Equal,
            Self::State => rank(a.state).cmp(&rank(b.state)),
            Self::Age => some_first(acquired(a), acquired(b)),
            Self::Left => some_first(ends(a), ends(b)),
        };
        first.then_with(|| a.name.cmp(&b.name))
    }
}

fn rank(state: Option<LockState>) -> u8 {
    match state {
        Some(LockState::Unreadable) => 0,
        Some(LockState::Expired) => 1,
        Some(LockState::Held) => 2,
        Some(LockState::Free) => 4,
        Some(LockState::Absent) => 5,
        Some(_) => 3,
        None => 6,
    }
}

fn acquired(lock: &Seen) -> Option<std::time::SystemTime> {
    lock.holder.as_ref().map(|holder| holder.acquired)
}

fn ends(lock: &Seen) -> Option<std::time::Duration> {
    Some(lock.holder.as_ref()?.lease?.ends)
}

/// The lesser first, and those that have none last.
fn some_first<T: Ord>(a: Option<T>, b: Option<T>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::seen::tests::seen;

    #[test]
    fn every_order_is_its_own() {
        let mut locks = [
            seen("a", LockState::Free, None),
            seen("b", LockState::Held, Some(("x", 20, 5))),
            seen("c", LockState::Held, Some(("y", 10, 1))),
            seen("d", LockState::Expired, Some(("z", 0, 3))),
        ];
        let mut sorted = |order: Order| {
            locks.sort_by(|a, b| order.compare(a, b));
            locks.iter().map(|lock| lock.name.as_str()).collect::<String>()
        };
        assert_eq!(sorted(Order::Name), "abcd");
        assert_eq!(sorted(Order::State), "dbca");
        assert_eq!(sorted(Order::Age), "bdca");
        assert_eq!(sorted(Order::Left), "dcba");
    }

    #[test]
    fn they_follow_each_other_in_a_circle() {
        let mut order = Order::default();
        let mut words = Vec::new();
        for _ in 0..5 {
            words.push(order.word());
            order = order.next();
        }
        assert_eq!(words, ["name", "state", "age", "left", "name"]);
    }
}
