//! The command under test: built from this workspace, with clocks that can be set wrong.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::nursery::Nursery;

/// Builds it, and puts a copy below `directory`: somebody else's build must not replace it halfway.
///
/// # Errors
/// It cannot be built.
pub(crate) fn build(nursery: &Nursery, directory: &Path) -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--package", "leaselock-cli", "--bin", "leaselock", "--all-features"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let output = nursery.wait(nursery.start(&mut command)?)?;
    if !output.status.success() {
        return Err(io::Error::other(format!("the command cannot be built: {}", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut built = text.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "leaselock";
        is_it.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    let built =
        built.next_back().ok_or_else(|| io::Error::other("cargo does not say what it built"))?;
    let copy = directory.join("leaselock");
    fs::copy(built, &copy)?;
    Ok(copy)
}
