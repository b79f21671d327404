//! How the tests run the command and look at its processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// For what must happen, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A `file://` store, and a directory for a test's own files.
pub(crate) struct Place {
    pub(crate) url: String,
    store: TempDir,
    files: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let store = TempDir::new().unwrap();
        let url = format!("file://{}", store.path().display());
        Self { url, store, files: TempDir::new().unwrap() }
    }

    /// `leaselock` on this store.
    pub(crate) fn leaselock(&self, arguments: &[&str]) -> Command {
        let mut command = leaselock(&self.url, self.files());
        command.args(arguments);
        command
    }

    /// Runs it to its end.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        finish(&mut self.leaselock(arguments))
    }

    pub(crate) fn files(&self) -> &Path {
        self.files.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.files().join(name)
    }

    pub(crate) fn record(&self, lock: &str) -> PathBuf {
        self.store.path().join(format!("{lock}.lock"))
    }

    /// Every file of the store.
    pub(crate) fn stored(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut directories = vec![self.store.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { directories.push(path) } else { found.push(path) }
            }
        }
        found
    }

    /// `leaselock show --json`.
    pub(crate) fn show(&self, lock: &str) -> Value {
        let output = self.output(&["show", lock, "--json"]);
        assert_code(&output, 0);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn state(&self, lock: &str) -> String {
        self.show(lock)["state"].as_str().unwrap().to_owned()
    }
}

/// `leaselock` on any store; CMD runs in `directory`.
pub(crate) fn leaselock(url: &str, directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leaselock"));
    without_configuration(&mut command);
    command.env("LEASELOCK_STORE", url).env("XDG_RUNTIME_DIR", directory);
    command.current_dir(directory).stdin(Stdio::null());
    command
}

/// Nothing of what whoever runs the tests has set.
pub(crate) fn without_configuration(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LEASELOCK_") {
            command.env_remove(name);
        }
    }
    command.env("LEASELOCK_CONFIG", "");
}

/// `leaselock` on this store, as `starter` starts it: its words come before the command.
pub(crate) fn under(place: &Place, starter: &[&str], arguments: &[&str]) -> Command {
    let direct = place.leaselock(arguments);
    let mut command = Command::new(starter[0]);
    command.args(&starter[1..]).arg(direct.get_program()).args(direct.get_args());
    for (name, value) in direct.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(place.files()).stdin(Stdio::null());
    command
}

/// Whether a program that a test needs is on this machine. In CI it has to be.
pub(crate) fn there_is(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$1\"", "sh", program])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "there is no {program}");
        eprintln!("skipped: there is no {program}");
    }
    found
}

pub(crate) fn finish(command: &mut Command) -> Output {
    Running::start(command).output()
}

/// A running command; ended when the test does.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(command.spawn().unwrap()))
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.as_ref().unwrap().id()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for its end, not for ever.
    pub(crate) fn output(mut self) -> Output {
        let pid = self.pid();
        let child = self.0.take().unwrap();
        let (ended, end) = std::sync::mpsc::channel();
        let waiter = thread::spawn(move || {
            let output = child.wait_with_output().unwrap();
            let _ = ended.send(());
            output
        });
        if end.recv_timeout(PATIENCE * 2).is_err() {
            let _ = kill(pid, Signal::SIGKILL);
            panic!("{pid} did not end");
        }
        waiter.join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // Its watchdog ends what it started.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stderr: {}", stderr(output));
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The object that `run --json` prints last.
#[track_caller]
pub(crate) fn report(output: &Output) -> Value {
    let text = stderr(output);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = boot() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(boot() < end, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A whole line of text, once the file has one.
#[track_caller]
pub(crate) fn line_of(path: &Path) -> String {
    wait_for(&format!("{} to be written", path.display()), || {
        fs::read_to_string(path).ok()?.strip_suffix('\n').map(str::to_owned)
    })
}

#[track_caller]
pub(crate) fn pid_in(path: &Path) -> Pid {
    Pid::from_raw(line_of(path).trim().parse().unwrap())
}

pub(crate) fn boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().into()
}

/// What the status file says; `None` while there is none.
pub(crate) fn status(path: &Path) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

pub(crate) fn deadline(status: &Value) -> Duration {
    Duration::from_secs_f64(status["boot_deadline"].as_f64().unwrap())
}

/// Whether a process exists and is no zombie.
pub(crate) fn lives(pid: Pid) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// The watchdog of a wrapper.
#[track_caller]
pub(crate) fn watchdog_of(wrapper: Pid) -> Pid {
    wait_for("the watchdog", || {
        fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            let (_, parent) = stat(pid)?;
            (parent == wrapper && name.trim() == "lease-watchdog").then_some(pid)
        })
    })
}

/// The children of a process, zombies too, with their states.
pub(crate) fn children_of(parent: Pid) -> Vec<(Pid, char)> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of = |pid| stat(pid).filter(|(_, its)| *its == parent).map(|(state, _)| (pid, state));
    numbers.map(Pid::from_raw).filter_map(of).collect()
}

/// State and parent.
fn stat(pid: Pid) -> Option<(char, Pid)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, Pid::from_raw(fields.next()?.parse().ok()?)))
}

/// Something like a mutex's holder: writes the boot clock to `beat` for ever.
pub(crate) const HEART: &str = "\
echo $$ > pid; echo $LEASELOCK_STATUS_FILE > status
while :; do cut -d' ' -f1 /proc/uptime > beat.new; mv beat.new beat; sleep 0.02; done";

/// When [`HEART`] last beat; `/proc/uptime` counts suspend and has hundredths of a second.
pub(crate) fn last_beat(place: &Place) -> Duration {
    Duration::from_secs_f64(line_of(&place.file("beat")).parse().unwrap())
}
