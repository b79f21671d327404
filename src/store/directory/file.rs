//! One object as one file: atomic replacement of body, attributes and `ETag` together.
//!
//! # Invariant
//!
//! A file's [`Record`] (`ETag` and attributes) is durable before the file gets its
//! object's name, is never changed afterwards, and is believed only while it names the
//! file's inode, size and modification time. Publishing is a single `rename`, so whoever
//! opens the name gets one inode, and with it a body, attributes and an `ETag` that
//! were written together.
//!
//! The record lives in an extended attribute of the file itself, which `rename` carries
//! along. Where that cannot be stored (the file system has none, or the attributes exceed
//! its limit), it goes to a sidecar beside the object. The sidecar is replaced before the
//! object is and names both the object's old and new file. These two exist at the same
//! time and so differ in inode: either side of the `rename` finds its own record.
//!
//! A file with no record that fits it was put there or edited by hand. Its `ETag` is a
//! digest of its identity, times and body.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use object_store::{Attributes, PutPayload};
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use crate::rng::{Randomness, SystemRandomness};

use super::record::{Fnv128, RESERVED, Record, modified, sidecar_path};

const LOCK_NAME: &str = ".leaselock-dir.lock";
const LOCK_TEXT: &[u8] = b"Lock of this directory's writers. Keep it while the store is in use.\n";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// A writer needs milliseconds between creating its temporary file and the rename.
const STALE_AFTER_SECONDS: i64 = 10 * 60;

/// An object as it was when opened: the open file keeps its inode, whatever happens to
/// the name meanwhile.
#[derive(Debug)]
pub(super) struct Snapshot {
    file: File,
    pub(super) meta: Metadata,
    pub(super) etag: String,
    pub(super) attributes: Attributes,
}

impl Snapshot {
    /// # Errors
    ///
    /// `NotFound` where there is no plain file, `FilesystemLoop` where there is a symbolic
    /// link, anything else as the system reports it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        loop {
            // NONBLOCK: opening a FIFO must not wait for its writer.
            let file = open_with(
                OpenOptions::new().read(true),
                path,
                OFlags::NOFOLLOW | OFlags::NONBLOCK,
            )?;
            let meta = file.metadata()?;
            if !meta.is_file() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "not a plain file"));
            }
            if let Some(record) = Record::find(&file, path, &meta)? {
                return Ok(Self {
                    file,
                    meta,
                    etag: record.etag.clone(),
                    attributes: record.into_attributes(),
                });
            }
            // A sidecar may by now describe only newer files. As this file is held open, its
            // inode cannot have been given to another one.
            if fs::symlink_metadata(path)?.ino() == meta.ino() {
                return Self::without_record(file);
            }
        }
    }

    /// The bytes of `range`, or `None` if the file was edited in place since it was opened,
    /// in which case they may not belong to this snapshot's `ETag`.
    pub(super) fn read(&self, range: Range<u64>) -> io::Result<Option<Bytes>> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut body = vec![0; length];
        match self.file.read_exact_at(&mut body, range.start) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        let now = self.file.metadata()?;
        let same = (now.size(), modified(&now)) == (self.meta.size(), modified(&self.meta));
        Ok(same.then(|| body.into()))
    }

    fn without_record(mut file: File) -> io::Result<Self> {
        let mut body = Vec::new();
        file.read_to_end(&mut body)?;
        // Taken after the body: an edit during the read then changes the digest.
        let meta = file.metadata()?;
        let mut digest = Fnv128::new();
        digest.update(&meta.dev().to_le_bytes());
        digest.update(&meta.ino().to_le_bytes());
        digest.update(&meta.size().to_le_bytes());
        for time in [modified(&meta).0, modified(&meta).1, meta.ctime(), meta.ctime_nsec()] {
            digest.update(&time.to_le_bytes());
        }
        digest.update(&body);
        Ok(Self { file, meta, etag: quoted(digest.0), attributes: Attributes::new() })
    }
}

/// A complete, durable file that has no object's name yet. Dropping it removes it.
///
/// The exclusive `flock` on it tells other processes that its writer is alive.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    file: File,
    /// What the file itself could not hold.
    sidecar: Option<Record>,
}

