//! Files that nobody but their owner may read.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A new one: where there is anything, be it a link, it fails.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Replaces a file whole, by way of `draft` beside it: a reader sees the old text or the new one.
pub(crate) fn replace(path: &Path, draft: &Path, text: impl Display) -> io::Result<()> {
    // One that an interrupted call left.
    let _ = fs::remove_file(draft);
    writeln!(create(draft)?, "{text}")?;
    fs::rename(draft, path)
}
