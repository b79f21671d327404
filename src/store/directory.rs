//! An object store in a directory, for any number of processes.

mod file;
mod list;
mod place;
mod record;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::future;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UpdateVersion, UploadPart,
};

pub use place::OutsideRoot;

use file::{DirectoryLock, Staged};
use list::{last_modified, object_meta};
use place::{Root, STORE, file_error, generic, not_found};

const SWEEP_EVERY_SECONDS: u64 = 60;

/// A person editing the object without pause is the only reason to try again.
const READ_ATTEMPTS: u32 = 8;

/// An [`ObjectStore`] over a directory, with atomic create and conditional update among
/// all processes and threads that use the directory through this type.
///
/// An object is a plain file: its path is the object's, its content the object's body.
/// The store keeps files of its own beside them, whose names begin with `.leaselock-`.
///
/// # Guarantees
///
/// - Body, attributes and `ETag` change together. A process killed at any instant leaves
///   the old or the new object, whole.
/// - Every write has its own random `ETag`, equal bodies or not. A file put there or
///   edited by hand has an `ETag` derived from its identity, times and content, so that
///   updates based on its earlier state are refused.
/// - A write that succeeded survives a power failure, as far as the disk keeps its
///   promises, and so does the state on which it was decided. A *read*, like a refusal,
///   takes no lock and may rest on a write some milliseconds before that is durable.
/// - `last_modified` is the file system's time when the body was written: within the call,
///   give or take a tick of at most 10 ms. It precedes the wait for other writers.
///
/// # Not promised
///
/// - Exclusion of anybody who changes files by other means at the same instant.
/// - Objects whose names differ only by case, on file systems that ignore it.
/// - A bound on waiting: a process stopped (`SIGSTOP`) between compare and rename holds up
///   the directory's other writers. One that dies does not.
/// - Anything on file systems whose `flock` excludes only the processes of one machine, if
///   several machines write, or whose names and attributes are cached (NFS: mount with
///   `lookupcache=none,noac`). Where inode numbers change by themselves, as on some FUSE
///   file systems, `ETag`s do so too and updates are refused.
/// - A file's owner, mode or hard links: every write makes a new file.
///
/// # Symbolic links
///
/// Directories may be links as long as they stay inside the root; listing passes over
/// them. Otherwise the operation fails with [`Error::PermissionDenied`], for links out of
/// the root with [`OutsideRoot`] as its source. An object that is a link is refused.
///
/// # Cancel safety
///
/// An operation that has begun runs to its end on a blocking thread even if its future is
/// dropped. It is never torn, but a dropped write may take effect later.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: Root,
    /// By directory, the file system's time of the last sweep in seconds.
    swept: Mutex<HashMap<PathBuf, i64>>,
}

impl DirectoryStore {
    /// Opens the store in `root`, which is made if missing. Blocks for some file operations.
    ///
    /// # Errors
    ///
    /// [`Error::Generic`] if `root` is not a directory, [`Error::PermissionDenied`] if it
    /// may not be made or entered.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let inner = Inner { root: Root::open(&root.into())?, swept: Mutex::default() };
        // A store that may only be read is still of use.
        if let Err(error) = inner.now() {
            tracing::debug!(root = %inner.root.path().display(), %error, "not sweeping");
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The file system's present time, read from a file made for the purpose: comparable
    /// to objects' `last_modified` also where another machine keeps the time. Both come
    /// from a clock that may be up to 10 ms behind.
    ///
    /// # Errors
    ///
    /// [`Error::PermissionDenied`] if nothing may be written, [`Error::Generic`] if the
    /// file system fails otherwise.
    ///
    /// # Cancel safety
    ///
    /// Changes no object.
    pub async fn store_time(&self) -> Result<DateTime<Utc>> {
        self.blocking(|inner| {
            let failed = |error| file_error(inner.root.path(), error);
            inner.now().map_err(failed)
        })
        .await
    }

    /// Runs `work` where it may block, like object_store's own local store: in place when
    /// there is no runtime.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime.spawn_blocking(move || work(&inner)).await?,
            Err(_) => work(&inner),
        }
    }
}

