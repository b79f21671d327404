//! Where the tokens of a new record start.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::store::{LockStore, StoreNow};
use crate::token::FencingToken;

/// The token that a new record's first one must exceed: an upper bound of the store's present time
/// in microseconds, so that tokens go on rising when a record is deleted and made again (hazard
/// H9). `now` is what the answer told that found no record.
///
/// # Errors
/// The store's time cannot be found out. Our own clock's is no substitute: tokens of machines whose
/// clocks differ would not rise.
pub(crate) async fn token_start(
    store: &LockStore,
    now: Option<StoreNow>,
    limit: Duration,
) -> Result<FencingToken> {
    // What was carried on from an earlier probe may be seconds ahead: a record deleted within those
    // would start over from a smaller token. And answers that a cache may have kept tell no time. The
    // stamp of a new object does.
    let now = match store.time_for_free(now, limit).await {
        Some(now) => now,
        None => store.probe_time(limit).await.ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                "the store does not tell its time, which a new lock \
                needs to number its holders",
            )
        })?,
    };
    let at_most = now.at_most.plus(store.clock().now().boot.since(now.at));
    u64::try_from(at_most.micros()).ok().and_then(FencingToken::new).ok_or_else(|| {
        let message =
            "the store's clock is not in this age: it cannot number the holders of a lock";
        Error::new(ErrorKind::UnfitStore, message)
    })
}
