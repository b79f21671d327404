//! **Not to be copied**: how people write to a table under a lock, until the day that it loses rows.
//!
//! It asks its guard, and then writes. Between the one and the other a process can be suspended for
//! longer than its lease lasts.

use std::sync::Arc;

use object_store::{ObjectStore, ObjectStoreExt};

use crate::table::{Batch, Manifest};
use crate::writer::{Error, Progress, Table};

/// As [`append`](crate::writer::append), without a fence: a plain store, plain puts.
pub(crate) async fn append(
    table: &Table,
    store: &Arc<dyn ObjectStore>,
    batch: &Batch,
    tell: &impl Fn(Progress<'_>),
) -> Result<(), Error> {
    store.put(&table.layout.file(&batch.name), batch.bytes.clone().into()).await?;
    loop {
        let guard = table.lock.acquire().await?;
        tell(Progress::Acquired(guard.token()));
        let found = match store.get(&table.layout.manifest()).await {
            Ok(found) => Some(found.bytes().await?),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let mut manifest = Manifest::parse(found.as_ref())?;
        let is_held = guard.is_held();
        if is_held && manifest.add(batch) {
            tell(Progress::Putting);
            store.put(&table.layout.manifest(), manifest.to_json()?.into()).await?;
        }
        tell(Progress::Releasing);
        tell(Progress::Released(guard.release().await?));
        if is_held {
            return Ok(());
        }
    }
}
