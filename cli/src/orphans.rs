//! The first process of a container, and what Linux calls a child subreaper, become the parent of every
//! process below them that loses its own. Such a process stays a zombie, and keeps its number, until
//! they reap it.

use nix::unistd::Pid;

use crate::process;

#[derive(Debug)]
pub(crate) struct Orphans {
    /// Whether there can be any. Elsewhere nothing is reaped: what a shell had started before it
    /// executed this program is somebody's business, but not ours.
    come_here: bool,
    /// Children that are waited for elsewhere, by those who ask how they ended.
    spared: Vec<Pid>,
}

impl Orphans {
    pub(crate) fn new() -> Self {
        Self { come_here: process::adopts_orphans(), spared: Vec::new() }
    }

    pub(crate) fn come_here(&self) -> bool {
        self.come_here
    }

    /// This one is no orphan. Tell it before the next reaping.
    pub(crate) fn spare(&mut self, child: Pid) {
        self.spared.push(child);
    }

    /// It was waited for: its number may now be an orphan's.
    pub(crate) fn forget(&mut self, child: Pid) {
        self.spared.retain(|&other| other != child);
    }

    /// Reaps those that have ended. One that is spared may hide others until it is waited for: call
    /// it again then.
    pub(crate) fn reap(&self) {
        if !self.come_here {
            return;
        }
        while let Some(zombie) = process::some_zombie() {
            if self.spared.contains(&zombie) {
                return;
            }
            process::reap(zombie);
        }
    }
}
