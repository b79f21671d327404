//! The referee can tell when a lock does not do what it promises.

use std::process::Command;

/// Runs it on a directory with a part of the lock taken out of play.
fn sabotaged(kind: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leaselock-chaos"));
    command.args(["--store", "file", "--seconds", "90", "--sabotage", kind]);
    let output = command.output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}{error}");
    text
}

#[track_caller]
fn overlaps(text: &str) {
    assert!(text.contains("was inside, alive and guarded"), "{text}");
}

#[test]
fn workers_without_a_lock_overlap() {
    overlaps(&sabotaged("no-lock"));
}

#[test]
fn workers_that_nothing_ends_overlap() {
    overlaps(&sabotaged("no-watchdog"));
}

#[test]
fn clocks_that_differ_too_much_let_workers_overlap() {
    overlaps(&sabotaged("clocks"));
}
