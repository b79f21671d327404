//! Who holds a lock.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use uuid::Uuid;

/// The identity of one acquisition: new for every call that acquires, never for a host or a
/// process, so that a restarted process cannot free its successor's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderId(Uuid);

impl HolderId {
    /// The identity made of these 128 random bits.
    pub const fn from_random(bits: u128) -> Self {
        Self(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid())
    }

    /// Another identity of the same acquisition: for its entry at another store, or for another stay
    /// in a record that it was put out of. The first half is the acquisition's.
    pub(crate) fn another(self, bits: u128) -> Self {
        let (ours, _) = self.0.as_u64_pair();
        let (_, new) = Self::from_random(bits).0.as_u64_pair();
        Self(Uuid::from_u64_pair(ours, new))
    }

    /// Lets `use_it` have the identity as text, which is nobody's afterwards.
    pub(crate) fn with_str<T>(self, use_it: impl FnOnce(&str) -> T) -> T {
        use_it(self.0.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }

    /// Whether both are identities of one acquisition.
    pub(crate) fn is_of_same_acquisition(self, other: Self) -> bool {
        self.0.as_u64_pair().0 == other.0.as_u64_pair().0
    }
}

impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text was not a holder id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a holder id (a UUID)")]
pub struct ParseHolderIdError {
    text: String,
}

impl FromStr for HolderId {
    type Err = ParseHolderIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self).map_err(|_| ParseHolderIdError { text: text.to_owned() })
    }
}

/// 128 random bits that make every write's body unique.
///
/// Equal bodies get equal ETags on S3, where an update conditioned on such an ETag would let a
/// record pass that was changed and changed back (hazard H3); and a writer whose answer was lost
/// recognises its own write by it (H1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce(u128);

impl Nonce {
    /// The nonce made of these random bits.
    pub const fn from_random(bits: u128) -> Self {
        Self(bits)
    }

    /// Its bits in the order in which its text has them.
    pub(crate) const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Nonce {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex { u128::from_str_radix(text, 16).map(Self).map_err(drop) } else { Err(()) }
    }
}

/// What a holder says about itself, for people who read the record. Nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// A name for the work, such as `nightly-etl`; at most 128 bytes.
    pub label: String,
    /// The host it runs on; at most 255 bytes.
    pub host: String,
    /// The process id there.
    pub pid: Option<u32>,
    /// Free text; at most 1,024 bytes.
    pub note: Option<String>,
}

impl Owner {
    /// Longest label, in bytes.
    pub const MAX_LABEL: usize = 128;
    /// Longest host name, in bytes.
    pub const MAX_HOST: usize = 255;
    /// Longest note, in bytes.
    pub const MAX_NOTE: usize = 1024;

    /// This process on this host, under `label`.
    pub(crate) fn of_this_process(label: String, note: Option<String>) -> Self {
        static HOST: OnceLock<String> = OnceLock::new();
        let host = HOST
            .get_or_init(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
            .clone();
        Self { label, host, pid: Some(std::process::id()), note }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.label.is_empty() {
            write!(f, "{}", self.host)?;
        } else {
            write!(f, "{} on {}", self.label, self.host)?;
        }
        match self.pid {
            Some(pid) => write!(f, " (pid {pid})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_nonces_parse_what_they_print() {
        let id = HolderId::from_random(0x1234_5678);
        assert_eq!(id.to_string().parse(), Ok(id));
        let nonce = Nonce::from_random(7);
        assert_eq!(nonce.to_string().parse(), Ok(nonce));
        assert_eq!(nonce.to_string().len(), 32);
    }

    #[test]
    fn an_acquisition_has_many_identities() {
        let id = HolderId::from_random(u128::MAX / 3);
        let another = id.another(u128::MAX / 7);
        assert_ne!(id, another);
        assert!(id.is_of_same_acquisition(another) && another.is_of_same_acquisition(id));
        assert_eq!(another.0.get_version_num(), 4);
        assert_eq!(another.to_string().parse(), Ok(another));
        assert!(!id.is_of_same_acquisition(HolderId::from_random(u128::MAX / 7)));
    }

    #[test]
    fn nonces_of_another_shape_are_refused() {
        for text in ["", "7", "+0000000000000000000000000000007", &"g".repeat(32), &"0".repeat(33)]
        {
            assert!(text.parse::<Nonce>().is_err(), "{text}");
        }
    }
}
