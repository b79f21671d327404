//! Signals to the wrapper.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::tool::{Place, Running, assert_code, line_of, report, wait_for};

/// Starts a run whose child writes `ready`, then does `script`.
fn running(place: &Place, script: &str) -> Running {
    let script = format!("{script}\necho > ready; while :; do sleep 0.02; done");
    // Tests that run in the background, or by nohup, have some ignored, and the command respects that.
    // Those that run at a terminal have an INT typed there.
    let mut command = Command::new("setsid");
    let direct = place.leaselock(&["run", "--json", "a", "--", "sh", "-c", &script]);
    command
        .args(["env", "--default-signal=INT,QUIT,HUP"])
        .arg(direct.get_program())
        .args(direct.get_args());
    command.env("LEASELOCK_STORE", &place.url).current_dir(place.files());
    let running = Running::start(&mut command);
    line_of(&place.file("ready"));
    running
}

#[test]
fn they_are_passed_on_and_the_exit_code_says_which() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let place = Place::new();
        let run = running(&place, "");
        run.signal(signal);
        let output = run.output();
        assert_code(&output, 128 + signal as i32);
        assert_eq!(report(&output)["outcome"], "completed");
        assert_eq!(place.state("a"), "free");
    }
}

#[test]
fn cmd_may_handle_them_and_keeps_the_lock_meanwhile() {
    let place = Place::new();
    let script = "trap 'echo usr1 >> log' USR1; trap 'echo usr2 >> log' USR2
        trap 'echo term >> log; sleep 0.5; echo end >> log; exit 3' TERM";
    let run = running(&place, script);
    let log = || std::fs::read_to_string(place.file("log")).unwrap_or_default();
    run.signal(Signal::SIGUSR1);
    wait_for("USR1", || log().contains("usr1").then_some(()));
    run.signal(Signal::SIGUSR2);
    wait_for("USR2", || log().contains("usr2").then_some(()));
    run.signal(Signal::SIGTERM);
    wait_for("TERM", || log().contains("term").then_some(()));
    assert_code(&place.output(&["run", "-n", "a", "--", "true"]), 75);
    assert_code(&run.output(), 3);
    assert_eq!(log(), "usr1\nusr2\nterm\nend\n");
}

#[test]
fn they_reach_the_whole_group() {
    let place = Place::new();
    let script = "sh -c 'trap \"echo > grandchild; exit\" TERM; echo > inner
        while :; do sleep 0.02; done' &
        while ! [ -e inner ]; do sleep 0.02; done
        trap 'wait; exit 4' TERM";
    let run = running(&place, script);
    run.signal(Signal::SIGTERM);
    assert_code(&run.output(), 4);
    assert!(place.file("grandchild").exists());
}

#[test]
fn they_end_a_wait_and_leave_nothing_taken() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let place = Place::new();
        let holder = running(&place, "");
        let mut command = Command::new("setsid");
        let direct = place.leaselock(&["run", "--json", "a", "--", "touch", "ran"]);
        command
            .args(["env", "--default-signal=INT,HUP"])
            .arg(direct.get_program())
            .args(direct.get_args());
        command.env("LEASELOCK_STORE", &place.url).current_dir(place.files());
        let waiting = Running::start(&mut command);
        // Long enough to be waiting, and not starting.
        std::thread::sleep(std::time::Duration::from_millis(300));
        waiting.signal(signal);
        let output = waiting.output();
        assert_code(&output, 128 + signal as i32);
        assert_eq!(report(&output)["outcome"], "interrupted");
        holder.signal(Signal::SIGTERM);
        assert_code(&holder.output(), 143);
        assert_code(&place.output(&["run", "-n", "a", "--", "true"]), 0);
        assert!(!place.file("ran").exists());
    }
}
