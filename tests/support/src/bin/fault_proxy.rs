//! A misbehaving HTTP proxy in front of one store, for tests of the command.
//!
//! Prints `listening on 127.0.0.1:PORT` and runs until its standard input closes. A shell gives a
//! background job an empty standard input, so there it needs one: `sleep 600 | fault-proxy … &`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use leaselock_test_support::proxy::{Fault, FaultProxy, RequestView, draw};

const USAGE: &str = "usage: fault-proxy --upstream 127.0.0.1:PORT [--seed S] \
[--status-per-mille N] [--drop-per-mille N]

Forwards HTTP/1.1 to the store at --upstream and gets in the way of some requests:
  --status-per-mille N  of a thousand requests, answer N with 500 or 503, half of them after they
                        were carried out
  --drop-per-mille N    of a thousand requests, answer N by closing or resetting the connection,
                        half of them after they were carried out
  --seed S              which ones (default 1); the same seed treats the same sequence alike
Prints `listening on 127.0.0.1:PORT` and runs until its standard input closes. As a background
job of a shell it needs a standard input that stays open: sleep 600 | fault-proxy ... &";

struct Options {
    upstream: std::net::SocketAddr,
    seed: u64,
    status: u64,
    drop: u64,
}

fn options() -> Result<Option<Options>, String> {
    let (mut upstream, mut seed, mut status, mut drop) = (None, 1, 0, 0);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if matches!(arg.as_str(), "-h" | "--help") {
            return Ok(None);
        }
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => {
                let value = args.next().ok_or_else(|| format!("{arg}: a value is missing"))?;
                (arg, value)
            }
        };
        let number = || value.parse::<u64>().map_err(|_| format!("{name}: not a number: {value}"));
        match name.as_str() {
            "--upstream" => {
                let addr = value.parse();
                upstream = Some(addr.map_err(|_| format!("--upstream: not IP:PORT: {value}"))?);
            }
            "--seed" => seed = number()?,
            "--status-per-mille" => status = number()?,
            "--drop-per-mille" => drop = number()?,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    let upstream = upstream.ok_or("--upstream is missing")?;
    if status + drop > 1000 {
        return Err("more than a thousand of a thousand requests".into());
    }
    Ok(Some(Options { upstream, seed, status, drop }))
}

fn chaos(options: &Options) -> impl Fn(&RequestView) -> Fault + Send + Sync + 'static {
    let &Options { seed, status, drop, .. } = options;
    let seen = AtomicU64::new(0);
    move |_| {
        let drawn = draw(seed, seen.fetch_add(1, Ordering::SeqCst));
        let (chance, which) = (drawn % 1000, (drawn >> 32) % 4);
        match which {
            0 if chance < status => Fault::Status(500),
            1 if chance < status => Fault::Status(503),
            2 if chance < status => Fault::CommitThenStatus(500),
            3 if chance < status => Fault::CommitThenStatus(503),
            0 if chance < status + drop => Fault::CloseBefore,
            1 if chance < status + drop => Fault::ResetBefore,
            2 if chance < status + drop => Fault::CommitThenClose,
            3 if chance < status + drop => Fault::CommitThenReset,
            _ => Fault::Pass,
        }
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("fault-proxy: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let proxy = FaultProxy::start(options.upstream);
    proxy.plan(chaos(&options));
    println!("listening on {}", proxy.addr());
    let _ = std::io::stdout().flush();
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    let log = proxy.log();
    let faults = log.iter().filter(|entry| entry.fault != "Pass").count();
    eprintln!("fault-proxy: {} requests, {faults} faults", proxy.total_requests());
    ExitCode::SUCCESS
}
