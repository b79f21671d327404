//! `run` with several LOCKs, all or none; and with several `--store`, of which a majority decides.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use leaselock_test_support::emulators::{Backend, TestUrl};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::tool::{
    Place, Running, assert_code, deadline, finish, leaselock, line_of, lives, pid_in, report,
    status, stderr, wait_for,
};

/// Nobody listens there.
const UNREACHABLE: &str = "?aws_endpoint=http://127.0.0.1:1&aws_allow_http=true&aws_region=x\
                           &aws_access_key_id=a&aws_secret_access_key=HUSH";

/// Tells what it was given, and stays until the file is gone.
const STAY: &str = "echo $$ > pid; echo $LEASELOCK_STATUS_FILE > status; touch stay
while [ -e stay ]; do sleep 0.02; done";

/// A store of any kind, and a directory in which CMD runs.
struct Site {
    url: TestUrl,
    files: TempDir,
}

impl Site {
    fn at(backend: Backend) -> Option<Self> {
        Some(Self { url: backend.fresh_url()?, files: TempDir::new().unwrap() })
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let mut command = leaselock(self.url.as_str(), self.files.path());
        Running::start(command.args(arguments).arg("--no-check"))
    }

    fn run(&self, options: &[&str], script: &str) -> Running {
        let options = [&["run", "--no-check", "--json"], options, &["--", "sh", "-c", script]];
        let mut command = leaselock(self.url.as_str(), self.files.path());
        Running::start(command.args(options.concat()))
    }

