//! At a terminal.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use nix::pty::openpty;

use crate::tool::{Place, Running, line_of};

/// Runs `script` as CMD under a terminal of its own, whose other side is returned.
fn at_terminal(place: &Place, script: &str) -> (Running, File) {
    let pty = openpty(None, None).unwrap();
    // The output is a file: a pipe would be taken for another program of the same job.
    let start = "exec setsid --ctty --wait \"$@\" > out";
    let mut command = Command::new("sh");
    command.args(["-c", start, "sh", env!("CARGO_BIN_EXE_leaselock"), "run", "a", "--"]);
    command.args(["sh", "-c", script]).env("LEASELOCK_STORE", &place.url);
    command.current_dir(place.files()).stdin(Stdio::from(pty.slave));
    (Running::start(&mut command), File::from(pty.master))
}

#[test]
fn cmd_gets_the_terminal_and_its_keys() {
    let place = Place::new();
    let script = "ps -o pgid=,tpgid= -p $$ > groups; read line; echo $line > line; echo > ready
        while :; do sleep 0.02; done";
    let (run, mut keyboard) = at_terminal(&place, script);
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
