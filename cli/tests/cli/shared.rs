//! `run --shared`, `--exclusive`, `--limit` and `--fair`: several inside at once, and queues.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use leaselock_test_support::emulators::{Backend, TestUrl};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::tool::{
    Running, assert_code, finish, leaselock, line_of, lives, pid_in, report, stderr, stdout,
    wait_for,
};

/// Says who is inside when it enters, enters, and stays until it may go.
const STAY: &str = "echo $$ > pid.$1; ls in.* > seen.$1 2>/dev/null
echo $LEASELOCK_TOKEN ${LEASELOCK_PERMITS-none} > new.$1; mv new.$1 in.$1
while ! [ -e go.$1 ]; do sleep 0.02; done; rm in.$1";

/// A store, and a directory that those have in common who contend there.
struct Hall {
    url: TestUrl,
    files: TempDir,
}

impl Hall {
    /// `None` where there is no such store.
    fn at(backend: Backend) -> Option<Self> {
        Some(Self { url: backend.fresh_url()?, files: TempDir::new().unwrap() })
    }

    fn new() -> Self {
        Self::at(Backend::File).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = leaselock(self.url.as_str(), self.files.path());
        command.args(arguments).arg("--no-check");
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        finish(&mut self.command(arguments))
    }

    /// Somebody of this name wants `a`, and to stay there.
    fn start(&self, name: &str, options: &[&str]) -> Running {
        let mut command = leaselock(self.url.as_str(), self.files.path());
        command.args(["run", "--no-check", "--json", "--owner", name]).args(options);
        command.args(["a", "--", "sh", "-c", STAY, "sh", name]);
        Running::start(&mut command)
    }

    /// The same, once it is in the queue as number `place`.
    #[track_caller]
    fn line_up(&self, name: &str, options: &[&str], place: usize) -> Running {
        let waiting = self.start(name, options);
        wait_for(&format!("{name} in the queue"), || {
            let queue = self.queue();
            (queue.len() == place && queue[place - 1] == name).then_some(())
        });
        assert!(!self.is_inside(name));
        waiting
    }

