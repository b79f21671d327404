//! Which stores there are to test against, and where.
//!
//! Stores that run elsewhere are named by environment variables, each a complete store URL with
//! its options; `localstack/up` starts them and `localstack/env` prints the variables.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::proxy::FaultProxy;

/// A store to test against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// `memory://`.
    Memory,
    /// `file://` in a new directory.
    File,
    /// Amazon S3's behaviour.
    Ministack,
    /// A real distributed S3 store; slow when many race for one key.
    Seaweedfs,
    /// Azure Blob Storage, Microsoft's own emulator.
    Azurite,
    /// Google Cloud Storage (fake-gcs-server).
    Gcs,
    /// MinIO, where it runs.
    Minio,
    /// LocalStack, where it runs.
    Localstack,
}

impl Backend {
    /// Every store that CI must have.
    pub const ALL: [Self; 6] =
        [Self::Memory, Self::File, Self::Ministack, Self::Seaweedfs, Self::Azurite, Self::Gcs];
    /// Stores that are tested where they happen to run.
    pub const OPTIONAL: [Self; 2] = [Self::Minio, Self::Localstack];

    /// The name, lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File => "file",
            Self::Ministack => "ministack",
            Self::Seaweedfs => "seaweedfs",
            Self::Azurite => "azurite",
            Self::Gcs => "gcs",
            Self::Minio => "minio",
            Self::Localstack => "localstack",
        }
    }

    /// The backend of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Self::OPTIONAL).find(|backend| backend.name() == name)
    }

    /// The environment variable that holds the store's URL; `None` for the ones inside the
    /// process.
    pub fn variable(&self) -> Option<&'static str> {
        match self {
            Self::Memory | Self::File => None,
            Self::Ministack => Some("LEASELOCK_TEST_MINISTACK"),
            Self::Seaweedfs => Some("LEASELOCK_TEST_SEAWEEDFS"),
            Self::Azurite => Some("LEASELOCK_TEST_AZURITE"),
            Self::Gcs => Some("LEASELOCK_TEST_GCS"),
            Self::Minio => Some("LEASELOCK_TEST_MINIO"),
            Self::Localstack => Some("LEASELOCK_TEST_LOCALSTACK"),
        }
    }

    /// Whether this store is spoken to over HTTP.
    pub fn is_http(&self) -> bool {
        self.variable().is_some()
    }

    /// The store's URL as the environment has it. `None` when the variable is not set or empty,
    /// and for [`Backend::File`], which has no URL but a fresh one.
    pub fn url(&self) -> Option<String> {
        match self.variable() {
            None if *self == Self::Memory => Some("memory:///".into()),
            None => None,
            Some(variable) => std::env::var(variable).ok().filter(|url| !url.is_empty()),
        }
    }

    /// A place of its own in this store for one test: [`require`], then a new prefix in the
    /// bucket, a new directory, or an empty memory.
    ///
    /// # Panics
    /// As [`require`]; when there is no temporary directory to be had.
    #[track_caller]
    pub fn fresh_url(&self) -> Option<TestUrl> {
        let mut dir = None;
        let url = match self {
            Self::Memory => "memory:///".into(),
            Self::File => {
                let new = tempfile::Builder::new()
                    .prefix("leaselock-")
                    .tempdir()
                    .expect("a temporary directory");
                let url = url::Url::from_file_path(new.path()).expect("an absolute path");
                dir = Some(new);
                url.into()
            }
            _ => with_prefix(&require(*self)?, &format!("t-{}", random_hex())),
        };
        Some(TestUrl { url, backend: *self, dir })
    }

    /// How many may race for one key and still finish in good time.
    pub fn max_racers(&self) -> usize {
        match self {
            Self::Seaweedfs => 4,
            _ => 8,
        }
    }

    /// How long a test waits for what must come before it fails.
    pub fn patience(&self) -> Duration {
        match self {
            Self::Seaweedfs => Duration::from_secs(120),
            _ => Duration::from_secs(40),
        }
    }

    /// How long one request may take here before it counts as failed.
    pub fn request_timeout(&self) -> Duration {
        match self {
            Self::Seaweedfs => Duration::from_secs(30),
            _ => Duration::from_secs(10),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The store's URL from the environment, or `None` when this test is to be skipped (which is said
/// once on standard error).
///
/// # Panics
/// When `CI=true` and a store that CI must have is not there. For [`Backend::File`], which has no
/// URL of its own: [`Backend::fresh_url`].
#[track_caller]
pub fn require(backend: Backend) -> Option<String> {
    static SAID: Mutex<Option<HashSet<Backend>>> = Mutex::new(None);
    if let Some(url) = backend.url() {
        return Some(url);
    }
    let variable = backend.variable().expect("a backend outside the process");
    let optional = Backend::OPTIONAL.contains(&backend);
    assert!(
        optional || std::env::var("CI").as_deref() != Ok("true"),
        "{variable} is not set: run localstack/up, then eval \"$(localstack/env)\""
    );
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.get_or_insert_default().insert(backend) {
        eprintln!("skipped: {variable} not set");
    }
    None
}

/// A store URL for one test; keeps its temporary directory, if it has one, until it is dropped.
/// What a test leaves in a bucket stays there.
#[derive(Debug)]
pub struct TestUrl {
    url: String,
    backend: Backend,
    dir: Option<TempDir>,
}

impl TestUrl {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The store it is in.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The directory behind a `file://` URL.
    pub fn dir(&self) -> Option<&std::path::Path> {
        self.dir.as_ref().map(TempDir::path)
    }

    /// The same place with one more option in its query. The value is percent-encoded.
    pub fn with_option(&self, key: &str, value: &str) -> String {
        let value: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let joint = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{joint}{key}={}", self.url, value.replace('+', "%20"))
    }

    /// A new proxy in front of this store, and the URL of the same place through it.
    ///
    /// # Panics
    /// When this store is not on a loopback address.
    #[track_caller]
    pub fn proxied(&self) -> (FaultProxy, String) {
        FaultProxy::in_front_of(&self.url)
    }
}

impl fmt::Display for TestUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl AsRef<str> for TestUrl {
    fn as_ref(&self) -> &str {
        &self.url
    }
}

impl From<&TestUrl> for String {
    fn from(url: &TestUrl) -> Self {
        url.url.clone()
    }
}

/// Sixteen hexadecimal digits that are most likely new.
pub fn random_hex() -> String {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    format!("{:016x}", hasher.finish())
}

/// The URL with one more segment at the end of its path.
fn with_prefix(url: &str, prefix: &str) -> String {
    let (place, query) = match url.find('?') {
        Some(at) => url.split_at(at),
        None => (url, ""),
    };
    format!("{}/{prefix}{query}", place.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_goes_before_the_query() {
        assert_eq!(with_prefix("s3://locks", "t"), "s3://locks/t");
        assert_eq!(with_prefix("s3://locks?a=b/c", "t"), "s3://locks/t?a=b/c");
        assert_eq!(with_prefix("gs://locks/base/?a=b", "t"), "gs://locks/base/t?a=b");
    }

    #[test]
    fn fresh_places_differ() {
        assert_ne!(random_hex(), random_hex());
        let one = Backend::File.fresh_url().expect("a directory");
        let two = Backend::File.fresh_url().expect("a directory");
        assert_ne!(one.as_str(), two.as_str());
        assert!(one.as_str().starts_with("file:///"));
        let dir = one.dir().expect("a directory").to_owned();
        assert!(dir.is_dir());
        drop(one);
        assert!(!dir.exists());
    }

    #[test]
    fn an_option_is_added_encoded() {
        let url =
            TestUrl { url: "s3://locks/t?a=b".into(), backend: Backend::Ministack, dir: None };
        assert_eq!(url.with_option("c", "d e&f"), "s3://locks/t?a=b&c=d%20e%26f");
    }

    #[test]
    fn names_lead_back() {
        for backend in Backend::ALL.into_iter().chain(Backend::OPTIONAL) {
            assert_eq!(Backend::from_name(backend.name()), Some(backend));
        }
        assert_eq!(Backend::from_name("none"), None);
    }
}
