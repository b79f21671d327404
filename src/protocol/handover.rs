//! Handing a lease on inside a process, without a request.
//!
//! **Invariants.** Every hand-over has a token that an acknowledged write has reserved for this very
//! lease, larger than all that were issued before it (hazard H28). A process keeps a lease to itself for a
//! bounded time, so that others get their turn (hazard H29).

use std::time::Duration;

use crate::time::Boot;
use crate::token::FencingToken;

/// For how long a process hands a lease on before it gives it back, although somebody in it waits.
const TURN: Duration = Duration::from_millis(500);
/// How often it does so at most where the record shows that others wait in the queue.
const MOST: u64 = 1_000;
/// Tokens reserved by one write: so many at first, then as many as have been needed, up to the last.
const RESERVED: (u64, u64) = (64, 1 << 16);

/// One lease from when a process acquired it, handed on from one of its tasks to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Turn {
    began: Boot,
    last: FencingToken,
    reserved: FencingToken,
    handed: u64,
    /// Whether others wait in the queue, as far as is known.
    contested: bool,
}

/// What to do with a lease that the present holder does not need any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Hand it on, under this token.
    HandOver(FencingToken),
    /// Reserve so many tokens more, with a renewal, and ask again.
    Reserve(u64),
    /// Give it back: it is the others' turn.
    GiveBack,
}

impl Turn {
    /// A lease that was acquired under the token `first`, by a write that has reserved what comes after it,
    /// up to and including `reserved`.
    pub fn new(first: FencingToken, reserved: FencingToken, contested: bool, now: Boot) -> Self {
        Self { began: now, last: first, reserved, handed: 0, contested }
    }

    /// What to do when somebody in this process waits for the lease.
    pub fn next(&mut self, now: Boot) -> Next {
        let over = now.since(self.began) >= TURN;
        if over || (self.contested && self.handed >= MOST) {
            return Next::GiveBack;
        }
        if self.last >= self.reserved {
            return Next::Reserve(self.to_reserve());
        }
        self.last = self.last.next();
        self.handed += 1;
        Next::HandOver(self.last)
    }

    /// How many tokens the next write should reserve: the more, the more were needed.
    pub fn to_reserve(&self) -> u64 {
        self.handed.clamp(RESERVED.0, RESERVED.1)
    }

    /// A write of the lease was acknowledged, by which the record's counter stands at `reserved`.
    pub fn has_reserved(&mut self, reserved: FencingToken, contested: bool) {
        self.reserved = self.reserved.max(reserved);
        self.contested = contested;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(value: u64) -> FencingToken {
        FencingToken::new(value).unwrap()
    }

    fn at(time: Duration) -> Boot {
        Boot::new(Duration::from_secs(7) + time)
    }

    fn turn(reserved: u64) -> Turn {
        Turn::new(token(10), token(10 + reserved), false, at(Duration::ZERO))
    }

    #[test]
    fn what_was_reserved_is_handed_out_once_and_in_order() {
        let mut turn = turn(3);
        let now = at(Duration::ZERO);
        let handed: Vec<_> = (0..4).map(|_| turn.next(now)).collect();
        let over = |value| Next::HandOver(token(value));
        assert_eq!(handed, [over(11), over(12), over(13), Next::Reserve(64)]);
        turn.has_reserved(token(77), false);
        assert_eq!(turn.next(now), over(14));
        // An answer that comes late says less than is known.
        turn.has_reserved(token(13), false);
        assert_eq!(turn.next(now), over(15));
    }

    #[test]
    fn as_many_are_reserved_as_were_needed() {
        let mut turn = turn(1_000_000);
        let reserves = |turn: &Turn| turn.to_reserve();
        assert_eq!(reserves(&turn), 64);
        for (handed, reserved) in [(100, 100), (70_000, 1 << 16)] {
            while turn.handed < handed {
                assert!(matches!(turn.next(at(Duration::ZERO)), Next::HandOver(_)));
            }
            assert_eq!(reserves(&turn), reserved);
        }
    }

    #[test]
    fn it_is_the_others_turn_after_a_while_and_sooner_when_they_are_seen() {
        let mut alone = turn(10_000);
        let early = at(TURN - Duration::from_nanos(1));
        for _ in 0..5_000 {
            assert!(matches!(alone.next(early), Next::HandOver(_)));
        }
        assert_eq!(alone.next(at(TURN)), Next::GiveBack);
        let mut contested = turn(10_000);
        contested.has_reserved(token(0), true);
        for _ in 0..MOST {
            assert!(matches!(contested.next(early), Next::HandOver(_)));
        }
        assert_eq!(contested.next(early), Next::GiveBack);
    }
}
