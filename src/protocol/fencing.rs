//! Decisions about objects that are fenced: who may write one, and has a write landed?
//!
//! **Invariants.** An object changes only by a compare-and-swap on the version that the decision was
//! made from. Its token never decreases. A holder reads an object for change only after its own
//! token is on it: from then on every write decided by an older holder is conditioned on a version
//! that is gone, and the store refuses it, however late it comes.

use crate::record::{MAX_MARKS, Mark, Stamp};
use crate::token::FencingToken;

/// What a holder that wants to change an object has to do first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: its token is on the object.
    Ours,
    /// Write the object as it is, with this stamp.
    Write(Stamp),
    /// Nothing it may do: a later holder has claimed the object.
    Fenced(FencingToken),
}

/// Whose token fences out the holder of `token`, by the stamp of an object.
pub fn fenced_by(found: Option<&Stamp>, token: FencingToken) -> Option<FencingToken> {
    found.map(|stamp| stamp.token).filter(|by| *by > token)
}

/// Decides on an object that was read: its stamp, if it has one, and whether there is an object.
pub fn claim(found: Option<&Stamp>, exists: bool, token: FencingToken, mark: Mark) -> Claim {
    if let Some(by) = fenced_by(found, token) {
        return Claim::Fenced(by);
    }
    match found {
        Some(stamp) if stamp.token == token => Claim::Ours,
        _ => Claim::Write(Stamp { empty: !exists || is_empty(found), ..next(found, token, mark) }),
    }
}

/// The stamp of a write with content over an object with the stamp `base`. A token that is larger
/// stays.
pub fn next(base: Option<&Stamp>, token: FencingToken, mark: Mark) -> Stamp {
    let earlier = base.map_or(&[][..], |stamp| &stamp.marks);
    Stamp {
        token: base.map_or(token, |stamp| stamp.token.max(token)),
        marks: [mark].iter().chain(earlier).take(MAX_MARKS).copied().collect(),
        empty: false,
    }
}

/// Whether an object only keeps a place.
pub fn is_empty(found: Option<&Stamp>) -> bool {
    found.is_some_and(|stamp| stamp.empty)
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It landed. Others may have written since.
    Landed,
    /// It did not and never will.
    Refused,
    /// So much has been written since, or so carelessly, that nobody can tell.
    Unknown,
}

/// What became of the write `mark` over an object with the stamp `base`, if `found` is there now
/// and is not what was there before.
///
/// Every write adds its mark in front of those it found. So a write that landed is among them, and
/// while what it was based on still is, without it, it never was.
pub fn fate(mark: Mark, base: Option<&Stamp>, found: Option<&Stamp>) -> Fate {
    let marks = found.map_or(&[][..], |stamp| &stamp.marks);
    if marks.contains(&mark) {
        return Fate::Landed;
    }
    let whole = match base.and_then(Stamp::mark) {
        Some(before) => marks.contains(&before),
        // Based on an object without a stamp, or on none: all that was written since is here,
        // unless it filled the list.
        None => marks.len() < MAX_MARKS,
    };
    if whole { Fate::Refused } else { Fate::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(value: u64) -> FencingToken {
        FencingToken::new(value).unwrap()
    }

    fn mark(number: u128) -> Mark {
        Mark::from_random(number)
    }

    fn stamp(of: u64, marks: std::ops::Range<u128>) -> Stamp {
        Stamp { token: token(of), marks: marks.rev().map(mark).collect(), empty: false }
    }

    #[test]
    fn a_later_holder_fences_an_earlier_one_out_and_never_the_reverse() {
        let found = stamp(5, 0..2);
        assert_eq!(claim(Some(&found), true, token(4), mark(9)), Claim::Fenced(token(5)));
        assert_eq!(claim(Some(&found), true, token(5), mark(9)), Claim::Ours);
        let Claim::Write(written) = claim(Some(&found), true, token(6), mark(9)) else {
            panic!("a larger token may claim")
        };
        assert_eq!(written.token, token(6));
        assert_eq!(written.marks, [9, 1, 0].map(mark));
        assert!(!written.empty);
    }

    #[test]
    fn what_has_no_content_stays_without_until_somebody_writes_some() {
        let Claim::Write(absent) = claim(None, false, token(1), mark(1)) else { panic!() };
        assert!(absent.empty);
        let Claim::Write(claimed) = claim(Some(&absent), true, token(2), mark(2)) else { panic!() };
        assert!(claimed.empty);
        assert!(!next(Some(&claimed), token(2), mark(3)).empty);
        let Claim::Write(plain) = claim(None, true, token(1), mark(1)) else { panic!() };
        assert!(!plain.empty);
    }

    #[test]
    fn a_write_never_lowers_a_token() {
        assert_eq!(next(Some(&stamp(7, 0..1)), FencingToken::ZERO, mark(3)).token, token(7));
        assert_eq!(next(None, token(3), mark(3)).token, token(3));
    }

    #[test]
    fn only_the_last_marks_are_kept() {
        let full = next(Some(&stamp(1, 0..24)), token(1), mark(24));
        assert_eq!(full.marks, stamp(1, 1..25).marks);
    }

    /// Every history of up to thirty writes after ours, landed or not.
    #[test]
    fn a_fate_is_never_told_wrongly() {
        let ours = mark(1000);
        for based in [false, true] {
            for landed in [false, true] {
                let base = based.then(|| stamp(1, 0..3));
                let mut found = base.clone();
                if landed {
                    found = Some(next(found.as_ref(), token(1), ours));
                }
                for later in 0..30 {
                    if landed || later > 0 {
                        let told = fate(ours, base.as_ref(), found.as_ref());
                        let truth = if landed { Fate::Landed } else { Fate::Refused };
                        assert!(told == truth || (told == Fate::Unknown && later >= 24), "{later}");
                    }
                    found = Some(next(found.as_ref(), token(1), mark(2000 + later)));
                }
            }
        }
    }

    #[test]
    fn an_object_without_a_stamp_tells_nothing_of_a_write_over_a_stamp() {
        assert_eq!(fate(mark(9), Some(&stamp(1, 0..1)), None), Fate::Unknown);
        assert_eq!(fate(mark(9), None, None), Fate::Refused);
    }
}
