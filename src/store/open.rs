//! From a URL to a [`LockStore`].

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme};
use url::Url;

use super::LockStore;
use super::directory::DirectoryStore;
use super::objects::ETags;
use super::probe::{Fitness, LastProbe, TimeSource};
use super::request::Requests;
use super::time::StoreClock;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::rng::Randomness;

/// What a store is opened with.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Randomness>,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) prefix: Option<String>,
    pub(crate) check: bool,
}

/// Opens the store at `url`; returns it with a form of the URL that is safe to print.
///
/// # Errors
/// The URL or an option is not understood, or a directory cannot be used.
pub(crate) fn url(text: &str, mut opening: Opening) -> Result<(LockStore, String)> {
    let mut url = Url::parse(text).map_err(|error| {
        let advice = "it is not a URL such as s3://bucket/prefix or file:///directory";
        bad_url(&harmless(text), advice).caused_by(error)
    })?;
    // Options in the URL are the user's last word.
    let in_url: Vec<_> =
        url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
    opening.options.extend(in_url);
    url.set_query(None);
    url.set_fragment(None);
    // No store takes a user from its URL, but `object_store`'s errors quote it. (It is refused only for
    // URLs that cannot have one.)
    let _ = url.set_password(None);
    // abfs://container@account
    if !matches!(url.scheme(), "abfs" | "abfss") {
        let _ = url.set_username("");
    }
    let printable = url.to_string();

    let (scheme, path) = ObjectStoreScheme::parse(&url).map_err(|_| {
        // Without a source, which would quote the URL with what may be secret in it.
        let known = "known are s3, gs, az, abfs, abfss, file and memory";
        bad_url(&harmless(text), &format!("its scheme or form is not known ({known})"))
    })?;
    let store = match scheme {
        ObjectStoreScheme::Local => directory(&url, opening)?,
        ObjectStoreScheme::Memory => memory(&path, opening)?,
        #[cfg(feature = "aws")]
        ObjectStoreScheme::AmazonS3 => cloud::s3(&url, &path, opening)?,
        #[cfg(feature = "azure")]
        ObjectStoreScheme::MicrosoftAzure => cloud::azure(&url, &path, opening)?,
        #[cfg(feature = "gcp")]
        ObjectStoreScheme::GoogleCloudStorage => cloud::gcs(&url, &path, opening)?,
        ObjectStoreScheme::Http => {
            let advice = "plain HTTP servers cannot write conditionally; for a server that speaks \
                          S3's protocol use s3://BUCKET?aws_endpoint=URL";
            return Err(bad_url(&printable, advice));
        }
        other => {
            let advice = format!("leaselock was built without support for it ({other:?})");
            return Err(bad_url(&printable, &advice));
        }
    };
    Ok((store, printable))
}

/// Locks on a store of the user's own.
///
/// # Errors
/// The prefix is not a path.
pub(crate) fn object_store(
    objects: Arc<dyn ObjectStore>,
    opening: Opening,
) -> Result<(LockStore, String)> {
    let printable = objects.to_string();
    no_options(&opening, "a store that you built yourself")?;
    let requests = Requests::unobserved(objects, Arc::clone(&opening.clock));
    let store = assemble(requests, &Path::default(), Nature::unknown(opening.check), opening)?;
    Ok((store, printable))
}

/// Objects on a store of the user's own, with the clock and the randomness of `store`.
pub(crate) fn beside(store: &LockStore, objects: Arc<dyn ObjectStore>) -> LockStore {
    let (clock, rng) = (Arc::clone(&store.clock), Arc::clone(&store.rng));
    let requests = Requests::unobserved(objects, Arc::clone(&clock));
    Nature::unknown(true).into_store(requests, Path::default(), clock, rng)
}

