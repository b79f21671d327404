//! What it takes to go on with a lease, and the file that keeps it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use leaselock::{FencingToken, HolderId};
use serde_json::{Value, json};

use crate::exit::{self, Failure};
use crate::private_file;

/// More than any handle needs.
const LONGEST: u64 = 64 * 1024;

/// A lease that is on record, and nobody keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    pub(super) name: String,
    /// Without credentials and options.
    pub(super) store: String,
    pub(super) holder: HolderId,
    pub(super) token: FencingToken,
    pub(super) ttl: Duration,
    /// Until when it is held for certain, by the wall clock of this machine.
    pub(super) expires_at: SystemTime,
}

impl Handle {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "store": self.store,
            "holder": self.holder.to_string(),
            "token": self.token.get(),
            "ttl_ms": u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            "expires_at": humantime::format_rfc3339_millis(self.expires_at).to_string(),
        })
    }

    /// # Errors
    /// The file cannot be read, or is no handle.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(LONGEST).read_to_string(&mut text))
            .map_err(|error| cannot("read", path, &error))?;
        Self::parse(&text).map_err(|fault| {
            let message = format!("{} is no handle: {fault}", path.display());
            Failure::new(exit::CONFIGURATION, message)
                .hint("`leaselock acquire --handle FILE` writes them")
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let part = |name: &str| value.get(name).ok_or_else(|| format!("{name} is missing"));
        let string = |name: &str| {
            part(name)?.as_str().ok_or_else(|| format!("{name} is not a text")).map(str::to_owned)
        };
        let number = |name: &str| {
            part(name)?.as_u64().ok_or_else(|| format!("{name} is not a whole number"))
        };
        Ok(Self {
            name: string("name")?,
            store: string("store")?,
            holder: string("holder")?.parse().map_err(|error| format!("holder: {error}"))?,
            token: FencingToken::new(number("token")?).ok_or("token is 0")?,
            ttl: Duration::from_millis(number("ttl_ms")?),
            expires_at: humantime::parse_rfc3339(&string("expires_at")?)
                .map_err(|error| format!("expires_at: {error}"))?,
        })
    }

    /// Replaces the file whole: a reader sees the old handle or the new one.
    pub(super) fn replace(&self, path: &Path) -> Result<(), Failure> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        private_file::replace(path, Path::new(&draft), self.to_json())
            .map_err(|error| cannot("write", path, &error))
    }
}

/// A file for a handle that is yet to be had; removed unless it is kept.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    path: &'a Path,
    file: Option<File>,
}

impl<'a> Draft<'a> {
    /// # Errors
    /// It cannot be written, or there is one already: perhaps of a lease that is still held.
    pub(super) fn create(path: &'a Path) -> Result<Self, Failure> {
        match private_file::create(path) {
            Ok(file) => Ok(Self { path, file: Some(file) }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let path = path.display();
                let hint = format!(
                    "`leaselock release --handle {path}` gives back what it stands for, and removes it"
                );
                Err(Failure::new(exit::USAGE, format!("{path} is there already")).hint(hint))
            }
            Err(error) => Err(cannot("write", path, &error)),
        }
    }

    pub(super) fn keep(mut self, handle: &Handle) -> Result<(), Failure> {
        if let Some(file) = &mut self.file {
            writeln!(file, "{}", handle.to_json())
                .and_then(|()| file.sync_all())
                .map_err(|error| cannot("write", self.path, &error))?;
        }
        self.file = None;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.file.is_some() {
            remove(self.path);
        }
    }
}

/// What is not there need not be removed.
pub(super) fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(exit::CONFIGURATION, format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> Handle {
        Handle {
            name: "a/b".to_owned(),
            store: "file:///x".to_owned(),
            holder: HolderId::from_random(7),
            token: FencingToken::new(5).unwrap(),
            ttl: Duration::from_secs(600),
            expires_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        assert_eq!(Handle::parse(&handle().to_json().to_string()), Ok(handle()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for name in ["name", "store", "holder", "token", "ttl_ms", "expires_at"] {
            let mut value = handle().to_json();
            value[name] = json!(["x"]);
            let fault = Handle::parse(&value.to_string()).unwrap_err();
            assert!(fault.starts_with(name), "{fault}");
            value.as_object_mut().unwrap().remove(name);
            assert_eq!(Handle::parse(&value.to_string()), Err(format!("{name} is missing")));
        }
        assert!(Handle::parse("").is_err());
        assert!(Handle::parse("[]").unwrap_err().contains("missing"));
    }
}
