//! Fencing tokens.

use std::fmt;
use std::str::FromStr;

/// A number that grows with every acquisition of a lock.
///
/// Tokens of one lock increase strictly: across releases, crashes, takeovers and breaks, and,
/// because a new record starts from the store's time in microseconds, across deletion of the
/// record by a person. Pass the token along with every write that the lock guards and let the
/// receiver refuse a token smaller than the largest it has seen: that, and not the lock, stops
/// a process that was paused between checking its guard and acting.
///
/// The value fits into 53 bits, so that it survives JSON and JavaScript.
///
/// The idea is Chubby's *sequencer* (Burrows 2006); the name is Kleppmann's (2016).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(u64);

impl FencingToken {
    /// The largest token a record may carry: 2^53 − 1, the last whole number that every JSON
    /// reader keeps. Counted in microseconds it is reached in the year 2255.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Smaller than every token that is issued.
    pub(crate) const ZERO: Self = Self(0);

    /// The token with this value, or `None` above [`FencingToken::MAX`].
    pub const fn new(value: u64) -> Option<Self> {
        if value <= Self::MAX.0 { Some(Self(value)) } else { None }
    }

    /// The value.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The next larger token; stays at [`FencingToken::MAX`], which no lock reaches.
    pub(crate) const fn next(self) -> Self {
        self.plus(1)
    }

    /// The token so many further; at most [`FencingToken::MAX`].
    pub(crate) const fn plus(self, many: u64) -> Self {
        let sum = self.0.saturating_add(many);
        if sum < Self::MAX.0 { Self(sum) } else { Self::MAX }
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<FencingToken> for u64 {
    fn from(token: FencingToken) -> Self {
        token.0
    }
}

/// The text was not a fencing token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a fencing token (a whole number from 0 to 2^53 - 1)")]
pub struct ParseTokenError {
    text: String,
}

impl FromStr for FencingToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| ParseTokenError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints() {
        let token = FencingToken::new(1_795_227_959_644_000).unwrap();
        assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn refuses_what_json_readers_would_round() {
        assert_eq!(FencingToken::new(1 << 53), None);
        for text in ["9007199254740992", "-1", "1.0", "", "one"] {
            assert!(text.parse::<FencingToken>().is_err(), "{text}");
        }
    }

    #[test]
    fn next_is_strictly_larger_below_the_maximum() {
        let token = FencingToken::new(41).unwrap();
        assert!(token.next() > token);
        assert_eq!(FencingToken::MAX.next(), FencingToken::MAX);
    }
}
