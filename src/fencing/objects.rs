//! Objects on a store, changed by compare-and-swap.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::Attributes;
use object_store::path::Path;

use super::call::Call;
use super::{fate_of, unconfirmed};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::protocol::fencing::{Fate, is_empty, next};
use crate::store::objects::{NewObject, Stored};
use crate::store::{LockStore, Patience, Swap};
use crate::token::FencingToken;

/// How long a call tries unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// Objects on a store: read whole, and changed by compare-and-swap. Cheap to clone.
///
/// Comes from [`Store::objects`](crate::Store::objects) or
/// [`Store::objects_on`](crate::Store::objects_on), and becomes a [`Fence`](super::Fence) by
/// [`LockGuard::fence`](crate::LockGuard::fence). Meant for what is small and changes: a manifest, a
/// pointer, a state file. It is read and written whole.
///
/// # What is written besides the content
///
/// Every object written through this type carries metadata of its own: `leaselocktoken`, the token
/// of the last holder that claimed it, and `leaselockmarks`, by which a writer whose answer was
/// lost recognises its own write. Attributes and metadata of the user's stay; tags, access lists
/// and a storage class do not, unless the bucket's defaults set them.
///
/// **On S3** and on stores that are not known, what [`claim`](super::Fence::claim),
/// [`put`](super::Claimed::put), [`put_fenced`](super::Fence::put_fenced) and
/// [`update`](Self::update) write ends in 64 blanks and tabs. There the ETag is a digest of the body
/// and only of it, so that a claim that changed nothing but metadata would leave a paused writer's
/// condition true. JSON, YAML and CSV readers pass over blanks at the end; reading with this type
/// takes them off. Files that end in a footer, such as Parquet, belong into
/// [`put_new`](super::Fence::put_new), which never adds any. See also
/// [`distinct_e_tags`](Self::distinct_e_tags).
#[derive(Clone, Debug)]
pub struct Objects {
    pub(super) client: Arc<Client>,
    pub(super) store: Arc<LockStore>,
    pub(super) patience: Duration,
    /// Whether bodies need nothing to be told apart.
    pub(super) distinct_e_tags: bool,
}

impl Objects {
    pub(crate) fn new(client: Arc<Client>, store: Arc<LockStore>) -> Self {
        Self { client, store, patience: PATIENCE, distinct_e_tags: false }
    }

    /// How long a call tries when the store does not answer or others write, too: 60 s unless
    /// given. One request may take half of it, which for large objects should be enough to send one.
    #[must_use]
    pub fn patience(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }

    /// Says that the store gives every write an ETag of its own even if bodies are equal, so that
    /// nothing need be added to them. Known without being said of Azure, Google Cloud Storage,
    /// directories and memory, where it is so; **wrong for S3**, where it would let a paused writer
    /// through.
    #[must_use]
    pub fn distinct_e_tags(mut self, yes: bool) -> Self {
        self.distinct_e_tags = yes;
        self
    }

