//! `run --once`: what has succeeded is not run again.

use std::fs;
use std::process::Output;

use nix::sys::signal::Signal;

use crate::tool::{
    Place, Running, assert_code, line_of, lives, pid_in, report, stderr, stdout, wait_for,
};

/// Leaves a line behind each time it runs.
const JOB: &str = "echo ran >> runs";

fn once(place: &Place, options: &[&str], script: &str) -> Running {
    let mut arguments = vec!["run", "--once", "--json", "--ttl", "2s"];
    arguments.extend(options);
    arguments.extend(["a", "--", "sh", "-c", script]);
    Running::start(&mut place.leaselock(&arguments))
}

fn run_once(place: &Place, options: &[&str], script: &str) -> Output {
    once(place, options, script).output()
}

#[track_caller]
fn assert_ended(output: &Output, outcome: &str, code: i32) {
    assert_code(output, code);
    assert_eq!(report(output)["outcome"], outcome);
}

fn runs(place: &Place) -> usize {
    fs::read_to_string(place.file("runs")).map_or(0, |text| text.lines().count())
}

#[test]
fn a_command_that_has_succeeded_is_not_run_again() {
    let place = Place::new();
    assert_ended(&run_once(&place, &["--owner", "payroll"], JOB), "completed", 0);
    let again = run_once(&place, &[], JOB);
    assert_ended(&again, "already_done", 0);
    assert_eq!(report(&again)["token"], serde_json::Value::Null);
    let text = stderr(&again);
    assert!(text.contains("a: not run again: it was done by payroll"), "{text}");
    let quiet = place.output(&["run", "--once", "-q", "a", "--", "sh", "-c", JOB]);
    assert_code(&quiet, 0);
    assert_eq!(stderr(&quiet), "");
    assert_eq!(runs(&place), 1);
    let record = fs::read_to_string(place.record("a").with_extension("once")).unwrap();
    assert!(record.contains("\"result\":{\"exit_code\":0}"), "{record}");
    // It is no lock, and says nothing about the lock of that name.
    assert_eq!(stdout(&place.output(&["ls", "--json"])), "");
    assert_code(&place.output(&["run", "a", "--", "sh", "-c", JOB]), 0);
    assert_eq!(runs(&place), 2);
}

#[test]
fn any_other_end_is_passed_on_and_it_may_be_run_again() {
    let place = Place::new();
    for (script, code) in [("exit 7", 7), ("kill -TERM $$", 143), ("kill -9 $$", 137)] {
        let script = format!("{JOB}; {script}");
        assert_ended(&run_once(&place, &[], &script), "completed", code);
    }
    let unknown = place.output(&["run", "--once", "a", "--", "no-such-command-anywhere"]);
    assert_code(&unknown, 127);
    assert_ended(&run_once(&place, &["-n"], JOB), "completed", 0);
    assert_eq!(runs(&place), 4);
}

#[test]
fn of_several_at_once_one_runs_it() {
    let place = Place::new();
    let script = format!("{JOB}; sleep 0.5");
    let all: Vec<_> = (0..4).map(|_| once(&place, &[], &script)).collect();
    let mut outcomes: Vec<_> = all
        .into_iter()
        .map(|running| {
            let output = running.output();
            assert_code(&output, 0);
            report(&output)["outcome"].as_str().unwrap().to_owned()
        })
        .collect();
    outcomes.sort();
    assert_eq!(outcomes, ["already_done", "already_done", "already_done", "completed"]);
    assert_eq!(runs(&place), 1);
}

#[test]
fn who_does_not_wait_for_another_run_is_told_that_it_is_busy() {
    let place = Place::new();
    let script = format!("{JOB}; while [ ! -e go ]; do sleep 0.02; done");
    let running = once(&place, &[], &script);
    line_of(&place.file("runs"));
    let busy = run_once(&place, &["-n"], JOB);
    assert_ended(&busy, "busy", 75);
    assert!(stderr(&busy).contains("a is held by"), "{}", stderr(&busy));
    assert_ended(&run_once(&place, &["-w", "300ms"], JOB), "timed_out", 75);
    assert_ended(&run_once(&place, &["--skip-if-busy"], JOB), "skipped", 0);
    fs::write(place.file("go"), "").unwrap();
    assert_ended(&running.output(), "completed", 0);
    assert_eq!(runs(&place), 1);
}

#[test]
fn who_loses_the_lease_is_stopped_and_records_nothing() {
    let place = Place::new();
    // It would succeed, if only because it was asked to end.
    let script = format!("trap 'exit 0' TERM; {JOB}; while :; do sleep 0.02; done");
    let lost = run_once(&place, &["--max-hold", "1s"], &script);
    assert_ended(&lost, "lost", 120);
    assert_ended(&run_once(&place, &[], JOB), "completed", 0);
    assert_eq!(runs(&place), 2);
}

#[test]
fn a_killed_wrapper_takes_its_run_with_it_and_somebody_else_runs_it() {
    let place = Place::new();
    let script = format!("echo $$ > pid; {JOB}; while :; do sleep 0.02; done");
    let running = once(&place, &[], &script);
    let child = pid_in(&place.file("pid"));
    running.signal(Signal::SIGKILL);
    let second = run_once(&place, &[], JOB);
    assert_ended(&second, "completed", 0);
    wait_for("the child's end", || (!lives(child)).then_some(()));
    assert_eq!(runs(&place), 2);
    assert_ended(&run_once(&place, &[], JOB), "already_done", 0);
}

#[test]
fn after_its_retention_it_is_run_again() {
    let place = Place::new();
    assert_ended(&run_once(&place, &["--retention", "1s"], JOB), "completed", 0);
    wait_for("another run", || {
        let output = run_once(&place, &["--retention", "1h"], JOB);
        (report(&output)["outcome"] == "completed").then_some(())
    });
    assert_eq!(runs(&place), 2);
    assert_ended(&run_once(&place, &[], JOB), "already_done", 0);
    for arguments in [
        &["run", "--retention", "1h", "a", "--", "true"][..],
        &["run", "--once", "--retention", "10ms", "a", "--", "true"],
        &["run", "--once", "b.once/a", "--", "true"],
    ] {
        assert_code(&place.output(arguments), 64);
    }
}

#[test]
fn a_success_can_be_shown_and_forgotten() {
    let place = Place::new();
    let options = ["--owner", "payroll", "--retention", "30days"];
    assert_ended(&run_once(&place, &options, JOB), "completed", 0);
    let text = stdout(&place.output(&["show", "--once", "a"]));
    for part in ["done", "payroll", "{\"exit_code\":0}", "  kept      30days", "finished"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let shown = place.output(&["show", "--once", "a", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["state"], "done");
    assert_eq!(shown["done"]["result"]["exit_code"], 0);
    assert_eq!(place.state("a"), "absent", "there is no lock of that name");
    assert_code(&place.output(&["break", "a", "--force"]), 1);
    assert_code(&place.output(&["break", "--once", "a", "--expect-token", "7"]), 1);
    let token = shown["done"]["token"].to_string();
    let broken = place.output(&["break", "--once", "a", "--expect-token", &token]);
    assert_code(&broken, 0);
    assert!(stdout(&broken).contains("a: it may be run again"), "{}", stdout(&broken));
    assert_ended(&run_once(&place, &[], JOB), "completed", 0);
    assert_eq!(runs(&place), 2);
}
