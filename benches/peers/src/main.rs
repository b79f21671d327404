//! `peers`: measures leaselock beside other locks, a naive one and none at all. `benches/run` starts
//! the servers and this; see `docs/BENCHMARKS.md`.

mod clock;
mod contention;
mod contestant;
mod contestants;
mod far;
mod held;
mod machine;
mod place;
mod plan;
mod record;
mod referee;
mod report;
mod requests;
mod results;
mod run;
mod scenarios;
mod statistics;
mod worker;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use contestant::Entry;
use plan::Plan;
use results::Results;
use run::Run;

const USAGE: &str = "\
peers measure --to FILE [--quick] [--only SCENARIO]… [--contestant NAME[:STORE]]…
    measures and writes FILE
peers report FILE DIRECTORY
    writes BENCHMARKS.md and benchmarks/*.svg below DIRECTORY
peers worker NAME[:STORE] TTL-IN-MILLISECONDS
    one of the processes that `measure` starts
peers far ADDRESS UPSTREAM MILLISECONDS
    passes connections on to UPSTREAM, whose answers it brings back late";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        ["worker", entry, ttl] => {
            let ttl = Duration::from_millis(ttl.parse()?);
            // One of many: a thread for all it does is enough.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(worker::main(&entry.parse()?, ttl))
        }
        ["far", listen, upstream, delay] => {
            let delay = Duration::from_millis(delay.parse()?);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(far::serve(listen.parse()?, upstream.parse()?, delay))
        }
        ["report", file, directory] => {
            report::write(&Results::read(Path::new(file))?, Path::new(directory))
        }
        ["measure", ref options @ ..] => measure(Options::read(options)?),
        _ => bail!("{USAGE}"),
    }
}

#[derive(Default)]
struct Options {
    to: PathBuf,
    quick: bool,
    only: Vec<String>,
    contestants: Vec<Entry>,
}

impl Options {
    fn read(arguments: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().with_context(|| format!("{argument} needs a value"));
            match *argument {
                "--to" => options.to = PathBuf::from(value()?),
                "--quick" => options.quick = true,
                "--only" => options.only.push((*value()?).to_owned()),
                "--contestant" => options.contestants.push(value()?.parse()?),
                other => bail!("{other} is not understood\n{USAGE}"),
            }
        }
        if options.to.as_os_str().is_empty() {
            bail!("{USAGE}");
        }
        if let Some(unknown) =
            options.only.iter().find(|name| !scenarios::ALL.contains(&name.as_str()))
        {
            bail!("no scenario is called {unknown}; there are {}", scenarios::ALL.join(", "));
        }
        Ok(options)
    }
}

#[tokio::main]
async fn measure(options: Options) -> Result<()> {
    let plan = if options.quick { Plan::quick() } else { Plan::full() };
    let mut run = Run::new(plan, options.contestants);
    let began = clock::now();
    let load = machine::load();
    run.note_absent();
    for scenario in scenarios::ALL {
        if options.only.is_empty() || options.only.iter().any(|name| name == scenario) {
            eprintln!("{scenario} ({} s)", clock::since(began).as_secs());
            scenarios::run(scenario, &mut run).await?;
            // After each, so that a run that is stopped leaves what it has.
            run.results.about = machine::about(run.plan.quick, clock::since(began), &load)?;
            run.results.write(&options.to)?;
        }
    }
    Ok(())
}
