//! A real terminal with a shell in it: that of tmux, which also tells what is on its screen.

use std::fs;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use crate::tool::{PATIENCE, Place, Running, assert_code, boot, finish, line_of, stdout, there_is};

/// Between two looks at the screen, each of which is a process.
const LOOK: Duration = Duration::from_millis(20);

/// A shell in a terminal of 80 by 24.
pub(crate) struct Terminal<'a> {
    place: &'a Place,
}

impl<'a> Terminal<'a> {
    /// `None` where there is no tmux.
    pub(crate) fn open(place: &'a Place) -> Option<Self> {
        if !there_is("tmux") {
            return None;
        }
        let terminal = Self { place };
        fs::write(place.file("shell"), "PS1='$ '\n").unwrap();
        let shell = format!("ENV={} exec sh -i", place.file("shell").display());
        let output = terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            &shell,
        ]);
        assert_code(&output, 0);
        terminal.wait_to_see("$");
        Some(terminal)
    }

    pub(crate) fn tmux(&self, arguments: &[&str]) -> Output {
        // Its environment is the shell's.
        let mut command = self.place.leaselock(&[]);
        let mut tmux = Command::new("tmux");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => tmux.env(name, value),
                None => tmux.env_remove(name),
            };
        }
        command = tmux;
        command.env_remove("TMUX").env_remove("NO_COLOR").current_dir(self.place.files());
        finish(command.arg("-u").arg("-S").arg(self.place.file("tmux")).args(arguments))
    }

    /// Types a command and how it ended.
    pub(crate) fn run(&self, command: &str) {
        let watch = command.replace("leaselock", env!("CARGO_BIN_EXE_leaselock"));
        // The shell asks for its prompt once more before it is its turn.
        fs::write(self.place.file("script"), format!("{watch}\n")).unwrap();
        self.type_in("stty -a > before; . ./script; echo code $?; stty -a > after; echo > ended");
        self.press("Enter");
    }

    pub(crate) fn type_in(&self, text: &str) {
        assert_code(&self.tmux(&["send-keys", "-l", text]), 0);
    }

    pub(crate) fn press(&self, key: &str) {
        assert_code(&self.tmux(&["send-keys", key]), 0);
    }

    pub(crate) fn screen(&self) -> String {
        stdout(&self.tmux(&["capture-pane", "-p"]))
    }

    #[track_caller]
    pub(crate) fn wait_to_see(&self, text: &str) -> String {
        let mut last = String::new();
        let end = boot() + PATIENCE;
        while boot() < end {
            last = self.screen();
            if last.contains(text) {
                return last;
            }
            thread::sleep(LOOK);
        }
        panic!("waited in vain for {text:?} in\n{last}");
    }

    #[track_caller]
    pub(crate) fn row(&self, name: &str) -> String {
        let screen = self.screen();
        let found = screen.lines().find(|line| line.starts_with(name));
        found.unwrap_or_else(|| panic!("{name} is not in {screen}")).to_owned()
    }

    /// After the command has ended.
    #[track_caller]
    pub(crate) fn assert_as_before(&self, code: i32) -> String {
        line_of(&self.place.file("ended"));
        let screen = self.wait_to_see(&format!("code {code}"));
        assert!(screen.contains("stty -a > before"), "what was there is there again: {screen}");
        assert!(!screen.contains("QUEUE"), "{screen}");
        let read = |name| fs::read_to_string(self.place.file(name)).unwrap();
        assert_eq!(read("before"), read("after"));
        let flags = ["display-message", "-p", "#{alternate_on} #{cursor_flag}"];
        assert_eq!(stdout(&self.tmux(&flags)).trim(), "0 1", "no other screen, and a cursor");
        screen
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Holds `lock` until it is dropped.
pub(crate) fn hold(place: &Place, lock: &str, options: &[&str]) -> Running {
    let ready = format!("ready-{}", lock.replace('/', "-"));
    let mut command = place.leaselock(&["run"]);
    command.args(options).arg(lock).args(["--", "sh", "-c"]);
    let run = Running::start(command.arg(format!("echo > {ready}; sleep 1000")));
    line_of(&place.file(&ready));
    run
}