impl Staged {
    /// An empty file in `directory`, on no name that can be an object.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        let path =
            directory.join(format!("{RESERVED}{:032x}{TEMPORARY_SUFFIX}", SystemRandomness.bits()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let staged = Self { path, file, sidecar: None };
        flock(&staged.file, FlockOperation::LockExclusive)?;
        Ok(staged)
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Writes body and record and makes both durable; returns the new `ETag`.
    pub(super) fn write(
        &mut self,
        payload: &PutPayload,
        attributes: BTreeMap<String, String>,
    ) -> io::Result<String> {
        for chunk in payload {
            self.file.write_all(chunk)?;
        }
        // Kernels stamp files with a clock that stands still for up to 10 ms. One nanosecond
        // off its grid, the time differs from that of any later edit in place, even one
        // within the same tick. It only sharpens detection, so refusal is no failure.
        let written = self.file.metadata()?.modified()?;
        if let Some(time) = written.checked_sub(Duration::from_nanos(1)) {
            let _ = self.file.set_modified(time);
        }
        let meta = self.file.metadata()?;
        let etag = quoted(SystemRandomness.bits());
        let record = Record::new(etag.clone(), &meta, attributes);
        self.sidecar = (!record.attach(&self.file)?).then_some(record);
        // Not fdatasync, which need not write extended attributes or times.
        self.file.sync_all()?;
        Ok(etag)
    }

    /// Gives the file its object's name, durably. The caller holds the directory's lock.
    ///
    /// # Errors
    ///
    /// After an error the object is either the old or the new one.
    pub(super) fn publish(self, lock: &DirectoryLock, target: &Path) -> io::Result<()> {
        if let Some(record) = &self.sidecar {
            announce(record, lock, target)?;
        }
        fs::rename(&self.path, target)?;
        // Inside the lock: the next writer must not build on a rename that a power failure
        // could still undo. The object is there by now, whatever becomes of this: no error may
        // look as if it were not.
        sync_directory(&lock.directory).map_err(io::Error::other)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a publish there is nothing by this name.
        let _ = fs::remove_file(&self.path);
    }
}

/// Announces the file that `target` is about to become, beside the one that it is.
fn announce(record: &Record, lock: &DirectoryLock, target: &Path) -> io::Result<()> {
    let mut records = vec![record.clone()];
    match fs::symlink_metadata(target) {
        Ok(meta) => records.extend(Record::find_in_sidecar(target, &meta)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut staged = Staged::create(&lock.directory)?;
    staged.file.write_all(&serde_json::to_vec(&records)?)?;
    staged.file.sync_all()?;
    fs::rename(&staged.path, sidecar_path(target))?;
    // The two renames must reach the disk in this order.
    sync_directory(&lock.directory)
}

/// Exclusion of all other writers of a directory, in this and in other processes.
///
/// Every lock opens the file anew, and `flock` belongs to the open file, so that threads
/// exclude each other too. The file is never removed: a lock on a removed file would
/// exclude nobody.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    file: File,
    directory: PathBuf,
}

impl DirectoryLock {
    /// Waits for the lock of `directory`, which lies in `root`.
    pub(super) fn take(directory: &Path, root: &Path) -> io::Result<Self> {
        let file = open_with(
            OpenOptions::new().read(true).write(true).create(true).truncate(false),
            &directory.join(LOCK_NAME),
            OFlags::NOFOLLOW,
        )?;
        flock(&file, FlockOperation::LockExclusive)?;
        let lock = Self { file, directory: directory.to_owned() };
        // Whoever made a directory may have died before making it durable. The first to
        // lock it does so for all, and the text in the lock file says that it was done.
        if lock.file.metadata()?.size() == 0 {
            for ancestor in directory.ancestors() {
                sync_directory(ancestor)?;
                if ancestor == root {
                    break;
                }
            }
            // Without the text it is done again; a full disk must not prevent removals.
            let _ = (&lock.file).write_all(LOCK_TEXT);
        }
        Ok(lock)
    }

    /// Removes an object, durably.
    pub(super) fn remove(&self, target: &Path) -> io::Result<()> {
        fs::remove_file(target)?;
        sync_directory(&self.directory)?;
        // Only now: a file that outlives its sidecar would be taken for one made by hand. A
        // sidecar that outlives its file fits no other.
        let _ = fs::remove_file(sidecar_path(target));
        Ok(())
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing would not do if a fork had copied the descriptor.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Removes what killed writers left in `directory`. `now` is the file system's time in
/// seconds since the epoch.
pub(super) fn sweep(directory: &Path, now: i64) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let temporary = name
            .to_str()
            .is_some_and(|name| name.starts_with(RESERVED) && name.ends_with(TEMPORARY_SUFFIX));
        if !temporary || !stale(&entry.path(), now).unwrap_or(false) {
            continue;
        }
        tracing::debug!(path = %entry.path().display(), "removing a killed writer's file");
        let _ = fs::remove_file(entry.path());
    }
    Ok(())
}

fn stale(path: &Path, now: i64) -> io::Result<bool> {
    let file = open_with(OpenOptions::new().write(true), path, OFlags::NOFOLLOW)?;
    let old = file.metadata()?.mtime() < now.saturating_sub(STALE_AFTER_SECONDS);
    Ok(old && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}

fn quoted(bits: u128) -> String {
    format!("\"{bits:032x}\"")
}

fn open_with(options: &mut OpenOptions, path: &Path, flags: OFlags) -> io::Result<File> {
    // The flags are small positive numbers on every Unix.
    options.custom_flags(flags.bits() as i32).open(path)
}

fn flock(file: &File, operation: FlockOperation) -> io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation))?)
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some network file systems have no such call; their renames are synchronous.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        result => result,
    }
}
