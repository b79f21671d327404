//! A store that grants what its rules say.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::rules::{Ask, Rules};

/// Objects in memory, behind rules. Clones share everything.
#[derive(Clone)]
pub(crate) struct Guarded {
    inner: Arc<InMemory>,
    rules: Arc<dyn Rules>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    refused: Mutex<Vec<String>>,
    written: AtomicU64,
}

impl Guarded {
    pub(crate) fn new(inner: Arc<InMemory>, rules: Arc<dyn Rules>) -> Self {
        Self { inner, rules, seen: Arc::default() }
    }

    /// What was asked for and not granted.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.seen.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many writes and deletions were granted.
    pub(crate) fn written(&self) -> u64 {
        self.seen.written.load(Ordering::SeqCst)
    }

    fn check(&self, ask: &Ask, key: &str) -> Result<()> {
        if self.rules.permits(ask, key) {
            if !matches!(ask, Ask::Get { .. } | Ask::List) {
                self.seen.written.fetch_add(1, Ordering::SeqCst);
            }
            return Ok(());
        }
        let mut refused = self.seen.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.push(format!("{ask:?} {key}"));
        Err(Error::PermissionDenied { path: key.to_owned(), source: "403 Forbidden".into() })
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guarded")
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guarded")
    }
}

#[async_trait]
impl ObjectStore for Guarded {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let ask = match options.mode {
            PutMode::Create => Ask::Create,
            PutMode::Update(_) => Ask::Update,
            PutMode::Overwrite => Ask::Overwrite,
        };
        self.check(&ask, location.as_ref())?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        panic!("the library never uploads in parts, as here {location}")
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let got = self.inner.get_opts(location, options).await;
        let absent = matches!(got, Err(Error::NotFound { .. }));
        self.check(&Ask::Get { absent }, location.as_ref())?;
        got
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let granted = locations.map(move |location| {
            location
                .and_then(|location| this.check(&Ask::Delete, location.as_ref()).map(|()| location))
        });
        self.inner.delete_stream(granted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        // As `object_store` sends it.
        let sent = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        match self.check(&Ask::List, &sent) {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        panic!("the library never lists one level, as here {prefix:?}")
    }

    async fn copy_opts(&self, from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        panic!("the library never copies, as here {from}")
    }
}
