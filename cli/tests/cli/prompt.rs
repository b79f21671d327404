//! Typed at a shell's prompt, in a real terminal: that of tmux.

use std::fs;

use nix::sys::signal::Signal;

use crate::screen::{Terminal, hold};
use crate::tool::{Place, assert_code, line_of, lives, pid_in, wait_for};

const LEASELOCK: &str = env!("CARGO_BIN_EXE_leaselock");

/// A script under the lock `a`, from the prompt. The words come before and after the command.
fn type_run(terminal: &Terminal<'_>, place: &Place, words: [&str; 2], options: &str, script: &str) {
    fs::write(place.file("cmd"), script).unwrap();
    let [before, after] = words;
    terminal.type_in(&format!("{before}$LL run {options} a -- sh cmd{after}"));
    terminal.press("Enter");
}

fn open(place: &Place) -> Option<Terminal<'_>> {
    let terminal = Terminal::open(place)?;
    terminal.type_in(&format!("LL={LEASELOCK}"));
    terminal.press("Enter");
    Some(terminal)
}

/// Of the command before.
fn assert_ended(terminal: &Terminal<'_>, place: &Place, code: i32) {
    terminal.type_in("echo $? > code");
    terminal.press("Enter");
    assert_eq!(line_of(&place.file("code")), code.to_string());
}

/// Notes what it is told, and ends by QUIT.
const NOTES: &str = "trap 'echo int >> log' INT; trap 'echo quit >> log; exit 3' QUIT
    echo $$ > pid; echo > ready; while :; do sleep 0.02; done";

/// The second line shows that the first one had come but once.
fn is_told_once(words: [&str; 2], code: i32) {
    let place = Place::new();
    let Some(terminal) = open(&place) else { return };
    type_run(&terminal, &place, words, "", NOTES);
    line_of(&place.file("ready"));
    terminal.press("C-c");
    assert_eq!(line_of(&place.file("log")), "int");
    assert_code(&place.output(&["run", "-qn", "a", "--", "true"]), 75);
    terminal.press("C-\\");
    let child = pid_in(&place.file("pid"));
    wait_for("its end", || (!lives(child)).then_some(()));
    assert_ended(&terminal, &place, code);
    assert_eq!(fs::read_to_string(place.file("log")).unwrap(), "int\nquit\n");
    assert_eq!(place.state("a"), "free");
}

#[test]
fn control_c_reaches_cmd_once_and_the_lock_is_kept_until_cmd_ends() {
    is_told_once(["", ""], 3);
    // Here the terminal stays with the shell's job, and the signal is passed on.
    is_told_once(["", " < /dev/null"], 3);
}

#[test]
fn control_c_ends_a_loop() {
    for (words, script) in [
        (["", ""], "echo > ready; exec sleep 1000"),
        (["", " < /dev/null"], "echo > ready; exec sleep 1000"),
    ] {
        let place = Place::new();
        let Some(terminal) = open(&place) else { return };
        let start = format!("for i in 1 2 3; do echo $i >> rounds; {}", words[0]);
        let end = format!("{}; done", words[1]);
        type_run(&terminal, &place, [&start, &end], "", script);
        line_of(&place.file("ready"));
        terminal.press("C-c");
        assert_ended(&terminal, &place, 130);
        assert_eq!(fs::read_to_string(place.file("rounds")).unwrap(), "1\n", "{words:?}");
        assert_eq!(place.state("a"), "free");
    }
}

#[test]
fn control_c_ends_a_loop_that_waits() {
    let place = Place::new();
    let Some(terminal) = open(&place) else { return };
    let held = hold(&place, "a", &[]);
    let start = "for i in 1 2 3; do echo $i >> rounds; ";
    type_run(&terminal, &place, [start, "; done"], "--fair", "true");
    wait_for("a ticket", || (place.show("a")["waiters"].as_array()?.len() == 1).then_some(()));
    terminal.press("C-c");
    assert_ended(&terminal, &place, 130);
    assert_eq!(fs::read_to_string(place.file("rounds")).unwrap(), "1\n");
    held.signal(Signal::SIGTERM);
    held.output();
    assert_code(&place.output(&["run", "-w", "10s", "--fair", "a", "--", "true"]), 0);
}

