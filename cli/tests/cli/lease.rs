//! The child never outlives the lease.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::tool::{
    HEART, Place, Running, assert_code, boot, deadline, last_beat, line_of, lives, pid_in, report,
    status, stderr, wait_for, watchdog_of,
};

/// A beating heart under the lock `a`.
fn beating(place: &Place, options: &[&str], before: &str) -> Running {
    let script = format!("{before}\n{HEART}");
    let mut arguments = vec!["run", "--json"];
    arguments.extend(options);
    arguments.extend(["a", "--", "sh", "-c", &script]);
    let running = Running::start(&mut place.leaselock(&arguments));
    line_of(&place.file("beat"));
    running
}

fn current(place: &Place) -> Value {
    let path = line_of(&place.file("status"));
    wait_for("the status file", || status(path.as_ref()))
}

/// The lease's end, at a moment when no renewal is under way.
fn quiet_deadline(place: &Place) -> Duration {
    let before = deadline(&current(place));
    let now = wait_for("a renewal", || {
        let now = deadline(&current(place));
        (now > before).then_some(now)
    });
    std::thread::sleep(Duration::from_millis(50));
    now
}

/// Enters after whatever happened before; answers when.
fn enter(place: &Place) -> Duration {
    let script = "cut -d' ' -f1 /proc/uptime > entered";
    let output = place.output(&["run", "-q", "-w", "20s", "a", "--", "sh", "-c", script]);
    assert_code(&output, 0);
    Duration::from_secs_f64(line_of(&place.file("entered")).parse().unwrap())
}

#[test]
fn renewal_keeps_it_for_longer_than_its_ttl() {
    let place = Place::new();
    let output = place.output(&["run", "--ttl", "1s", "--json", "a", "--", "sleep", "3"]);
    assert_code(&output, 0);
    assert!(report(&output)["held_ms"].as_u64().unwrap() >= 3_000);
}

#[test]
fn a_killed_wrapper_takes_the_whole_group_with_it() {
    let place = Place::new();
    let stubborn = "sh -c 'trap \"\" TERM; while :; do sleep 0.02; done' & echo $! > grandchild";
    let run = beating(&place, &["--ttl", "3s"], stubborn);
    let (child, grandchild) = (pid_in(&place.file("pid")), pid_in(&place.file("grandchild")));
    let watchdog = watchdog_of(run.pid());
    let end = quiet_deadline(&place);
    run.signal(Signal::SIGKILL);
    wait_for("the child's end", || (!lives(child)).then_some(()));
    wait_for("the grandchild's end", || (!lives(grandchild)).then_some(()));
    assert!(boot() < end, "dead {:?} after the lease's end", boot() - end);
    wait_for("the watchdog's end", || (!lives(watchdog)).then_some(()));
    let status = std::path::PathBuf::from(line_of(&place.file("status")));
    assert!(!status.parent().unwrap().exists(), "the watchdog tidies up");
    drop(run);
    let last = last_beat(&place);
    assert!(enter(&place) > last);
}

#[test]
fn a_child_that_ignores_term_is_killed_in_time() {
    let place = Place::new();
    let run = beating(&place, &["--ttl", "2s"], "trap '' TERM");
    let child = pid_in(&place.file("pid"));
    let end = quiet_deadline(&place);
    run.signal(Signal::SIGKILL);
    wait_for("the child's end", || (!lives(child)).then_some(()));
    assert!(boot() < end);
}

#[test]
fn a_frozen_wrapper_cannot_keep_its_child_alive() {
    let place = Place::new();
    let run = beating(&place, &["--ttl", "2s"], "");
    let child = pid_in(&place.file("pid"));
    let end = quiet_deadline(&place);
    run.signal(Signal::SIGSTOP);
    assert!(boot() < end, "this machine is too slow for this test");
    wait_for("the child's end", || (!lives(child)).then_some(()));
    assert!(boot() < end, "dead {:?} after the lease's end", boot() - end);
    let last = last_beat(&place);
    assert!(enter(&place) > last, "somebody else enters while the wrapper is still frozen");
    run.signal(Signal::SIGCONT);
    let output = run.output();
    assert_code(&output, 120);
    assert_eq!(report(&output)["outcome"], "lost");
    assert!(stderr(&output).contains("leaselock: a: "), "it tells why: {}", stderr(&output));
}

