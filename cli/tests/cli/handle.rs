//! `acquire`, `renew` and `release`, as scripts use them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::tool::{Place, Running, assert_code, finish, stderr, stdout, wait_for};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Takes `a`; its holder's id.
fn acquire(place: &Place) -> String {
    let output = place.output(&["acquire", "--ttl", "10m", "a"]);
    assert_code(&output, 0);
    stdout(&output).trim().to_owned()
}

/// Takes `a` into a file, and answers what it says.
fn acquire_into(place: &Place, file: &str) -> Value {
    let output = place.output(&["acquire", "--ttl", "10m", "--handle", file, "a"]);
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "");
    json(&fs::read_to_string(place.file(file)).unwrap())
}

fn renewals(place: &Place) -> Value {
    json(&fs::read_to_string(place.record("a")).unwrap())["holders"][0]["renewals"].clone()
}

#[test]
fn a_lock_is_held_between_commands() {
    let place = Place::new();
    let holder = acquire(&place);
    assert_eq!(place.show("a")["holders"][0]["id"], holder.as_str());
    let busy = place.output(&["acquire", "--ttl", "1m", "-n", "a"]);
    assert_code(&busy, 75);
    assert_eq!(stdout(&busy), "");
    assert!(stderr(&busy).contains("a is held by"), "{}", stderr(&busy));
    assert_code(&place.output(&["acquire", "--ttl", "1m", "-n", "-E", "9", "a"]), 9);
    assert_code(&place.output(&["run", "-n", "a", "--", "true"]), 75);
    assert_code(&place.output(&["renew", "a", "--holder", &holder]), 0);
    assert_eq!(renewals(&place), 1);
    for _ in 0..2 {
        assert_code(&place.output(&["release", "a", "--holder", &holder]), 0);
        assert_eq!(place.state("a"), "free");
    }
    assert_code(&place.output(&["run", "-n", "a", "--", "true"]), 0);
}

#[test]
fn json_tells_the_whole_handle() {
    let place = Place::new();
    let arguments = ["acquire", "--ttl", "10m", "--json", "--note", "deploy", "a"];
    let output = place.output(&arguments);
    assert_code(&output, 0);
    let handle = json(&stdout(&output));
    assert_eq!(keys(&handle), ["expires_at", "holder", "name", "store", "token", "ttl_ms"]);
    let shown = place.show("a");
    assert_eq!((&handle["name"], &handle["ttl_ms"]), (&"a".into(), &600_000.into()));
    assert_eq!(handle["store"], place.url.as_str());
    assert_eq!(handle["holder"], shown["holders"][0]["id"]);
    assert_eq!(handle["token"], shown["token"]);
    assert!(handle["expires_at"].as_str() < shown["holders"][0]["expires_at"].as_str());
    let holder = handle["holder"].as_str().unwrap();
    let output = place.output(&["renew", "--json", "a", "--holder", holder]);
    assert_code(&output, 0);
    let renewed = json(&stdout(&output));
    assert_eq!(keys(&renewed), keys(&handle));
    assert!(renewed["expires_at"].as_str() > handle["expires_at"].as_str());
    assert_eq!(renewed["token"], handle["token"]);
    let output = place.output(&["release", "--json", "a", "--holder", holder]);
    assert_code(&output, 0);
    let released = json(&stdout(&output));
    assert_eq!(keys(&released), ["holder", "name", "outcome"]);
    assert_eq!(released["outcome"], "released");
}

#[test]
fn a_handle_is_kept_in_a_file_for_its_owner_only() {
    let place = Place::new();
    let handle = acquire_into(&place, "lease.json");
    let file = place.file("lease.json");
    assert_eq!(mode(&file), 0o600);
    assert_code(&place.output(&["renew", "--handle", "lease.json"]), 0);
    let renewed = json(&fs::read_to_string(&file).unwrap());
    assert!(renewed["expires_at"].as_str() > handle["expires_at"].as_str());
    assert_eq!(mode(&file), 0o600);
    assert_eq!(fs::read_dir(place.files()).unwrap().count(), 1, "no draft is left");

    // It may be the only trace of a lease.
    let again = place.output(&["acquire", "--ttl", "1m", "--handle", "lease.json", "b"]);
    assert_code(&again, 64);
    assert!(stderr(&again).contains("leaselock release --handle lease.json"), "{}", stderr(&again));
    assert_eq!(json(&fs::read_to_string(&file).unwrap()), renewed);
    assert!(!place.record("b").exists());

    assert_code(&place.output(&["release", "--handle", "lease.json"]), 0);
    assert!(!file.exists());
    assert_eq!(place.state("a"), "free");
}

#[test]
fn what_is_lost_is_120_to_renew_and_121_to_release() {
    let place = Place::new();
    acquire_into(&place, "lease.json");
    assert_code(&place.output(&["break", "a", "--force", "--reason", "stuck"]), 0);
    let renewed = place.output(&["renew", "--handle", "lease.json"]);
    assert_code(&renewed, 120);
    assert!(stderr(&renewed).contains("broken by"), "{}", stderr(&renewed));
    let other = acquire(&place);
    let released = place.output(&["release", "--json", "--handle", "lease.json"]);
    assert_code(&released, 121);
    assert_eq!(json(&stdout(&released))["outcome"], "lost");
    assert!(stderr(&released).contains("stuck"), "{}", stderr(&released));
    assert!(!place.file("lease.json").exists(), "it stands for nothing any more");
    assert_eq!(place.show("a")["holders"][0]["id"], other.as_str(), "the other's stays");
}