    fn show(&self) -> Value {
        let output = self.output(&["show", "a", "--json"]);
        assert_code(&output, 0);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn queue(&self) -> Vec<String> {
        labels(&self.show()["waiters"])
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn is_inside(&self, name: &str) -> bool {
        self.file(&format!("in.{name}")).exists()
    }

    /// Waits until it is inside; its token and its permits.
    #[track_caller]
    fn enters(&self, name: &str) -> (u64, String) {
        let line = line_of(&self.file(&format!("in.{name}")));
        let (token, permits) = line.split_once(' ').unwrap();
        (token.parse().unwrap(), permits.to_owned())
    }

    /// Who was inside when it entered.
    fn seen_by(&self, name: &str) -> String {
        fs::read_to_string(self.file(&format!("seen.{name}"))).unwrap()
    }

    #[track_caller]
    fn leaves(&self, name: &str, running: Running) {
        fs::write(self.file(&format!("go.{name}")), "").unwrap();
        let output = running.output();
        assert_code(&output, 0);
        assert_eq!(report(&output)["outcome"], "completed");
    }

    /// Every file of a store in a directory.
    fn stored(&self) -> Vec<String> {
        let root = self.url.as_str().strip_prefix("file://").unwrap();
        let mut found = Vec::new();
        let mut directories = vec![Path::new(root).to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    found.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        found
    }
}

fn labels(people: &Value) -> Vec<String> {
    let all = people.as_array().unwrap().iter();
    all.map(|one| one["owner"]["label"].as_str().unwrap().to_owned()).collect()
}

fn readers_are_together_and_a_writer_is_alone(backend: Backend) {
    let Some(hall) = Hall::at(backend) else { return };
    let one = hall.start("one", &["--shared"]);
    let (first, permits) = hall.enters("one");
    assert_eq!(permits, "none");
    let other = hall.start("other", &["--shared"]);
    hall.enters("other");
    assert!(hall.is_inside("one"), "together");
    let writer = hall.line_up("writer", &["--exclusive"], 1);
    let late = hall.line_up("late", &["--shared"], 2);
    hall.leaves("one", one);
    assert_eq!(hall.queue(), ["writer", "late"], "one reader is left");
    hall.leaves("other", other);
    let (second, _) = hall.enters("writer");
    assert_eq!(hall.seen_by("writer"), "", "alone");
    assert_eq!(hall.queue(), ["late"]);
    hall.leaves("writer", writer);
    let (third, _) = hall.enters("late");
    assert_eq!(hall.seen_by("late"), "");
    assert!(first < second && second < third);
    hall.leaves("late", late);
}

fn as_many_are_inside_as_there_are_permits(backend: Backend) {
    let Some(hall) = Hall::at(backend) else { return };
    let one = hall.start("one", &["--limit", "2"]);
    assert_eq!(hall.enters("one").1, "1");
    let two = hall.start("two", &["--limit", "2", "--permits", "1"]);
    hall.enters("two");
    assert!(hall.is_inside("one"), "together");
    let both = hall.line_up("both", &["--limit", "2", "--permits", "2"], 1);
    let three = hall.line_up("three", &["--limit", "2"], 2);
    hall.leaves("one", one);
    assert_eq!(hall.queue(), ["both", "three"], "who wants two is not overtaken");
    hall.leaves("two", two);
    assert_eq!(hall.enters("both").1, "2");
    assert_eq!(hall.seen_by("both"), "");
    assert_eq!(hall.queue(), ["three"]);
    hall.leaves("both", both);
    hall.enters("three");
    hall.leaves("three", three);
}

fn who_comes_first_enters_first(backend: Backend) {
    let Some(hall) = Hall::at(backend) else { return };
    let holder = hall.start("holder", &["--fair"]);
    let (mut before, _) = hall.enters("holder");
    let names = ["first", "second", "third"];
    let places = (1..).zip(names);
    let waiting: Vec<_> = places.map(|(n, name)| hall.line_up(name, &["--fair"], n)).collect();
    hall.leaves("holder", holder);
    for (name, running) in names.into_iter().zip(waiting) {
        let (token, _) = hall.enters(name);
        assert_eq!(hall.seen_by(name), "");
        assert!(before < token);
        before = token;
        hall.leaves(name, running);
    }
}

fn the_permit_of_a_killed_holder_comes_back(backend: Backend) {
    let Some(hall) = Hall::at(backend) else { return };
    let limit = ["--ttl", "2s", "--limit", "2"];
    let killed = hall.start("killed", &limit);
    let (token, _) = hall.enters("killed");
    let worker = pid_in(&hall.file("pid.killed"));
    let other = hall.start("other", &limit);
    hall.enters("other");
    let third = hall.line_up("third", &limit, 1);
    killed.signal(Signal::SIGKILL);
    hall.enters("third");
    assert!(!lives(worker), "its watchdog has ended it before");
    let shown = hall.show();
    let ended: Vec<_> =
        shown["history"].as_array().unwrap().iter().filter(|one| one["token"] == token).collect();
    assert_eq!((ended.len(), &ended[0]["ended"]), (1, &"expired".into()), "{shown}");
    assert_eq!(labels(&shown["holders"]), ["other", "third"]);
    hall.leaves("third", third);
    hall.leaves("other", other);
}

on_every_store!(
    readers_are_together_and_a_writer_is_alone,
    as_many_are_inside_as_there_are_permits,
    who_comes_first_enters_first,
    the_permit_of_a_killed_holder_comes_back,
);

#[test]
fn a_name_is_one_thing_and_a_semaphore_has_one_limit() {
    for (first, then, what) in [
        (&[][..], &["--shared"][..], "is a lock, not"),
        (&["--exclusive"], &["--fair"], "not a lock"),
        (&["--shared"], &["--limit", "2"], "not a semaphore"),
        (&["--limit", "2"], &["--limit", "3"], "has 2 permits, not 3"),
    ] {
        let hall = Hall::new();
        let run = |options: &[&str]| {
            let all = [&["run", "--json"], options, &["a", "--", "true"]].concat();
            finish(leaselock(hall.url.as_str(), hall.files.path()).args(all))
        };
        assert_code(&run(first), 0);
        let refused = run(then);
        assert_code(&refused, 64);
        let text = stderr(&refused);
        assert!(text.contains(what) && text.contains("hint: "), "{text}");
        assert_eq!(report(&refused)["outcome"], "failed");
        assert_eq!(hall.show()["history"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn nothing_is_left_behind_but_the_record() {
    let hall = Hall::new();
    let holder = hall.start("holder", &["--exclusive"]);
    hall.enters("holder");
    for (impatience, outcome) in [
        (&["-n"][..], "busy"),
        (&["--wait", "400ms"], "timed_out"),
        (&["--skip-if-busy"], "skipped"),
    ] {
        let arguments = [&["run", "--json", "--shared"], impatience, &["a"]].concat();
        let mut command = leaselock(hall.url.as_str(), hall.files.path());
        let output = finish(command.args(arguments).args(["--", "touch", "ran"]));
        assert_eq!(report(&output)["outcome"], outcome);
        assert!(stderr(&output).contains("a is held by holder ("), "{}", stderr(&output));
        assert!(hall.queue().is_empty(), "{outcome}");
    }
    let interrupted = hall.line_up("interrupted", &["--shared"], 1);
    interrupted.signal(Signal::SIGTERM);
    assert_code(&interrupted.output(), 143);
    assert!(hall.queue().is_empty());
    hall.leaves("holder", holder);
    assert_eq!(hall.show()["state"], "free");
    let mut stored = hall.stored();
    stored.retain(|file| !file.ends_with(".leaselock-dir.lock"));
    assert_eq!(stored, ["a.lock"], "no session is left");
    assert!(!hall.file("ran").exists());
}

#[test]
fn a_wait_tells_the_place_in_the_queue() {
    let hall = Hall::new();
    let one = hall.start("one", &["--limit", "3", "--permits", "2"]);
    hall.enters("one");
    let first = hall.line_up("first", &["--limit", "3", "--permits", "2"], 1);
    let second = hall.line_up("second", &["--limit", "3"], 2);
    // The first word comes after half a second of waiting.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    hall.leaves("one", one);
    for (name, running, place) in [("first", first, 1), ("second", second, 2)] {
        fs::write(hall.file(&format!("go.{name}")), "").unwrap();
        let output = running.output();
        assert_code(&output, 0);
        let text = stderr(&output);
        let said = text.lines().find(|line| line.contains("waiting: a is held by one (")).unwrap();
        assert!(said.contains("(2 of 3 permits); number "), "{text}");
        assert!(said.contains(&format!("number {place} of ")), "{text}");
    }
}

#[test]
fn what_is_shared_is_listed_and_shown() {
    let hall = Hall::new();
    let one = hall.start("one", &["--limit", "4", "--permits", "2"]);
    hall.enters("one");
    let other = hall.start("other", &["--limit", "4"]);
    hall.enters("other");
    let waiting = hall.line_up("waiting", &["--limit", "4", "--permits", "3"], 1);
    let listed = stdout(&hall.output(&["ls"]));
    let row = listed.lines().find(|line| line.contains(" a ")).unwrap();
    assert!(row.starts_with("held") && row.contains("one ("), "{row}");
    assert!(
        row.ends_with("[semaphore, 3 of 4 permits, 2 hold it, 1 in the queue]"),
        "{row}: how many"
    );
    let shown = stdout(&hall.output(&["show", "a"]));
    for part in [
        "semaphore   a\n",
        "state       held (3 of 4 permits)\n",
        "holder      one (",
        "  permits   2\n",
        "holder      other (",
        "  permits   1\n",
        "  session   ",
        "queue\n  1  waiting (",
        ", 3 permits, since ",
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let json = hall.show();
    assert_eq!((&json["kind"], &json["limit"]), (&"semaphore".into(), &4.into()));
    assert_eq!(json["holders"][0]["permits"], 2);
    assert!(json["waiters"][0]["session"].is_string());
    hall.leaves("one", one);
    hall.leaves("other", other);
    hall.enters("waiting");
    hall.leaves("waiting", waiting);
    let listed = stdout(&hall.output(&["ls"]));
    assert!(listed.contains("-  [semaphore, 0 of 4 permits]"), "{listed}");
}

#[test]
fn readers_writers_and_queues_are_listed_and_shown() {
    let hall = Hall::new();
    let one = hall.start("one", &["--shared"]);
    hall.enters("one");
    let other = hall.start("other", &["--shared"]);
    hall.enters("other");
    let writer = hall.line_up("writer", &["--exclusive"], 1);
    let listed = stdout(&hall.output(&["ls"]));
    assert!(listed.contains("[rwlock, shared, 2 hold it, 1 in the queue]"), "{listed}");
    let shown = stdout(&hall.output(&["show", "a"]));
    for part in ["rwlock      a\n", "held (shared)", "  mode      shared\n", ", exclusive, since "]
    {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    hall.leaves("one", one);
    hall.leaves("other", other);
    hall.enters("writer");
    assert!(stdout(&hall.output(&["ls"])).contains("[rwlock, exclusive]"));
    hall.leaves("writer", writer);

    let hall = Hall::new();
    let holder = hall.start("holder", &["--fair"]);
    hall.enters("holder");
    assert!(!stdout(&hall.output(&["ls"])).contains('['), "a plain lock as ever");
    let next = hall.line_up("next", &["--fair"], 1);
    assert!(stdout(&hall.output(&["ls"])).contains("[lock, 1 in the queue]"));
    hall.leaves("holder", holder);
    hall.enters("next");
    hall.leaves("next", next);
}

#[test]
fn one_of_several_holders_is_put_out_by_its_token() {
    let hall = Hall::new();
    let options = ["--ttl", "2s", "--shared"];
    let one = hall.start("one", &options);
    let (token, _) = hall.enters("one");
    let other = hall.start("other", &options);
    let (its, _) = hall.enters("other");
    let wrong = (its + 1).to_string();
    let refused = hall.output(&["break", "a", "--expect-token", &wrong]);
    assert_code(&refused, 1);
    assert!(stderr(&refused).contains(&its.to_string()), "{}", stderr(&refused));
    let broken = hall.output(&["break", "a", "--expect-token", &token.to_string()]);
    assert_code(&broken, 0);
    let said = stdout(&broken);
    assert!(said.contains("a: one (") && said.contains("; a is held by other ("), "{said}");
    let output = one.output();
    assert_code(&output, 120);
    assert_eq!(report(&output)["outcome"], "lost");
    assert!(hall.is_inside("other"));
    let more = hall.start("more", &options);
    hall.enters("more");
    let broken = hall.output(&["break", "a", "--force"]);
    assert_code(&broken, 0);
    let said = stdout(&broken);
    assert!(said.contains("was put out (and 1 more); the lock is free"), "{said}");
    assert_code(&other.output(), 120);
    assert_code(&more.output(), 120);
}
