//! `latch` and `barrier`: members are counted once, and waited for.

use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::tool::{Place, Running, assert_code, boot, stderr, stdout, wait_for};

fn arrive(place: &Place, member: &str) -> Output {
    place.output(&["latch", "arrive", "merge", "--needed", "3", "--member", member, "--json"])
}

#[track_caller]
fn told(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error} in {output:?}"))
}

#[test]
fn a_latch_opens_with_its_last_member() {
    let place = Place::new();
    let waiting = ["latch", "wait", "merge", "--needed", "3"];
    let waiting = Running::start(&mut place.leaselock(&waiting));
    for (member, arrived) in [("a", 1), ("b", 2), ("a", 2), ("b", 2)] {
        let output = arrive(&place, member);
        assert_code(&output, 0);
        let expected = json!({ "epoch": 0, "arrived": arrived, "needed": 3, "open": false });
        assert_eq!(told(&output), expected);
    }
    let before = boot();
    let late = ["latch", "wait", "merge", "--needed", "3", "--wait", "300ms"];
    let late = place.output(&late);
    assert_code(&late, 75);
    assert!(boot() - before >= Duration::from_millis(300));
    assert_eq!(stdout(&late), "merge: epoch 0: 2 of 3 have arrived\n");
    assert_eq!(told(&arrive(&place, "c"))["open"], true);
    let opened = waiting.output();
    assert_code(&opened, 0);
    assert_eq!(stdout(&opened), "merge: epoch 0: all 3 have arrived\n");
    assert_eq!(told(&arrive(&place, "d"))["arrived"], 3);
    let quiet = place.output(&["latch", "wait", "merge", "--needed", "3", "-q", "--wait", "0s"]);
    assert_code(&quiet, 0);
    assert_eq!(stdout(&quiet), "");
}

#[test]
fn a_latch_is_shown_and_reset() {
    let place = Place::new();
    let nothing = place.output(&["latch", "show", "merge"]);
    assert!(stdout(&nothing).contains("arrived     0 of 1"), "{}", stdout(&nothing));
    for member in ["shard-1", "sh\u{9b}ard", "shard-2"] {
        let code = if member.contains('\u{9b}') { 64 } else { 0 };
        assert_code(&arrive(&place, member), code);
    }
    let text = stdout(&place.output(&["latch", "show", "merge"]));
    for part in ["latch       merge", "epoch       0", "arrived     2 of 3", "shard-1", "shard-2"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_code(&arrive(&place, "shard-3"), 0);
    let text = stdout(&place.output(&["latch", "show", "merge"]));
    assert!(text.contains("3 of 3: open"), "{text}");
    let shown = told(&place.output(&["latch", "show", "merge", "--json"]));
    assert_eq!((&shown["open"], &shown["members"][0]["member"]), (&true.into(), &"shard-1".into()));
    let reset =
        |epoch: &str| place.output(&["latch", "reset", "merge", "--needed", "3", "--epoch", epoch]);
    assert_eq!(stdout(&reset("0")), "merge: in epoch 1\n");
    assert_eq!(stdout(&reset("0")), "merge: in epoch 1\n", "only once");
    assert_code(&reset("2"), 1);
    let again = place.output(&["latch", "reset", "merge", "--needed", "3", "--json"]);
    assert_eq!(told(&again), json!({ "epoch": 2 }));
    assert_eq!(told(&arrive(&place, "shard-1"))["arrived"], 1);
}

#[test]
fn members_meet_at_a_barrier_round_after_round() {
    let place = Place::new();
    let wait = |member: &str, more: &[&str]| {
        let mut arguments = vec!["barrier", "wait", "b", "--parties", "2", "--json", "--member"];
        arguments.push(member);
        arguments.extend(more);
        Running::start(&mut place.leaselock(&arguments))
    };
    for epoch in 0..2 {
        let number = epoch.to_string();
        let first = wait("a", &["--epoch", &number]);
        let second = wait("b", &[]);
        for member in [first, second] {
            let output = member.output();
            assert_code(&output, 0);
            let passed = json!({ "epoch": epoch, "arrived": 2, "needed": 2, "open": true });
            assert_eq!(told(&output), passed);
        }
    }
    assert_code(&wait("a", &["--epoch", "0"]).output(), 0);
    let ahead = wait("a", &["--epoch", "3"]).output();
    assert_code(&ahead, 1);
    assert!(stderr(&ahead).contains("has not begun: it is in epoch 2"), "{}", stderr(&ahead));
    let late = wait("a", &["--wait", "100ms"]).output();
    assert_code(&late, 75);
    assert_eq!(told(&late)["arrived"], 1);
    let arrive = ["barrier", "arrive", "b", "--parties", "2", "--member", "b"];
    assert_eq!(stdout(&place.output(&arrive)), "b: epoch 2: 2 of 2 have arrived\n");
    let shown = told(&place.output(&["barrier", "show", "b", "--json"]));
    assert_eq!((&shown["epoch"], &shown["arrived"]), (&3.into(), &0.into()));
}

#[test]
fn what_is_not_meant_is_refused() {
    let place = Place::new();
    assert_code(&arrive(&place, "a"), 0);
    let four = place.output(&["latch", "arrive", "merge", "--needed", "4", "--member", "b"]);
    assert_code(&four, 64);
    assert!(stderr(&four).contains("waits for 3 members, not for 4"), "{}", stderr(&four));
    let barrier = place.output(&["barrier", "wait", "merge", "--parties", "3", "--member", "b"]);
    assert_code(&barrier, 64);
    assert!(stderr(&barrier).contains("is a latch, not a barrier"), "{}", stderr(&barrier));
    assert_code(&place.output(&["run", "lock", "--", "true"]), 0);
    assert_code(&place.output(&["latch", "wait", "lock", "--needed", "3"]), 64);
    for arguments in [
        &["latch", "arrive", "x", "--needed", "3"][..],
        &["latch", "arrive", "x", "--member", "a"],
        &["latch", "arrive", "x", "--needed", "0", "--member", "a"],
        &["latch", "arrive", "x", "--needed", "3", "--member", ""],
        &["barrier", "wait", "x", "--parties", "2", "--member", "a", "--wait", "soon"],
    ] {
        assert_code(&place.output(arguments), 64);
    }
    // The other commands bear it.
    assert_eq!(place.state("merge"), "free");
    let listed = stdout(&place.output(&["ls"]));
    assert!(listed.contains("merge"), "{listed}");
    let broken = place.output(&["break", "merge", "--force"]);
    assert_code(&broken, 1);
    assert!(stderr(&broken).contains("it is a latch, which nobody holds"), "{}", stderr(&broken));
}

#[test]
fn signals_end_a_wait_and_an_arrival_stays() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let place = Place::new();
        let wait = ["barrier", "wait", "b", "--parties", "2", "--member", "a"];
        // A test run in the background has INT ignored, and the command would respect that.
        let direct = place.leaselock(&wait);
        let mut command = Command::new("env");
        command.arg("--default-signal=INT,HUP").arg(direct.get_program()).args(direct.get_args());
        command.env("LEASELOCK_STORE", &place.url).current_dir(place.files());
        let waiting = Running::start(&mut command);
        let arrived = || told(&place.output(&["barrier", "show", "b", "--json"]))["arrived"] == 1;
        wait_for("the arrival", || arrived().then_some(()));
        waiting.signal(signal);
        assert_code(&waiting.output(), 128 + signal as i32);
        assert!(arrived());
    }
}
