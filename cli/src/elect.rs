//! `leaselock elect`: as `run`, and again whenever the lease was lost.

use crate::args::{Elect, Global, Run};
use crate::exit::Failure;
use crate::run::{self, AfterLoss};

/// What `elect --help` says besides the options and the exit codes.
pub(crate) const LONG_HELP: &str = "\
Of all who campaign for NAME, on any host, at most one leads at a time, and its
CMD runs. The others wait for as long as that takes.

When the lease is lost or cannot be renewed in time, CMD is stopped as
`leaselock run` does it, before anybody else can be elected; then this campaigns
again, and starts CMD anew when it is elected. When CMD ends by itself, this
resigns and exits with CMD's code.

CMD gets LEASELOCK_TERM: larger than that of every leader before. Pass it on
with everything that a leader does: whoever keeps the largest term it has seen,
and refuses smaller ones, obeys no former leader. It is the fencing token of the
lock NAME, which `leaselock ls`, `show` and `break` work on. The other
variables, and what is not covered, are those of `leaselock run --help`.

INT, TERM, HUP, QUIT, USR1 and USR2 are passed on to CMD; while an election is
waited for, they end this. After INT, TERM or QUIT this does not campaign again,
even if the lease is lost meanwhile; nor when its watchdog was killed. Then it
exits with 120.

A store that has not answered for 30 s in a row while campaigning ends this,
with 69: whatever starts it should start it again. With --on-lost warn, CMD is
not stopped, and this exits with 121 when it ends.

With --json, the object is printed once, at the end: outcome is as of `run`,
token is the last term, and waited_ms and held_ms are sums over all terms.";

/// Answers the exit code.
pub(crate) fn elect(global: &Global, args: Elect) -> Result<u8, Failure> {
    let run = Run {
        ttl: args.ttl,
        owner: args.owner,
        on_lost: args.on_lost,
        kill_grace: args.kill_grace,
        json: args.json,
        locks: vec![args.name],
        command: args.command,
        ..Run::default()
    };
    run::carry_out(global, &run, AfterLoss::Again)
}
