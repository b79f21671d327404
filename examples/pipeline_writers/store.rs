//! Places on a store.

use std::sync::Arc;

use leaselock::DirectoryStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme};
use url::Url;

use crate::writer::Error;

/// The prefix that a store's URL names, counted from the store's root.
pub(crate) fn prefix(url: &str) -> Result<Path, Error> {
    let url = bare(url)?.0;
    // A directory is the root itself.
    if url.scheme() == "file" {
        return Ok(Path::default());
    }
    Ok(ObjectStoreScheme::parse(&url)?.1)
}

/// The store at a URL without anything of this library's around it.
pub(crate) fn plain(url: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    let (url, options) = bare(url)?;
    if url.scheme() == "file" {
        let directory = url.to_file_path().map_err(|()| "not a directory of this machine")?;
        return Ok(Arc::new(DirectoryStore::open(directory)?));
    }
    Ok(object_store::parse_url_opts(&url, options)?.0.into())
}

fn bare(url: &str) -> Result<(Url, Vec<(String, String)>), Error> {
    let mut url = Url::parse(url)?;
    let options = url.query_pairs().into_owned().collect();
    url.set_query(None);
    Ok((url, options))
}