fn directory(url: &Url, opening: Opening) -> Result<LockStore> {
    no_options(&opening, "file://")?;
    let root = url.to_file_path().map_err(|()| {
        bad_url(url.as_str(), "the path of a file:// URL must be absolute and on this machine")
    })?;
    let objects = DirectoryStore::open(&root).map_err(|error| {
        let kind = match error {
            object_store::Error::PermissionDenied { .. } => ErrorKind::PermissionDenied,
            _ => ErrorKind::StoreAbsent,
        };
        let message = format!("the directory {} cannot hold locks", root.display());
        Error::new(kind, message).caused_by(error)
    })?;
    let requests = Requests::local(Arc::new(objects.clone()), Arc::clone(&opening.clock));
    let time = TimeSource::Directory(objects, StoreClock::default());
    assemble(requests, &Path::default(), Nature::ours(time), opening)
}

fn memory(path: &Path, opening: Opening) -> Result<LockStore> {
    no_options(&opening, "memory://")?;
    let requests = Requests::local(Arc::new(InMemory::new()), Arc::clone(&opening.clock));
    let time = TimeSource::OwnWallClock(StoreClock::default());
    assemble(requests, path, Nature::ours(time), opening)
}

/// What kind of store it is.
struct Nature {
    time: TimeSource,
    fitness: Fitness,
    metadata: Fitness,
    e_tags: ETags,
}

impl Nature {
    /// A directory or memory.
    fn ours(time: TimeSource) -> Self {
        let (fitness, metadata) = (Fitness::vouched(), Fitness::vouched());
        Self { time, fitness, metadata, e_tags: ETags::PerWrite }
    }

    /// A store of the user's own. Nobody knows what it makes its ETags of.
    fn unknown(check: bool) -> Self {
        let fitness = || if check { Fitness::unknown(None) } else { Fitness::vouched() };
        Self {
            time: TimeSource::Probe(LastProbe::default()),
            fitness: fitness(),
            metadata: fitness(),
            e_tags: ETags::OfBodies,
        }
    }

    fn into_store(
        self,
        requests: Requests,
        prefix: Path,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Randomness>,
    ) -> LockStore {
        let Self { time, fitness, metadata, e_tags } = self;
        LockStore { requests, prefix, clock, rng, time, fitness, metadata, e_tags }
    }
}

fn assemble(
    requests: Requests,
    path: &Path,
    nature: Nature,
    opening: Opening,
) -> Result<LockStore> {
    let below = Path::parse(opening.prefix.as_deref().unwrap_or_default()).map_err(|error| {
        Error::new(ErrorKind::InvalidUrl, "the prefix is not a path").caused_by(error)
    })?;
    let prefix = path.parts().chain(below.parts()).collect();
    Ok(nature.into_store(requests, prefix, opening.clock, opening.rng))
}

fn no_options(opening: &Opening, store: &str) -> Result<()> {
    match opening.options.iter().next() {
        None => Ok(()),
        Some(option) => {
            let message = format!("{store} has no options, but {} was given", named(option));
            Err(Error::new(ErrorKind::InvalidUrl, message))
        }
    }
}

/// An option for a message. What has no value may be a secret whose name was forgotten.
fn named((key, value): (&String, &String)) -> String {
    if value.is_empty() { "one without a value".to_owned() } else { format!("{key:?}") }
}

fn bad_url(url: &str, fault: &str) -> Error {
    Error::new(ErrorKind::InvalidUrl, format!("the store URL {url:?} cannot be used: {fault}"))
}

/// What may be shown of a text that is no store's URL: neither options nor whatever is on either side of
/// an `@`, which a user or a password may be.
fn harmless(text: &str) -> String {
    let place = text.split(['?', '#']).next().unwrap_or_default();
    if !text.contains('@') {
        return place.to_owned();
    }
    let scheme = place.split(['@', '/']).next().unwrap_or_default();
    let scheme = scheme.split_once(':').filter(|_| place.contains(":/")).map_or("", |(it, _)| it);
    format!("{scheme}…")
}

#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
mod cloud {
    use std::collections::BTreeMap;
    use std::error::Error as StdError;
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::str::FromStr;
    use std::time::Duration;

    use object_store::RetryConfig;

    use super::*;
    use crate::error::with_causes;
    use crate::store::connector::Connector;

