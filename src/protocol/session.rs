//! Decisions about sessions: how one stands, and ending one that has run out.
//!
//! A session is a lease like any other, on a record of its own that only its owner and those who end
//! it ever write. **Invariant.** A session that has ended, or whose record is gone, never stands
//! again: its name is used once, only its owner acquires it, and renewing never re-creates.

use super::expiry::{Evidence, Standing, judge};
use crate::holder::Nonce;
use crate::record::{Ended, Record};
use crate::time::Wall;

/// How a session stands whose record was read; `None` when there is none.
pub fn standing(found: Option<&Record>, evidence: &Evidence<'_>) -> Standing {
    match found.and_then(|record| record.holders.first()) {
        None => Standing::Ended,
        Some(lease) => Standing::Open(judge(lease, evidence)),
    }
}

/// The record of a session that is ended because it has run out, or because somebody breaks what is
/// held under it. It has to be written over the version that it was judged by: a renewal that has
/// landed meanwhile refuses it, and one that has not can never land (hazard H25).
pub fn end(found: &Record, nonce: Nonce, now: Wall) -> Record {
    let mut record = found.clone();
    record.retire_holders(|_| Ended::Expired.into(), now);
    record.nonce = nonce;
    record
}
