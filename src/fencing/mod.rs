//! Objects that a paused writer cannot clobber, because the store refuses it.
//!
//! A lease alone cannot stop a process that was suspended between asking its guard and writing. A
//! *fence* can: every holder first puts its fencing token on the object, by compare-and-swap, and
//! writes on the version that this gave it. Whatever an earlier holder still sends is conditioned on
//! a version that is gone. `docs/FENCING.md` has the argument, and how to fence what is not an
//! object: a database, a service, a table format.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> leaselock::Result<()> {
//! # let store = leaselock::open("memory:///").await?;
//! let objects = store.objects(); // or store.objects_on(another_object_store)
//! let guard = store.lock("tables/events").acquire().await?;
//!
//! let fence = guard.fence(&objects);
//! fence.put_new("tables/events/part-1.csv", "1,2\n").await?; // never overwrites
//! let mut manifest = fence.claim("tables/events/manifest").await?; // fences older holders out
//! let mut list = manifest.bytes().map(|old| old.to_vec()).unwrap_or_default();
//! list.extend(b"part-1.csv\n");
//! manifest.put(list).await?; // refused by the store if a later holder has claimed it
//! guard.release().await?;
//!
//! let read = objects.read("tables/events/manifest").await?.expect("was written");
//! assert_eq!(read.bytes(), &b"part-1.csv\n"[..]);
//! # Ok(())
//! # }
//! ```

mod call;
mod fence;
mod objects;

pub use fence::{Claimed, Fence};
pub use objects::{Object, Objects};

use object_store::path::Path;

use crate::error::{Error, ErrorKind};
use crate::protocol::fencing::{Fate, fate, fenced_by};
use crate::record::{Mark, Stamp};
use crate::store::objects::{Instead, Stored};
use crate::telemetry;
use crate::token::FencingToken;

/// What became of the write `mark` over an object with the stamp `base`.
fn fate_of(mark: Mark, base: Option<&Stamp>, instead: &Instead) -> Fate {
    match fate(mark, base, instead.now.as_ref().and_then(|object| object.stamp.as_ref())) {
        Fate::Unknown if instead.refused => Fate::Refused,
        fate => fate,
    }
}

/// The store holds a larger token than ours.
fn fenced(path: &Path, ours: FencingToken, by_token: FencingToken) -> Error {
    telemetry::fenced();
    let message = format!("{path} was claimed by token {by_token}; ours is {ours}, and is too old");
    Error::new(ErrorKind::Fenced { by_token }, message)
}

/// Why the store refused a write of the holder of `ours`, by what is there instead.
fn refused(path: &Path, ours: FencingToken, found: Option<&Stored>) -> Error {
    let Some(object) = found else {
        return conflict(format!("{path} was deleted after it was claimed"));
    };
    match fenced_by(object.stamp.as_ref(), ours) {
        Some(by) => fenced(path, ours, by),
        None => conflict(format!("{path} was changed by somebody who does not hold the lock")),
    }
}

fn conflict(message: String) -> Error {
    Error::new(ErrorKind::Conflict, message)
}

fn unconfirmed(path: &Path, cause: impl Into<Option<Error>>) -> Error {
    let message = format!("it is not known whether {path} was written");
    let error = Error::new(ErrorKind::Unconfirmed, message);
    match cause.into() {
        Some(cause) => error.caused_by(cause),
        None => error,
    }
}
