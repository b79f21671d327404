//! What is not said on the command line: variables, `leaselock.toml`, profiles.
//!
//! The command line is parsed twice. The first time tells which files to read; what they and the
//! variables set then become the defaults of the second, so that it stays with clap what an option
//! is.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use crate::args::{Cli, Global};
use crate::config::file::Content;
use crate::config::keys::{Entry, KEYS, Kind, Origin, Value};
use crate::config::search::{Place, Source};
pub(crate) use crate::config::stores::ForStores;
use crate::exit::Failure;
use crate::{people, secrets};

mod file;
mod keys;
mod layers;
mod search;
pub(crate) mod show;
mod stores;

/// Why nothing is done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// By clap; also when only help was asked for.
    CommandLine(clap::Error),
    Configuration(Failure),
}

/// What was set, and where.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    profile: Option<(String, Origin)>,
    files: Vec<(Place, PathBuf)>,
    /// Each key, and each store option, once.
    entries: Vec<Entry>,
}

/// The command line with all that was set elsewhere.
pub(crate) fn configure() -> Result<(Cli, Settings), Refusal> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let Some((name, given)) = matches.subcommand().filter(|_| cli.command.is_configured()) else {
        return Ok((cli, Settings::default()));
    };
    let settings = Settings::find(&cli.global, name, given)?;
    let presets = settings.presets(name, given, &command);
    if !presets.is_empty() {
        command = preset(self::command(), name, presets);
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    }
    settings.enter(&mut cli.global);
    Ok((cli, settings))
}

/// The command line as it is documented: each option with its variable.
pub(crate) fn command() -> clap::Command {
    let mut command = Cli::command();
    for key in &KEYS {
        let documented = |arg: clap::Arg| {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            arg.help(format!("{help} [env: {}]", key.variable()))
        };
        if key.commands.is_empty() {
            command = command.mut_arg(key.id(), documented);
        }
        for name in key.commands {
            command = command.mut_subcommand(name, |it| it.mut_arg(key.id(), documented));
        }
        let model = key.commands.first().and_then(|name| command.find_subcommand(name));
        let arg = model.and_then(|it| it.get_arguments().find(|arg| arg.get_id() == &key.id()));
        if let Some(arg) = arg.cloned() {
            command = command.mut_subcommand("config", |it| it.arg(arg));
        }
    }
    command
}

/// With these as the defaults of a subcommand.
fn preset(command: clap::Command, name: &str, presets: Vec<(String, String)>) -> clap::Command {
    command.mut_subcommand(name, |mut subcommand| {
        for (id, text) in presets {
            subcommand = subcommand.mut_arg(id, |arg| arg.default_value(text));
        }
        subcommand
    })
}

impl Settings {
    fn find(global: &Global, name: &str, given: &ArgMatches) -> Result<Self, Failure> {
        let profile = global.profile.clone().filter(|profile| !profile.is_empty());
        let profile = profile.map(|profile| (profile, layers::origin_of_profile(given)));
        let sources = search::sources(global.config.as_deref())?;
        let mut contents = Vec::new();
        for source in &sources {
            let content = file::parse(&source.path, &source.text)?;
            if !global.quiet {
                warn_of_secrets(source, &content);
            }
            contents.push(content);
        }
        let files: Vec<_> = sources.iter().map(|it| (it.place, it.path.clone())).collect();
        if global.verbose > 0 {
            for (_, path) in &files {
                people::say(&format!("configured by {}", search::shown(path)));
            }
        }
        let mut entries = layers::from_command_line(name, given)?;
        entries.extend(layers::from_variables(|variable| std::env::var_os(variable))?);
        if let Some((profile, origin)) = &profile {
            entries.extend(layers::of_profile(profile, origin, &contents, global)?);
        }
        entries.extend(contents.into_iter().flat_map(|content| content.top));
        Ok(Self { profile, files, entries: layers::first_of_each(entries) })
    }

    /// What the command line leaves open: an option's id and its value.
    fn presets(
        &self,
        name: &str,
        given: &ArgMatches,
        command: &clap::Command,
    ) -> Vec<(String, String)> {
        let Some(subcommand) = command.find_subcommand(name) else { return Vec::new() };
        let open = |entry: &&Entry| {
            let is_given = matches!(entry.origin, Origin::Flag(_));
            entry.key.commands.contains(&name)
                && !is_given
                && !is_excluded(subcommand, given, &entry.key.id())
        };
        let text = |entry: &Entry| match &entry.value {
            Value::Text(text) => Some((entry.key.id(), text.clone())),
            Value::Switch(_) | Value::List(_) => None,
        };
        self.entries.iter().filter(open).filter_map(text).collect()
    }

    fn enter(&self, global: &mut Global) {
        global.for_stores.options =
            self.entries.iter().filter(|entry| entry.option.is_some()).cloned().collect();
        global.store.clear();
        for entry in &self.entries {
            match (&entry.value, entry.key.kind) {
                (Value::List(urls), Kind::Stores) => {
                    global.store.clone_from(urls);
                    let elsewhere = !matches!(entry.origin, Origin::Flag(_));
                    global.for_stores.origin = elsewhere.then(|| entry.origin.clone());
                }
                (Value::Switch(no_check), Kind::Switch) => global.no_check = *no_check,
                _ => {}
            }
        }
    }
}

/// Whether the command line has an option that excludes this one, as -n does --wait.
fn is_excluded(subcommand: &clap::Command, given: &ArgMatches, id: &str) -> bool {
    let is_given = |arg: &&clap::Arg| {
        given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
    };
    let excluded = |arg| subcommand.get_arg_conflicts_with(arg);
    subcommand.get_arguments().filter(is_given).flat_map(excluded).any(|arg| arg.get_id() == id)
}

fn warn_of_secrets(source: &Source, content: &Content) {
    let is_secret = |entry: &Entry| match (&entry.value, &entry.option) {
        (Value::Text(text), Some(option)) => secrets::shown_option(option, text).1,
        (Value::List(urls), None) => urls.iter().any(|url| secrets::shown_url(url).1),
        _ => false,
    };
    if source.is_readable_by_others && content.entries().any(is_secret) {
        let path = search::shown(&source.path);
        people::say(&format!("warning: {path} has secrets in it, and others may read it"));
        people::say(&format!("hint: chmod 600 {path}"));
    }
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        Self::CommandLine(error)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Configuration(failure)
    }
}
