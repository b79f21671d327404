//! What CMD gets, and what becomes of what it leaves behind.

use std::fs;
use std::process::Stdio;

use crate::tool::{
    Place, assert_code, finish, lives, pid_in, report, status, stderr, stdout, wait_for,
    without_configuration,
};

#[test]
fn the_environment_says_which_lock_it_is() {
    let place = Place::new();
    let script = "echo $LEASELOCK_NAME; echo $LEASELOCK_TOKEN; echo $LEASELOCK_HOLDER; \
                  echo $LEASELOCK_STORE; ";
    let output = place.output(&["run", "--json", "etl/nightly", "--", "sh", "-c", script]);
    assert_code(&output, 0);
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().collect();
    let [name, token, holder, store] = lines[..] else { panic!("{text}") };
    assert_eq!(name, "etl/nightly");
    assert_eq!(token, report(&output)["token"].to_string());
    assert_eq!(holder.len(), 36, "{holder} is a UUID");
    assert_eq!(store.trim_end_matches('/'), place.url);
}

#[test]
fn the_status_file_is_private_current_and_removed() {
    let place = Place::new();
    let script = "echo $LEASELOCK_STATUS_FILE > path
        cp $LEASELOCK_STATUS_FILE first; stat -c %a $LEASELOCK_STATUS_FILE > mode
        while cmp -s first $LEASELOCK_STATUS_FILE; do sleep 0.02; done
        cp $LEASELOCK_STATUS_FILE second";
    let output = place.output(&["run", "--ttl", "1s", "a", "--", "sh", "-c", script]);
    assert_code(&output, 0);
    let read = |name: &str| status(&place.file(name)).unwrap();
    let (first, second) = (read("first"), read("second"));
    assert_eq!((&first["name"], &first["state"]), (&"a".into(), &"held".into()));
    assert_eq!(first["holder"], second["holder"]);
    assert!(first["token"].is_u64());
    assert!(first["boot_deadline"].as_f64() < second["boot_deadline"].as_f64());
    let wall = |status: &serde_json::Value| {
        humantime::parse_rfc3339(status["deadline"].as_str().unwrap()).unwrap()
    };
    assert!(wall(&first) < wall(&second));
    assert_eq!(fs::read_to_string(place.file("mode")).unwrap().trim(), "600");
    let path = std::path::PathBuf::from(fs::read_to_string(place.file("path")).unwrap().trim());
    assert!(path.starts_with(place.files()), "{path:?} is below XDG_RUNTIME_DIR");
    assert!(!path.exists() && !path.parent().unwrap().exists());
}

#[test]
fn standard_streams_are_passed_through() {
    let place = Place::new();
    fs::write(place.file("in"), "from stdin").unwrap();
    let stdin = fs::File::open(place.file("in")).unwrap();
    let script = "cat; echo to stderr >&2";
    let mut command = place.leaselock(&["run", "a", "--", "sh", "-c", script]);
    let output = finish(command.stdin(Stdio::from(stdin)));
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "from stdin");
    assert_eq!(stderr(&output), "to stderr\n");
}

#[test]
fn cmd_has_a_group_of_its_own_and_usual_signals() {
    let place = Place::new();
    let script = "ps -o pgid= -p $$ | tr -d ' '; echo $$; grep ^Sig[BI] /proc/self/status";
    let output = place.output(&["run", "a", "--", "sh", "-c", script]);
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], lines[1], "{text}");
    assert!(lines[2].ends_with("\t0000000000000000"), "nothing is blocked: {text}");
}

#[test]
fn what_nohup_ignores_stays_ignored() {
    let place = Place::new();
    let script = "trap '' HUP; exec \"$@\"";
    let mut command = std::process::Command::new("sh");
    without_configuration(&mut command);
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_leaselock"), "run", "a", "--"]);
    command.args(["grep", "^SigIgn", "/proc/self/status"]).env("LEASELOCK_STORE", &place.url);
    let output = finish(&mut command);
    let text = stdout(&output);
    let ignored = u64::from_str_radix(text.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(ignored & 1, 1, "HUP: {text}");
}

#[test]
fn what_cmd_leaves_in_its_group_is_ended_before_the_release() {
    let place = Place::new();
    let script = "(trap '' TERM; while :; do sleep 0.02; done) & echo $! > stubborn
        sleep 1000 & echo $! > meek
        exit 5";
    let output = place.output(&["run", "--kill-grace", "200ms", "a", "--", "sh", "-c", script]);
    assert_code(&output, 5);
    assert!(!lives(pid_in(&place.file("meek"))));
    assert!(!lives(pid_in(&place.file("stubborn"))));
    assert!(stderr(&output).contains("in the background"), "{}", stderr(&output));
    assert_eq!(place.state("a"), "free");
}

#[test]
fn what_has_left_the_group_runs_on() {
    let place = Place::new();
    let script = "setsid sh -c 'echo $$ > pid; exec sleep 1000' >/dev/null 2>&1 &
        while ! [ -s pid ]; do sleep 0.02; done; exit 5";
    assert_code(&place.output(&["run", "a", "--", "sh", "-c", script]), 5);
    let left = pid_in(&place.file("pid"));
    assert!(lives(left));
    nix::sys::signal::kill(left, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn with_warn_what_cmd_leaves_runs_on() {
    let place = Place::new();
    let script = "sleep 1000 >/dev/null 2>&1 & echo $! > pid";
    let output = place.output(&["run", "--on-lost", "warn", "a", "--", "sh", "-c", script]);
    assert_code(&output, 0);
    let left = pid_in(&place.file("pid"));
    assert!(lives(left));
    nix::sys::signal::kill(left, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn nothing_of_the_wrapper_stays_behind() {
    let place = Place::new();
    let script = "for f in /proc/[0-9]*/status; do
        awk -v p=$PPID '/^Name/ { n = $2 } /^PPid/ && $2 == p && n == \"lease-watchdog\" { f = 1 }
            /^Pid/ { i = $2 } END { if (f) print i }' $f 2>/dev/null
        done > watchdog; ls -l /proc/$(cat watchdog)/fd > fds; readlink /proc/$(cat watchdog)/cwd";
    let output = place.output(&["run", "a", "--", "sh", "-c", script]);
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "/\n", "it keeps no directory busy");
    let files = fs::read_to_string(place.file("fds")).unwrap();
    let (devices, others): (Vec<_>, Vec<_>) = files
        .lines()
        .filter(|line| line.contains("->"))
        .partition(|line| line.ends_with("/dev/null"));
    assert_eq!((devices.len(), others.len()), (3, 1), "{files}");
    let watchdog = pid_in(&place.file("watchdog"));
    wait_for("the watchdog's end", || (!lives(watchdog)).then_some(()));
    let left: Vec<_> = fs::read_dir(place.files())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_dir())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_longest_hold_ends_cmd_and_a_shortest_keeps_the_lock() {
    let place = Place::new();
    let output = place.output(&["run", "--max-hold", "1s", "a", "--", "sleep", "1000"]);
    assert_code(&output, 120);
    let output = place.output(&["run", "--min-hold", "3s", "--json", "b", "--", "true"]);
    assert_code(&output, 0);
    assert_code(&place.output(&["run", "-n", "b", "--", "true"]), 75);
    let next = place.output(&["run", "-w", "30s", "--json", "b", "--", "true"]);
    assert_code(&next, 0);
    assert!(report(&next)["waited_ms"].as_u64().unwrap() > 1_000, "{}", stderr(&next));
}
