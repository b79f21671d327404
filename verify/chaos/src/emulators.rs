//! Emulators of this run's own, which may be killed without disturbing anybody else's.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use leaselock_test_support::emulators::Backend;

use crate::nursery::Nursery;

/// What becomes of a store's records when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Keeps,
    /// It comes back empty: as if somebody had deleted every record.
    Loses,
}

/// Azurite's files lag up to five seconds behind what it has acknowledged: kept, they would take
/// records back in time, which no store may do. So it runs in memory.
pub(crate) fn memory_of(backend: Backend) -> Memory {
    if backend == Backend::Azurite { Memory::Loses } else { Memory::Keeps }
}

/// Emulators; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Emulators<'a> {
    nursery: &'a Nursery,
    directory: PathBuf,
    urls: BTreeMap<&'static str, String>,
    running: bool,
}

impl<'a> Emulators<'a> {
    /// Starts them, with their files below `directory`.
    ///
    /// # Errors
    /// One does not start.
    pub(crate) fn start(
        nursery: &'a Nursery,
        directory: &Path,
        backends: &[Backend],
    ) -> io::Result<Self> {
        let mut this = Self {
            nursery,
            directory: directory.to_owned(),
            urls: BTreeMap::new(),
            running: !backends.is_empty(),
        };
        if backends.is_empty() {
            return Ok(this);
        }
        this.script("up", backends.iter().map(Backend::name))?;
        for line in this.script("env", [])?.lines() {
            for backend in backends {
                let variable = backend.variable().unwrap_or_default();
                if let Some(url) = line.strip_prefix(&format!("export {variable}='")) {
                    this.urls.insert(backend.name(), url.trim_end_matches('\'').to_owned());
                }
            }
        }
        Ok(this)
    }

    /// # Errors
    /// It was not started.
    pub(crate) fn url(&self, backend: Backend) -> io::Result<&str> {
        let url = self.urls.get(backend.name());
        url.map(String::as_str).ok_or_else(|| io::Error::other(format!("{backend} is not up")))
    }

    /// Kills one, and starts it again so many seconds later.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn restart(&self, backend: Backend, seconds: f64) -> io::Result<()> {
        self.script("restart", ["--after", &format!("{seconds:.1}"), backend.name()]).map(drop)
    }

    fn script<'s>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = &'s str>,
    ) -> io::Result<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../localstack").join(name);
        let mut command = Command::new(path);
        command.args(arguments);
        command.env("LEASELOCK_LOCALSTACK_DIR", &self.directory);
        command.env("LEASELOCK_LOCALSTACK_KEEP", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.nursery.wait(self.nursery.start(&mut command)?)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("localstack/{name}: {}: {}", output.status, said.trim_end())))
    }

    /// Stops them.
    ///
    /// # Errors
    /// One does not end.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.running) {
            true => self.script("down", []).map(drop),
            false => Ok(()),
        }
    }
}

impl Drop for Emulators<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("chaos: {error}");
        }
    }
}
