//! What the fuzz targets and the replay of their corpus need of the inside. No part of the
//! interface: it may change at any time.

use object_store::path::Path;

use crate::clock::Wall;
use crate::error::Result;
use crate::name;

/// The key of the lock called `name` under `prefix`.
///
/// # Errors
/// The name cannot be a lock's.
pub fn key_of_name(prefix: &Path, name: &str) -> Result<Path> {
    name::key(prefix, name)
}

/// The name of the lock whose record has this key.
pub fn name_of_key(prefix: &Path, key: &Path) -> Option<String> {
    name::of_key(prefix, key)
}

/// The store's time as an answer with these headers tells it.
pub fn date_of_answer(headers: &http::HeaderMap) -> Option<Wall> {
    crate::store::date_of(headers)
}
