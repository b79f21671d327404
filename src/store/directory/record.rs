//! What is kept about an object beside its body, and where.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use object_store::{Attribute, AttributeValue, Attributes};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Names which begin so belong to the store and are never objects.
pub(super) const RESERVED: &str = ".leaselock-";

const SIDECAR_SUFFIX: &str = ".meta";
const XATTR_NAME: &str = "user.leaselock.object";

/// Enough for an ordinary record, then Linux's limit. The kernel clears a buffer of the
/// size that is asked for.
const XATTR_SIZES: [usize; 2] = [2 * 1024, 64 * 1024];

/// An object's `ETag` and attributes, with the file they were written for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) etag: String,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    attributes: BTreeMap<String, String>,
}

impl Record {
    pub(super) fn new(etag: String, meta: &Metadata, attributes: BTreeMap<String, String>) -> Self {
        Self { etag, inode: meta.ino(), size: meta.size(), modified: modified(meta), attributes }
    }

    /// The record of `file`, which was opened as `path` and is described by `meta`.
    pub(super) fn find(file: &File, path: &Path, meta: &Metadata) -> io::Result<Option<Self>> {
        match read_xattr(file)?.filter(|record| record.fits(meta)) {
            Some(record) => Ok(Some(record)),
            None => Self::find_in_sidecar(path, meta),
        }
    }

    /// The record in `path`'s sidecar for the file described by `meta`.
    pub(super) fn find_in_sidecar(path: &Path, meta: &Metadata) -> io::Result<Option<Self>> {
        let json = match fs::read(sidecar_path(path)) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let records: Vec<Self> = serde_json::from_slice(&json).unwrap_or_default();
        Ok(records.into_iter().find(|record| record.fits(meta)))
    }

    /// Whether `file` itself could take the record.
    pub(super) fn attach(&self, file: &File) -> io::Result<bool> {
        let json = serde_json::to_vec(self)?;
        // Whatever the reason for a refusal, the sidecar does as well; a failing disk shows
        // when the file is synced.
        Ok(rustix::fs::fsetxattr(file, XATTR_NAME, &json, XattrFlags::empty()).is_ok())
    }

    pub(super) fn into_attributes(self) -> Attributes {
        decode_attributes(self.attributes)
    }

    fn fits(&self, meta: &Metadata) -> bool {
        (self.inode, self.size, self.modified) == (meta.ino(), meta.size(), modified(meta))
    }
}

/// Attributes in the form in which they are kept, or the first that has none.
pub(super) fn encode_attributes(
    attributes: &Attributes,
) -> Result<BTreeMap<String, String>, Attribute> {
    let mut encoded = BTreeMap::new();
    for (attribute, value) in attributes {
        let key = match attribute {
            Attribute::ContentDisposition => "content-disposition".to_owned(),
            Attribute::ContentEncoding => "content-encoding".to_owned(),
            Attribute::ContentLanguage => "content-language".to_owned(),
            Attribute::ContentType => "content-type".to_owned(),
            Attribute::CacheControl => "cache-control".to_owned(),
            Attribute::StorageClass => "storage-class".to_owned(),
            Attribute::Metadata(name) => format!("metadata:{name}"),
            other => return Err(other.clone()),
        };
        encoded.insert(key, value.to_string());
    }
    Ok(encoded)
}

fn decode_attributes(encoded: BTreeMap<String, String>) -> Attributes {
    let decode = |(key, value): (String, String)| {
        let attribute = match key.as_str() {
            "content-disposition" => Attribute::ContentDisposition,
            "content-encoding" => Attribute::ContentEncoding,
            "content-language" => Attribute::ContentLanguage,
            "content-type" => Attribute::ContentType,
            "cache-control" => Attribute::CacheControl,
            "storage-class" => Attribute::StorageClass,
            // Anything else is a newer version's.
            other => Attribute::Metadata(other.strip_prefix("metadata:")?.to_owned().into()),
        };
        Some((attribute, AttributeValue::from(value)))
    };
    encoded.into_iter().filter_map(decode).collect()
}

fn read_xattr(file: &File) -> io::Result<Option<Record>> {
    for size in XATTR_SIZES {
        let mut json = Vec::with_capacity(size);
        let buffer = rustix::buffer::spare_capacity(&mut json);
        match rustix::fs::fgetxattr(file, XATTR_NAME, buffer) {
            Ok(_) => return Ok(serde_json::from_slice(&json).ok()),
            Err(Errno::RANGE) => {}
            Err(error @ (Errno::IO | Errno::STALE)) => return Err(error.into()),
            // Systems differ in how they say that there is none.
            Err(_) => break,
        }
    }
    Ok(None)
}

/// Named by a digest, as an object's name may be as long as the file system allows. Should
/// two share a sidecar, a record that is missing there only makes a file look edited.
pub(super) fn sidecar_path(target: &Path) -> PathBuf {
    let mut digest = Fnv128::new();
    digest.update(target.file_name().unwrap_or_default().as_bytes());
    target.with_file_name(format!("{RESERVED}{:032x}{SIDECAR_SUFFIX}", digest.0))
}

pub(super) fn modified(meta: &Metadata) -> (i64, i64) {
    (meta.mtime(), meta.mtime_nsec())
}

/// 128-bit FNV-1a: tells apart a person's edits and needs no dependency.
pub(super) struct Fnv128(pub(super) u128);

impl Fnv128 {
    pub(super) fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte))
                .wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_has_the_published_value() {
        let mut digest = Fnv128::new();
        digest.update(b"a");
        assert_eq!(digest.0, 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn attributes_survive_and_unknown_ones_are_passed_over() {
        let attributes = Attributes::from_iter([
            (Attribute::ContentType, "application/json"),
            (Attribute::Metadata("content-type".into()), "other"),
            (Attribute::Metadata("metadata:a".into()), ""),
        ]);
        let mut encoded = encode_attributes(&attributes).unwrap();
        assert_eq!(encoded.len(), 3);
        encoded.insert("from-a-newer-version".to_owned(), "x".to_owned());
        assert_eq!(decode_attributes(encoded), attributes);
    }
}
