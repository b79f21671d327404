//! What can be configured: the one table from which the file, the variables, `--help` and
//! `leaselock config` come.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::args::{self, OnLost};

/// Something that is set once for a project, a user or a machine.
#[derive(Debug)]
pub(crate) struct Key {
    /// In the file. The option of the command line has it too.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whose option it is; empty where it is one of every command.
    pub(crate) commands: &'static [&'static str],
    /// What it means, for people, that nobody has set it, where the command line has no default.
    pub(crate) unset: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// URLs, of which several make a quorum.
    Stores,
    /// A table of texts.
    Options,
    Switch,
    Text,
    Duration,
    /// A duration that a lease can have.
    Ttl,
    OnLost,
}

/// What is the same for every run of a project's commands. What belongs to one lock (`--limit`), to
/// one call (`-n`, `--json`) or names a program stays on the command line.
pub(crate) const KEYS: [Key; 8] = [
    Key { name: "store", kind: Kind::Stores, commands: &[], unset: "" },
    Key { name: "store-options", kind: Kind::Options, commands: &[], unset: "none" },
    Key { name: "no-check", kind: Kind::Switch, commands: &[], unset: "false" },
    Key { name: "ttl", kind: Kind::Ttl, commands: &["run", "elect"], unset: "" },
    // Not of `latch` and `barrier`: they wait for work to be done, not for a lock to come free.
    Key { name: "wait", kind: Kind::Duration, commands: &["run", "acquire"], unset: "for ever" },
    Key {
        name: "kill-grace",
        kind: Kind::Duration,
        commands: &["run", "elect"],
        unset: "a sixth of the TTL, at most 5s",
    },
    Key { name: "owner", kind: Kind::Text, commands: &["run", "elect", "acquire"], unset: "" },
    Key { name: "on-lost", kind: Kind::OnLost, commands: &["run", "elect"], unset: "" },
];

/// What a key, or one store option, is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Switch(bool),
    List(Vec<String>),
}

/// Something that was set, and where.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: &'static Key,
    /// Of the store option.
    pub(crate) option: Option<String>,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(String),
    Variable(String),
    File { path: PathBuf, line: usize, profile: Option<String> },
}

impl Key {
    pub(crate) fn variable(&self) -> String {
        format!("LEASELOCK_{}", self.name.replace('-', "_").to_uppercase())
    }

    /// The option of the command line, without its dashes.
    pub(crate) fn option(&self) -> &'static str {
        match self.kind {
            Kind::Options => "store-option",
            _ => self.name,
        }
    }

    /// By which clap knows it.
    pub(crate) fn id(&self) -> String {
        self.option().replace('-', "_")
    }

    /// Whether a command has it as an option of its own.
    pub(crate) fn is_of(&self, command: &str) -> bool {
        // It shows what the others would do, and so takes what they take.
        self.commands.contains(&command) || (command == "config" && !self.commands.is_empty())
    }

    /// What `text` sets, as a variable holds it.
    ///
    /// # Errors
    /// What is expected instead. It does not repeat what may be a secret.
    pub(crate) fn parse(&'static self, text: &str, origin: &Origin) -> Result<Vec<Entry>, String> {
        let entry = |value| vec![Entry { key: self, option: None, value, origin: origin.clone() }];
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(match self.kind {
            Kind::Stores if lines().next().is_none() => Vec::new(),
            Kind::Stores => entry(Value::List(lines().map(str::to_owned).collect())),
            Kind::Options => {
                lines().map(|line| self.option_from(line, origin)).collect::<Result<_, _>>()?
            }
            Kind::Switch => entry(Value::Switch(switch(text)?)),
            _ => {
                self.check(text)?;
                entry(Value::Text(text.to_owned()))
            }
        })
    }

    /// What one store option, KEY=VALUE, sets.
    ///
    /// # Errors
    /// What is expected instead, without the text.
    pub(crate) fn option_from(&'static self, text: &str, origin: &Origin) -> Result<Entry, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => (option_name(name), value.to_owned()),
            _ => return Err("KEY=VALUE is expected".to_owned()),
        };
        let value = Value::Text(value);
        Ok(Entry { key: self, option: Some(name), value, origin: origin.clone() })
    }

    /// # Errors
    /// What is expected instead.
    pub(crate) fn check(&self, text: &str) -> Result<(), String> {
        match self.kind {
            Kind::Duration => args::duration(text).map(drop),
            Kind::Ttl => match args::TTL.contains(&args::duration(text)?) {
                true => Ok(()),
                false => Err("1s to 24h is expected".to_owned()),
            },
            Kind::OnLost => OnLost::from_str(text, false).map(drop).map_err(|_| {
                let names =
                    OnLost::value_variants().iter().filter_map(ValueEnum::to_possible_value);
                let names: Vec<_> = names.map(|value| value.get_name().to_owned()).collect();
                format!("one of {} is expected", names.join(", "))
            }),
            _ => Ok(()),
        }
    }
}

/// Stores read the names of their options like this too: one that is set twice is the same one.
pub(crate) fn option_name(name: &str) -> String {
    name.to_ascii_lowercase()
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("true or false is expected".to_owned()),
    }
}

impl Entry {
    /// `store-options.aws_region`
    pub(crate) fn name(&self) -> String {
        match &self.option {
            Some(option) => format!("{}.{option}", self.key.name),
            None => self.key.name.to_owned(),
        }
    }

    /// Whether both set the same thing.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.key.name == other.key.name && self.option == other.option
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => out.write_str(name),
            Self::File { path, line, profile } => {
                write!(out, "{}:{line}", super::search::shown(path))?;
                match profile {
                    Some(name) => write!(out, " (profile {name})"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_key_is_an_option_of_its_commands() {
        let cli = args::Cli::command();
        let has = |command: &clap::Command, key: &Key| {
            let mut all = command.get_arguments();
            all.any(|arg| arg.get_id() == &key.id() && arg.get_long() == Some(key.option()))
        };
        for key in &KEYS {
            assert!(!key.commands.is_empty() || has(&cli, key), "{}", key.name);
            for name in key.commands {
                assert!(has(cli.find_subcommand(name).unwrap(), key), "{name} {}", key.name);
            }
        }
    }

    /// A command with an option of the same name either takes it from here or means something else.
    #[test]
    fn every_command_with_such_an_option_has_it_from_here() {
        // What `acquire` takes is not renewed, so its TTL is another matter in each place.
        let something_else = [("cost", "ttl"), ("cost", "wait"), ("acquire", "ttl")];
        for command in args::Cli::command().get_subcommands() {
            for key in KEYS.iter().filter(|key| !key.commands.is_empty()) {
                let has = command.get_arguments().any(|arg| arg.get_long() == Some(key.name));
                let pair = (command.get_name(), key.name);
                let expected = key.commands.contains(&pair.0) || something_else.contains(&pair);
                assert_eq!(has, expected, "{pair:?}");
            }
        }
    }

    #[test]
    fn no_variable_is_one_that_a_command_under_a_lock_finds() {
        for key in &KEYS {
            // It is meant to be the same one: CMD finds the store.
            if key.name != "store" {
                let given = format!("\n  {} ", key.variable());
                assert!(!crate::run::LONG_HELP.contains(&given), "{}", key.variable());
            }
        }
    }

    #[test]
    fn bounds_are_those_of_the_library() {
        let ttl = &KEYS[3];
        for (text, fits) in [("999ms", false), ("1s", true), ("24h", true), ("24h 1ms", false)] {
            assert_eq!(ttl.check(text).is_ok(), fits, "{text}");
        }
    }
}
