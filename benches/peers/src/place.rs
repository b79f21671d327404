//! The stores that locks lie on.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use leaselock::DirectoryStore;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;

/// A store of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Memory,
    File,
    /// One of the emulators of `localstack/`, by its name there.
    Emulator(String),
    /// ministack behind so many milliseconds: see `peers far`.
    Far(u64),
}

impl Place {
    /// All but those that are far.
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
        !matches!(self, Self::Memory)
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
            Self::Far(delay) => {
                let variable = format!("PEERS_FAR_{delay}");
                std::env::var(&variable).context(variable)
            }
        }
    }

    /// The store itself, without the library, and where on it to work.
    pub fn objects(&self) -> Result<(Arc<dyn ObjectStore>, Path)> {
        match self {
            Self::Memory => Ok((Arc::new(InMemory::new()), Path::default())),
            Self::File => {
                let root = url::Url::parse(&self.url()?)?;
                let root = root.to_file_path().ok().context("not a directory")?;
                Ok((Arc::new(DirectoryStore::open(root)?), Path::default()))
            }
            Self::Emulator(_) | Self::Far(_) => {
                let mut url = url::Url::parse(&self.url()?)?;
                let options: Vec<(String, String)> = url.query_pairs().into_owned().collect();
                url.set_query(None);
                let (objects, prefix) = object_store::parse_url_opts(&url, options)?;
                Ok((objects.into(), prefix))
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::File => f.write_str("file"),
            Self::Emulator(name) => f.write_str(name),
            Self::Far(delay) => write!(f, "far-{delay}"),
        }
    }
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(delay) = text.strip_prefix("far-") {
            return Ok(Self::Far(delay.parse()?));
        }
        match Self::all().into_iter().find(|place| place.to_string() == text) {
            Some(place) => Ok(place),
            None => bail!("no store is called {text}"),
        }
    }
}
