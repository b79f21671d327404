//! The store as one process reaches it: an [`ObjectStore`] for the library.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::objects::{Answer, Operation};
use crate::world::{Shared, lock};

/// A process's way to the store. A request goes its own way once it is sent: dropping the future
/// does not recall it.
#[derive(Clone)]
pub(crate) struct SimStore {
    pub(crate) world: Shared,
    pub(crate) process: usize,
    pub(crate) incarnation: u32,
    /// Whether an operator goes this way, who is there to break leases.
    pub(crate) operator: bool,
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStore({})", self.process)
    }
}

impl SimStore {
    async fn ask(&self, operation: Operation) -> Result<Answer> {
        let answer =
            lock(&self.world).send(self.process, self.incarnation, self.operator, operation);
        match answer.await {
            Ok(reply) => reply,
            // No answer will ever come, and a connection may hang for ever.
            Err(_) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (key, body) = (location.clone(), Bytes::from(payload));
        let PutOptions { mode, attributes, .. } = options;
        match self.ask(Operation::Put { key, body, attributes, mode }).await? {
            Answer::Written { e_tag } => {
                Ok(PutResult { e_tag: Some(e_tag), version: None, extensions: Default::default() })
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart".into(), implementer: "SimStore".into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (key, if_none_match) = (location.clone(), options.if_none_match);
        match self.ask(Operation::Get { key, if_none_match }).await? {
            Answer::Found { meta, attributes, body } => Ok(GetResult {
                range: 0..meta.size,
                payload: GetResultPayload::Stream(stream::iter([Ok(body)]).boxed()),
                meta,
                attributes,
                extensions: Default::default(),
            }),
            other => Err(unexpected(&other)),
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .and_then(move |key| {
                let store = store.clone();
                async move {
                    store.ask(Operation::Delete { key: key.clone() }).await?;
                    Ok(key)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.map(ToString::to_string).unwrap_or_default());
        stream::once(async move {
            match store.ask(Operation::List { prefix }).await? {
                Answer::Listed(metas) => Ok(stream::iter(metas.into_iter().map(Ok))),
                other => Err(unexpected(&other)),
            }
        })
        .try_flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, _prefix: Option<&Path>) -> Result<ListResult> {
        Err(Error::NotImplemented { operation: "list".into(), implementer: "SimStore".into() })
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "SimStore".into() })
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::Generic { store: "SimStore", source: format!("not an answer: {answer:?}").into() }
}
