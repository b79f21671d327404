//! Many loops increment one counter under one lock, while others kill and freeze them.
//!
//! The counter is a ledger: every increment replaces it, in one rename, by itself plus a line
//! `number token`. So a lost increment shows as a missing token of a run that succeeded, and two at
//! once as a number that comes twice; besides, every increment marks its presence and looks for
//! the mark of another.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use leaselock_test_support::emulators::Backend;
use leaselock_test_support::proxy::Fault;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::tool::{boot, leaselock};

/// Reads, sleeps, writes. The mark is a link that names its process: creating it is atomic, and a
/// mark that a killed increment left is told from one of a live increment.
const INCREMENT: &str = r#"
mark="$$:$PPID"
until ln -s "$mark" inside 2>/dev/null; do
    other=$(readlink inside) || continue
    pid=${other%%:*}
    state=$(sed 's/.*) \(.\).*/\1/' "/proc/$pid/stat" 2>/dev/null)
    case $state in
        ''|Z|X) ;;
        *) echo "$mark beside $other ($state)" >> overlaps ;;
    esac
    rm -f inside
done
[ -e ledger ] || : > ledger
cp ledger "next.$$"
sleep "$1"
echo "$(($(wc -l < "next.$$") + 1)) $LEASELOCK_TOKEN" >> "next.$$"
mv "next.$$" ledger
[ "$(readlink inside)" = "$mark" ] || echo "$mark lost its mark" >> overlaps
rm -f inside
"#;

/// The loops go on for at least this long, and until enough has happened, but no longer than that.
const SHORTEST: Duration = Duration::from_secs(4);
const LONGEST: Duration = Duration::from_secs(100);

/// What disturbs the loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// KILL to a random wrapper.
    Killer,
    /// STOP to a random wrapper, for longer than its TTL.
    Freezer,
    /// The store answers with 503, or commits and drops the answer.
    Storm,
}

struct Contest<'a> {
    backend: Backend,
    url: &'a str,
    trouble: Trouble,
    files: TempDir,
    /// The wrappers that run now.
    wrappers: Mutex<BTreeSet<i32>>,
    over: AtomicBool,
    succeeded: Mutex<BTreeSet<u64>>,
    /// Exits that only a disturbed run has: 120, 121, or death by KILL.
    disturbed: AtomicUsize,
    /// How often trouble hit somebody whose increment was under way.
    hits: AtomicUsize,
}

