//! At a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use nix::pty::openpty;

use nix::sys::signal::Signal;

use crate::tool::{Place, Running, assert_code, line_of, stderr, without_configuration};

/// Runs the command under a terminal of its own, whose other side is returned.
pub(crate) fn at_terminal(place: &Place, arguments: &[&str]) -> (Running, File) {
    let pty = openpty(None, None).unwrap();
    // The output is a file: a pipe would be taken for another program of the same job.
    let start = "exec setsid --ctty --wait \"$@\" > out 2>&0";
    let mut command = Command::new("sh");
    command.args(["-c", start, "sh", env!("CARGO_BIN_EXE_leaselock")]).args(arguments);
    without_configuration(&mut command);
    command.env("LEASELOCK_STORE", &place.url);
    command.current_dir(place.files()).stdin(Stdio::from(pty.slave));
    (Running::start(&mut command), File::from(pty.master))
}

#[test]
fn cmd_gets_the_terminal_and_its_keys() {
    let place = Place::new();
    let script = "ps -o pgid=,tpgid= -p $$ > groups; read line; echo $line > line; echo > ready
        while :; do sleep 0.02; done";
    let (run, mut keyboard) = at_terminal(&place, &["run", "a", "--", "sh", "-c", script]);
    let groups = line_of(&place.file("groups"));
    let groups: Vec<_> = groups.split_whitespace().collect();
    assert_eq!(groups[0], groups[1], "the child is in the foreground");
    keyboard.write_all(b"typed\n").unwrap();
    line_of(&place.file("ready"));
    assert_eq!(line_of(&place.file("line")), "typed");
    // ^C
    keyboard.write_all(b"\x03").unwrap();
    // Died of it, which is 130 in a shell, and ends the shell's loop.
    assert_eq!(run.output().status.signal(), Some(2));
    assert_eq!(place.state("a"), "free");
}

/// What is shown, up to and with `end`.
fn shown(terminal: &mut File, end: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(end) {
        let mut more = [0; 256];
        let read = terminal.read(&mut more).unwrap();
        text.extend_from_slice(&more[..read]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn break_shows_the_holder_and_asks() {
    let place = Place::new();
    let script = "echo > ready; sleep 1000";
    let options = ["run", "--owner", "crew", "--note", "why", "a", "--", "sh", "-c", script];
    let held = Running::start(&mut place.leaselock(&options));
    line_of(&place.file("ready"));
    for (answer, code, state) in [("\n", 1, "held"), ("n\n", 1, "held"), ("y\n", 0, "free")] {
        let (asking, mut terminal) = at_terminal(&place, &["break", "a", "--reason", "stuck"]);
        let text = shown(&mut terminal, "[y/N]");
        assert!(text.contains("crew") && text.contains("why"), "{text}");
        terminal.write_all(answer.as_bytes()).unwrap();
        assert_eq!(asking.output().status.code(), Some(code), "{answer:?}");
        assert_eq!(place.state("a"), state);
    }
    assert_eq!(place.show("a")["history"][0]["reason"], "stuck");
    let nobody = at_terminal(&place, &["break", "a"]).0.output();
    assert_eq!(nobody.status.code(), Some(1));
    held.signal(Signal::SIGTERM);
    held.output();
}

#[test]
fn break_does_not_ask_where_nobody_can_answer() {
    let place = Place::new();
    let output = place.output(&["break", "a"]);
    assert_code(&output, 64);
    let told = stderr(&output);
    assert!(told.contains("--expect-token") && told.contains("--force"), "{told}");
    assert!(place.stored().is_empty());
}
