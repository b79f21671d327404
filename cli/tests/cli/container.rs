//! As the first process of a container, and as a subreaper: whatever loses its parent there becomes
//! the child of `leaselock`.

#![allow(unsafe_code, reason = "only what is to become `leaselock` itself can make it a subreaper")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::tool::{
    Place, Running, assert_code, children_of, finish, line_of, lives, pid_in, report, stderr,
    under, wait_for, watchdog_of,
};

/// Leaves twenty processes behind that end at once, and waits until none of them is a zombie any more.
const ORPHANS: &str = "\
for i in $(seq 20); do sh -c 'sleep 0.01 & echo $! >> orphans'; done
for i in $(seq 1000); do
    [ $i -lt 1000 ] || exit 99
    left=no
    for pid in $(cat orphans); do [ -e /proc/$pid ] && left=yes; done
    [ $left = no ] && exit 5
    sleep 0.02
done";

/// What makes `leaselock` the first process of a namespace; `None` where that is not allowed.
fn first_process() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [
        &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"],
        &["unshare", "-Ur", "--pid", "--fork", "--mount-proc", "--kill-child"],
    ];
    let found = ways.into_iter().find(|way| {
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).arg("true").stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    });
    if found.is_none() {
        // Even in CI: there it is the machine's owner who decides. Subreapers have the same duty.
        eprintln!("skipped: no namespace can be made here");
    }
    found
}

/// Makes what `command` starts a subreaper.
fn adopting(mut command: Command) -> Command {
    // SAFETY: between fork and exec there is one system call, which neither allocates nor locks.
    unsafe { command.pre_exec(|| Ok(prctl::set_child_subreaper(true)?)) };
    command
}

/// `leaselock`, of which `starter` is the parent.
fn inside(starter: &Running) -> Pid {
    wait_for("the command", || {
        let found = children_of(starter.pid()).into_iter();
        found.map(|(pid, _)| pid).find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it == "leaselock\n")
        })
    })
}

#[test]
fn the_first_process_reaps_orphans_and_keeps_the_exit_code() {
    let Some(starter) = first_process() else { return };
    let place = Place::new();
    let run = ["run", "--json", "a", "--", "sh", "-c", ORPHANS];
    let output = finish(&mut under(&place, starter, &run));
    assert_code(&output, 5);
    assert_eq!(report(&output)["outcome"], "completed");
    assert_eq!(place.state("a"), "free");
}

#[test]
fn a_subreaper_reaps_orphans_and_keeps_the_exit_code() {
    let place = Place::new();
    let run = ["run", "--json", "a", "--", "sh", "-c", ORPHANS];
    let output = finish(&mut adopting(place.leaselock(&run)));
    assert_code(&output, 5);
    assert_eq!(report(&output)["outcome"], "completed");
}

#[test]
fn other_processes_get_none_and_reap_none() {
    let place = Place::new();
    let start = "sleep 0.01 & exec \"$@\"";
    let script = "echo > ready; while ! [ -e done ]; do sleep 0.02; done";
    let run = ["run", "a", "--", "sh", "-c", script];
    let run = Running::start(&mut under(&place, &["sh", "-c", start, "sh"], &run));
    line_of(&place.file("ready"));
    wait_for("a zombie", || {
        children_of(run.pid()).iter().find(|(_, state)| *state == 'Z').copied()
    });
    fs::write(place.file("done"), "").unwrap();
    assert_code(&run.output(), 0);
}

#[test]
fn it_reaps_while_it_waits_too() {
    let place = Place::new();
    let script = "echo > held; while ! [ -e done ]; do sleep 0.02; done";
    let holder = ["run", "a", "--", "sh", "-c", script];
    let holder = Running::start(&mut place.leaselock(&holder));
    line_of(&place.file("held"));
    // What the shell has started is its successor's.
    let start = "sleep 0.2 & sleep 0.4 & sleep 0.01 & exec \"$@\"";
    let waiting = ["run", "a", "--", "sh", "-c", "exit 5"];
    let command = under(&place, &["sh", "-c", start, "sh"], &waiting);
    let waiting = Running::start(&mut adopting(command));
    let watchdog = watchdog_of(waiting.pid());
    wait_for("nobody but the watchdog", || {
        (children_of(waiting.pid()) == [(watchdog, 'S')]).then_some(())
    });
    fs::write(place.file("done"), "").unwrap();
    assert_code(&holder.output(), 0);
    assert_code(&waiting.output(), 5);
}

#[test]
fn a_dead_watchdog_is_still_missed() {
    let place = Place::new();
    let script = "echo > ready; while ! [ -e done ]; do sleep 0.02; done; exit 5";
    let run = ["run", "a", "--", "sh", "-c", script];
    let run = Running::start(&mut adopting(place.leaselock(&run)));
    line_of(&place.file("ready"));
    let watchdog = watchdog_of(run.pid());
    kill(watchdog, Signal::SIGKILL).unwrap();
    wait_for("its burial", || {
        children_of(run.pid()).iter().all(|(pid, _)| *pid != watchdog).then_some(())
    });
    fs::write(place.file("done"), "").unwrap();
    let output = run.output();
    assert_code(&output, 5);
    assert!(stderr(&output).contains("watchdog"), "{}", stderr(&output));
}

#[test]
fn what_is_left_in_the_group_is_ended_by_a_subreaper_too() {
    let place = Place::new();
    let script = "(trap '' TERM; while :; do sleep 0.02; done) & echo $! > pid; exit 5";
    let run = ["run", "--kill-grace", "200ms", "a", "--", "sh", "-c", script];
    let output = finish(&mut adopting(place.leaselock(&run)));
    assert_code(&output, 5);
    assert!(!lives(pid_in(&place.file("pid"))));
    assert!(!stderr(&output).contains("cannot be stopped"), "{}", stderr(&output));
}

#[test]
fn the_first_process_heeds_term_while_it_holds_and_while_it_waits() {
    let Some(starter) = first_process() else { return };
    let place = Place::new();
    let script = "trap 'echo > end; exit 3' TERM; echo > ready; while :; do sleep 0.02; done";
    let holder = ["run", "a", "--", "sh", "-c", script];
    let holder = Running::start(&mut under(&place, starter, &holder));
    line_of(&place.file("ready"));
    let waiting =
        Running::start(&mut under(&place, starter, &["run", "--fair", "a", "--", "true"]));
    wait_for("a ticket", || (place.show("a")["waiters"].as_array()?.len() == 1).then_some(()));
    kill(inside(&waiting), Signal::SIGTERM).unwrap();
    assert_code(&waiting.output(), 143);
    kill(inside(&holder), Signal::SIGTERM).unwrap();
    assert_code(&holder.output(), 3);
    assert!(place.file("end").exists());
    assert_eq!(place.state("a"), "free");
}

#[test]
fn everything_dies_with_the_first_process() {
    let Some(starter) = first_process() else { return };
    let place = Place::new();
    let script = "setsid sh -c 'trap \"\" TERM HUP; echo > ready; while :; do sleep 0.02; done'";
    let run = ["run", "a", "--", "sh", "-c", script];
    let run = Running::start(&mut under(&place, starter, &run));
    line_of(&place.file("ready"));
    let first = inside(&run);
    let children: Vec<_> = children_of(first).into_iter().map(|(pid, _)| pid).collect();
    kill(first, Signal::SIGKILL).unwrap();
    for pid in children {
        wait_for("the end of all", || (!lives(pid)).then_some(()));
    }
    run.output();
}
