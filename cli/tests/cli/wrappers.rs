//! What people put around `leaselock run`: `timeout`, `nohup`, `xargs`, `make`, cron, a service
//! manager, and surroundings in which something is missing.

use std::fs;
use std::path::Path;
use std::process::Output;

use nix::sys::signal::{Signal, kill};

use crate::tool::{
    Place, Running, assert_code, finish, line_of, lives, pid_in, stderr, stdout, there_is, under,
    wait_for, watchdog_of,
};

/// Never ends by itself.
const FOR_EVER: &str = "echo > ready; while :; do sleep 0.02; done";

/// As if no test had started it: none of these signals is ignored, or typed at a terminal.
const USUAL: [&str; 3] = ["setsid", "env", "--default-signal=INT,QUIT,HUP,TERM"];

#[test]
fn timeout_ends_the_command_and_the_lock_is_free() {
    for options in [&["timeout", "2"][..], &["timeout", "--foreground", "2"]] {
        let place = Place::new();
        let script = format!("trap 'echo > end; exit 3' TERM; {FOR_EVER}");
        let output =
            finish(&mut under(&place, options, &["run", "--json", "a", "--", "sh", "-c", &script]));
        assert_code(&output, 124);
        assert!(!stderr(&output).contains("confirm"), "{}", stderr(&output));
        assert_eq!(place.state("a"), "free");
    }
}

/// `timeout` signals its command and then its whole group; with a service manager or a terminal it
/// may be both of them who do.
#[test]
fn a_stop_that_is_asked_for_twice_is_one_stop() {
    let place = Place::new();
    let script = format!(
        "trap 'kill -STOP $PPID; kill -TERM $PPID; exit 3' TERM; echo $$ > pid; {FOR_EVER}"
    );
    let run = Running::start(&mut under(&place, &USUAL, &["run", "a", "--", "sh", "-c", &script]));
    line_of(&place.file("ready"));
    run.signal(Signal::SIGTERM);
    let child = pid_in(&place.file("pid"));
    wait_for("the child's end", || (!lives(child)).then_some(()));
    run.signal(Signal::SIGCONT);
    let output = run.output();
    assert_code(&output, 3);
    assert!(!stderr(&output).contains("confirm"), "{}", stderr(&output));
    assert_eq!(place.state("a"), "free");
}

#[test]
fn a_wait_that_is_ended_twice_is_in_nobodys_way() {
    let place = Place::new();
    let held = ["run", "--fair", "a", "--", "sh", "-c", FOR_EVER];
    let holder = Running::start(&mut place.leaselock(&held));
    line_of(&place.file("ready"));
    let waiting = ["run", "--fair", "a", "--", "true"];
    let waiting = Running::start(&mut under(&place, &USUAL, &waiting));
    let waiters = || place.show("a")["waiters"].as_array().unwrap().len();
    wait_for("a ticket", || (waiters() == 1).then_some(()));
    waiting.signal(Signal::SIGSTOP);
    waiting.signal(Signal::SIGINT);
    waiting.signal(Signal::SIGTERM);
    waiting.signal(Signal::SIGCONT);
    // The first that it sees counts.
    let output = waiting.output();
    assert!(matches!(output.status.code(), Some(130 | 143)), "{}", stderr(&output));
    holder.signal(Signal::SIGTERM);
    holder.output();
    // Its session would have lasted for three times as long.
    assert_code(&place.output(&["run", "-w", "10s", "--fair", "a", "--", "true"]), 0);
}

/// As systemd stops a service, unless it is told otherwise.
#[test]
fn term_to_every_process_at_once_lets_the_command_tidy_up_under_the_lock() {
    let place = Place::new();
    let script = format!(
        "sh -c 'echo $$ > grandchild; while :; do sleep 0.02; done' & echo $$ > pid
        trap 'echo > told; while ! [ -e done ]; do sleep 0.02; done; exit 3' TERM; {FOR_EVER}"
    );
    let run = Running::start(&mut under(&place, &USUAL, &["run", "a", "--", "sh", "-c", &script]));
    line_of(&place.file("ready"));
    let [child, grandchild] = ["pid", "grandchild"].map(|name| pid_in(&place.file(name)));
    let watchdog = watchdog_of(run.pid());
    for pid in [run.pid(), watchdog, child, grandchild] {
        // One that was told by another of them may be gone.
        let _ = kill(pid, Signal::SIGTERM);
    }
    line_of(&place.file("told"));
    assert_code(&place.output(&["run", "-qn", "a", "--", "true"]), 75);
    assert!(lives(watchdog), "it is needed until the end");
    fs::write(place.file("done"), "").unwrap();
    assert_code(&run.output(), 3);
    assert_eq!(place.state("a"), "free");
}