    /// Reads an object; `None` when there is none, or only a place kept for one.
    ///
    /// # Errors
    /// The store did not answer, or the object's stamp is damaged
    /// ([`UnreadableRecord`](ErrorKind::UnreadableRecord)).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn read(&self, path: impl Into<Path>) -> Result<Option<Object>> {
        let found = self.fetch(path.into(), self.patience_from_now()).await?;
        Ok(found.filter(|object| !is_empty(object.stamp.as_ref())).map(Object::of))
    }

    /// Changes an object without a lock: reads it, asks `change` for the new content (given the old,
    /// or `None` when there is none), and writes that if nobody has written meanwhile; otherwise
    /// again, under bounded, jittered backoff, until [`patience`](Self::patience) runs out. `change`
    /// may be called several times. When it returns `None` nothing is written.
    ///
    /// Returns what is there now, if it was written. The write does not go by fences: a holder that
    /// has claimed the object finds its claim gone ([`Conflict`](ErrorKind::Conflict)). Use one or
    /// the other.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) when others were faster all the time,
    /// [`Unconfirmed`](ErrorKind::Unconfirmed) when it is not known whether the change was written,
    /// [`InvalidName`](ErrorKind::InvalidName) for a record of a lock, and errors of the store.
    ///
    /// # Cancel safety
    /// A write that has begun is seen to its end; only its outcome goes unseen.
    pub async fn update<B: Into<Bytes>>(
        &self,
        path: impl Into<Path>,
        mut change: impl FnMut(Option<&Bytes>) -> Option<B>,
    ) -> Result<Option<Bytes>> {
        let path = self.checked(path.into())?;
        let mut call = Call::begin(self, &path).await?;
        let mut found = call.read().await?;
        loop {
            let base = found.as_ref().and_then(|object| object.stamp.as_ref());
            let old = found.as_ref().filter(|_| !is_empty(base)).map(|object| &object.content);
            let Some(content) = change(old).map(Into::into) else { return Ok(None) };
            let mark = call.mark();
            let new = NewObject {
                content: content.clone(),
                attributes: found.as_ref().map(|o| o.attributes.clone()).unwrap_or_default(),
                stamp: next(base, FencingToken::ZERO, mark),
                pad: !self.distinct_e_tags,
            };
            let version = found.as_ref().map(|object| &object.version);
            let instead = match call.write(version, new).await? {
                Swap::Won { .. } => return Ok(Some(content)),
                Swap::Unknown(error) => return Err(unconfirmed(&path, error)),
                Swap::Conflict(instead) => instead,
            };
            match fate_of(mark, base, &instead) {
                Fate::Landed => return Ok(Some(content)),
                Fate::Unknown => return Err(unconfirmed(&path, None)),
                Fate::Refused => {}
            }
            call.pause().await?;
            found = instead.now;
        }
    }

    /// Writes an object that must not exist yet: an immutable data file, under a name that nobody
    /// else uses. One write, and no lock needed.
    ///
    /// A write whose answer was lost is recognised: it does not fail because it has succeeded.
    ///
    /// # Errors
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) when somebody else's object is there,
    /// [`Unconfirmed`](ErrorKind::Unconfirmed) when it is not known whether it was written,
    /// [`InvalidName`](ErrorKind::InvalidName) for a record of a lock, and errors of the store.
    ///
    /// # Cancel safety
    /// A write that has begun is seen to its end; only its outcome goes unseen.
    pub async fn put_new(&self, path: impl Into<Path>, bytes: impl Into<Bytes>) -> Result<()> {
        self.create(path.into(), bytes.into(), Attributes::new(), FencingToken::ZERO).await
    }

    pub(super) async fn create(
        &self,
        path: Path,
        content: Bytes,
        attributes: Attributes,
        token: FencingToken,
    ) -> Result<()> {
        let path = self.checked(path)?;
        let call = Call::begin(self, &path).await?;
        let mark = call.mark();
        // It is never written again: nothing needs its ETag.
        let stamp = next(None, token, mark);
        let new = NewObject { content, attributes, stamp, pad: false };
        match call.write(None, new).await? {
            Swap::Won { .. } => Ok(()),
            Swap::Unknown(error) => Err(unconfirmed(&path, error)),
            Swap::Conflict(instead) => match fate_of(mark, None, &instead) {
                Fate::Landed => Ok(()),
                Fate::Unknown => Err(unconfirmed(&path, None)),
                Fate::Refused => {
                    let message = format!("{path} exists already");
                    Err(Error::new(ErrorKind::AlreadyExists, message))
                }
            },
        }
    }

    pub(super) async fn fetch(&self, path: Path, patience: Patience) -> Result<Option<Stored>> {
        let store = Arc::clone(&self.store);
        self.client.call(async move { store.read_object(&path, patience).await }).await
    }

    pub(super) fn patience_from_now(&self) -> Patience {
        Patience {
            request: self.patience / 2,
            until: self.store.clock().now().boot.plus(self.patience),
            attempts: u32::MAX,
        }
    }

    /// The path, if an object of the user's can be there.
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName) when a lock's record is there.
    pub(super) fn checked(&self, path: Path) -> Result<Path> {
        if name::is_reserved(self.store.prefix(), &path) {
            let message = format!("{path} is the library's own: the record of a lock, or scratch");
            return Err(Error::new(ErrorKind::InvalidName, message));
        }
        Ok(path)
    }
}

/// An object as it was read.
#[derive(Clone, Debug)]
pub struct Object {
    content: Bytes,
    attributes: Attributes,
    token: Option<FencingToken>,
}

impl Object {
    fn of(stored: Stored) -> Self {
        let token =
            stored.stamp.map(|stamp| stamp.token).filter(|token| *token > FencingToken::ZERO);
        Self { content: stored.content, attributes: stored.attributes, token }
    }

    /// The content.
    pub fn bytes(&self) -> &Bytes {
        &self.content
    }

    /// The content, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.content
    }

    /// Attributes and metadata, without the fence's own.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The token of the last holder that claimed the object, if one has.
    pub fn token(&self) -> Option<FencingToken> {
        self.token
    }
}