    #[track_caller]
    fn show(&self, lock: &str) -> Value {
        let output = self.start(&["show", lock, "--json"]).output();
        assert_code(&output, 0);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    #[track_caller]
    fn is_held(&self, lock: &str) -> bool {
        self.show(lock)["state"] == "held"
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    #[track_caller]
    fn stays(&self) {
        wait_for("CMD", || self.file("stay").exists().then_some(()));
    }

    #[track_caller]
    fn ends(&self, running: Running) -> Output {
        fs::remove_file(self.file("stay")).unwrap();
        let output = running.output();
        assert_code(&output, 0);
        output
    }
}

fn all_are_taken_or_none(backend: Backend) {
    let Some(site) = Site::at(backend) else { return };
    let other = site.run(&["--owner", "other", "b"], STAY);
    site.stays();
    let busy = site.run(&["-n", "c", "b", "a"], "touch ran").output();
    assert_code(&busy, 75);
    assert_eq!(report(&busy)["outcome"], "busy");
    assert!(stderr(&busy).contains("b is held by other ("), "{}", stderr(&busy));
    assert_eq!(site.show("a")["state"], "free", "it was taken, and given back");
    assert_eq!(site.show("a")["history"].as_array().unwrap().len(), 1);
    assert_eq!(site.show("c")["state"], "absent", "who cannot have b does not ask for c");
    let late = site.run(&["--wait", "400ms", "a", "b"], "touch ran").output();
    assert_code(&late, 75);
    assert_eq!(report(&late)["outcome"], "timed_out");
    assert_eq!(site.show("a")["state"], "free");
    site.ends(other);

    let all = site.run(&["c", "b", "a"], STAY);
    site.stays();
    assert!(["a", "b", "c"].iter().all(|lock| site.is_held(lock)));
    for lock in ["a", "b", "c"] {
        let output = site.run(&["-n", lock], "touch ran").output();
        assert_code(&output, 75);
    }
    let output = site.ends(all);
    let tokens = &report(&output)["tokens"];
    for lock in ["a", "b", "c"] {
        let shown = site.show(lock);
        assert_eq!(shown["state"], "free");
        assert_eq!(shown["token"], tokens[lock]);
    }
    assert!(!site.file("ran").exists());
}

on_every_store!(all_are_taken_or_none,);

#[test]
fn each_lock_has_its_token_and_the_order_is_that_of_the_names() {
    let site = Site::at(Backend::File).unwrap();
    let script = "printf '%s\n' \"$LEASELOCK_NAME\" > names; printf '%s\n' \"$LEASELOCK_TOKENS\" > \
                  tokens; echo ${LEASELOCK_TOKEN-none} ${LEASELOCK_HOLDER-none} > one; \
                  cat $LEASELOCK_STATUS_FILE > json";
    let mut command = leaselock(site.url.as_str(), site.files.path());
    // As within another `run`: its token is not that of these.
    command.env("LEASELOCK_TOKEN", "7").env("LEASELOCK_HOLDER", "outer");
    let arguments = ["run", "--json", "etl/b", "etl/a", "etl/b", "--", "sh", "-c", script];
    let output = finish(command.args(arguments));
    assert_code(&output, 0);
    let tokens = ["etl/a", "etl/b"].map(|lock| site.show(lock)["token"].as_u64().unwrap());
    let [first, second] = tokens;
    let read = |name: &str| fs::read_to_string(site.file(name)).unwrap();
    assert_eq!(read("names"), "etl/a\netl/b\n");
    assert_eq!(read("tokens"), format!("etl/a={first}\netl/b={second}\n"));
    assert_eq!(read("one"), "none none\n");
    let by_name = serde_json::json!({ "etl/a": first, "etl/b": second });
    let status: Value = serde_json::from_str(&read("json")).unwrap();
    assert_eq!(status["name"], "etl/a, etl/b");
    assert_eq!((&status["tokens"], &status["token"]), (&by_name, &Value::Null));
    assert_eq!(status["state"], "held");
    let report = report(&output);
    assert_eq!((&report["tokens"], &report["token"]), (&by_name, &Value::Null));
    assert_eq!(report["outcome"], "completed");
}

#[test]
fn a_lock_that_is_named_twice_is_one_lock() {
    let site = Site::at(Backend::File).unwrap();
    let mut command = leaselock(site.url.as_str(), site.files.path());
    let script = "echo $LEASELOCK_NAME $LEASELOCK_TOKEN ${LEASELOCK_TOKENS-none} > out";
    let arguments = ["run", "a", "a", "--", "sh", "-c", script];
    assert_code(&finish(command.env("LEASELOCK_TOKENS", "x=1").args(arguments)), 0);
    assert_eq!(line_of(&site.file("out")), format!("a {} none", site.show("a")["token"]));
}

#[test]
fn a_wait_tells_which_lock_it_waits_for_and_is_undone_by_a_signal() {
    let site = Site::at(Backend::File).unwrap();
    let other = site.run(&["--owner", "other", "b"], STAY);
    site.stays();
    let waiting = || {
        let waiting = site.run(&["b", "a"], "touch ran");
        wait_for("the first to be taken", || site.is_held("a").then_some(()));
        waiting
    };
    let interrupted = waiting();
    interrupted.signal(Signal::SIGTERM);
    let output = interrupted.output();
    assert_code(&output, 143);
    assert_eq!(report(&output)["outcome"], "interrupted");
    assert_eq!(site.show("a")["state"], "free");
    let patient = waiting();
    // The first word comes after half a second of waiting.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!site.file("ran").exists());
    site.ends(other);
    let output = patient.output();
    assert_code(&output, 0);
    let said = stderr(&output);
    assert!(said.contains("waiting: b is held by other ("), "{said}");
    assert!(site.file("ran").exists());
}

#[test]
fn the_loss_of_one_is_the_loss_of_all() {
    let site = Site::at(Backend::File).unwrap();
    let running = site.run(&["--ttl", "2s", "a", "b", "c"], STAY);
    site.stays();
    let worker = pid_in(&site.file("pid"));
    assert_code(&site.start(&["break", "b", "--force", "--reason", "enough"]).output(), 0);
    let output = running.output();
    assert_code(&output, 120);
    assert_eq!(report(&output)["outcome"], "lost");
    assert!(stderr(&output).contains("a, b, c: the lease was lost"), "{}", stderr(&output));
    assert!(!lives(worker));
    for lock in ["a", "b", "c"] {
        assert_eq!(site.show(lock)["state"], "free");
    }
}

#[test]
fn those_who_name_them_in_different_orders_do_not_wait_in_a_circle() {
    let site = Site::at(Backend::File).unwrap();
    // Loses counts, unless one is inside at a time.
    let script = "n=$(cat count 2>/dev/null || echo 0); sleep 0.05; echo $((n + 1)) > count";
    let orders = [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]];
    let all: Vec<_> = orders.iter().cycle().take(9).map(|locks| site.run(locks, script)).collect();
    for running in all {
        assert_code(&running.output(), 0);
    }
    assert_eq!(line_of(&site.file("count")), "9");
}

#[test]
fn what_cannot_begin_leaves_none_of_them_taken() {
    let site = Site::at(Backend::File).unwrap();
    let arguments = ["run", "--json", "a", "b", "--", "no-such-command-anywhere"];
    let output = finish(leaselock(site.url.as_str(), site.files.path()).args(arguments));
    assert_code(&output, 127);
    assert_eq!(report(&output)["outcome"], "not_started");
    assert_code(&site.run(&["--limit", "2", "b-semaphore"], "true").output(), 0);
    let refused = site.run(&["b-semaphore", "a"], "touch ran").output();
    assert_code(&refused, 64);
    let text = stderr(&refused);
    assert!(text.contains("b-semaphore") && text.contains("not a lock"), "{text}");
    assert!(text.contains("hint: "), "{text}");
    let unnameable = site.run(&["a", "../b"], "touch ran").output();
    assert_code(&unnameable, 64);
    for lock in ["a", "b"] {
        assert_eq!(site.show(lock)["state"], "free");
    }
    assert!(!site.file("ran").exists());
}

/// Several stores, each a directory.
struct Sites {
    directories: Vec<TempDir>,
    files: TempDir,
}

impl Sites {
    fn new(count: usize) -> Self {
        let directories = (0..count).map(|_| TempDir::new().unwrap()).collect();
        Self { directories, files: TempDir::new().unwrap() }
    }

