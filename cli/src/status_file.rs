//! The file that tells the child how its lease stands: a deadline in the environment would go
//! stale with the first renewal.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use leaselock::{FencingToken, LeasePhase, LeaseStatus};
use nix::unistd::{AccessFlags, access, getpid};
use serde_json::json;

use crate::clock::Moment;
use crate::tenure::Marks;

/// Where the file will be: a directory of its own, so that nobody else can put a file or a link in
/// its place even below a shared /tmp.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    directory: PathBuf,
}

impl Place {
    /// Chooses a name that no other run has. Nothing is created yet.
    pub(crate) fn choose() -> Self {
        let usable = AccessFlags::W_OK | AccessFlags::X_OK;
        let parent = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            // It may be another user's (`sudo` keeps the variable).
            .filter(|path| path.is_absolute() && access(path, usable).is_ok())
            .unwrap_or_else(std::env::temp_dir);
        let name = format!("leaselock-{}-{:x}", getpid(), Moment::now().boot.as_nanos());
        Self { directory: parent.join(name) }
    }

    fn file(&self) -> PathBuf {
        self.directory.join("status.json")
    }

    fn draft(&self) -> PathBuf {
        self.directory.join("status.json.new")
    }

    /// What is not there need not be removed.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(self.file());
        let _ = fs::remove_file(self.draft());
        let _ = fs::remove_dir(&self.directory);
    }
}

/// The file, kept current; removed when dropped.
#[derive(Debug)]
pub(crate) struct StatusFile {
    place: Place,
    path: PathBuf,
    name: String,
    marks: Marks,
}

impl StatusFile {
    pub(crate) fn create(
        place: &Place,
        name: String,
        marks: Marks,
        status: &LeaseStatus,
    ) -> io::Result<Self> {
        // Fails when anything is there already, be it a link.
        DirBuilder::new().mode(0o700).create(&place.directory)?;
        let file = Self { place: place.clone(), path: place.file(), name, marks };
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
        let draft = self.place.draft();
        // One that an interrupted run left.
        let _ = fs::remove_file(&draft);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
        writeln!(file, "{text}")?;
        fs::rename(&draft, &self.path)
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
