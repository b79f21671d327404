//! What objects there are.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FilePath, PathBuf};

use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{Error, ListResult, ObjectMeta, Result};

use super::file::Snapshot;
use super::place::{Root, file_error};
use super::record::RESERVED;

/// All objects below `prefix`.
pub(super) fn all(root: &Root, prefix: &Path) -> Result<Vec<ObjectMeta>> {
    let mut objects = Vec::new();
    if let Some(directory) = listed(root, prefix)? {
        walk(root, &directory, prefix, &mut objects)?;
    }
    Ok(objects)
}

/// The objects directly below `prefix`, and the directories that hold others.
pub(super) fn level(root: &Root, prefix: &Path) -> Result<ListResult> {
    let mut result = ListResult {
        common_prefixes: Vec::new(),
        objects: Vec::new(),
        extensions: Default::default(),
    };
    let Some(directory) = listed(root, prefix)? else {
        return Ok(result);
    };
    for (path, location, kind) in entries(&directory, prefix)? {
        if kind.is_dir() {
            if any_object(&path, &location)? {
                result.common_prefixes.push(location);
            }
        } else {
            result.objects.extend(listing(root, location, &path)?);
        }
    }
    Ok(result)
}

/// Adds the objects in and below `directory`, which `prefix` stands for.
fn walk(
    root: &Root,
    directory: &FilePath,
    prefix: &Path,
    objects: &mut Vec<ObjectMeta>,
) -> Result<()> {
    for (path, location, kind) in entries(directory, prefix)? {
        if kind.is_dir() {
            walk(root, &path, &location, objects)?;
        } else {
            objects.extend(listing(root, location, &path)?);
        }
    }
    Ok(())
}

fn any_object(directory: &FilePath, prefix: &Path) -> Result<bool> {
    for (path, location, kind) in entries(directory, prefix)? {
        if kind.is_file() || any_object(&path, &location)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `None` if the object has gone since it was seen.
fn listing(root: &Root, location: Path, path: &FilePath) -> Result<Option<ObjectMeta>> {
    match root.snapshot(&location, path) {
        Ok(snapshot) => Ok(Some(object_meta(location, &snapshot))),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directory of `prefix`, if there is one.
fn listed(root: &Root, prefix: &Path) -> Result<Option<PathBuf>> {
    match root.directory(prefix, prefix.as_ref(), false) {
        Ok(directory) => Ok(Some(directory)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn object_meta(location: Path, snapshot: &Snapshot) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: last_modified(&snapshot.meta),
        size: snapshot.meta.size(),
        e_tag: Some(snapshot.etag.clone()),
        version: None,
    }
}

pub(super) fn last_modified(meta: &fs::Metadata) -> DateTime<Utc> {
    let nanoseconds = u32::try_from(meta.mtime_nsec()).unwrap_or_default();
    DateTime::from_timestamp(meta.mtime(), nanoseconds).unwrap_or_default()
}

/// The objects and directories in `directory`: not links, nor the store's own files, nor
/// names that no object can have. Empty if the directory has gone.
fn entries(directory: &FilePath, prefix: &Path) -> Result<Vec<(PathBuf, Path, fs::FileType)>> {
    let failed = |error| file_error(directory, error);
    let reading = match fs::read_dir(directory) {
        Ok(reading) => reading,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in reading {
        let entry = entry.map_err(failed)?;
        let kind = match entry.file_type() {
            Ok(kind) if kind.is_file() || kind.is_dir() => kind,
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with(RESERVED)) else {
            continue;
        };
        let location = match prefix.as_ref() {
            "" => Path::parse(name),
            prefix => Path::parse(format!("{prefix}/{name}")),
        };
        if let Ok(location) = location {
            found.push((entry.path(), location, kind));
        }
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(found)
}
