//! **The part to copy**: a writer that appends batches to a table which others append to, too.
//!
//! Nothing here knows of the stage around it.

use leaselock::fencing::Objects;
use leaselock::{ErrorKind, FencingToken, Lock, Release};

use crate::table::{Batch, Layout, Manifest};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A table, and what its writers need to change it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) lock: Lock,
    pub(crate) objects: Objects,
    pub(crate) layout: Layout,
}

/// What a writer tells of its work, for a log.
#[derive(Debug)]
pub(crate) enum Progress<'a> {
    Acquired(FencingToken),
    Putting,
    Releasing,
    Released(Release),
    Failed(&'a leaselock::Error),
}

/// Appends a batch exactly once, whatever is done to this process and to others. When it returns
/// `Ok` the batch is in the table and stays there: now it may be acknowledged.
pub(crate) async fn append(
    table: &Table,
    batch: &Batch,
    tell: &impl Fn(Progress<'_>),
) -> Result<(), Error> {
    loop {
        let Err(error) = attempt(table, batch, tell).await else { return Ok(()) };
        match error.downcast_ref::<leaselock::Error>() {
            // Nobody's work was overwritten. Whether the batch is in, the next attempt will see.
            Some(error) if may_pass(error.kind()) => tell(Progress::Failed(error)),
            _ => return Err(error),
        }
    }
}

async fn attempt(table: &Table, batch: &Batch, tell: &impl Fn(Progress<'_>)) -> Result<(), Error> {
    // A file of its own, never changed. It does not count before the manifest says so: no lock needed.
    match table.objects.put_new(table.layout.file(&batch.name), batch.bytes.clone()).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {} // an earlier attempt's
        written => written?,
    }

    let guard = table.lock.acquire().await?;
    tell(Progress::Acquired(guard.token()));
    // From here on the store refuses whatever an earlier holder may still send.
    let mut claimed = guard.fence(&table.objects).claim(table.layout.manifest()).await?;
    let mut manifest = Manifest::parse(claimed.bytes())?;
    // An earlier attempt may have been committed, and only its answer lost.
    if manifest.add(batch) {
        tell(Progress::Putting);
        // However long this process sleeps here: if somebody went on in its place, it is refused.
        claimed.put(manifest.to_json()?).await?;
    }

    tell(Progress::Releasing);
    tell(Progress::Released(guard.release().await?));
    Ok(())
}

/// Whether another attempt may do better.
fn may_pass(kind: ErrorKind) -> bool {
    use ErrorKind::{Conflict, Fenced, Lost, Unavailable, Unconfirmed};
    matches!(kind, Fenced { .. } | Lost | Conflict | Unconfirmed | Unavailable)
}