#[test]
fn under_nohup_it_survives_the_terminal() {
    let place = Place::new();
    let script = "echo > ready; while ! [ -e done ]; do sleep 0.02; done";
    let run = ["run", "a", "--", "sh", "-c", script];
    let run = Running::start(&mut under(&place, &["nohup"], &run));
    line_of(&place.file("ready"));
    run.signal(Signal::SIGHUP);
    // Where HUP were passed on, it would be the one that CMD dies of.
    run.signal(Signal::SIGUSR1);
    let output = run.output();
    assert_code(&output, 128 + Signal::SIGUSR1 as i32);
    assert_eq!(place.state("a"), "free");
}

/// Runs `script` by `leaselock run OPTIONS a` for each of eight words, eight at a time.
fn by_xargs(place: &Place, options: &[&str], script: &str) -> Output {
    let mut arguments = vec!["run", "-q"];
    arguments.extend(options);
    arguments.extend(["a", "--", "sh", "-c", script, "sh"]);
    fs::write(place.file("words"), "1 2 3 4 5 6 7 8\n").unwrap();
    let mut command = under(place, &["xargs", "-P8", "-n1"], &arguments);
    finish(command.stdin(fs::File::open(place.file("words")).unwrap()))
}

#[test]
fn of_eight_at_once_one_is_inside() {
    let place = Place::new();
    let script = "mkdir inside || exit 9; sleep 0.02; rmdir inside; echo $1 >> log";
    assert_code(&by_xargs(&place, &[], script), 0);
    let log = fs::read_to_string(place.file("log")).unwrap();
    let mut words: Vec<_> = log.lines().collect();
    words.sort_unstable();
    assert_eq!(words, ["1", "2", "3", "4", "5", "6", "7", "8"]);
}

#[test]
fn xargs_is_stopped_by_the_command_alone() {
    let place = Place::new();
    let holder = Running::start(&mut place.leaselock(&["run", "a", "--", "sh", "-c", FOR_EVER]));
    line_of(&place.file("ready"));
    // 123: some of them failed, and all of them were tried.
    assert_code(&by_xargs(&place, &["-n"], "true"), 123);
    holder.signal(Signal::SIGTERM);
    holder.output();
    let output = by_xargs(&place, &[], "echo >> log; exit 255");
    assert_code(&output, 124);
    let other = Place::new();
    assert_code(&by_xargs(&other, &[], "echo >> log; exit 254"), 123);
    assert_eq!(fs::read_to_string(other.file("log")).unwrap().lines().count(), 8);
}

#[test]
fn a_make_below_it_shares_the_jobs_of_the_make_above() {
    if !there_is("make") {
        return;
    }
    let place = Place::new();
    let outer = "all:\n\t+$(LEASELOCK) run a -- $(MAKE) -f inner.mk\n";
    // Each waits for the other: one after the other they would wait in vain.
    let meet = |own: &str, other: &str| {
        format!(
            "{own}:\n\t@touch {own}.up; for i in $$(seq 500); do \
             [ -e {other}.up ] && exit 0; sleep 0.02; done; exit 1\n"
        )
    };
    let inner = format!("both: one two\n{}{}", meet("one", "two"), meet("two", "one"));
    fs::write(place.file("outer.mk"), outer).unwrap();
    fs::write(place.file("inner.mk"), inner).unwrap();
    let start = "unset MAKEFLAGS MAKELEVEL; exec make -j8 -f outer.mk LEASELOCK=\"$1\"";
    let mut make = under(&place, &["sh", "-c", start, "sh"], &[]);
    let output = finish(&mut make);
    assert_code(&output, 0);
    assert!(!stderr(&output).contains("jobserver"), "{}", stderr(&output));
}

