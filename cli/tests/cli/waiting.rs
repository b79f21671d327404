//! What is said while the lock is waited for.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};

use crate::screen::{Terminal, hold};
use crate::terminal::at_terminal;
use crate::tool::{Place, Running, assert_code, line_of, lives, pid_in, stderr, stdout, wait_for};

const SITUATION: &str = "waiting: a is held by crew (";

fn held(place: &Place) -> Running {
    hold(place, "a", &["--owner", "crew"])
}

fn end(holder: Running) {
    holder.signal(Signal::SIGTERM);
    holder.output();
}

/// Until there are so many, counting the holder's.
fn wait_for_waiters(place: &Place, count: usize) {
    wait_for("tickets", || (place.show("a")["waiters"].as_array()?.len() == count).then_some(()));
}

#[test]
fn at_a_terminal_a_line_moves_and_is_gone_afterwards() {
    for environment in ["", "NO_COLOR=1 "] {
        let place = Place::new();
        let Some(terminal) = Terminal::open(&place) else { return };
        let holder = held(&place);
        terminal.run(&format!("{environment}leaselock run a -- true"));
        let line = || {
            let screen = terminal.wait_to_see(SITUATION);
            screen.lines().find(|line| line.contains(SITUATION)).unwrap().to_owned()
        };
        let first = line();
        wait_for("another line", || (line() != first).then_some(()));
        wait_for("what is left", || line().contains("left unless renewed").then_some(()));
        // Not a colour in it, whoever wants some or none.
        let screen = stdout(&terminal.tmux(&["capture-pane", "-p", "-e"]));
        assert!(!screen.contains("\u{1b}[3"), "{screen:?}");
        end(holder);
        let screen = terminal.assert_as_before(0);
        assert!(!screen.contains("waiting"), "{screen}");
    }
}

#[test]
fn a_signal_takes_the_line_away() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let place = Place::new();
        let Some(terminal) = Terminal::open(&place) else { return };
        let holder = held(&place);
        terminal.run("sh -c 'echo $$ > pid; exec leaselock run a -- true'");
        terminal.wait_to_see(SITUATION);
        kill(pid_in(&place.file("pid")), signal).unwrap();
        let screen = terminal.assert_as_before(128 + signal as i32);
        assert!(!screen.contains("waiting"), "{screen}");
        end(holder);
    }
}

#[test]
fn control_c_takes_the_line_away() {
    let place = Place::new();
    let Some(terminal) = Terminal::open(&place) else { return };
    let holder = held(&place);
    terminal.run("sh -c 'echo $$ > pid; exec leaselock run a -- true'");
    terminal.wait_to_see(SITUATION);
    terminal.press("C-c");
    let waiting = pid_in(&place.file("pid"));
    wait_for("its end", || (!lives(waiting)).then_some(()));
    // The shell has forgotten what it was to do next.
    terminal.type_in("echo code $?; stty -a > after; echo > ended");
    terminal.press("Enter");
    let screen = terminal.assert_as_before(130);
    assert!(!screen.contains("waiting"), "{screen}");
    end(holder);
}

#[test]
fn a_job_in_the_background_leaves_the_prompt_alone() {
    let place = Place::new();
    let Some(terminal) = Terminal::open(&place) else { return };
    let holder = held(&place);
    terminal.type_in(&format!("{} run a -- true &", env!("CARGO_BIN_EXE_leaselock")));
    terminal.press("Enter");
    let screen = terminal.wait_to_see(SITUATION);
    assert!(screen.contains(&format!("leaselock: {SITUATION}")), "a line, not a spinner: {screen}");
    end(holder);
    terminal.type_in("wait; echo > ended");
    terminal.press("Enter");
    line_of(&place.file("ended"));
}

#[test]
fn a_terminal_that_cannot_redraw_gets_lines() {
    let place = Place::new();
    let Some(terminal) = Terminal::open(&place) else { return };
    let holder = held(&place);
    terminal.run("TERM=dumb leaselock run a -- true");
    terminal.wait_to_see(&format!("leaselock: {SITUATION}"));
    end(holder);
    terminal.assert_as_before(0);
}

#[test]
fn a_closed_terminal_ends_the_wait() {
    let place = Place::new();
    let Some(terminal) = Terminal::open(&place) else { return };
    let holder = held(&place);
    terminal.run("sh -c 'echo $$ > pid; exec leaselock run --fair a -- true'");
    terminal.wait_to_see(SITUATION);
    drop(terminal);
    let waiting = pid_in(&place.file("pid"));
    wait_for("its end", || (!lives(waiting)).then_some(()));
    end(holder);
    // Its session would have lasted for three times as long.
    assert_code(&place.output(&["run", "-w", "10s", "--fair", "a", "--", "true"]), 0);
}

#[test]
fn quiet_waits_say_nothing() {
    let place = Place::new();
    let holder = held(&place);
    let quiet = ["run", "-q", "--fair", "a", "--", "true"];
    let loud = ["run", "--fair", "a", "--", "true"];
    let (quiet_there, mut shown) = at_terminal(&place, &quiet);
    wait_for_waiters(&place, 1);
    let quiet_here = Running::start(&mut place.leaselock(&quiet));
    wait_for_waiters(&place, 2);
    // It begins to wait last, and so it is the last to speak.
    let speech = File::create(place.file("speech")).unwrap();
    let mut command = place.leaselock(&loud);
    let mut loud_here = command.stderr(Stdio::from(speech)).spawn().unwrap();
    let speech = line_of(&place.file("speech"));
    assert!(speech.contains(SITUATION) && speech.contains("in the queue"), "{speech}");
    end(holder);
    assert_code(&quiet_there.output(), 0);
    let output = quiet_here.output();
    assert_code(&output, 0);
    assert_eq!(stderr(&output), "");
    assert!(loud_here.wait().unwrap().success());
    let mut text = Vec::new();
    // It ends in an error, because nobody has the other side any more.
    let _ = shown.read_to_end(&mut text);
    assert_eq!(String::from_utf8_lossy(&text), "");
}

#[test]
#[cfg(feature = "test-clock")]
fn without_a_terminal_there_is_a_line_at_the_start_and_one_a_minute() {
    let place = Place::new();
    let holder = hold(&place, "a", &["--owner", "crew", "--ttl", "1h"]);
    let begun = crate::tool::boot();
    let speech = File::create(place.file("speech")).unwrap();
    // To it, a minute is a second.
    let mut command = place.leaselock(&["run", "a", "--", "true"]);
    command.env("LEASELOCK_TEST_CLOCK", "0 59000000").stderr(Stdio::from(speech));
    let mut waiting = command.spawn().unwrap();
    wait_for("three lines", || {
        let speech = std::fs::read_to_string(place.file("speech")).unwrap();
        (speech.lines().filter(|line| line.contains(SITUATION)).count() == 3).then_some(())
    });
    assert!(crate::tool::boot() - begun >= std::time::Duration::from_secs(2));
    kill(nix::unistd::Pid::from_raw(waiting.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(143));
    end(holder);
}
