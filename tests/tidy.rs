//! The directions between modules, read from their `use` lines and names.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("is a folder") {
            let path = entry.expect("is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("is text");
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                found.push((path.clone(), lines.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

/// The files under `folder`, except those whose path contains one of `allowed`, that name a word.
fn offenders(folder: &str, words: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut offenders = Vec::new();
    for (path, code) in sources(folder) {
        let path = path.display().to_string();
        if allowed.iter().any(|allowed| path.contains(allowed)) {
            continue;
        }
        for word in words {
            if code.contains(word) {
                offenders.push(format!("{path} names {word}"));
            }
        }
    }
    offenders
}

#[test]
fn the_protocol_is_pure() {
    let banned = [
        "tokio",
        "object_store",
        "Instant",
        "SystemTime",
        "rand",
        "crate::store",
        "crate::clock",
        "crate::rng",
        "async ",
        "std::fs",
        "std::net",
        "tracing",
        "metrics",
    ];
    assert_eq!(offenders("src/protocol", &banned, &[]), [""; 0]);
}

#[test]
fn the_store_does_not_decide_who_holds_a_lock() {
    let banned =
        ["crate::protocol", "crate::keeper", "crate::guard", "crate::lock::", "crate::hold::"];
    assert_eq!(offenders("src/store", &banned, &[]), [""; 0]);
}

#[test]
fn only_the_record_knows_its_json() {
    // A directory keeps attributes of its objects as JSON of its own.
    let allowed = ["src/record/", "src/store/directory"];
    assert_eq!(offenders("src", &["serde_json"], &allowed), [""; 0]);
}

#[test]
fn only_the_store_writes() {
    let allowed = ["src/store/"];
    assert_eq!(offenders("src", &["put_opts", "PutMode", ".put("], &allowed), [""; 0]);
}

#[test]
fn only_one_file_each_reads_clocks_and_draws_random_numbers() {
    assert_eq!(
        offenders("src", &["Instant::now", "SystemTime::now", "tokio::time"], &["src/clock.rs"]),
        [""; 0]
    );
    assert_eq!(offenders("src", &["getrandom", "new_v4", "rand::"], &["src/rng.rs"]), [""; 0]);
}

#[test]
fn only_wake_up_hints_open_sockets() {
    let banned = ["UdpSocket", "TcpStream", "TcpListener", "UnixStream", "UnixDatagram"];
    assert_eq!(offenders("src", &banned, &["src/wake/"]), [""; 0]);
}

#[test]
fn the_ground_floor_knows_nothing_above_it() {
    let ground = ["token.rs", "holder.rs", "error.rs", "time.rs"];
    for (path, code) in sources("src") {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_ground =
            ground.contains(&name) && path.parent().is_some_and(|dir| dir.ends_with("src"));
        let mut uses = code.lines().filter(|line| line.trim_start().starts_with("use crate::"));
        let looks_up = uses.any(|line| !line.contains("use crate::token::"));
        assert!(!is_ground || !looks_up, "{} looks up", path.display());
    }
}

#[test]
fn the_command_uses_the_public_interface_only() {
    let private = ["leaselock::store", "leaselock::keeper", "leaselock::hold", "object_store::"];
    assert_eq!(offenders("cli/src", &private, &[]), [""; 0]);
}

#[test]
fn the_model_knows_the_protocol_only() {
    let banned = ["leaselock::Store", "leaselock::Lock", "object_store", "tokio", "LockGuard"];
    assert_eq!(offenders("verify/model/src", &banned, &[]), [""; 0]);
}

/// Every async call has one of its name that blocks, except where `leaselock::blocking` says that it is
/// waited for.
#[test]
fn what_is_async_can_block() {
    // Work that is a future, what is told of a lease, and an object store's own.
    let waited_for = [
        "LockGuard::run",
        "AllGuard::run",
        "Leadership::run",
        "LeaseWatch::changed",
        "DirectoryStore::store_time",
    ];
    let mut blocking = Vec::new();
    let mut missing = Vec::new();
    for (path, code) in sources("src") {
        if path.ends_with("src/blocking.rs") {
            blocking = blocking_calls(&code);
        } else if !path.components().any(|part| part.as_os_str() == "fencing") {
            missing.extend(async_calls(&code));
        }
    }
    assert!(missing.len() > 50, "only {} async calls were found", missing.len());
    missing.retain(|call| !blocking.contains(call) && !waited_for.contains(&call.as_str()));
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_kind_of_error_has_its_exception_in_python() {
    let read = |path: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(root.join(path)).expect("is a file of the repository")
    };
    let (errors, raised) = (read("src/error.rs"), read("python/src/errors.rs"));
    let (_, kinds) = errors.split_once("pub enum ErrorKind {").expect("is defined there");
    let (kinds, _) = kinds.split_once("\n}").expect("ends");
    let kinds = kinds.lines().filter_map(|line| line.strip_prefix("    ")).map(word);
    let kinds: Vec<_> = kinds.filter(|word| word.starts_with(char::is_uppercase)).collect();
    assert!(kinds.len() > 15, "only {kinds:?} were found");
    let missing = kinds.iter().filter(|kind| !raised.contains(&format!("\"{kind}\"")));
    // What should never happen is no kind of its own.
    assert_eq!(missing.collect::<Vec<_>>(), [&"Internal"]);
}

/// The public async calls of a file, as `Type::name`.
fn async_calls(code: &str) -> Vec<String> {
    let mut of = String::new();
    let mut calls = Vec::new();
    for line in code.lines() {
        if let Some(rest) = line.strip_prefix("impl ") {
            of = format!("{}::", word(rest));
        } else if let Some(rest) = line.strip_prefix("    pub async fn ") {
            calls.push(format!("{of}{}", word(rest)));
        }
    }
    calls
}

/// What blocks, as `Type::name`: methods, and what the macros `calls` and `endings` make.
fn blocking_calls(code: &str) -> Vec<String> {
    let mut of = String::new();
    let mut calls = Vec::new();
    for line in code.lines() {
        let begins = ["impl ", "calls! { ", "setters! { "];
        if let Some(rest) = begins.iter().find_map(|begin| line.strip_prefix(begin)) {
            of = format!("{}::", word(rest));
        } else if let Some(rest) = line.strip_prefix("    pub fn ") {
            calls.push(format!("{of}{}", word(rest)));
        } else if let Some((ending, _)) = line.trim_start().split_once('(') {
            match ending.split_once(": ") {
                Some((of, name)) => calls.push(format!("{of}::{name}")),
                None => calls.push(format!("{of}{ending}")),
            }
        }
    }
    calls
}

fn word(text: &str) -> &str {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default()
}
