//! Where what is set comes from, each place before the next.

use std::ffi::{OsStr, OsString};

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::file::{self, Content};
use super::keys::{Entry, KEYS, Kind, Origin, Value};
use super::search;
use crate::args::Global;
use crate::exit::{self, Failure};

/// What the command line of the command `name` sets.
pub(crate) fn from_command_line(name: &str, given: &ArgMatches) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for key in &KEYS {
        let id = key.id();
        let can_be = key.commands.is_empty() || key.is_of(name);
        if !can_be || given.value_source(&id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let texts = given.get_raw(&id).into_iter().flatten().map(OsStr::to_string_lossy);
        let origin = Origin::Flag(format!("--{}", key.option()));
        let usage = |expected| Failure::new(exit::USAGE, format!("{origin}: {expected}"));
        match key.kind {
            Kind::Stores | Kind::Switch => {
                let text = texts.collect::<Vec<_>>().join("\n");
                entries.extend(key.parse(&text, &origin).map_err(usage)?);
            }
            Kind::Options => {
                for text in texts {
                    entries.push(key.option_from(&text, &origin).map_err(usage)?);
                }
            }
            // clap has checked it.
            _ => entries.extend(texts.map(|text| {
                let value = Value::Text(text.into_owned());
                Entry { key, option: None, value, origin: origin.clone() }
            })),
        }
    }
    Ok(entries)
}

/// An empty variable is as good as none.
pub(crate) fn from_variables(
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for key in &KEYS {
        let name = key.variable();
        let Some(text) = variable(&name).filter(|text| !text.is_empty()) else { continue };
        let fault = |fault: &str| {
            Failure::new(exit::CONFIGURATION, format!("{name}: {fault}"))
                .hint("correct or unset this variable")
        };
        let text = text.to_str().ok_or_else(|| fault("it is not UTF-8"))?;
        let found = key.parse(text, &Origin::Variable(name.clone())).map_err(|expected| {
            match key.kind {
                // It may have a secret in it.
                Kind::Stores | Kind::Options => fault(&expected),
                _ => fault(&format!("{text:?}: {expected}")),
            }
        })?;
        entries.extend(found);
    }
    Ok(entries)
}

pub(crate) fn origin_of_profile(given: &ArgMatches) -> Origin {
    match given.value_source("profile") {
        Some(ValueSource::CommandLine) => Origin::Flag("--profile".to_owned()),
        _ => Origin::Variable("LEASELOCK_PROFILE".to_owned()),
    }
}

/// What a profile sets in all files.
pub(crate) fn of_profile(
    profile: &str,
    origin: &Origin,
    contents: &[Content],
    global: &Global,
) -> Result<Vec<Entry>, Failure> {
    let found: Vec<_> = contents.iter().filter_map(|content| content.profile(profile)).collect();
    if !found.is_empty() {
        return Ok(found.concat());
    }
    let mut known: Vec<_> =
        contents.iter().flat_map(|it| it.profiles.iter().map(|(name, _)| name.as_str())).collect();
    known.sort_unstable();
    known.dedup();
    let hint = match (file::nearest(profile, known.iter().copied()), known.as_slice()) {
        (Some(near), _) => format!("did you mean {near}? There are {}", known.join(", ")),
        (None, [_, ..]) => format!("there are {}", known.join(", ")),
        (None, []) if !contents.is_empty() => "the configuration has no profiles".to_owned(),
        (None, []) if global.config.is_some() => "no file is read: --config is empty".to_owned(),
        (None, []) => format!("there is no {} here or above, nor the user's", search::NAME),
    };
    let message = format!("there is no profile {profile:?} ({origin})");
    Err(Failure::new(exit::CONFIGURATION, message).hint(hint))
}

/// What counts.
pub(crate) fn first_of_each(entries: Vec<Entry>) -> Vec<Entry> {
    let mut effective: Vec<Entry> = Vec::new();
    for entry in entries {
        match effective.iter_mut().find(|first| first.is_same(&entry)) {
            // An option that one place sets twice has its last value.
            Some(first) if first.origin == entry.origin && entry.option.is_some() => *first = entry,
            Some(_) => {}
            None => effective.push(entry),
        }
    }
    effective
}
