//! What a record says of a latch or a barrier.

use super::Unknown;
use crate::holder::Nonce;
use crate::time::Wall;
use crate::token::FencingToken;

/// Members that a latch or a barrier may wait for.
pub const MAX_MEMBERS: u32 = 1024;
/// Longest name of a member, in bytes.
pub const MAX_MEMBER: usize = 128;

/// Who has arrived at a latch or a barrier.
#[derive(Clone, Debug, PartialEq)]
pub struct Gathering {
    /// Which series of epochs this is: the nonce of the write that began it. A record that was deleted
    /// and made again has another, so that nobody takes its epochs for the earlier ones.
    pub series: Nonce,
    /// How many epochs lie behind: the first is 0.
    pub epoch: u64,
    /// Who has arrived in this epoch, in that order; no member twice. At a latch at most as many as it
    /// waits for, at a barrier fewer.
    pub arrived: Vec<Arrived>,
}

/// A member that has arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    /// Its name: 1 to 128 bytes without control characters.
    pub member: String,
    /// When it arrived, by its wall clock: for people.
    pub at: Wall,
    pub(super) unknown: Unknown,
}

impl Gathering {
    /// As large as a token may be, so that every reader of JSON keeps it.
    pub(super) const LAST_EPOCH: u64 = FencingToken::MAX.get() - 1;

    /// The first epoch of a new series.
    pub(super) fn new(series: Nonce) -> Self {
        Self { series, epoch: 0, arrived: Vec::new() }
    }

    /// The next epoch, in which nobody has arrived.
    pub(crate) fn begin_next(&mut self) {
        self.epoch += 1;
        self.arrived.clear();
    }

    /// Whether this member has arrived.
    pub fn has(&self, member: &str) -> bool {
        self.arrived.iter().any(|arrived| arrived.member == member)
    }

    /// How many have arrived.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.arrived.len()).unwrap_or(u32::MAX)
    }
}

impl Arrived {
    /// A member that arrived at `at`.
    pub(crate) fn new(member: String, at: Wall) -> Self {
        Self { member, at, unknown: Unknown::new() }
    }

    /// What is wrong with a member's name.
    pub(crate) fn fault(member: &str) -> Option<&'static str> {
        if member.is_empty() {
            return Some("an empty text");
        }
        if member.len() > MAX_MEMBER {
            return Some("more than 128 bytes");
        }
        member.chars().any(char::is_control).then_some("a control character")
    }
}
