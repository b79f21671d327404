//! Where objects lie: from an object's path to a file that is inside the root.

use std::fs;
use std::io;
use std::path::{Path as FilePath, PathBuf};

use object_store::path::Path;
use object_store::{Error, Result};

use super::file::{self, Snapshot};
use super::record::RESERVED;

pub(super) const STORE: &str = "DirectoryStore";

/// The limit of nearly every file system.
const NAME_MAX: usize = 255;

/// A symbolic link does not stay inside the store's root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is a symbolic link that does not stay inside the store's root {root:?}")]
pub struct OutsideRoot {
    /// Where the link leads.
    pub path: PathBuf,
    /// The directory of the store.
    pub root: PathBuf,
}

/// The store's directory, canonical.
#[derive(Debug)]
pub(super) struct Root(PathBuf);

impl Root {
    /// Makes the directory if it is missing.
    pub(super) fn open(path: &FilePath) -> Result<Self> {
        if !path.exists() {
            make_root(path).map_err(|error| file_error(path, error))?;
        }
        let real = fs::canonicalize(path).map_err(|error| file_error(path, error))?;
        if real.is_dir() {
            Ok(Self(real))
        } else {
            Err(generic(format!("{path:?} is not a directory")))
        }
    }

    pub(super) fn path(&self) -> &FilePath {
        &self.0
    }

    pub(super) fn snapshot(&self, location: &Path, path: &FilePath) -> Result<Snapshot> {
        Snapshot::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_found(location, error),
            _ if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) => {
                self.link_refused(path)
            }
            _ => file_error(path, error),
        })
    }

    /// The file of `location`, in its real directory, which is made if `make` says so.
    pub(super) fn locate(&self, location: &Path, make: bool) -> Result<PathBuf> {
        let (directory, name) = match location.as_ref().rsplit_once('/') {
            Some(split) => split,
            None => ("", location.as_ref()),
        };
        if name.is_empty() {
            return Err(illegal(location, "an empty path names no object", make));
        }
        Ok(self.directory(location, directory, make)?.join(name))
    }

    /// The real directory called `directory`, on behalf of `location`.
    pub(super) fn directory(
        &self,
        location: &Path,
        directory: &str,
        make: bool,
    ) -> Result<PathBuf> {
        check_names(location, make)?;
        let mut real = self.0.clone();
        for name in directory.split('/').filter(|name| !name.is_empty()) {
            let next = real.join(name);
            let mut meta = fs::symlink_metadata(&next);
            if make && is_not_found(&meta) {
                match fs::create_dir(&next) {
                    // Made durable by the first writer to lock it.
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(file_error(&next, error)),
                }
                meta = fs::symlink_metadata(&next);
            }
            if is_not_found(&meta) && !make {
                return Err(not_found(location, format!("{next:?} does not exist")));
            }
            let meta = meta.map_err(|error| file_error(&next, error))?;
            real = if meta.is_symlink() {
                match fs::canonicalize(&next) {
                    Ok(inside) if inside.starts_with(&self.0) => inside,
                    _ => return Err(self.outside(next)),
                }
            } else {
                next
            };
            if !real.is_dir() {
                let reason = format!("{real:?} is not a directory, so nothing can be below it");
                return Err(illegal(location, &reason, make));
            }
        }
        Ok(real)
    }

    pub(super) fn link_refused(&self, path: &FilePath) -> Error {
        match fs::canonicalize(path) {
            Ok(real) if real.starts_with(&self.0) => Error::PermissionDenied {
                path: path.display().to_string(),
                source: "a symbolic link cannot be an object".into(),
            },
            _ => self.outside(path.to_owned()),
        }
    }

    fn outside(&self, path: PathBuf) -> Error {
        Error::PermissionDenied {
            path: path.display().to_string(),
            source: Box::new(OutsideRoot { path, root: self.0.clone() }),
        }
    }
}

/// A failed operation on a file.
#[derive(Debug, thiserror::Error)]
#[error("{path:?}: {source}")]
struct FileError {
    path: PathBuf,
    source: io::Error,
}

fn make_root(root: &FilePath) -> io::Result<()> {
    let missing: Vec<_> = root.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(root)?;
    missing.iter().filter_map(|made| made.parent()).try_for_each(file::sync_directory)
}

fn check_names(location: &Path, make: bool) -> Result<()> {
    for name in location.as_ref().split('/') {
        if name.starts_with(RESERVED) {
            let reason = format!("names that begin with {RESERVED} belong to the store");
            return Err(illegal(location, &reason, make));
        }
        if name.len() > NAME_MAX {
            return Err(generic(format!(
                "a name of {} bytes in {location} exceeds the limit of {NAME_MAX}",
                name.len()
            )));
        }
    }
    Ok(())
}

/// An object that cannot be written, and therefore cannot be found either.
fn illegal(location: &Path, reason: &str, write: bool) -> Error {
    if write { generic(format!("{location}: {reason}")) } else { not_found(location, reason) }
}

pub(super) fn not_found(
    location: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::NotFound { path: location.to_string(), source: source.into() }
}

pub(super) fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: STORE, source: source.into() }
}

pub(super) fn file_error(path: &FilePath, source: io::Error) -> Error {
    let kind = source.kind();
    let source = Box::new(FileError { path: path.to_owned(), source });
    match kind {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::PermissionDenied { path: path.display().to_string(), source }
        }
        _ => Error::Generic { store: STORE, source },
    }
}

fn is_not_found(result: &io::Result<fs::Metadata>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::NotFound)
}
