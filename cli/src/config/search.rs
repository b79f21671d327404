//! Where configuration is read, and whose is believed.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use crate::exit::{self, Failure};
use crate::people;

pub(crate) const NAME: &str = "leaselock.toml";

/// A file that was found and read.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) place: Place,
    /// Absolute.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// By others than its owner.
    pub(crate) is_readable_by_others: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `--config` or `LEASELOCK_CONFIG`.
    Named,
    /// The current directory or one above it.
    Project,
    User,
}

/// The files in the order of their precedence: the one that is `named` alone, none if that is empty,
/// or else the project's and the user's.
///
/// # Errors
/// A file is there and cannot be read, or is not believed.
pub(crate) fn sources(named: Option<&OsStr>) -> Result<Vec<Source>, Failure> {
    if let Some(path) = named {
        return match path.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(vec![read_named(Path::new(path))?]),
        };
    }
    let mut found: Vec<Source> = Vec::new();
    // In a directory that was deleted there is nothing to be found.
    if let Ok(directory) = std::env::current_dir() {
        found.extend(project(&directory)?);
    }
    if let Ok(base) = etcetera::choose_base_strategy() {
        let path = base.config_dir().join("leaselock").join(NAME);
        if found.iter().all(|source| source.path != path) {
            found.extend(read_found(Place::User, &path)?);
        }
    }
    Ok(found)
}

/// A path for people: short where it is below the current directory.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    people::plain(&below.unwrap_or_else(|| path.to_owned()).display().to_string())
}

/// The nearest file from `directory` upwards. Above the user's home, a repository or a file system begins
/// what belongs to other people.
fn project(directory: &Path) -> Result<Option<Source>, Failure> {
    let home = etcetera::home_dir().ok().and_then(|home| home.canonicalize().ok());
    let device = |directory: &Path| fs::metadata(directory).map(|of| of.dev()).ok();
    let begin = device(directory);
    for directory in directory.ancestors().take_while(|above| device(above) == begin) {
        let found = read_found(Place::Project, &directory.join(NAME))?;
        let is_last = home.as_deref() == Some(directory)
            || fs::symlink_metadata(directory.join(".git")).is_ok();
        if found.is_some() || is_last {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Whoever names a file believes it.
fn read_named(path: &Path) -> Result<Source, Failure> {
    let unreadable =
        |error| unreadable(path, &error).hint("name another with --config, or '' for none");
    let mut file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    let text = text(&mut file).map_err(unreadable)?;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let is_readable_by_others = is_readable_by_others(&about);
    Ok(Source { place: Place::Named, path, text, is_readable_by_others })
}

/// `None` where there is none.
fn read_found(place: Place, path: &Path) -> Result<Option<Source>, Failure> {
    let Ok(link) = fs::symlink_metadata(path) else {
        // Or in a directory that may not be looked into.
        return Ok(None);
    };
    let hint = "make it readable, or pass --config '' to read none";
    let unreadable = |error| unreadable(path, &error).hint(hint);
    // Whose link it is says who chose the file.
    if link.is_symlink() {
        believe(path, &link, 0)?;
    }
    // It may have become a pipe, which would be waited for.
    let nonblocking = OFlag::O_NONBLOCK.bits();
    let mut file =
        File::options().read(true).custom_flags(nonblocking).open(path).map_err(unreadable)?;
    // Of what was opened: the name may mean another file by now.
    let about = file.metadata().map_err(unreadable)?;
    believe(path, &about, WRITABLE_BY_OTHERS)?;
    if !about.is_file() {
        return Err(unreadable(io::Error::other("it is not a file")));
    }
    let text = text(&mut file).map_err(unreadable)?;
    let is_readable_by_others = is_readable_by_others(&about);
    Ok(Some(Source { place, path: path.to_owned(), text, is_readable_by_others }))
}

/// Not the group: it is often the user's own, and its members share the project.
const WRITABLE_BY_OTHERS: u32 = 0o002;

/// # Errors
/// Somebody else may have written it. To pass over it would be to lock somewhere else.
fn believe(path: &Path, about: &Metadata, forbidden: u32) -> Result<(), Failure> {
    let fault = if !is_trusted(about.uid()) {
        format!("it belongs to another user (uid {})", about.uid())
    } else if about.mode() & forbidden != 0 {
        "anybody may write to it".to_owned()
    } else {
        return Ok(());
    };
    let shown = shown(path);
    let message = format!("{shown} is not read: {fault}");
    Err(Failure::new(exit::CONFIGURATION, message)
        .hint(format!("pass --config {shown} if you trust it, or --config '' to read none")))
}

fn is_trusted(owner: u32) -> bool {
    let this = geteuid();
    // `sudo leaselock run` is started by somebody whose project it is.
    let by_sudo = || std::env::var("SUDO_UID").ok()?.parse::<u32>().ok();
    owner == 0 || owner == this.as_raw() || (this.is_root() && by_sudo() == Some(owner))
}

fn is_readable_by_others(about: &Metadata) -> bool {
    about.is_file() && about.mode() & 0o044 != 0
}

fn text(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(exit::CONFIGURATION, format!("{} cannot be read: {error}", shown(path)))
}
