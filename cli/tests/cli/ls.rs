//! What `ls` leaves out, and how it does with many locks.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::signal::Signal;

use crate::tool::{Place, Running, assert_code, line_of, stdout, wait_for};

/// The names that `ls` lists with these options, sorted.
fn listed(place: &Place, options: &[&str]) -> Vec<String> {
    let output = place.output(&[&["ls", "--json"], options].concat());
    assert_code(&output, 0);
    let text = stdout(&output);
    let name = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["name"].to_string();
    let mut names: Vec<_> = text.lines().map(name).map(|name| name.replace('"', "")).collect();
    names.sort();
    names
}

#[test]
fn only_those_that_are_asked_for() {
    let place = Place::new();
    let mut holders = Vec::new();
    for (lock, owner, ttl) in
        [("a", "crew one", "30s"), ("b", "crew two", "1s"), ("c", "bob", "1s")]
    {
        let mut command = place.leaselock(&["run", "--owner", owner, "--ttl", ttl, lock, "--"]);
        let script = format!("echo > ready-{lock}; sleep 1000");
        holders.push(Running::start(command.args(["sh", "-c", &script])));
        line_of(&place.file(&format!("ready-{lock}")));
    }
    assert_code(&place.output(&["run", "d", "--", "true"]), 0);
    assert_eq!(listed(&place, &["--stale"]), [""; 0], "none has run out");
    holders[1].signal(Signal::SIGKILL);
    holders[2].signal(Signal::SIGKILL);
    for lock in ["b", "c"] {
        wait_for("the lease to run out", || Some(place.state(lock)).filter(|it| it == "expired"));
    }
    assert_eq!(listed(&place, &[]), ["a", "b", "c", "d"]);
    assert_eq!(listed(&place, &["--stale"]), ["b", "c"]);
    assert_eq!(listed(&place, &["--holder", "crew"]), ["a", "b"]);
    assert_eq!(listed(&place, &["--holder", "crew", "--stale"]), ["b"]);
    assert_eq!(listed(&place, &["--holder", "Crew"]), [""; 0]);
    let text = stdout(&place.output(&["ls", "--stale"]));
    assert_eq!(text.lines().count(), 3, "with a heading: {text}");
    assert_eq!(stdout(&place.output(&["ls", "--holder", "nobody"])), "", "and without");
}

/// So many locks in a directory of their own, each with as long a history as there is.
fn many(place: &Place, below: &str, count: usize) {
    let model = place.record("model");
    if !model.exists() {
        for _ in 0..17 {
            assert_code(
                &place.output(&["run", "--note", &"n".repeat(200), "model", "--", "true"]),
                0,
            );
        }
    }
    let record = fs::read(model).unwrap();
    let first = place.record(&format!("{below}/00000"));
    fs::create_dir_all(first.parent().unwrap()).unwrap();
    for number in 0..count {
        fs::write(place.record(&format!("{below}/{number:05}")), &record).unwrap();
    }
}

/// The most memory that a running process has had, in bytes.
fn peak_memory(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

/// Reads a listing as far as `most` lines, and tells the memory it took by then and the bytes read.
/// The process is still there: what it has left to say does not fit the pipe.
fn memory_after(place: &Place, below: &str, most: usize) -> (u64, u64) {
    let mut command = place.leaselock(&["ls", "--json", below]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let bytes: usize = lines.by_ref().take(most).map(|line| line.unwrap().len()).sum();
    let peak = peak_memory(&child);
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    let rest = lines.count();
    assert!(rest > 0);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    (peak, u64::try_from(bytes).unwrap())
}

#[test]
fn many_locks_are_not_held_in_memory() {
    let place = Place::new();
    many(&place, "few", 200);
    many(&place, "many", 10_000);
    let (few, _) = memory_after(&place, "few/", 100);
    let (begun, _) = memory_after(&place, "many/", 1);
    let (ended, bytes) = memory_after(&place, "many/", 9_900);
    eprintln!("few {few}, begun {begun}, ended {ended}, printed {bytes}");
    assert!(bytes > 30_000_000, "they are large: {bytes}");
    // Names and sizes of a directory are known before the first is read.
    assert!(ended < few + 16_000_000, "{few}, {ended} for {bytes} bytes");
    assert!(ended < begun + 8_000_000, "{begun}, {ended} for {bytes} bytes");
}

/// What is on stderr when that is a terminal, and reading what is listed takes longer than a moment.
fn at_terminal(place: &Place, options: &[&str]) -> String {
    let pty = openpty(None, None).unwrap();
    let mut command = place.leaselock(&["ls", "many/"]);
    command.args(options).env("TERM", "xterm").stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::from(pty.slave)).spawn().unwrap();
    // Its own end is closed with the command.
    drop(command);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reading = thread::spawn(move || {
        lines.next();
        // The rest does not fit the pipe.
        thread::sleep(Duration::from_millis(600));
        lines.count()
    });
    let said = read_all(pty.master);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(reading.join().unwrap(), 10_000);
    said
}

/// Until nobody has the other side any more, which is an error for Linux.
fn read_all(master: OwnedFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = nix::unistd::read(&master, &mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn progress_is_told_at_a_terminal_only() {
    let place = Place::new();
    many(&place, "many", 10_000);
    assert_eq!(at_terminal(&place, &["--quiet"]), "");
    let said = at_terminal(&place, &[]);
    assert!(said.contains("locks read"), "{said:?}");
    let output = place.output(&["ls", "many/"]);
    assert_code(&output, 0);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(stdout(&output).lines().count(), 10_001);
}
