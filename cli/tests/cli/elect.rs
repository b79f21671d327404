//! `elect`: one CMD runs at a time, and whoever was put out campaigns again.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use crate::tool::{
    Place, Running, assert_code, line_of, lives, pid_in, report, stderr, stdout, wait_for,
    watchdog_of,
};

/// Says in which term it is, and where, and runs on.
const LEAD: &str = "echo $$ > pid.$LEASELOCK_TERM; echo $LEASELOCK_TERM >> terms
while :; do sleep 0.02; done";

fn elect(place: &Place, options: &[&str], script: &str) -> Running {
    let mut arguments = vec!["elect", "--json"];
    arguments.extend(options);
    arguments.extend(["a", "--", "sh", "-c", script]);
    // A test run in the background has INT ignored, and the command would respect that.
    let mut command = Command::new("env");
    let direct = place.leaselock(&arguments);
    command.arg("--default-signal=INT,QUIT,HUP").arg(direct.get_program()).args(direct.get_args());
    command.env("LEASELOCK_STORE", &place.url).env("XDG_RUNTIME_DIR", place.files());
    Running::start(command.current_dir(place.files()))
}

/// The term number `number` that CMD has been run in, from 0.
#[track_caller]
fn term(place: &Place, number: usize) -> u64 {
    wait_for("a term", || {
        let terms = fs::read_to_string(place.file("terms")).ok()?;
        let (terms, _) = terms.rsplit_once('\n')?;
        terms.lines().nth(number)?.parse().ok()
    })
}

fn leader(place: &Place, term: u64) -> nix::unistd::Pid {
    pid_in(&place.file(&format!("pid.{term}")))
}

#[test]
fn the_elected_runs_cmd_and_passes_its_exit_code_on() {
    for (end, code) in [("exit 0", 0), ("exit 7", 7), ("exit 120", 120), ("kill -9 $$", 137)] {
        let place = Place::new();
        let script = format!("echo $LEASELOCK_NAME $LEASELOCK_TERM $LEASELOCK_TOKEN; {end}");
        let output = elect(&place, &["--owner", "worker-7"], &script).output();
        assert_code(&output, code);
        let report = report(&output);
        assert_eq!((&report["outcome"], &report["exit_code"]), (&"completed".into(), &code.into()));
        let token = report["token"].to_string();
        assert_eq!(stdout(&output).trim(), format!("a {token} {token}"));
        let shown = place.show("a");
        assert_eq!(shown["state"], "free");
        assert_eq!(shown["history"][0]["owner"]["label"], "worker-7");
    }
}

#[test]
fn run_does_not_tell_of_a_term() {
    let place = Place::new();
    let output = place.output(&["run", "a", "--", "sh", "-c", "echo ${LEASELOCK_TERM-none}"]);
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "none\n");
}

#[test]
fn a_candidate_takes_over_when_the_leader_is_killed() {
    let place = Place::new();
    let first = elect(&place, &["--ttl", "2s"], LEAD);
    let before = term(&place, 0);
    let old = leader(&place, before);
    let second = elect(&place, &["--ttl", "2s"], LEAD);
    first.signal(Signal::SIGKILL);
    let after = term(&place, 1);
    assert!(!lives(old), "the first CMD is gone before the second runs");
    assert!(after > before);
    assert!(lives(leader(&place, after)));
    second.signal(Signal::SIGTERM);
    let output = second.output();
    assert_code(&output, 143);
    let report = report(&output);
    assert_eq!((&report["outcome"], &report["token"]), (&"completed".into(), &after.into()));
    assert_eq!(place.state("a"), "free");
}

#[test]
fn a_leader_that_is_put_out_stops_cmd_and_campaigns_again() {
    for on_lost in ["term", "kill"] {
        let place = Place::new();
        // Deaf, so that nothing but the watchdog ends it when its wrapper is gone.
        let deaf = format!("trap '' TERM; {LEAD}");
        let candidate = elect(&place, &["--ttl", "2s", "--on-lost", on_lost], &deaf);
        let first = term(&place, 0);
        let watchdog = watchdog_of(candidate.pid());
        let old = leader(&place, first);
        // Somebody else leads in between, so that it has to wait.
        let script = "echo > between; while ! [ -e go ]; do sleep 0.02; done";
        let expected = first.to_string();
        let put_out = ["break", "a", "--expect-token", &expected, "--reason", "stuck"];
        assert_code(&place.output(&put_out), 0);
        let other = Running::start(&mut place.leaselock(&["run", "a", "--", "sh", "-c", script]));
        wait_for("the end of the first CMD", || (!lives(old)).then_some(()));
        // Whoever is faster: the other, or the candidate when it campaigns again.
        let between = || place.file("between").exists();
        wait_for("another leader", || {
            (between() || place.show("a")["token"].as_u64()? > first).then_some(())
        });
        fs::write(place.file("go"), "").unwrap();
        let second = term(&place, 1);
        assert!(second > first);
        assert!(lives(leader(&place, second)));
        // The watchdog that was there from the beginning watches over the new CMD too.
        assert_eq!(watchdog_of(candidate.pid()), watchdog);
        let new = leader(&place, second);
        candidate.signal(Signal::SIGKILL);
        wait_for("the end of the second CMD", || (!lives(new)).then_some(()));
        drop(candidate);
        assert_code(&other.output(), 0);
    }
}

