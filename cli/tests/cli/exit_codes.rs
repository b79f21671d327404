//! Every row of the table in `--help`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::tool::{Place, Running, assert_code, boot, finish, report, stderr, wait_for};

/// Somebody who holds `lock` until the test lets go.
fn holder(place: &Place, lock: &str) -> Running {
    let script = "touch held; while [ -e held ]; do sleep 0.02; done";
    let running = Running::start(&mut place.leaselock(&["run", lock, "--", "sh", "-c", script]));
    wait_for("the holder", || place.file("held").exists().then_some(()));
    running
}

#[test]
fn the_code_of_cmd_or_128_and_its_signal() {
    let place = Place::new();
    for (script, code) in [("true", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
    {
        assert_code(&place.output(&["run", "a", "--", "sh", "-c", script]), code);
    }
    assert_eq!(place.state("a"), "free");
}

#[test]
fn busy_is_75_or_what_was_asked_for() {
    let place = Place::new();
    let held = holder(&place, "a");
    let busy = place.output(&["run", "-n", "--json", "a", "--", "touch", "ran"]);
    assert_code(&busy, 75);
    assert_eq!(report(&busy)["outcome"], "busy");
    assert!(stderr(&busy).contains("a is held by"), "{}", stderr(&busy));
    assert_code(&place.output(&["run", "-n", "-E", "9", "a", "--", "touch", "ran"]), 9);
    let quiet = place.output(&["run", "-n", "-q", "a", "--", "touch", "ran"]);
    assert_code(&quiet, 75);
    assert_eq!(stderr(&quiet), "");
    let skipped = place.output(&["run", "--skip-if-busy", "--json", "a", "--", "touch", "ran"]);
    assert_code(&skipped, 0);
    assert_eq!(report(&skipped)["outcome"], "skipped");
    let before = boot();
    let late = place.output(&["run", "-w", "400ms", "--json", "a", "--", "touch", "ran"]);
    assert_code(&late, 75);
    assert_eq!(report(&late)["outcome"], "timed_out");
    assert!(boot() - before >= Duration::from_millis(400));
    assert!(!place.file("ran").exists());
    fs::remove_file(place.file("held")).unwrap();
    assert_code(&held.output(), 0);
}

#[test]
fn a_wait_ends_when_the_lock_is_given_back() {
    let place = Place::new();
    let held = holder(&place, "a");
    let waiting = Running::start(&mut place.leaselock(&["run", "--json", "a", "--", "true"]));
    std::thread::sleep(Duration::from_millis(700));
    fs::remove_file(place.file("held")).unwrap();
    let output = waiting.output();
    assert_code(&output, 0);
    assert!(stderr(&output).contains("waiting: a is held by"), "{}", stderr(&output));
    let report = report(&output);
    assert_eq!(report["outcome"], "completed");
    assert!(report["waited_ms"].as_u64().unwrap() >= 500, "{report}");
    assert_code(&held.output(), 0);
}

#[test]
fn usage_errors_are_64_and_write_nothing() {
    let place = Place::new();
    let long = "x".repeat(600);
    let commands: &[&[&str]] = &[
        &["run", "../a", "--", "true"],
        &["run", "", "--", "true"],
        &["run", "/a", "--", "true"],
        &["run", &long, "--", "true"],
        &["run", "--ttl", "10ms", "a", "--", "true"],
        &["run", "--ttl", "25h", "a", "--", "true"],
        &["run", "--ttl", "30", "a", "--", "true"],
        &["run", "--kill-grace", "11s", "a", "--", "true"],
        &["run", "-n", "-w", "3s", "a", "--", "true"],
        &["run", "a", "true"],
        &["run", "a"],
        &["run", "a", "--"],
        &["run", "-E", "256", "a", "--", "true"],
        &["run", "--shared", "--exclusive", "a", "--", "true"],
        &["run", "--shared", "--limit", "2", "a", "--", "true"],
        &["run", "--exclusive", "--once", "a", "--", "true"],
        &["run", "--once", "--fair", "a", "--", "true"],
        &["run", "--permits", "2", "a", "--", "true"],
        &["run", "--permits", "2", "--shared", "a", "--", "true"],
        &["run", "--permits", "2", "--once", "a", "--", "true"],
        &["run", "--retention", "2s", "--shared", "a", "--", "true"],
        &["run", "--limit", "2", "--permits", "3", "a", "--", "true"],
        &["run", "--limit", "2", "--permits", "0", "a", "--", "true"],
        &["run", "--limit", "0", "a", "--", "true"],
        &["run", "--limit", "70000", "a", "--", "true"],
        &["run", "--limit", "2", "--min-hold", "2s", "a", "--", "true"],
        &["frobnicate"],
        &["break", "a"],
        &["break", "a", "--expect-token", "three"],
        &["show", "../a"],
        &["ls", "--store-option", "novalue"],
        &["ls", "--store", "nonsense"],
        &["ls", "--store", "ftp://host/x"],
        &["ls", "--store", "s3://bucket/x", "--store-option", "no_such_option=1"],
    ];
    for arguments in commands {
        let output = place.output(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty());
    }
    assert_eq!(place.stored(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_store_that_cannot_be_reached_is_69() {
    let place = Place::new();
    let url = "s3://locks/x?aws_endpoint=http://127.0.0.1:1&aws_allow_http=true&aws_region=x\
               &aws_access_key_id=a&aws_secret_access_key=HUSH";
    let arguments = ["run", "-n", "--store", url, "--ttl", "1s", "a", "--", "true"];
    let output = place.output(&arguments);
    assert_code(&output, 69);
    let text = stderr(&output);
    assert!(text.starts_with("leaselock: ") && text.contains("hint: "), "{text}");
    assert!(!text.contains("HUSH"), "{text}");
}

#[test]
fn secrets_are_not_repeated() {
    let place = Place::new();
    for url in [
        "s3://bucket/x?aws_secret_access_key=HUSH&no_such_option=1",
        "nonsense://bucket/x?aws_secret_access_key=HUSH",
        "nonsense?aws_secret_access_key=HUSH",
    ] {
        let output = finish(place.leaselock(&["ls", "-vv"]).env("LEASELOCK_STORE", url));
        assert_code(&output, 64);
        assert!(!stderr(&output).contains("HUSH"), "{}", stderr(&output));
        let help = finish(place.leaselock(&["--help"]).env("LEASELOCK_STORE", url));
        assert_code(&help, 0);
        assert!(!String::from_utf8_lossy(&help.stdout).contains("HUSH"));
    }
}

#[test]
fn an_unreadable_record_is_78_and_left_alone() {
    let place = Place::new();
    let record = place.record("a");
    for text in ["not a record", "", "{\"format\": 99}"] {
        fs::write(&record, text).unwrap();
        let output = place.output(&["run", "a", "--", "touch", "ran"]);
        assert_code(&output, 78);
        assert!(stderr(&output).contains("break LOCK --force"), "{}", stderr(&output));
        assert_eq!(fs::read_to_string(&record).unwrap(), text);
        assert!(!place.file("ran").exists());
    }
}

#[test]
fn cmd_not_found_is_127_and_not_executable_126() {
    let place = Place::new();
    let plain = place.file("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let output = place.output(&["run", "--json", "a", "--", "no-such-command-anywhere"]);
    assert_code(&output, 127);
    assert_eq!(report(&output)["outcome"], "not_started");
    assert_code(&place.output(&["run", "a", "--", "./plain"]), 126);
    assert_eq!(place.state("a"), "free");
}

#[test]
fn help_and_version_are_0_and_show_the_codes() {
    let place = Place::new();
    for arguments in [&["--help"][..], &["run", "--help"], &["run", "-h"]] {
        let output = place.output(arguments);
        assert_code(&output, 0);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for code in [75, 120, 121, 64, 69, 77, 78, 126] {
            assert!(text.contains(&format!("\n  {code}")), "{code} is not in {arguments:?}");
        }
    }
    assert_code(&place.output(&["--version"]), 0);
}