    /// Opens a store with one of `object_store`'s builders, which have no common trait.
    macro_rules! open_with {
        ($builder:ty, $e_tags:expr, $url:expr, $path:expr, $opening:expr) => {{
            let connector = Connector::new(Arc::clone(&$opening.clock));
            let mut builder = <$builder>::from_env()
                .with_url($url.as_str())
                .with_retry(no_retries())
                .with_http_connector(connector.clone());
            for (key, value) in configuration(&$opening.options)? {
                builder = builder.with_config(key, value);
            }
            finish(builder.build(), connector, $e_tags, $url, $path, $opening)
        }};
    }

    #[cfg(feature = "aws")]
    pub(super) fn s3(url: &Url, path: &Path, opening: Opening) -> Result<LockStore> {
        open_with!(object_store::aws::AmazonS3Builder, ETags::OfBodies, url, path, opening)
    }

    #[cfg(feature = "azure")]
    pub(super) fn azure(url: &Url, path: &Path, opening: Opening) -> Result<LockStore> {
        open_with!(object_store::azure::MicrosoftAzureBuilder, ETags::PerWrite, url, path, opening)
    }

    #[cfg(feature = "gcp")]
    pub(super) fn gcs(url: &Url, path: &Path, opening: Opening) -> Result<LockStore> {
        open_with!(
            object_store::gcp::GoogleCloudStorageBuilder,
            ETags::PerWrite,
            url,
            path,
            opening
        )
    }

    fn finish<S: ObjectStore>(
        built: object_store::Result<S>,
        connector: Connector,
        e_tags: ETags,
        url: &Url,
        path: &Path,
        opening: Opening,
    ) -> Result<LockStore> {
        let objects = built.map_err(|error| {
            Error::new(ErrorKind::InvalidUrl, "the store's URL or options are incomplete or wrong")
                .caused_by(without_values(&error, &opening.options))
        })?;
        let clock = Arc::clone(&opening.clock);
        let credentials = connector.credential_trouble();
        let requests = Requests::observed(Arc::new(objects), clock, credentials);
        let nature = Nature {
            time: TimeSource::Answers,
            fitness: fitness(&opening, url, "conditions"),
            metadata: fitness(&opening, url, "metadata"),
            e_tags,
        };
        assemble(requests, path, nature, opening)
    }

    /// Why a store could not be built, without what its options and the provider's variables are set to:
    /// a key that cannot be read is quoted as it is.
    fn without_values(error: &dyn StdError, options: &BTreeMap<String, String>) -> String {
        let text = with_causes(error);
        let is_read =
            |name: &str| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|of| name.starts_with(of));
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            is_read(name.to_str()?).then(|| value.to_str().map(str::to_owned))?
        });
        let mut values: Vec<_> = options.values().cloned().chain(variables).collect();
        // One that is a part of another comes after it. What is as short as that is no secret, and would
        // be found in every text.
        values.retain(|value| value.len() > 3);
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.iter().fold(text, |text, value| text.replace(value.as_str(), "…"))
    }

    /// Each check is made once per store and process.
    fn fitness(opening: &Opening, url: &Url, check: &str) -> Fitness {
        if !opening.check {
            return Fitness::vouched();
        }
        let mut hasher = DefaultHasher::new();
        (check, url, &opening.options, &opening.prefix).hash(&mut hasher);
        Fitness::unknown(Some(hasher.finish()))
    }

    /// `object_store` repeats requests for three minutes by itself, far longer than a lease, and
    /// then reports about the last of them. [`LockStore::swap`] does it better.
    fn no_retries() -> RetryConfig {
        RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() }
    }

    /// The options with their keys understood. An unknown one is refused, not ignored.
    fn configuration<K: FromStr>(options: &BTreeMap<String, String>) -> Result<Vec<(K, String)>>
    where
        K::Err: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut known = Vec::with_capacity(options.len());
        for (key, value) in options {
            let parsed = key.to_ascii_lowercase().parse().map_err(|error: K::Err| {
                let message = format!("unknown store option: {}", named((key, value)));
                let unknown = Error::new(ErrorKind::InvalidUrl, message);
                if value.is_empty() { unknown } else { unknown.caused_by(error) }
            })?;
            known.push((parsed, value.clone()));
        }
        Ok(known)
    }
}