#[test]
fn cron_gives_it_little_and_that_is_enough() {
    let place = Place::new();
    let home = format!("HOME={}", place.files().display());
    let bare = ["SHELL=/bin/sh", "PATH=/usr/bin:/bin", "LOGNAME=crony"];
    let script = "echo $LEASELOCK_STORE; [ -f $LEASELOCK_STATUS_FILE ] && ls / | head -n 1 >&2";
    let mut starter = vec!["setsid", "--wait", "env", "-i", &home];
    starter.extend(bare);
    let command = ["run", "-q", "--owner", "job", "nightly", "--", "sh", "-c", script];
    let output = finish(&mut under(&place, &starter, &command));
    assert_code(&output, 0);
    let store = stdout(&output);
    assert!(store.contains(place.files().to_str().unwrap()), "below the home directory: {store}");
    assert!(!stderr(&output).contains("leaselock:"), "{}", stderr(&output));

    let store = format!("LEASELOCK_STORE={}", place.url);
    let mut starter = vec!["setsid", "--wait", "env", "-i", &store];
    starter.extend(bare);
    let output = finish(&mut under(&place, &starter, &["run", "-q", "nightly", "--", "true"]));
    assert_code(&output, 0);
    assert_eq!(stderr(&output), "");
    assert_eq!(place.show("nightly")["history"][0]["owner"]["label"], "crony");
}

#[test]
fn closed_streams_are_empty_ones() {
    let place = Place::new();
    let start = "exec \"$@\" <&- >&- 2>&-";
    let script = "find /proc/$$/fd -name '[012]' -fprintf streams '%f %l\\n'
        echo into the void; echo >&2; read line; echo > end";
    let run = ["run", "--json", "-v", "a", "--", "sh", "-c", script];
    assert_code(&finish(&mut under(&place, &["sh", "-c", start, "sh"], &run)), 0);
    assert!(place.file("end").exists());
    let streams = fs::read_to_string(place.file("streams")).unwrap();
    assert_eq!(streams, "0 /dev/null\n1 /dev/null\n2 /dev/null\n");
}

#[test]
fn nobody_has_to_read_what_it_says() {
    let place = Place::new();
    let start = "(\"$@\"; echo $? > code) 2>&1 | head -n 1";
    let run = ["run", "--json", "a", "--", "yes"];
    let output = finish(&mut under(&place, &["sh", "-c", start, "sh"], &run));
    assert_eq!(stdout(&output), "y\n");
    assert_eq!(line_of(&place.file("code")), (128 + Signal::SIGPIPE as i32).to_string());
    assert_eq!(place.state("a"), "free");
}

#[test]
fn the_current_directory_need_not_be_writable_nor_exist() {
    let place = Place::new();
    let mut command = place.leaselock(&["run", "-q", "a", "--", "pwd"]);
    let output = finish(command.current_dir("/proc"));
    assert_code(&output, 0);
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("/proc\n", ""));
    fs::create_dir(place.file("gone")).unwrap();
    let start = "cd gone; rmdir ../gone; exec \"$@\"";
    let run = ["run", "-q", "a", "--", "true"];
    let output = finish(&mut under(&place, &["sh", "-c", start, "sh"], &run));
    assert_code(&output, 0);
    assert_eq!(stderr(&output), "");
}

#[test]
fn the_status_file_is_somewhere_even_without_a_directory_for_it() {
    let place = Place::new();
    fs::create_dir(place.file("here")).unwrap();
    let absent = place.file("absent");
    for directory in [absent.to_str().unwrap(), "/proc", "", "here"] {
        let script = "echo $LEASELOCK_STATUS_FILE; cd /; cat $LEASELOCK_STATUS_FILE";
        let mut command = place.leaselock(&["run", "-q", "a", "--", "sh", "-c", script]);
        command.env("TMPDIR", directory).env_remove("XDG_RUNTIME_DIR");
        let output = finish(&mut command);
        assert_code(&output, 0);
        assert_eq!(stderr(&output), "", "{directory:?}");
        let text = stdout(&output);
        let (path, content) = text.split_once('\n').unwrap();
        assert!(Path::new(path).is_absolute() && content.contains("held"), "{directory:?}: {text}");
        assert!(!Path::new(path).parent().unwrap().exists());
    }
}

#[test]
fn signals_that_were_blocked_or_ignored_do_not_matter() {
    for how in ["--block-signal", "--ignore-signal=CHLD"] {
        let place = Place::new();
        let run = ["run", "a", "--", "sh", "-c", "sleep 0.05; exit 5"];
        assert_code(&finish(&mut under(&place, &["env", how], &run)), 5);
    }
    let place = Place::new();
    let run = ["run", "a", "--", "sh", "-c", FOR_EVER];
    let run = Running::start(&mut under(&place, &["env", "--block-signal=TERM"], &run));
    line_of(&place.file("ready"));
    run.signal(Signal::SIGTERM);
    assert_code(&run.output(), 143);
}