impl Contest<'_> {
    fn ttl(&self) -> Duration {
        // A renewal must have time even where racing for one key is slow.
        Duration::from_secs(if self.backend == Backend::Seaweedfs { 4 } else { 2 })
    }

    /// Whether enough has happened to prove something; on a slow machine that takes longer.
    fn is_enough(&self, began: Duration) -> bool {
        let passed = boot() - began;
        if passed > LONGEST {
            return true;
        }
        let disturbed = match self.trouble {
            Trouble::None | Trouble::Storm => usize::MAX,
            Trouble::Killer | Trouble::Freezer => self.hits.load(Ordering::Relaxed),
        };
        let increments = self.succeeded.lock().unwrap().len();
        passed > SHORTEST && disturbed >= 2 && increments >= 2 * self.backend.max_racers()
    }

    fn run(&self) {
        fs::write(self.files.path().join("increment"), INCREMENT).unwrap();
        let began = boot();
        let loops = self.backend.max_racers();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..loops)
                .map(|worker| {
                    scope.spawn(move || {
                        let mut round = worker;
                        while !self.is_enough(began) {
                            self.once(round);
                            round += 1;
                        }
                    })
                })
                .collect();
            let trouble = scope.spawn(|| self.make_trouble());
            let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
            self.over.store(true, Ordering::Release);
            trouble.join().unwrap();
            assert!(ended.iter().all(Result::is_ok));
        });
        self.judge();
    }

    fn once(&self, round: usize) {
        // Some are so long that the lease of a killed or frozen wrapper ends meanwhile.
        let long = self.trouble != Trouble::None && round.is_multiple_of(4);
        let sleep = if long { self.ttl() * 5 / 4 } else { Duration::from_millis(20) };
        let ttl = humantime::format_duration(self.ttl()).to_string();
        let mut command = leaselock(self.url, self.files.path());
        command.args(["run", "--quiet", "--json", "--no-check", "--ttl", &ttl, "counter", "--"]);
        command.args(["sh", "increment", &sleep.as_secs_f64().to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let child = {
            let mut wrappers = self.wrappers.lock().unwrap();
            let child = command.spawn().unwrap();
            wrappers.insert(number(&child));
            child
        };
        let pid = number(&child);
        let output = self.wait(child);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => {
                let report: serde_json::Value =
                    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap();
                self.succeeded.lock().unwrap().insert(report["token"].as_u64().unwrap());
            }
            None | Some(120 | 121) if self.trouble != Trouble::None => {
                self.disturbed.fetch_add(1, Ordering::Relaxed);
            }
            code => panic!("{pid} ended with {code:?}: {text}"),
        }
    }

    /// Waits for the end. The wrapper leaves the list before its number can be given to another
    /// process.
    fn wait(&self, child: Child) -> std::process::Output {
        let pid = number(&child);
        waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        self.wrappers.lock().unwrap().remove(&pid);
        child.wait_with_output().unwrap()
    }

    fn make_trouble(&self) {
        let mut turn = 0;
        let kills = matches!(self.trouble, Trouble::Killer | Trouble::Freezer);
        while kills && !self.over.load(Ordering::Acquire) {
            thread::sleep(self.ttl() / 4);
            turn += 1;
            match self.trouble {
                Trouble::None | Trouble::Storm => {}
                Trouble::Killer => drop(self.victim(turn, Signal::SIGKILL)),
                Trouble::Freezer => {
                    if let Some(victim) = self.victim(turn, Signal::SIGSTOP) {
                        thread::sleep(self.ttl() * 6 / 5);
                        self.signal(victim, Signal::SIGCONT);
                    }
                }
            }
        }
    }

    /// Every second time the one whose increment is under way, otherwise any.
    fn victim(&self, turn: usize, signal: Signal) -> Option<i32> {
        let end = boot() + self.ttl() / 4;
        while turn.is_multiple_of(2) && boot() < end {
            let wrappers = self.wrappers.lock().unwrap();
            if let Some(inside) = self.inside().filter(|pid| wrappers.contains(pid)) {
                self.hits.fetch_add(1, Ordering::Relaxed);
                kill(Pid::from_raw(inside), signal).unwrap();
                return Some(inside);
            }
            drop(wrappers);
            thread::sleep(Duration::from_millis(1));
        }
        let wrappers = self.wrappers.lock().unwrap();
        let victim = *wrappers.iter().nth(turn * 7 % wrappers.len().max(1))?;
        kill(Pid::from_raw(victim), signal).unwrap();
        Some(victim)
    }

    /// The wrapper whose increment is under way.
    fn inside(&self) -> Option<i32> {
        let mark = fs::read_link(self.files.path().join("inside")).ok()?;
        mark.to_str()?.split(':').nth(1)?.parse().ok()
    }

    fn signal(&self, pid: i32, signal: Signal) {
        if self.wrappers.lock().unwrap().contains(&pid) {
            kill(Pid::from_raw(pid), signal).unwrap();
        }
    }

    fn judge(&self) {
        let read = |name: &str| fs::read_to_string(self.files.path().join(name));
        assert_eq!(read("overlaps").unwrap_or_default(), "", "two were inside at once");
        let ledger = read("ledger").unwrap();
        let mut tokens = Vec::new();
        for (index, line) in ledger.lines().enumerate() {
            let (number, token) = line.split_once(' ').unwrap();
            assert_eq!(number.parse(), Ok(index + 1), "{ledger}");
            tokens.push(token.parse::<u64>().unwrap());
        }
        assert!(tokens.is_sorted_by(|one, next| one < next), "tokens must rise: {tokens:?}");
        let written: BTreeSet<_> = tokens.into_iter().collect();
        let succeeded = self.succeeded.lock().unwrap();
        let lost: Vec<_> = succeeded.difference(&written).collect();
        assert!(lost.is_empty(), "increments were lost: {lost:?}");
        // A test in which nothing happened proves nothing.
        let disturbed = self.disturbed.load(Ordering::Relaxed);
        let hits = self.hits.load(Ordering::Relaxed);
        eprintln!(
            "{} {:?}: {} increments, {} of them reported, {disturbed} runs disturbed, \
             {hits} inside",
            self.backend,
            self.trouble,
            written.len(),
            succeeded.len(),
        );
        assert!(written.len() >= self.backend.max_racers());
        match self.trouble {
            Trouble::None => assert_eq!(written.len(), succeeded.len()),
            Trouble::Killer | Trouble::Freezer => assert!(disturbed > 0 && hits > 0),
            Trouble::Storm => {}
        }
    }
}

fn number(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

fn contest(backend: Backend, trouble: Trouble) {
    let Some(url) = backend.fresh_url() else { return };
    let storm = (trouble == Trouble::Storm).then(|| url.proxied());
    if let Some((proxy, _)) = &storm {
        let faults = [
            Fault::Status(503),
            Fault::CommitThenStatus(503),
            Fault::CommitThenClose,
            Fault::CommitThenReset,
        ];
        proxy.random(7, 150, &faults);
    }
    Contest {
        backend,
        url: storm.as_ref().map_or(url.as_str(), |(_, url)| url),
        trouble,
        files: TempDir::new().unwrap(),
        wrappers: Mutex::default(),
        over: AtomicBool::new(false),
        succeeded: Mutex::default(),
        disturbed: AtomicUsize::new(0),
        hits: AtomicUsize::new(0),
    }
    .run();
    if let Some((proxy, _)) = &storm {
        assert!(proxy.log().iter().any(|entry| entry.fault != "Pass"), "there was a storm");
    }
}

on_every_store!(
    no_increment_is_lost,
    no_increment_is_lost_when_wrappers_are_killed,
    no_increment_is_lost_when_wrappers_are_frozen,
    no_increment_is_lost_in_a_storm_of_the_store,
);

fn no_increment_is_lost(backend: Backend) {
    contest(backend, Trouble::None);
}

fn no_increment_is_lost_when_wrappers_are_killed(backend: Backend) {
    contest(backend, Trouble::Killer);
}

fn no_increment_is_lost_when_wrappers_are_frozen(backend: Backend) {
    contest(backend, Trouble::Freezer);
}

fn no_increment_is_lost_in_a_storm_of_the_store(backend: Backend) {
    if backend.is_http() {
        contest(backend, Trouble::Storm);
    }
}