impl fmt::Display for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.inner.root.path().display())
    }
}

/// Tags are ignored, as the trait asks of stores without them.
#[async_trait]
impl ObjectStore for DirectoryStore {
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] and [`Error::Precondition`] mean that nothing was written.
    /// After [`Error::Generic`] with an I/O error as its source (a failed disk, say) the
    /// object may be the old or the new one.
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let location = location.clone();
        self.blocking(move |inner| {
            inner.put(&location, &payload, &options.mode, &options.attributes)
        })
        .await
    }

    /// Keeps the parts in memory and writes the object when completed.
    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload {
            store: self.clone(),
            location: location.clone(),
            attributes: options.attributes,
            parts: Vec::new(),
        }))
    }

    /// # Errors
    ///
    /// [`Error::NotFound`] for directories and the store's own files, too.
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let location = location.clone();
        self.blocking(move |inner| inner.get(&location, &options)).await
    }

    /// Yields [`Error::NotFound`] for an object that is not there.
    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .map(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    store.blocking(move |inner| inner.delete(&location).map(|()| location)).await
                }
            })
            .buffered(10)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let prefix = prefix.cloned().unwrap_or_default();
        stream::once(async move {
            let listed = store.blocking(move |inner| list::all(&inner.root, &prefix)).await?;
            Ok::<_, Error>(stream::iter(listed.into_iter().map(Ok)))
        })
        .try_flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        self.blocking(move |inner| list::level(&inner.root, &prefix)).await
    }

    /// Copies the attributes as well.
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let source = self.get_opts(from, GetOptions::default()).await?;
        let options = PutOptions {
            mode: match options.mode {
                CopyMode::Overwrite => PutMode::Overwrite,
                CopyMode::Create => PutMode::Create,
            },
            attributes: source.attributes.clone(),
            ..PutOptions::default()
        };
        self.put_opts(to, source.bytes().await?.into(), options).await?;
        Ok(())
    }
}

impl Inner {
    fn put(
        &self,
        location: &Path,
        payload: &PutPayload,
        mode: &PutMode,
        attributes: &Attributes,
    ) -> Result<PutResult> {
        let attributes = encoded(attributes)?;
        let target = self.root.locate(location, true)?;
        let directory = parent(&target);
        // Refuses without a write what is bound to fail; decides nothing else.
        self.check(location, &target, mode)?;

        let failed = |error| file_error(&target, error);
        let mut staged = Staged::create(directory).map_err(failed)?;
        let e_tag = staged.write(payload, attributes).map_err(failed)?;
        let now = staged.metadata().map_err(failed)?.mtime();
        {
            let lock = DirectoryLock::take(directory, self.root.path()).map_err(failed)?;
            self.check(location, &target, mode)?;
            staged.publish(&lock, &target).map_err(failed)?;
        }
        self.sweep(directory, now);
        Ok(PutResult { e_tag: Some(e_tag), version: None, extensions: Default::default() })
    }

