//! A store that is some way off and can be cut off.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

/// How a store can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// As it should be.
    Up,
    /// Every request fails at once and changes nothing.
    Down,
    /// A request is not answered before the line changes.
    Hanging,
}

/// Wraps a store; clones share the line, so a test keeps one and gives another away.
#[derive(Clone, Debug)]
pub struct RemoteStore {
    inner: Arc<dyn ObjectStore>,
    line: Arc<watch::Sender<Line>>,
    latency: Duration,
}

impl fmt::Display for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteStore({})", self.inner)
    }
}

impl RemoteStore {
    /// `inner` at the end of a line that is up.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, line: Arc::new(watch::Sender::new(Line::Up)), latency: Duration::ZERO }
    }

    /// A new store in memory.
    pub fn in_memory() -> Self {
        Self::new(Arc::new(object_store::memory::InMemory::new()))
    }

    /// How long a request takes on its way, by the runtime's timer. For this handle and its later
    /// clones.
    #[must_use]
    pub fn latency(mut self, time: Duration) -> Self {
        self.latency = time;
        self
    }

    /// From now on it is reached like this.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// A handle as the library takes it.
    pub fn as_store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.clone())
    }

    #[allow(clippy::disallowed_methods, reason = "a distance in real time")]
    async fn travel(&self) -> Result<()> {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        let mut line = self.line.subscribe();
        // The sender lives as long as this handle.
        match line.wait_for(|line| *line != Line::Hanging).await.as_deref() {
            Ok(Line::Up) => Ok(()),
            _ => Err(Error::Generic { store: "RemoteStore", source: "it is cut off".into() }),
        }
    }
}

#[async_trait]
impl ObjectStore for RemoteStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.travel().await?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.travel().await?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.travel().await?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.travel().await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let travelling = locations.then(move |location| {
            let this = this.clone();
            async move {
                this.travel().await?;
                location
            }
        });
        self.inner.delete_stream(travelling.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.travel().await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.travel().await?;
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn what_is_cut_off_fails_or_hangs_until_it_is_back() {
        let store = RemoteStore::in_memory();
        let path = Path::from("a");
        store.put(&path, "1".into()).await.expect("is up");
        store.set(Line::Down);
        assert!(store.get(&path).await.is_err());
        assert!(store.put(&path, "2".into()).await.is_err());
        store.set(Line::Hanging);
        let mut hanging = Box::pin(store.get(&path));
        assert!((&mut hanging).now_or_never().is_none());
        store.set(Line::Up);
        let body = hanging.await.expect("is up again").bytes().await.expect("its bytes");
        assert_eq!(body, "1");
    }
}
