//! Breaks a copy of the library on purpose, one mistake at a time, and shows that the simulation
//! notices: it could not show that the library is right if it could not show that it is wrong.
//!
//! `cargo run -p leaselock-sabotage` tries all, `… -- NAME…` those whose names contain one of the
//! words, `… -- --part 7/3` every third from the second (7 mod 3 is 1) on, `… -- --seeds 50000`
//! simulates more than 20,000 seeds of each before it gives up. The copy lies in `target/sabotage`.

mod catalogue;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use catalogue::{ALL, Edit, How, Sabotage};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the copy needs.
const COPIED: &[&str] = &["Cargo.toml", "Cargo.lock", "clippy.toml", "rust-toolchain.toml", "src"];
/// Members of the workspace that are copied; the others are left out of it.
const MEMBERS: &[&str] = &["verify/history", "verify/sim"];
/// What is built again for every sabotage, of which most are noticed soon: quick to build, and not
/// quite as fast.
const REBUILT: &[&str] = &["leaselock", "leaselock-sim"];

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("{missed} sabotages were not noticed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<usize> {
    let mut seeds = "20000".to_owned();
    let (mut part, mut parts) = (0, 1);
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seeds" => seeds = arguments.next().ok_or("--seeds needs a number")?,
            "--part" => {
                let value = arguments.next().unwrap_or_default();
                let (number, of) = value.split_once('/').ok_or("--part needs a number/number")?;
                (part, parts) = (number.parse::<usize>()?, of.parse::<usize>()?.max(1));
            }
            _ => words.push(argument),
        }
    }
    let wanted: Vec<_> = ALL
        .iter()
        .enumerate()
        .filter(|(place, _)| place % parts == part % parts)
        .map(|(_, sabotage)| sabotage)
        .filter(|sabotage| {
            words.is_empty() || words.iter().any(|word| sabotage.name.contains(word.as_str()))
        })
        .collect();
    if wanted.is_empty() {
        return Err("no sabotage is called like that".into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let workshop = Workshop::new(&root)?;
    let mut missed = 0;
    println!("{:<36} noticed by the simulation", "sabotage");
    for sabotage in wanted {
        let verdict = workshop.try_out(sabotage, &seeds)?;
        missed += usize::from(verdict.is_none());
        let verdict = verdict.unwrap_or_else(|| format!("NOT NOTICED in {seeds} seeds"));
        println!("{:<36} {verdict}   ({})", sabotage.name, sabotage.what);
    }
    Ok(missed)
}

/// A copy of the sources, and what is built from it.
struct Workshop {
    root: PathBuf,
    copy: PathBuf,
    built: PathBuf,
}

impl Workshop {
    fn new(root: &Path) -> Result<Self> {
        // Built apart from everything else: Cargo tells packages apart by where they lie in their
        // workspace, and would link what was sabotaged into the model and the simulation.
        let (copy, built) = (root.join("target/sabotage"), root.join("target/sabotaged"));
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        for name in COPIED.iter().chain(MEMBERS) {
            copy_all(&root.join(name), &copy.join(name))?;
        }
        let manifest = copy.join("Cargo.toml");
        let text = fs::read_to_string(&manifest)?;
        fs::write(&manifest, library_only(&text)?)?;
        if !built.exists() {
            take_dependencies(&root.join("target/verify"), &built.join("verify"))?;
        }
        Ok(Self { root: root.to_owned(), copy, built })
    }

    /// What the simulation says about it; `None` if it noticed nothing.
    fn try_out(&self, sabotage: &Sabotage, seeds: &str) -> Result<Option<String>> {
        let (edits, options): (&[Edit], Vec<&str>) = match sabotage.how {
            How::Library(edits) => (edits, Vec::new()),
            How::Store(name) => (&[], vec!["--sabotage", name]),
        };
        for edit in edits {
            self.apply(edit)?;
        }
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(&self.copy)
            // One function changes at a time.
            .env("CARGO_INCREMENTAL", "1")
            .args(["run", "--quiet", "--offline", "--profile", "verify", "-p", "leaselock-sim"])
            .arg("--target-dir")
            .arg(&self.built)
            .args(["--", "--seeds", seeds, "--until-violation"])
            .args(options)
            .output()?;
        for edit in edits {
            fs::copy(self.root.join(edit.file), self.copy.join(edit.file))?;
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let caught = said.lines().find_map(|line| line.trim().strip_prefix("caught at seed "));
        match caught {
            Some(seed) => Ok(Some(format!("at seed {seed}"))),
            None if output.status.success() => Ok(None),
            None => {
                let complaint = String::from_utf8_lossy(&output.stderr);
                Err(format!("{}: the simulation could not run\n{said}{complaint}", sabotage.name)
                    .into())
            }
        }
    }

    fn apply(&self, edit: &Edit) -> Result<()> {
        let path = self.copy.join(edit.file);
        let text = fs::read_to_string(&path)?;
        if text.matches(edit.from).count() != 1 {
            let fault = "the text to replace is not in the file exactly once";
            return Err(format!("{}: {fault}:\n{}", edit.file, edit.from).into());
        }
        Ok(fs::write(&path, text.replace(edit.from, edit.to))?)
    }
}

/// Copies what has been built of everything but this workspace, with its times, by which Cargo tells
/// that it is up to date. Where there is nothing it is built.
fn take_dependencies(from: &Path, to: &Path) -> Result<()> {
    for folder in [".fingerprint", "build", "deps"] {
        let (from, to) = (from.join(folder), to.join(folder));
        if !from.is_dir() {
            continue;
        }
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().contains("leaselock") {
                Command::new("cp").arg("-a").arg(entry.path()).arg(&to).status()?;
            }
        }
    }
    Ok(())
}

/// The manifest without the members and dependencies that only tests need, for quick builds.
fn library_only(manifest: &str) -> Result<String> {
    let mut kept = Vec::new();
    let mut skipping = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            skipping = line == "[dev-dependencies]" || line.starts_with("[[bench");
        }
        if line.starts_with("members = ") {
            kept.push(format!("members = {MEMBERS:?}"));
        } else if !skipping {
            kept.push(line.to_owned());
        }
    }
    if !kept.iter().any(|line| line.starts_with("members = ")) {
        return Err("Cargo.toml has no line of members".into());
    }
    for package in REBUILT {
        kept.push(format!("[profile.verify.package.{package}]\nopt-level = 1\ncodegen-units = 64"));
    }
    Ok(kept.join("\n") + "\n")
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_all(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else {
        fs::create_dir_all(to.parent().ok_or("a file lies in a folder")?)?;
        fs::copy(from, to)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edit_finds_its_place_and_changes_something() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut lost = Vec::new();
        for sabotage in ALL {
            let How::Library(edits) = sabotage.how else { continue };
            for edit in edits {
                let text = fs::read_to_string(root.join(edit.file)).unwrap();
                let found = text.matches(edit.from).count();
                if found != 1 {
                    let (name, file, from) = (sabotage.name, edit.file, edit.from);
                    lost.push(format!("{name} in {file}, {found} times:\n{from}"));
                }
                assert_ne!(edit.from, edit.to);
            }
        }
        assert!(lost.is_empty(), "{}", lost.join("\n"));
    }
}