    /// Whether `mode` allows a write to `target` as it is now.
    fn check(&self, location: &Path, target: &FilePath, mode: &PutMode) -> Result<()> {
        let exists = match fs::symlink_metadata(target) {
            Ok(meta) if meta.is_file() => true,
            Ok(meta) if meta.is_symlink() => return Err(self.root.link_refused(target)),
            Ok(meta) if meta.is_dir() => {
                return Err(generic(format!(
                    "{location} is a directory of objects, so it cannot be an object itself"
                )));
            }
            Ok(_) => return Err(generic(format!("{target:?} is not a plain file"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(file_error(target, error)),
        };
        match mode {
            PutMode::Create if exists => Err(Error::AlreadyExists {
                path: location.to_string(),
                source: format!("{target:?} exists").into(),
            }),
            PutMode::Create | PutMode::Overwrite => Ok(()),
            PutMode::Update(version) => self.check_version(location, target, version),
        }
    }

    fn check_version(
        &self,
        location: &Path,
        target: &FilePath,
        version: &UpdateVersion,
    ) -> Result<()> {
        let Some(expected) = &version.e_tag else {
            return Err(generic(format!("updating {location} requires an ETag")));
        };
        let source = match self.root.snapshot(location, target) {
            Ok(current) if current.etag == *expected => return Ok(()),
            Ok(current) => format!("the object's ETag is {}, not {expected}", current.etag),
            Err(Error::NotFound { .. }) => "there is no object".to_owned(),
            Err(error) => return Err(error),
        };
        Err(Error::Precondition { path: location.to_string(), source: source.into() })
    }

    fn get(&self, location: &Path, options: &GetOptions) -> Result<GetResult> {
        let path = self.root.locate(location, false)?;
        for _ in 0..READ_ATTEMPTS {
            let snapshot = self.root.snapshot(location, &path)?;
            let meta = object_meta(location.clone(), &snapshot);
            options.check_preconditions(&meta)?;
            let range = match &options.range {
                Some(range) => range.as_range(meta.size).map_err(generic)?,
                None => 0..meta.size,
            };
            let body = if options.head {
                Some(Bytes::new())
            } else {
                let body = snapshot.read(range.clone());
                body.map_err(|error| file_error(&path, error))?
            };
            if let Some(body) = body {
                return Ok(GetResult {
                    payload: GetResultPayload::Stream(
                        stream::once(future::ready(Ok(body))).boxed(),
                    ),
                    attributes: snapshot.attributes,
                    meta,
                    range,
                    extensions: Default::default(),
                });
            }
        }
        Err(generic(format!("{path:?} is being edited in place")))
    }

    fn delete(&self, location: &Path) -> Result<()> {
        let target = self.root.locate(location, false)?;
        let failed = |error| file_error(&target, error);
        let lock = DirectoryLock::take(parent(&target), self.root.path()).map_err(failed)?;
        match fs::symlink_metadata(&target) {
            Ok(meta) if meta.is_symlink() => Err(self.root.link_refused(&target)),
            Ok(meta) if meta.is_file() => lock.remove(&target).map_err(failed),
            Ok(_) => Err(not_found(location, "not a plain file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(not_found(location, error))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn now(&self) -> io::Result<DateTime<Utc>> {
        let directory = self.root.path();
        let meta = Staged::create(directory)?.metadata()?;
        self.sweep(directory, meta.mtime());
        Ok(last_modified(&meta))
    }

    /// Removes what killed writers left, if it is time. Nothing depends on its success.
    fn sweep(&self, directory: &FilePath, now: i64) {
        let due = {
            let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
            let last = swept.get(directory).copied();
            let due = last.is_none_or(|last| now.abs_diff(last) >= SWEEP_EVERY_SECONDS);
            if due {
                swept.insert(directory.to_owned(), now);
            }
            due
        };
        if due && let Err(error) = file::sweep(directory, now) {
            tracing::debug!(directory = %directory.display(), %error, "sweep failed");
        }
    }
}

/// A multipart upload in memory.
#[derive(Debug)]
struct Upload {
    store: DirectoryStore,
    location: Path,
    attributes: Attributes,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.extend(data);
        Box::pin(future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload = std::mem::take(&mut self.parts).into_iter().collect();
        let attributes = self.attributes.clone();
        self.store.put_opts(&self.location, payload, attributes.into()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

fn parent(file: &FilePath) -> &FilePath {
    file.parent().unwrap_or(file)
}

fn encoded(attributes: &Attributes) -> Result<BTreeMap<String, String>> {
    record::encode_attributes(attributes).map_err(|attribute| Error::NotSupported {
        source: format!("{STORE} cannot keep the attribute {attribute:?}").into(),
    })
}