    fn url(&self, number: usize) -> String {
        format!("file://{}", self.directories[number].path().display())
    }

    fn urls(&self) -> Vec<String> {
        (0..self.directories.len()).map(|number| self.url(number)).collect()
    }

    fn start(&self, stores: &[String], arguments: &[&str], command: &[&str]) -> Running {
        let mut leaselock = leaselock("", self.files.path());
        for url in stores {
            leaselock.args(["--store", url]);
        }
        leaselock.args(["run", "--json"]).args(arguments).args(["lock", "--"]).args(command);
        Running::start(&mut leaselock)
    }

    fn stay(&self, stores: &[String], arguments: &[&str]) -> Running {
        let running = self.start(stores, arguments, &["sh", "-c", STAY]);
        wait_for("CMD", || self.file("stay").exists().then_some(()));
        running
    }

    fn end(&self, running: Running) -> Output {
        fs::remove_file(self.file("stay")).unwrap();
        running.output()
    }

    fn show(&self, number: usize) -> Value {
        let mut command = leaselock(&self.url(number), self.files.path());
        let output = finish(command.args(["show", "lock", "--json"]));
        assert_code(&output, 0);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Nothing can be read or written there any more.
    fn destroy(&self, number: usize) {
        let directory = self.directories[number].path();
        fs::rename(directory, self.file(&format!("was-{number}"))).unwrap();
        fs::write(directory, "no directory").unwrap();
    }
}

#[test]
fn a_majority_of_stores_holds_the_lock() {
    let sites = Sites::new(3);
    let [a, b, c] = [0, 1, 2].map(|number| sites.url(number));
    let holder = sites.stay(&sites.urls(), &["--owner", "holder"]);
    let token = (0..3).filter_map(|number| sites.show(number)["holders"][0]["token"].as_u64());
    let token = token.max().unwrap();
    let others = [c.clone(), a.clone(), b.clone()];
    let busy = sites.start(&others, &["-n"], &["touch", "ran"]).output();
    assert_code(&busy, 75);
    assert_eq!(report(&busy)["outcome"], "busy");
    assert!(stderr(&busy).contains("lock is held by holder ("), "{}", stderr(&busy));
    let late = sites.start(&others, &["--wait", "1500ms"], &["touch", "ran"]).output();
    assert_code(&late, 75);
    let text = stderr(&late);
    assert!(text.contains("waiting: lock is held by holder ("), "{text}");
    assert!(text.contains("; 3 of 3 stores answer"), "{text}");
    let output = sites.end(holder);
    assert_code(&output, 0);
    assert_eq!(report(&output)["token"], token);
    for number in 0..3 {
        assert_eq!(sites.show(number)["state"], "free", "nothing lingers");
    }

    let minority = sites.stay(std::slice::from_ref(&a), &[]);
    let script = "printf '%s\n' \"$LEASELOCK_STORE\" > stores; echo $LEASELOCK_TOKEN > token";
    let mut command = leaselock(&sites.urls().join("\n"), sites.files.path());
    let output = finish(command.args(["run", "--json", "lock", "--", "sh", "-c", script]));
    assert_code(&output, 0);
    let later: u64 = line_of(&sites.file("token")).parse().unwrap();
    assert!(later > token);
    assert_eq!(report(&output)["token"], later);
    assert_eq!(fs::read_to_string(sites.file("stores")).unwrap(), format!("{a}\n{b}\n{c}\n"));
    assert_code(&sites.end(minority), 0);
    assert!(!sites.file("ran").exists());
}

#[test]
fn one_store_of_three_that_does_not_answer_does_no_harm() {
    let sites = Sites::new(2);
    let [a, b] = [0, 1].map(|number| sites.url(number));
    let stores = [a, format!("s3://locks/x{UNREACHABLE}"), b];
    let script = "printf '%s\n' \"$LEASELOCK_STORE\" > stores";
    let output = sites.start(&stores, &[], &["sh", "-c", script]).output();
    assert_code(&output, 0);
    assert_eq!(report(&output)["outcome"], "completed");
    let told = fs::read_to_string(sites.file("stores")).unwrap();
    assert_eq!(told.lines().collect::<Vec<_>>(), [&*stores[0], "s3://locks/x", &*stores[2]]);
    let tokens = [0, 1].map(|number| sites.show(number)["token"].as_u64().unwrap());
    assert_eq!(tokens[0], tokens[1]);
    for number in 0..2 {
        assert_eq!(sites.show(number)["state"], "free");
    }
}

#[test]
fn two_stores_of_three_that_do_not_answer_are_69() {
    let sites = Sites::new(1);
    let unreachable = |bucket: &str| format!("s3://{bucket}/x{UNREACHABLE}");
    let stores = [unreachable("locks-1"), sites.url(0), unreachable("locks-2")];
    for patience in [&["-n"][..], &["--wait", "1s"]] {
        let output = sites.start(&stores, patience, &["touch", "ran"]).output();
        assert_code(&output, 69);
        let text = stderr(&output);
        assert!(text.contains("1 of 3 stores answered, 2 failed, and 2 are needed"), "{text}");
        assert!(text.contains("hint: ") && !text.contains("HUSH"), "{text}");
        assert_eq!(report(&output)["outcome"], "failed");
        assert!(sites.show(0)["holders"].as_array().unwrap().is_empty(), "it was withdrawn");
    }
    assert!(!sites.file("ran").exists());
}

#[test]
fn a_store_that_fails_under_way_is_survived_and_a_second_is_not() {
    let sites = Sites::new(3);
    let ttl = Duration::from_secs(2);
    let running = sites.stay(&sites.urls(), &["--ttl", "2s"]);
    let worker = pid_in(&sites.file("pid"));
    let path = PathBuf::from(line_of(&sites.file("status")));
    sites.destroy(0);
    let began = deadline(&status(&path).unwrap());
    wait_for("renewals at the two that are left", || {
        let status = status(&path)?;
        (status["state"] == "held" && deadline(&status) >= began + ttl * 2).then_some(())
    });
    assert!(lives(worker));
    sites.destroy(2);
    let output = running.output();
    assert_code(&output, 120);
    assert_eq!(report(&output)["outcome"], "lost");
    assert!(!lives(worker));
}

#[test]
fn a_break_at_one_store_is_survived_and_at_another_one_too_it_is_not() {
    let sites = Sites::new(3);
    let put_out = |number: usize| {
        let mut command = leaselock(&sites.url(number), sites.files.path());
        finish(command.args(["break", "lock", "--force"]))
    };
    let running = sites.stay(&sites.urls(), &["--ttl", "2s"]);
    let worker = pid_in(&sites.file("pid"));
    let entered = |number: usize| (sites.show(number)["state"] == "held").then_some(());
    (0..3).for_each(|number| wait_for("every store", || entered(number)));
    assert_code(&put_out(1), 0);
    // The holder has renewed elsewhere, and so noticed.
    let renewals = || sites.show(0)["holders"][0]["renewals"].as_u64();
    let before = renewals();
    wait_for("renewals", || (renewals() >= before.map(|before| before + 2)).then_some(()));
    assert!(lives(worker));
    assert_eq!(sites.show(1)["state"], "free");
    assert_code(&put_out(0), 0);
    let output = running.output();
    assert_code(&output, 120);
    assert_eq!(report(&output)["outcome"], "lost");
    for number in 0..3 {
        assert_eq!(sites.show(number)["state"], "free");
    }
}

#[test]
fn stores_of_different_kinds_make_a_majority() {
    let kinds = [Backend::Ministack, Backend::Azurite, Backend::Gcs];
    let Some(urls) = kinds.map(|kind| kind.fresh_url()).into_iter().collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let sites = Sites::new(0);
    let urls: Vec<_> = urls.iter().map(|url| url.as_str().to_owned()).collect();
    let holder = sites.stay(&urls, &["--no-check"]);
    let busy = sites.start(&urls, &["--no-check", "-n"], &["touch", "ran"]).output();
    assert_code(&busy, 75);
    let output = sites.end(holder);
    assert_code(&output, 0);
    let token = report(&output)["token"].as_u64().unwrap();
    let next = sites.start(&urls, &["--no-check"], &["true"]).output();
    assert_code(&next, 0);
    assert!(report(&next)["token"].as_u64().unwrap() > token);
    assert!(!sites.file("ran").exists());
}

#[test]
fn a_directory_that_cannot_be_opened_is_78() {
    let sites = Sites::new(3);
    sites.destroy(1);
    let output = sites.start(&sites.urls(), &[], &["touch", "ran"]).output();
    assert_code(&output, 78);
    let text = stderr(&output);
    let directory = sites.directories[1].path().display().to_string();
    assert!(text.contains(&directory) && text.contains("hint: "), "{text}");
    assert!(!sites.file("ran").exists());
}

#[test]
fn options_that_do_not_go_together_are_64_and_nothing_is_opened() {
    let root = TempDir::new().unwrap();
    let store = |name: &str| format!("file://{}", root.path().join(name).display());
    let [a, b, c, d] = ["a", "b", "c", "d"].map(store);
    let (one, two) = (vec![&*a], vec![&*a, &*b]);
    let (three, four) = (vec![&*a, &*b, &*c], vec![&*a, &*b, &*c, &*d]);
    let run = ["lock", "--", "true"];
    let with = |options: &[&'static str]| [&["run"], options, &run].concat();
    let mut cases = vec![
        (&two, with(&[]), "2 --store: "),
        (&four, with(&["-n"]), "4 --store: "),
        (&three, with(&["second"]), "several LOCKs"),
        (&three, vec!["elect", "lock", "--", "true"], "election"),
        (&three, vec!["ls"], "several --store"),
        (&three, vec!["show", "lock"], "several --store"),
        (&three, vec!["break", "lock", "--force"], "several --store"),
        (&three, vec!["latch", "show", "lock"], "several --store"),
    ];
    let single: [&[&str]; 6] = [
        &["--shared"],
        &["--exclusive"],
        &["--limit", "2"],
        &["--fair"],
        &["--once"],
        &["--min-hold", "2s"],
    ];
    for options in single {
        let named = options[0];
        cases.push((&three, with(options), named));
        cases.push((&one, with(&[options, &["second"]].concat()), named));
    }
    for (stores, arguments, what) in cases {
        let mut command = leaselock("", root.path());
        for url in stores {
            command.args(["--store", url]);
        }
        let output = finish(command.args(&arguments));
        assert_code(&output, 64);
        let text = stderr(&output);
        assert!(text.contains(what), "{arguments:?}: {text}");
    }
    assert!(is_empty(root.path()));
}

#[test]
fn the_same_store_does_not_count_twice() {
    let place = Place::new();
    let (url, other) = (place.url.clone(), format!("file://{}", place.file("other").display()));
    let arguments = ["run", "--store", &url, "--store", &other, "--store", &url, "a", "--", "true"];
    let output = place.output(&arguments);
    assert_code(&output, 64);
    assert!(stderr(&output).contains("named twice"), "{}", stderr(&output));
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}