#[test]
fn a_script_ends_with_its_command() {
    for input in ["", " < /dev/null"] {
        let place = Place::new();
        let Some(terminal) = open(&place) else { return };
        // bash goes on after a command that has handled INT and exited.
        let script = format!(
            "{LEASELOCK} run a -- sh -c 'echo > ready; exec sleep 1000'{input}; echo > went-on"
        );
        fs::write(place.file("script"), script).unwrap();
        terminal.type_in("bash script");
        terminal.press("Enter");
        line_of(&place.file("ready"));
        terminal.press("C-c");
        assert_ended(&terminal, &place, 130);
        assert!(!place.file("went-on").exists(), "{input:?}");
    }
}

/// Reads a line, and beats all the time.
const READS: &str = "echo $$ > pid; (while :; do echo >> beats; sleep 0.02; done) &
    read line; echo $line > line; exit 3";

fn is_stopped(place: &Place) -> Option<()> {
    let child = pid_in(&place.file("pid"));
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
}

#[test]
fn control_z_stops_both_and_fg_continues_both() {
    let place = Place::new();
    let Some(terminal) = open(&place) else { return };
    type_run(&terminal, &place, ["", ""], "--ttl 30s", READS);
    line_of(&place.file("beats"));
    for round in 0..2 {
        terminal.press("C-z");
        terminal.wait_to_see("Stopped");
        wait_for("the child's stop", || is_stopped(&place));
        let beats = fs::metadata(place.file("beats")).unwrap().len();
        // The shell has its terminal again.
        terminal.type_in(&format!("clear; echo > prompt-{round}"));
        terminal.press("Enter");
        line_of(&place.file(&format!("prompt-{round}")));
        assert_eq!(fs::metadata(place.file("beats")).unwrap().len(), beats);
        assert_code(&place.output(&["run", "-qn", "a", "--", "true"]), 75);
        terminal.type_in("fg");
        terminal.press("Enter");
        wait_for("a beat", || {
            (fs::metadata(place.file("beats")).unwrap().len() > beats).then_some(())
        });
    }
    // And CMD has it.
    terminal.type_in("typed");
    terminal.press("Enter");
    assert_eq!(line_of(&place.file("line")), "typed");
    assert_ended(&terminal, &place, 3);
    assert_eq!(place.state("a"), "free");
}

#[test]
fn a_stop_that_outlasts_the_lease_ends_cmd_before_somebody_else_enters() {
    let place = Place::new();
    let Some(terminal) = open(&place) else { return };
    type_run(&terminal, &place, ["", ""], "--ttl 2s", READS);
    line_of(&place.file("beats"));
    terminal.press("C-z");
    terminal.wait_to_see("Stopped");
    assert!(terminal.screen().contains("is not renewed while stopped"));
    // Of two beats one would be seen.
    let script = "beats=$(wc -c < beats); sleep 0.2; [ $(wc -c < beats) = $beats ]";
    assert_code(&place.output(&["run", "-q", "-w", "20s", "a", "--", "sh", "-c", script]), 0);
    assert!(!lives(pid_in(&place.file("pid"))));
    terminal.type_in("fg");
    terminal.press("Enter");
    assert_ended(&terminal, &place, 120);
    // Whichever it noticed first.
    let screen = terminal.screen();
    let reasons = ["too long to renew", "was lost", "about to end"];
    assert!(reasons.iter().any(|reason| screen.contains(reason)), "{screen}");
}

#[test]
fn in_the_background_it_stops_for_the_terminal_and_gets_it_by_fg() {
    let place = Place::new();
    let Some(terminal) = open(&place) else { return };
    type_run(&terminal, &place, ["", " &"], "", READS);
    line_of(&place.file("pid"));
    wait_for("the child's stop", || is_stopped(&place));
    terminal.type_in("fg");
    terminal.press("Enter");
    wait_for("it to go on", || is_stopped(&place).is_none().then_some(()));
    terminal.type_in("typed");
    terminal.press("Enter");
    assert_eq!(line_of(&place.file("line")), "typed");
    assert_ended(&terminal, &place, 3);
}

#[test]
fn a_closed_terminal_ends_cmd_and_gives_the_lock_back() {
    for stopped in [false, true] {
        let place = Place::new();
        let Some(terminal) = open(&place) else { return };
        type_run(&terminal, &place, ["", ""], "", READS);
        line_of(&place.file("beats"));
        if stopped {
            terminal.press("C-z");
            terminal.wait_to_see("Stopped");
        }
        drop(terminal);
        let child = pid_in(&place.file("pid"));
        wait_for("the child's end", || (!lives(child)).then_some(()));
        wait_for("the release", || (place.state("a") == "free").then_some(()));
        assert_eq!(place.show("a")["history"][0]["ended"], "released", "stopped: {stopped}");
    }
}