#[test]
fn what_was_lost_is_said_and_a_later_end_is_as_usual() {
    let place = Place::new();
    let script =
        "echo $LEASELOCK_TERM >> terms; echo $LEASELOCK_STATUS_FILE > status.$LEASELOCK_TERM
        [ $(wc -l < terms) = 2 ] && exit 5; while :; do sleep 0.02; done";
    let candidate = elect(&place, &["--ttl", "1s"], script);
    let first = term(&place, 0);
    assert_code(&place.output(&["break", "a", "--force", "--reason", "stuck"]), 0);
    let output = candidate.output();
    assert_code(&output, 5);
    let text = stderr(&output);
    assert!(text.contains("stuck") && text.contains("campaigning again"), "{text}");
    let report = report(&output);
    let second = report["token"].as_u64().unwrap();
    assert!(report["outcome"] == "completed" && second > first, "{report}");
    let status = |term| PathBuf::from(line_of(&place.file(&format!("status.{term}"))));
    assert!(status(second).is_absolute() && !status(second).exists(), "each term had one");
    let history = place.show("a")["history"].clone();
    assert_eq!(
        (&history[0]["ended"], &history[1]["ended"]),
        (&"broken".into(), &"released".into())
    );
}

#[test]
fn a_frozen_candidate_is_succeeded_and_campaigns_again_when_it_goes_on() {
    let place = Place::new();
    let frozen = elect(&place, &["--ttl", "2s"], LEAD);
    let first = term(&place, 0);
    let old = leader(&place, first);
    frozen.signal(Signal::SIGSTOP);
    wait_for("the end of its CMD, by the watchdog", || (!lives(old)).then_some(()));
    let other = elect(&place, &["--ttl", "2s"], LEAD);
    let second = term(&place, 1);
    frozen.signal(Signal::SIGCONT);
    other.signal(Signal::SIGTERM);
    assert_code(&other.output(), 143);
    let third = term(&place, 2);
    assert!(first < second && second < third);
    frozen.signal(Signal::SIGTERM);
    let output = frozen.output();
    assert_code(&output, 143);
    assert_eq!(report(&output)["token"].as_u64(), Some(third));
}

#[test]
fn a_signal_ends_a_campaign() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let place = Place::new();
        let leading = elect(&place, &[], LEAD);
        term(&place, 0);
        let waiting = elect(&place, &[], LEAD);
        // Long enough to be waiting, and not starting.
        std::thread::sleep(std::time::Duration::from_millis(300));
        waiting.signal(signal);
        let output = waiting.output();
        assert_code(&output, code);
        let told = report(&output);
        assert_eq!((&told["outcome"], &told["token"]), (&"interrupted".into(), &().into()));
        assert_eq!(place.state("a"), "held");
        leading.signal(Signal::SIGTERM);
        assert_code(&leading.output(), 143);
        assert_eq!(fs::read_to_string(place.file("terms")).unwrap().lines().count(), 1);
    }
}

#[test]
fn who_was_asked_to_end_does_not_campaign_again() {
    let place = Place::new();
    let deaf = format!("trap '' TERM; {LEAD}");
    let candidate = elect(&place, &["--ttl", "2s"], &deaf);
    let child = leader(&place, term(&place, 0));
    candidate.signal(Signal::SIGTERM);
    assert_code(&place.output(&["break", "a", "--force"]), 0);
    let output = candidate.output();
    assert_code(&output, 120);
    assert_eq!(report(&output)["outcome"], "lost");
    assert!(!lives(child));
    assert_eq!(place.state("a"), "free");
}

#[test]
fn without_its_watchdog_a_candidate_does_not_campaign_again() {
    let place = Place::new();
    let candidate = elect(&place, &["--ttl", "2s"], LEAD);
    let first = term(&place, 0);
    kill(watchdog_of(candidate.pid()), Signal::SIGKILL).unwrap();
    assert_code(&place.output(&["break", "a", "--force"]), 0);
    let output = candidate.output();
    assert_code(&output, 120);
    assert!(stderr(&output).contains("not campaigning again"), "{}", stderr(&output));
    let told = report(&output);
    assert_eq!((&told["outcome"], &told["token"]), (&"lost".into(), &first.into()));
    assert_eq!(place.show("a")["token"], first, "it was not elected in vain");
}

#[test]
fn what_cannot_be_started_is_no_reason_to_campaign_again() {
    let place = Place::new();
    let output = place.output(&["elect", "--json", "a", "--", "./no-such-command"]);
    assert_code(&output, 127);
    assert_eq!(report(&output)["outcome"], "not_started");
    assert_eq!(place.state("a"), "free");
    assert_code(&place.output(&["elect", "--kill-grace", "20s", "a", "--", "true"]), 64);
    assert_code(&place.output(&["elect", "a"]), 64);
}
