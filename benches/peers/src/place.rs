//! The stores that locks lie on.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use leaselock::DirectoryStore;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};

/// A store of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Memory,
    File,
    /// One of the emulators of `localstack/`, by its name there.
    Emulator(String),
    /// Memory that takes so many milliseconds for a request.
    Slow(u64),
}

impl Place {
    /// All but the slow ones.
    pub fn all() -> Vec<Self> {
        let emulators = ["ministack", "seaweedfs", "azurite", "gcs"];
        let emulators = emulators.map(|name| Self::Emulator(name.to_owned()));
        [Self::Memory, Self::File].into_iter().chain(emulators).collect()
    }

    pub fn is_there(&self) -> bool {
        self.url().is_ok()
    }

    /// Whether several processes see the same objects.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::File | Self::Emulator(_))
    }

    /// As the library takes it, for stores that have one.
    pub fn url(&self) -> Result<String> {
        match self {
            Self::Memory => Ok("memory:///".to_owned()),
            Self::File => {
                let root = std::env::var("PEERS_DIRECTORY").context("PEERS_DIRECTORY")?;
                std::fs::create_dir_all(&root)?;
                let root = url::Url::from_directory_path(&root).ok().context("not absolute")?;
                Ok(root.to_string())
            }
            Self::Emulator(name) => {
                let variable = format!("LEASELOCK_TEST_{}", name.to_uppercase());
                std::env::var(&variable).context(variable)
            }
            Self::Slow(_) => Ok(String::new()),
        }
    }

    /// The store itself, without the library, and where on it to work.
    pub fn objects(&self) -> Result<(Arc<dyn ObjectStore>, Path)> {
        match self {
            Self::Memory => Ok((Arc::new(InMemory::new()), Path::default())),
            Self::Slow(delay) => Ok((self.slow(*delay), Path::default())),
            Self::File => {
                let root = url::Url::parse(&self.url()?)?;
                let root = root.to_file_path().ok().context("not a directory")?;
                Ok((Arc::new(DirectoryStore::open(root)?), Path::default()))
            }
            Self::Emulator(_) => {
                let mut url = url::Url::parse(&self.url()?)?;
                let options: Vec<(String, String)> = url.query_pairs().into_owned().collect();
                url.set_query(None);
                let (objects, prefix) = object_store::parse_url_opts(&url, options)?;
                Ok((objects.into(), prefix))
            }
        }
    }

    fn slow(&self, delay: u64) -> Arc<dyn ObjectStore> {
        /// One memory for all handles of this process, as they are to meet on it.
        static SHARED: OnceLock<Arc<InMemory>> = OnceLock::new();
        let memory = Arc::clone(SHARED.get_or_init(Arc::default));
        let delay = Duration::from_millis(delay);
        let delays = ThrottleConfig {
            wait_get_per_call: delay,
            wait_put_per_call: delay,
            wait_delete_per_call: delay,
            ..ThrottleConfig::default()
        };
        Arc::new(ThrottledStore::new(memory, delays))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::File => f.write_str("file"),
            Self::Emulator(name) => f.write_str(name),
            Self::Slow(delay) => write!(f, "slow-{delay}"),
        }
    }
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(delay) = text.strip_prefix("slow-") {
            return Ok(Self::Slow(delay.parse()?));
        }
        match Self::all().into_iter().find(|place| place.to_string() == text) {
            Some(place) => Ok(place),
            None => bail!("no store is called {text}"),
        }
    }
}
