//! Is the lock one? Whoever has it also takes a lock of the kernel's on a file, which nobody else may
//! have just then: a contestant that lets two in does not get away with its rate.

use std::fs::{File, OpenOptions};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// What one contender goes by.
pub struct Referee(File);

impl Referee {
    /// Of the lock `name`, for every process that names it.
    pub fn of(name: &str) -> Result<Self> {
        let directory = std::env::var("PEERS_REFEREE").context("PEERS_REFEREE")?;
        std::fs::create_dir_all(&directory)?;
        let path = std::path::Path::new(&directory).join(name.replace('/', "-"));
        let open = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(open))
    }

    /// To be called with the lock held.
    ///
    /// # Errors
    /// Somebody else has it, too.
    pub fn enter(&self) -> Result<()> {
        match flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err(anyhow::anyhow!("two held the lock at once")),
            other => Ok(other?),
        }
    }

    /// To be called before it is given back.
    pub fn leave(&self) -> Result<()> {
        Ok(flock(&self.0, FlockOperation::Unlock)?)
    }
}
