//! What lies in a store in memory, past the library.

use futures::FutureExt;
use leaselock::record::Record;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

/// The record at `key`, if there is one.
///
/// # Panics
/// It is no record.
pub fn record_in(raw: &InMemory, key: &str) -> Option<Record> {
    // A store in memory answers at once.
    let object = raw.get(&key.into()).now_or_never().expect("at once").ok()?;
    let bytes = object.bytes().now_or_never().expect("at once").expect("is readable");
    Some(Record::decode(&bytes).expect("is a record"))
}
