//! Objects of the user's that carry a [`Stamp`]: read whole, and written by compare-and-swap.

use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Attribute, Attributes};

use super::request::{Failure, Got};
use super::swap::{ConditionalWrite, Landed, Patience, Swap, read_through, see_through};
use super::{LockStore, Version, probe};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Mark, Stamp, content_length, padding};

/// What a store makes its ETags of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ETags {
    /// Every write has another.
    PerWrite,
    /// They are digests of bodies, or may be: equal bodies have equal ones (hazard H3).
    OfBodies,
}

/// An object as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Without padding.
    pub(crate) content: Bytes,
    /// Without the stamp.
    pub(crate) attributes: Attributes,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) version: Version,
}

/// What is there instead of what was to be written.
#[derive(Debug)]
pub(crate) struct Instead {
    pub(crate) now: Option<Stored>,
    /// It was not written for certain, whatever is there now: the store has refused it, and nothing
    /// lies between here and there that might have sent it twice.
    pub(crate) refused: bool,
}

/// An object to be written.
#[derive(Clone, Debug)]
pub(crate) struct NewObject {
    pub(crate) content: Bytes,
    pub(crate) attributes: Attributes,
    pub(crate) stamp: Stamp,
    /// Whether it is padded on a store whose ETags are digests, to be unlike every other.
    pub(crate) pad: bool,
}

impl LockStore {
    /// Reads an object whole, until an answer comes or patience runs out; `None` when there is none.
    ///
    /// # Errors
    /// The store did not answer, or the object's stamp is damaged.
    pub(crate) async fn read_object(
        &self,
        path: &Path,
        patience: Patience,
    ) -> Result<Option<Stored>> {
        read_through(|limit| self.get_object(path, limit), &self.clock, &self.rng, patience).await
    }

    async fn get_object(&self, path: &Path, limit: Duration) -> Result<Option<Stored>> {
        match self.requests.get(path, None, usize::MAX, limit).await {
            Ok((got, _)) => object(path, got).map(Some),
            Err(Failure::Absent { .. }) => Ok(None),
            Err(failure) => Err(failure.into_error(path)),
        }
    }

    /// Writes an object if there still is what `expected` says: none, or this version.
    ///
    /// # Errors
    /// It was not applied and never will be.
    pub(crate) async fn swap_object(
        &self,
        path: &Path,
        expected: Option<&Version>,
        new: &NewObject,
        patience: Patience,
    ) -> Result<Swap<Instead>> {
        let mut attributes = new.attributes.clone();
        for (name, value) in new.stamp.encode() {
            attributes.insert(Attribute::Metadata(name.into()), value.into());
        }
        let mark = new.stamp.mark();
        let body = match mark.filter(|_| new.pad && self.e_tags == ETags::OfBodies) {
            Some(mark) => [&new.content[..], &padding(mark)].concat().into(),
            None => new.content.clone(),
        };
        let write = ObjectWrite { store: self, path, expected, body, attributes, mark };
        see_through(&write, &self.clock, &self.rng, patience).await
    }

    /// Whether nothing is left to check before writing an object.
    pub(crate) fn is_known_fit_for_objects(&self) -> bool {
        self.metadata.is_known() && self.fitness.is_known()
    }

    /// Refuses a store that does not honour conditional writes or does not keep metadata: once per
    /// store and process, before the first write (hazard H14).
    ///
    /// # Errors
    /// [`UnfitStore`](ErrorKind::UnfitStore), or the check could not be made.
    pub(crate) async fn ensure_fit_for_objects(&self) -> Result<()> {
        probe::ensure_metadata(self).await?;
        self.ensure_fit().await
    }
}

/// An object on its way to the store.
struct ObjectWrite<'a> {
    store: &'a LockStore,
    path: &'a Path,
    expected: Option<&'a Version>,
    body: Bytes,
    attributes: Attributes,
    mark: Option<Mark>,
}

impl ConditionalWrite for ObjectWrite<'_> {
    type Found = Option<Stored>;
    type Conflict = Instead;

    fn key(&self) -> &Path {
        self.path
    }

    async fn put(&self, limit: Duration) -> Result<Version, Failure> {
        let attributes = self.attributes.clone();
        self.store.put(self.path, self.expected, self.body.clone(), attributes, limit).await
    }

    async fn read(&self, limit: Duration) -> Result<Option<Stored>> {
        self.store.get_object(self.path, limit).await
    }

    fn recognise(&self, found: &Option<Stored>) -> Landed {
        match (found, self.expected) {
            (Some(object), _) if self.mark.is_some() && object.mark() == self.mark => {
                Landed::Ours(object.version.clone())
            }
            (None, None) => Landed::NotYet,
            (Some(object), Some(old)) if object.version.is(old) => Landed::NotYet,
            _ => Landed::Other,
        }
    }

    fn conflict(&self, now: Option<Stored>, refused: bool) -> Instead {
        Instead { now, refused: refused && self.store.requests.is_direct() }
    }
}

impl Stored {
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.stamp.as_ref().and_then(Stamp::mark)
    }
}

fn object(path: &Path, got: Got) -> Result<Stored> {
    let metadata = |name: &'static str| got.attributes.get(&Attribute::Metadata(name.into()));
    let stamp = Stamp::decode(|name| metadata(name).map(AsRef::as_ref)).map_err(|error| {
        let message = format!("the stamp of {path} is damaged; the object was left untouched");
        Error::new(ErrorKind::UnreadableRecord, message).caused_by(error)
    })?;
    let attributes = got
        .attributes
        .iter()
        .filter(|entry| metadata_name(entry.0).is_none_or(|name| !Stamp::owns(name)))
        .map(|(attribute, value)| (attribute.clone(), value.clone()))
        .collect();
    let body = got.body.unwrap_or_default();
    let length = stamp.as_ref().map_or(body.len(), |stamp| content_length(&body, stamp));
    Ok(Stored { content: body.slice(..length), attributes, stamp, version: Version::of(&got.meta) })
}

fn metadata_name(attribute: &Attribute) -> Option<&str> {
    match attribute {
        Attribute::Metadata(name) => Some(name),
        _ => None,
    }
}
