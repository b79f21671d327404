//! What the example was asked to do.

use std::path::PathBuf;
use std::time::Duration;

use crate::writer::Error;

pub(crate) const USAGE: &str = "\
Several processes append to one table on an object store, under a lock.

usage: pipeline_writers [--writers N] [--seconds S] [--store URL] [--ttl S]
                        [--chaos] [--seed N] [--unfenced] [--svg PATH]

  --writers N    how many processes write (4)
  --seconds S    for how long (5)
  --store URL    where: file:///directory, s3://bucket/prefix, az://…, gs://…; the run makes a
                 prefix of its own below (a new temporary directory)
  --ttl S        how long a lease lasts (1)
  --chaos        freeze writers for longer than their leases, and kill and restart them
  --seed N       what chaos does, and when, follows from it (drawn, and told)
  --unfenced     write without the fence, as it is often done: loses rows under --chaos
  --svg PATH     where the picture of who held the lock when goes (told at the end)";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) writers: usize,
    pub(crate) time: Duration,
    pub(crate) store: Option<String>,
    pub(crate) ttl: Duration,
    pub(crate) chaos: bool,
    pub(crate) seed: u64,
    pub(crate) unfenced: bool,
    pub(crate) svg: Option<PathBuf>,
}

impl Options {
    /// `None` when only help was asked for.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<Option<Self>, Error> {
        let mut options = Self {
            writers: 4,
            time: Duration::from_secs(5),
            store: None,
            ttl: Duration::from_secs(1),
            chaos: false,
            seed: fastrand::u64(0..1_000_000),
            unfenced: false,
            svg: None,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            match name.as_str() {
                "--help" | "-h" => return Ok(None),
                "--chaos" | "--unfenced" if attached.is_some() => {
                    return Err(format!("{name} takes no value").into());
                }
                "--chaos" => options.chaos = true,
                "--unfenced" => options.unfenced = true,
                "--writers" | "--seconds" | "--store" | "--ttl" | "--seed" | "--svg" => {
                    let value = attached.or_else(|| arguments.next());
                    let value = value.ok_or_else(|| format!("{name} needs a value"))?;
                    options.set(&name, &value)?;
                }
                _ => return Err(format!("{name} is not an option; see --help").into()),
            }
        }
        options.check()?;
        Ok(Some(options))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        match name {
            "--writers" => self.writers = number(name, value)?,
            "--seconds" => self.time = seconds(name, value)?,
            "--store" => self.store = Some(value.to_owned()),
            "--ttl" => self.ttl = seconds(name, value)?,
            "--seed" => self.seed = number(name, value)?,
            _ => self.svg = Some(PathBuf::from(value)),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        if !(1..=64).contains(&self.writers) {
            return Err(format!("--writers {}: must be 1 to 64", self.writers).into());
        }
        if self.chaos && self.writers < 2 {
            return Err("--chaos needs --writers 2 or more: nobody could take over".into());
        }
        if self.ttl < Duration::from_secs(1) || self.ttl > Duration::from_secs(60) {
            return Err(format!("--ttl {:?}: must be 1 to 60 seconds", self.ttl).into());
        }
        if self.time > Duration::from_secs(3600) {
            return Err(format!("--seconds {:?}: must be 3600 or less", self.time).into());
        }
        if self.store.as_ref().is_some_and(|url| url.starts_with("memory:")) {
            return Err("--store memory: is one process's own, and these are several".into());
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|_| format!("{name} {value}: not a whole number").into())
}

fn seconds(name: &str, value: &str) -> Result<Duration, Error> {
    let seconds = value.parse().ok().and_then(|time| Duration::try_from_secs_f64(time).ok());
    seconds.ok_or_else(|| format!("{name} {value}: not a number of seconds").into())
}
