//! Writes under a fencing token.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Attributes, UpdateVersion};

use super::call::Call;
use super::objects::Objects;
use super::{fate_of, fenced, refused, unconfirmed};
use crate::error::{Error, ErrorKind, Result};
use crate::hold::{Hold, LossReason};
use crate::keeper::lost;
use crate::protocol::fencing::{Claim, Fate, claim, fenced_by, is_empty, next};
use crate::record::{MAX_MARKS, Mark, Stamp};
use crate::store::objects::{NewObject, Stored};
use crate::store::{Swap, Version};
use crate::token::FencingToken;

/// Writes objects with a guard's fencing token: see [`LockGuard::fence`](crate::LockGuard::fence).
/// Cheap to clone.
///
/// The fence outlives its guard: a write under it is judged by the store and by nothing else. As
/// long as no later holder has claimed an object, nothing can be overwritten that this one does not
/// know, lease or no lease.
#[derive(Clone, Debug)]
pub struct Fence {
    objects: Objects,
    hold: Arc<Hold>,
    attributes: Attributes,
}

impl Fence {
    pub(crate) fn new(objects: Objects, hold: Arc<Hold>) -> Self {
        Self { objects, hold, attributes: Attributes::new() }
    }

    /// The guard's token, which goes with every write.
    pub fn token(&self) -> FencingToken {
        self.hold.token
    }

    /// Attributes for objects that this fence makes: a content type, metadata. Objects that exist
    /// keep theirs.
    #[must_use]
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Puts the guard's token on an object, and reads it for change. From this moment the store
    /// refuses every write of an older holder to it. An object that does not exist can be claimed,
    /// too: a place is kept for it, which [`Objects::read`] takes for absent.
    ///
    /// One read and one write of the whole object; only the read when the token is on it already.
    ///
    /// # Errors
    /// [`Fenced`](ErrorKind::Fenced) when a later holder has claimed it, [`Lost`](ErrorKind::Lost)
    /// when the guard's lease has ended, [`Conflict`](ErrorKind::Conflict) when others write
    /// without fences all the time, [`InvalidName`](ErrorKind::InvalidName) for a lock's record,
    /// [`UnfitStore`](ErrorKind::UnfitStore) when the store cannot write conditionally or keeps no
    /// metadata, and errors of the store.
    ///
    /// # Cancel safety
    /// The object's content does not change. It may have been claimed.
    pub async fn claim(&self, path: impl Into<Path>) -> Result<Claimed> {
        let path = self.objects.checked(path.into())?;
        if !self.hold.is_held() {
            return Err(lost(&self.hold.loss().unwrap_or(LossReason::Expired)));
        }
        let mut call = Call::begin(&self.objects, &path).await?;
        let mut found = call.read().await?;
        loop {
            let stamp = found.as_ref().and_then(|object| object.stamp.as_ref());
            let stamp = match claim(stamp, found.is_some(), self.token(), call.mark()) {
                Claim::Fenced(by) => return Err(fenced(&path, self.token(), by)),
                Claim::Ours => return Ok(self.claimed(path, found.ok_or_else(internal)?)),
                Claim::Write(stamp) => stamp,
            };
            let (version, content, attributes) = match found {
                Some(object) => (Some(object.version), object.content, object.attributes),
                None => (None, Bytes::new(), self.attributes.clone()),
            };
            let new = self.new_object(content.clone(), attributes.clone(), stamp.clone());
            match call.write(version.as_ref(), new).await? {
                Swap::Won { version } => {
                    let stored = Stored { content, attributes, stamp: Some(stamp), version };
                    return Ok(self.claimed(path, stored));
                }
                // Should it land later it changes nothing but the token.
                Swap::Unknown(error) => return Err(error),
                Swap::Conflict(instead) => found = instead.now,
            }
            call.pause().await?;
        }
    }

    /// Claims an object and writes it without asking what was there: one read, one write.
    ///
    /// # Errors
    /// As [`claim`](Self::claim), but the guard is not asked; and
    /// [`Unconfirmed`](ErrorKind::Unconfirmed) when it is not known whether it was written.
    ///
    /// # Cancel safety
    /// A write that has begun is seen to its end; only its outcome goes unseen.
    pub async fn put_fenced(&self, path: impl Into<Path>, bytes: impl Into<Bytes>) -> Result<()> {
        let (path, content) = (self.objects.checked(path.into())?, bytes.into());
        let mut call = Call::begin(&self.objects, &path).await?;
        let mut found = call.read().await?;
        loop {
            let base = found.as_ref().and_then(|object| object.stamp.as_ref());
            if let Some(by) = fenced_by(base, self.token()) {
                return Err(fenced(&path, self.token(), by));
            }
            let mark = call.mark();
            let stamp = next(base, self.token(), mark);
            let attributes =
                found.as_ref().map_or_else(|| self.attributes.clone(), |o| o.attributes.clone());
            let version = found.as_ref().map(|object| &object.version);
            let new = self.new_object(content.clone(), attributes, stamp.clone());
            let instead = match call.write(version, new).await? {
                Swap::Won { .. } => return Ok(()),
                Swap::Unknown(error) => return Err(unconfirmed(&path, error)),
                Swap::Conflict(instead) => instead,
            };
            match fate_of(mark, base, &instead) {
                Fate::Landed => return Ok(()),
                Fate::Unknown => return Err(unconfirmed(&path, None)),
                Fate::Refused => found = instead.now,
            }
            call.pause().await?;
        }
    }

