//! The way past the library.

use std::sync::Arc;

use leaselock::DirectoryStore;
use object_store::ObjectStore;
use url::Url;

use crate::writer::Error;

/// The store at a URL without anything of this library's around it.
pub(crate) fn plain(url: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    let mut url = Url::parse(url)?;
    let options: Vec<_> = url.query_pairs().into_owned().collect();
    url.set_query(None);
    if url.scheme() == "file" {
        let directory = url.to_file_path().map_err(|()| "not a directory of this machine")?;
        return Ok(Arc::new(DirectoryStore::open(directory)?));
    }
    Ok(object_store::parse_url_opts(&url, options)?.0.into())
}
