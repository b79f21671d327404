//! The stamp of a fenced object: who wrote it, as its metadata tells.
//!
//! Names are one lower-case word each: Azure takes identifiers only, S3 folds case, and some
//! proxies drop headers with an underscore.

use std::fmt::{self, Write};
use std::str::FromStr;

use super::{Fault, RecordError};
use crate::token::FencingToken;

/// The token of the holder that wrote the object last.
const TOKEN: &str = "leaselocktoken";
/// The marks of the last writes, newest first.
const MARKS: &str = "leaselockmarks";
/// Present when the object only keeps a place: it was claimed and has no content yet.
const EMPTY: &str = "leaselockempty";

/// How many writes an object remembers. With the token they take 450 of the 2,048 bytes of
/// metadata that S3 allows.
pub const MAX_MARKS: usize = 24;
/// Trailing bytes that make a body unlike every other: see [`padding`].
const PAD_BYTES: usize = 64;

/// A nonce: 64 random bits that tell one write of an object from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(u64);

impl Mark {
    /// The mark made of the last of these random bits.
    pub const fn from_random(bits: u128) -> Self {
        Self(bits as u64)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex { u64::from_str_radix(text, 16).map(Self).map_err(drop) } else { Err(()) }
    }
}

/// Who wrote an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The fencing token of the last holder that claimed the object; zero when none has.
    pub token: FencingToken,
    /// The marks of the last writes, newest first; at least one, at most [`MAX_MARKS`].
    pub marks: Vec<Mark>,
    /// Whether the object only keeps a place and counts as absent.
    pub empty: bool,
}

impl Stamp {
    /// The mark of the write that made the object what it is.
    pub fn mark(&self) -> Option<Mark> {
        self.marks.first().copied()
    }

    /// The stamp in an object's metadata, given as a look-up by name; `None` when there is none.
    ///
    /// # Errors
    /// There is one, and it is damaged: the fault, with the name of the metadata.
    pub(crate) fn decode<'a>(
        metadata: impl Fn(&'static str) -> Option<&'a str>,
    ) -> Result<Option<Self>, RecordError> {
        let (token, marks) = match (metadata(TOKEN), metadata(MARKS)) {
            (None, None) => return Ok(None),
            (Some(token), Some(marks)) => (token, marks),
            (None, Some(_)) => return Err(fault(TOKEN, "metadata", "nothing")),
            (Some(_), None) => return Err(fault(MARKS, "metadata", "nothing")),
        };
        let token = token.trim().parse().map_err(|_| fault(TOKEN, "a fencing token", token))?;
        let wanted = "one to 24 marks of 16 hexadecimal digits";
        let parsed: Result<Vec<Mark>, _> = marks.split_whitespace().map(str::parse).collect();
        let parsed = parsed.map_err(|_| fault(MARKS, wanted, marks))?;
        if parsed.is_empty() || parsed.len() > MAX_MARKS {
            return Err(fault(MARKS, wanted, marks));
        }
        Ok(Some(Self { token, marks: parsed, empty: metadata(EMPTY).is_some() }))
    }

    /// The stamp as metadata.
    pub(crate) fn encode(&self) -> Vec<(&'static str, String)> {
        let mut marks = String::new();
        for mark in &self.marks {
            let space = if marks.is_empty() { "" } else { " " };
            let _ = write!(marks, "{space}{mark}");
        }
        let mut metadata = vec![(TOKEN, self.token.to_string()), (MARKS, marks)];
        if self.empty {
            metadata.push((EMPTY, "true".to_owned()));
        }
        metadata
    }

    /// Whether this metadata is part of a stamp.
    pub(crate) fn owns(name: &str) -> bool {
        [TOKEN, MARKS, EMPTY].contains(&name)
    }
}

fn fault(name: &str, expected: &'static str, found: &str) -> RecordError {
    let found = format!("{found:?}");
    RecordError { path: format!("metadata.{name}"), fault: Fault::Unexpected { expected, found } }
}

/// What follows the content of an object on a store whose ETags are digests of the body: the
/// write's mark as blanks and tabs.
///
/// On such a store two writes of equal bytes have one ETag, whatever their metadata, and a paused
/// writer's `If-Match` would be met again (hazard H3). JSON, YAML and most other text allow blanks
/// at their end.
pub(crate) fn padding(mark: Mark) -> [u8; PAD_BYTES] {
    std::array::from_fn(|index| if mark.0 >> index & 1 == 0 { b' ' } else { b'\t' })
}

/// How long the content of `body` is without its padding, if it has one.
pub(crate) fn content_length(body: &[u8], stamp: &Stamp) -> usize {
    let padded = stamp.mark().is_some_and(|mark| body.ends_with(&padding(mark)));
    if padded { body.len() - PAD_BYTES } else { body.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(count: u128, empty: bool) -> Stamp {
        let token = FencingToken::new(1_795_227_959_644_000).unwrap();
        Stamp { token, marks: (0..count).map(|n| Mark::from_random(n << 60 | n)).collect(), empty }
    }

    fn decode(metadata: &[(&str, &str)]) -> Result<Option<Stamp>, RecordError> {
        Stamp::decode(|name| metadata.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
    }

    #[test]
    fn what_is_written_is_read() {
        for stamp in [stamp(1, false), stamp(24, true)] {
            let written = stamp.encode();
            let metadata: Vec<_> = written.iter().map(|(k, v)| (*k, v.as_str())).collect();
            assert_eq!(decode(&metadata).unwrap(), Some(stamp));
        }
        assert_eq!(decode(&[("author", "me")]).unwrap(), None);
    }

    #[test]
    fn the_largest_stamp_leaves_room_for_the_users_metadata() {
        let size: usize = stamp(24, true).encode().iter().map(|(k, v)| k.len() + v.len()).sum();
        assert!(size < 500, "{size}");
    }

    #[test]
    fn every_fault_is_named() {
        let good = "0123456789abcdef";
        let many = [good; 25].join(" ");
        for (token, marks, name) in [
            (None, Some(good), TOKEN),
            (Some("1"), None, MARKS),
            (Some("one"), Some(good), TOKEN),
            (Some("9007199254740992"), Some(good), TOKEN),
            (Some("1"), Some(""), MARKS),
            (Some("1"), Some("12"), MARKS),
            (Some("1"), Some(many.as_str()), MARKS),
        ] {
            let mut metadata = Vec::new();
            metadata.extend(token.map(|token| (TOKEN, token)));
            metadata.extend(marks.map(|marks| (MARKS, marks)));
            let error = decode(&metadata).unwrap_err();
            assert_eq!(error.path, format!("metadata.{name}"), "{error}");
        }
    }

    #[test]
    fn padding_differs_with_the_mark_and_is_blank() {
        let pads: std::collections::BTreeSet<_> =
            (0..64).map(|bit| padding(Mark::from_random(1 << bit))).collect();
        assert_eq!(pads.len(), 64);
        assert!(pads.iter().flatten().all(u8::is_ascii_whitespace));
    }

    #[test]
    fn only_its_own_padding_is_taken_off() {
        let stamp = stamp(2, false);
        let pad = padding(stamp.marks[0]);
        let padded = [b"content".as_slice(), &pad].concat();
        assert_eq!(content_length(&padded, &stamp), 7);
        assert_eq!(content_length(b"content", &stamp), 7);
        let other = [b"content".as_slice(), &padding(stamp.marks[1])].concat();
        assert_eq!(content_length(&other, &stamp), 7 + PAD_BYTES);
    }
}