#[test]
fn when_everything_was_frozen_the_first_to_run_kills() {
    for wrapper_first in [true, false] {
        let place = Place::new();
        let run = beating(&place, &["--ttl", "1s"], "");
        let (wrapper, child) = (run.pid(), pid_in(&place.file("pid")));
        let watchdog = watchdog_of(wrapper);
        for pid in [wrapper, watchdog, child] {
            kill(pid, Signal::SIGSTOP).unwrap();
        }
        let last = last_beat(&place);
        assert!(enter(&place) > last);
        assert!(lives(child));
        kill(if wrapper_first { wrapper } else { watchdog }, Signal::SIGCONT).unwrap();
        wait_for("the child's end", || (!lives(child)).then_some(()));
        assert_eq!(last_beat(&place), last, "it was killed before it could go on");
        // The other one, too.
        let _ = kill(watchdog, Signal::SIGCONT);
        run.signal(Signal::SIGCONT);
        assert_code(&run.output(), 120);
    }
}

#[test]
fn a_broken_lease_stops_the_child() {
    for (script, lost) in [("", "term"), ("trap '' TERM", "term"), ("trap '' TERM", "kill")] {
        let place = Place::new();
        let options = ["--ttl", "2s", "--on-lost", lost];
        let run = beating(&place, &options, script);
        let child = pid_in(&place.file("pid"));
        assert_code(&place.output(&["break", "a", "--force", "--reason", "stuck"]), 0);
        let output = run.output();
        assert_code(&output, 120);
        assert!(!lives(child));
        assert_eq!(report(&output)["outcome"], "lost");
        assert!(stderr(&output).contains("stuck"), "{}", stderr(&output));
    }
}

#[test]
fn with_warn_a_broken_lease_only_warns() {
    let place = Place::new();
    let run = beating(&place, &["--ttl", "1s", "--on-lost", "warn"], "");
    let path = line_of(&place.file("status"));
    let child = pid_in(&place.file("pid"));
    assert_code(&place.output(&["break", "a", "--force"]), 0);
    wait_for("the status", || (status(path.as_ref())?["state"] == "lost").then_some(()));
    assert!(lives(child));
    run.signal(Signal::SIGTERM);
    let output = run.output();
    assert_code(&output, 121);
    assert!(stderr(&output).contains("runs on"), "{}", stderr(&output));
}

#[test]
fn losing_the_lock_unnoticed_is_121() {
    let place = Place::new();
    let leaselock = env!("CARGO_BIN_EXE_leaselock");
    let script = format!("{leaselock} break a --force >/dev/null");
    let output = place.output(&["run", "--json", "a", "--", "sh", "-c", &script]);
    assert_code(&output, 121);
    assert_eq!(report(&output)["outcome"], "overrun");
}

#[test]
fn a_deleted_record_stops_the_child() {
    let place = Place::new();
    let run = beating(&place, &["--ttl", "1s"], "");
    fs::remove_file(place.record("a")).unwrap();
    assert_code(&run.output(), 120);
}

#[test]
fn a_killed_watchdog_is_missed() {
    let place = Place::new();
    let run = beating(&place, &["--ttl", "2s"], "");
    kill(watchdog_of(run.pid()), Signal::SIGKILL).unwrap();
    quiet_deadline(&place);
    run.signal(Signal::SIGTERM);
    let output = run.output();
    assert_code(&output, 143);
    assert!(stderr(&output).contains("watchdog"), "{}", stderr(&output));
    assert_eq!(place.state("a"), "free");
}

#[test]
fn a_frozen_watchdog_delays_the_end_but_does_not_prevent_it() {
    let place = Place::new();
    let run = beating(&place, &["--ttl", "5s"], "");
    kill(watchdog_of(run.pid()), Signal::SIGSTOP).unwrap();
    run.signal(Signal::SIGTERM);
    assert_code(&run.output(), 143);
    assert_eq!(place.state("a"), "free");
}