    /// Writes an object that must not exist yet, such as an immutable data file: as
    /// [`Objects::put_new`], with the guard's token in its metadata.
    ///
    /// # Errors
    /// As [`Objects::put_new`].
    ///
    /// # Cancel safety
    /// A write that has begun is seen to its end; only its outcome goes unseen.
    pub async fn put_new(&self, path: impl Into<Path>, bytes: impl Into<Bytes>) -> Result<()> {
        let (content, attributes) = (bytes.into(), self.attributes.clone());
        self.objects.create(path.into(), content, attributes, self.token()).await
    }

    fn new_object(&self, content: Bytes, attributes: Attributes, stamp: Stamp) -> NewObject {
        NewObject { content, attributes, stamp, pad: !self.objects.distinct_e_tags }
    }

    fn claimed(&self, path: Path, stored: Stored) -> Claimed {
        Claimed { fence: self.clone(), path, stored, doubts: Vec::new() }
    }
}

fn internal() -> Error {
    Error::new(ErrorKind::Internal, "an object was found that does not exist")
}

/// An object that carries a holder's token: see [`Fence::claim`].
#[derive(Debug)]
pub struct Claimed {
    fence: Fence,
    path: Path,
    stored: Stored,
    /// Writes of this claim whose outcome is not known.
    doubts: Vec<Mark>,
}

impl Claimed {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The token that was put on it.
    pub fn token(&self) -> FencingToken {
        self.fence.token()
    }

    /// Its content as it was claimed or last put; `None` when there was no object.
    pub fn bytes(&self) -> Option<&Bytes> {
        (!is_empty(self.stored.stamp.as_ref())).then_some(&self.stored.content)
    }

    /// Its version as it was claimed or last put, for conditional requests of your own.
    pub fn version(&self) -> UpdateVersion {
        self.stored.version.clone().into()
    }

    /// Its attributes and metadata, without the fence's own.
    pub fn attributes(&self) -> &Attributes {
        &self.stored.attributes
    }

    /// Its attributes and metadata, to be changed by the next [`put`](Self::put).
    pub fn attributes_mut(&mut self) -> &mut Attributes {
        &mut self.stored.attributes
    }

    /// Writes new content over what was claimed, with one write. Whether it may is for the store to
    /// say: the guard is not asked.
    ///
    /// After an error that leaves open whether it was written, and after a dropped future, it may be
    /// called again: content of its own that has landed meanwhile it replaces.
    ///
    /// # Errors
    /// [`Fenced`](ErrorKind::Fenced) when a later holder has claimed the object since,
    /// [`Conflict`](ErrorKind::Conflict) when it was changed or deleted by somebody who does not go
    /// by the fence, [`Unconfirmed`](ErrorKind::Unconfirmed) when it is not known whether it was
    /// written, and errors of the store.
    ///
    /// # Cancel safety
    /// A write that has begun is seen to its end; only its outcome goes unseen.
    pub async fn put(&mut self, bytes: impl Into<Bytes>) -> Result<()> {
        let (path, token, content) = (self.path.clone(), self.token(), bytes.into());
        let objects = self.fence.objects.clone();
        let mut call = Call::begin(&objects, &path).await?;
        loop {
            let (mark, base) = (call.mark(), self.stored.stamp.clone());
            let stamp = next(base.as_ref(), token, mark);
            let attributes = self.stored.attributes.clone();
            let new = self.fence.new_object(content.clone(), attributes, stamp.clone());
            // Should this future be dropped, the next call knows of it.
            self.doubts.insert(0, mark);
            self.doubts.truncate(MAX_MARKS);
            let instead = match call.write(Some(&self.stored.version), new).await {
                Ok(Swap::Won { version }) => {
                    self.settled(content, stamp, version);
                    return Ok(());
                }
                Ok(Swap::Unknown(error)) => return Err(unconfirmed(&path, error)),
                Ok(Swap::Conflict(instead)) => instead,
                Err(error) => {
                    self.doubts.remove(0);
                    return Err(error);
                }
            };
            match fate_of(mark, base.as_ref(), &instead) {
                Fate::Landed => {
                    // Superseded already: the version is gone, as the next write will be told.
                    let version = self.stored.version.clone();
                    self.settled(content, stamp, version);
                    return Ok(());
                }
                Fate::Unknown => return Err(unconfirmed(&path, None)),
                Fate::Refused => self.doubts.remove(0),
            };
            match instead.now {
                Some(own) if own.mark().is_some_and(|mark| self.doubts.contains(&mark)) => {
                    // What refused it is an earlier write of this claim: go on from there.
                    self.stored.stamp = own.stamp;
                    self.stored.version = own.version;
                }
                other => return Err(refused(&path, token, other.as_ref())),
            }
            call.pause().await?;
        }
    }

    fn settled(&mut self, content: Bytes, stamp: Stamp, version: Version) {
        self.stored.content = content;
        self.stored.stamp = Some(stamp);
        self.stored.version = version;
        self.doubts.clear();
    }
}
