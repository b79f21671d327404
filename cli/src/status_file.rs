//! The file that tells the child how its lease stands: a deadline in the environment would go
//! stale with the first renewal.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use leaselock::{FencingToken, LeasePhase, LeaseStatus};
use nix::unistd::getpid;
use serde_json::json;

use crate::clock::Moment;
use crate::private_file;
use crate::tenure::Marks;

/// Where the file may be: a directory of its own, so that nobody else can put a file or a link in
/// its place even below a shared /tmp.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The first that can be made is it.
    directories: Vec<PathBuf>,
}

impl Place {
    /// Chooses a name that no other run has. Nothing is created yet.
    pub(crate) fn choose() -> Self {
        let own = ["XDG_RUNTIME_DIR", "TMPDIR"].into_iter().filter_map(std::env::var_os);
        let own = own.map(PathBuf::from);
        let name = format!("leaselock-{}-{:x}", getpid(), Moment::now().boot.as_nanos());
        let parents = own.chain([PathBuf::from("/tmp")]);
        // A relative one would be another directory for the watchdog, and for a CMD that goes
        // elsewhere.
        let parents = parents.filter(|path| path.is_absolute());
        Self { directories: parents.map(|parent| parent.join(&name)).collect() }
    }

    /// What is not there need not be removed.
    pub(crate) fn remove(&self) {
        for directory in &self.directories {
            let _ = fs::remove_file(file(directory));
            let _ = fs::remove_file(draft(directory));
            let _ = fs::remove_dir(directory);
        }
    }
}

fn file(directory: &Path) -> PathBuf {
    directory.join("status.json")
}

fn draft(directory: &Path) -> PathBuf {
    directory.join("status.json.new")
}

/// The file, kept current; removed when dropped.
#[derive(Debug)]
pub(crate) struct StatusFile {
    place: Place,
    path: PathBuf,
    draft: PathBuf,
    name: String,
    marks: Marks,
}

impl StatusFile {
    /// In the first of the directories where that is possible.
    pub(crate) fn create(
        place: &Place,
        name: &str,
        marks: &Marks,
        status: &LeaseStatus,
    ) -> io::Result<Self> {
        let mut failed = Vec::new();
        for directory in &place.directories {
            match Self::create_in(directory, place, name, marks, status) {
                Ok(file) => return Ok(file),
                Err(error) => failed.push(format!("{}: {error}", directory.display())),
            }
        }
        Err(io::Error::other(failed.join("; ")))
    }

    fn create_in(
        directory: &Path,
        place: &Place,
        name: &str,
        marks: &Marks,
        status: &LeaseStatus,
    ) -> io::Result<Self> {
        // Fails when anything is there already, be it a link.
        DirBuilder::new().mode(0o700).create(directory)?;
        let file = Self {
            place: place.clone(),
            path: file(directory),
            draft: draft(directory),
            name: name.to_owned(),
            marks: marks.clone(),
        };
        file.write(status)?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file whole: a reader sees the old text or the new one.
    pub(crate) fn write(&self, status: &LeaseStatus) -> io::Result<()> {
        let mut text = json!({
            "name": self.name,
            "token": self.marks.token().map(FencingToken::get),
            "holder": self.marks.holder(),
            "state": state(&status.phase),
            "deadline": humantime::format_rfc3339_millis(status.wall_deadline).to_string(),
            "boot_deadline": status.boot_deadline.as_secs_f64(),
        });
        if let Some(tokens) = self.marks.tokens_as_json() {
            text["tokens"] = tokens;
        }
        private_file::replace(&self.path, &self.draft, text)
    }
}

impl Drop for StatusFile {
    fn drop(&mut self) {
        self.place.remove();
    }
}

fn state(phase: &LeasePhase) -> &'static str {
    match phase {
        LeasePhase::Held => "held",
        LeasePhase::AtRisk => "at_risk",
        _ => "lost",
    }
}