#[test]
fn a_lock_that_is_not_had_leaves_no_file() {
    let place = Place::new();
    acquire(&place);
    let before = fs::read(place.record("a")).unwrap();
    let busy = place.output(&["acquire", "--ttl", "1m", "-n", "--handle", "lease.json", "a"]);
    assert_code(&busy, 75);
    assert!(!place.file("lease.json").exists());
    let waiting = ["acquire", "--ttl", "1m", "--handle", "lease.json", "a"];
    let waiting = Running::start(&mut place.leaselock(&waiting));
    wait_for("the file", || place.file("lease.json").exists().then_some(()));
    waiting.signal(Signal::SIGTERM);
    assert_code(&waiting.output(), 143);
    assert!(!place.file("lease.json").exists());
    assert_eq!(fs::read(place.record("a")).unwrap(), before);
}

/// A lease that nobody knows of would be in the way for its whole TTL.
#[test]
fn a_lease_that_nobody_was_told_of_is_given_back() {
    let place = Place::new();
    let mut acquiring = place.leaselock(&["acquire", "--ttl", "10m", "a"]);
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let mut child = acquiring.stdout(Stdio::from(writer)).stderr(Stdio::piped()).spawn().unwrap();
    drop(acquiring);
    assert_eq!(child.wait().unwrap().code(), Some(70));
    assert_eq!(place.state("a"), "free");

    let nowhere = place.output(&["acquire", "--ttl", "10m", "--handle", "no/lease.json", "a"]);
    assert_code(&nowhere, 78);
    assert!(stderr(&nowhere).contains("no/lease.json"), "{}", stderr(&nowhere));
    assert_eq!(place.state("a"), "free");
}

#[test]
fn a_handle_knows_its_store() {
    let place = Place::new();
    acquire_into(&place, "lease.json");
    let elsewhere = Place::new();
    let file = place.file("lease.json").display().to_string();
    let other = elsewhere.output(&["renew", "--handle", &file]);
    assert_code(&other, 64);
    let said = stderr(&other);
    assert!(said.contains(&place.url) && said.contains(&elsewhere.url), "{said}");
    assert!(elsewhere.stored().is_empty());
    let mut without = place.leaselock(&["renew", "--handle", &file]);
    assert_code(&finish(without.env_remove("LEASELOCK_STORE")), 0);
    assert_eq!(renewals(&place), 1);
}

#[test]
fn what_is_no_handle_is_refused_and_kept() {
    let place = Place::new();
    for (text, fault) in [
        ("", "EOF"),
        ("{}", "name is missing"),
        ("{\"name\": \"a\", \"store\": \"file:///x\", \"holder\": \"me\"}", "holder"),
    ] {
        fs::write(place.file("lease.json"), text).unwrap();
        for command in ["renew", "release"] {
            let output = place.output(&[command, "--handle", "lease.json"]);
            assert_code(&output, 78);
            let said = stderr(&output);
            assert!(said.contains("lease.json") && said.contains(fault), "{said}");
        }
        assert_eq!(fs::read_to_string(place.file("lease.json")).unwrap(), text);
    }
    assert_code(&place.output(&["release", "--handle", "nowhere.json"]), 78);
    assert!(place.stored().is_empty());
}

#[test]
fn usage_errors_are_64() {
    let place = Place::new();
    let holder = "00000000-0000-4000-8000-000000000000";
    let commands: &[&[&str]] = &[
        &["acquire", "a"],
        &["acquire", "--ttl", "10ms", "a"],
        &["acquire", "--ttl", "1m"],
        &["acquire", "--ttl", "1m", "-n", "-w", "1s", "a"],
        &["acquire", "--ttl", "1m", "../a"],
        &["renew"],
        &["renew", "a"],
        &["renew", "--holder", holder],
        &["renew", "a", "--holder", "me"],
        &["release", "a"],
        &["release", "a", "--holder", holder, "--handle", "lease.json"],
    ];
    for arguments in commands {
        assert_code(&place.output(arguments), 64);
    }
    assert!(place.stored().is_empty());
}

/// The examples of `acquire --help`, word for word.
#[test]
fn the_examples_of_help_run() {
    let place = Place::new();
    let help = stdout(&place.output(&["acquire", "--help"]));
    let examples: Vec<_> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| line.starts_with("leaselock ") || line.starts_with("holder="))
        .collect();
    assert_eq!(examples.len(), 6, "{help}");
    let tool = Path::new(env!("CARGO_BIN_EXE_leaselock")).parent().unwrap();
    let path = format!("{}:{}", tool.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-euc", &examples.join("\n")]).current_dir(place.files());
    shell.env("PATH", path).env("LEASELOCK_STORE", &place.url);
    assert_code(&finish(&mut shell), 0);
    assert_eq!(place.state("deploy/production"), "free");
    assert_eq!(place.show("deploy/production")["history"].as_array().unwrap().len(), 2);
}
