//! The text of a `leaselock.toml`.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Entry, KEYS, Key, Kind, Origin, Value};
use super::search;
use crate::exit::{self, Failure};
use crate::people;

const PROFILE: &str = "profile";

/// What a file sets.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) top: Vec<Entry>,
    pub(crate) profiles: Vec<(String, Vec<Entry>)>,
}

impl Content {
    pub(crate) fn profile(&self, name: &str) -> Option<&[Entry]> {
        let (_, entries) = self.profiles.iter().find(|(known, _)| known == name)?;
        Some(entries)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.top.iter().chain(self.profiles.iter().flat_map(|(_, entries)| entries))
    }
}

/// # Errors
/// What is wrong, in which line, and what to do. Values of stores and their options are not repeated.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Content, Failure> {
    let reader = Reader { path, text, profile: None };
    // Without the line itself, which the error would show: it may have a secret in it.
    let document = DeTable::parse(text).map_err(|error| {
        let message = format!("this is not TOML: {}", error.message());
        reader.fault(&error.span().unwrap_or_default(), &message).hint("see https://toml.io")
    })?;
    let mut content = Content::default();
    for (name, value) in in_order(document.get_ref()) {
        if name.get_ref() == PROFILE {
            let expected = "a table for each profile, such as [profile.ci], is expected";
            for (name, value) in in_order(reader.table(value, expected)?) {
                let profile = people::plain(name.get_ref());
                let reader = Reader { profile: Some(profile.clone()), ..reader };
                let table = reader.table(value, expected)?;
                content.profiles.push((profile, reader.entries(in_order(table))?));
            }
        } else {
            content.top.extend(reader.entries([(name, value)])?);
        }
    }
    Ok(content)
}

type Item<'a, 'text> = (&'a Spanned<toml::de::DeString<'text>>, &'a Spanned<DeValue<'text>>);

/// As they are written: the first fault is the one that is reported.
fn in_order<'a, 'text>(table: &'a DeTable<'text>) -> Vec<Item<'a, 'text>> {
    let mut items: Vec<_> = table.iter().collect();
    items.sort_by_key(|(name, _)| name.span().start);
    items
}

/// Where in a file something is read.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    profile: Option<String>,
}

impl Reader<'_> {
    fn entries<'a, 'text: 'a>(
        &self,
        items: impl IntoIterator<Item = Item<'a, 'text>>,
    ) -> Result<Vec<Entry>, Failure> {
        let mut entries = Vec::new();
        for (name, value) in items {
            let key = KEYS.iter().find(|key| key.name == name.get_ref());
            let key = key.ok_or_else(|| self.unknown(name))?;
            match key.kind {
                Kind::Options => self.options(key, value, &mut entries)?,
                _ => entries.push(self.entry(key, None, self.value(key, value)?, name)),
            }
        }
        Ok(entries)
    }

    fn options(
        &self,
        key: &'static Key,
        table: &Spanned<DeValue<'_>>,
        entries: &mut Vec<Entry>,
    ) -> Result<(), Failure> {
        let expected = "store-options is a table, such as { aws_region = \"eu-central-1\" }";
        for (name, value) in in_order(self.table(table, expected)?) {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Boolean(truth) => truth.to_string(),
                DeValue::Integer(number) => number.to_string(),
                other => {
                    let name = people::plain(name.get_ref());
                    return Err(self.wrong_type(value, &format!("{name} is a text"), other));
                }
            };
            let option = keys::option_name(&people::plain(name.get_ref()));
            entries.push(self.entry(key, Some(option), Value::Text(text), name));
        }
        Ok(())
    }

    fn value(&self, key: &'static Key, value: &Spanned<DeValue<'_>>) -> Result<Value, Failure> {
        let name = key.name;
        match (key.kind, value.get_ref()) {
            (Kind::Switch, DeValue::Boolean(truth)) => Ok(Value::Switch(*truth)),
            (Kind::Switch, other) => {
                Err(self.wrong_type(value, &format!("{name} is true or false"), other))
            }
            (Kind::Stores, DeValue::String(url)) if !url.is_empty() => {
                Ok(Value::List(vec![url.to_string()]))
            }
            (Kind::Stores, DeValue::Array(urls)) if !urls.is_empty() => {
                let urls = urls.iter().map(|url| match url.get_ref() {
                    DeValue::String(text) if !text.is_empty() => Ok(text.to_string()),
                    other => Err(self.wrong_type(url, "a store is a URL", other)),
                });
                Ok(Value::List(urls.collect::<Result<_, _>>()?))
            }
            (Kind::Stores, other) => {
                Err(self.wrong_type(value, "store is a URL or a list of URLs", other))
            }
            (_, DeValue::String(text)) => match key.check(text) {
                Ok(()) => Ok(Value::Text(text.to_string())),
                Err(expected) => {
                    let message = format!("{name} = {text:?}: {expected}");
                    Err(self.fault(&value.span(), &message))
                }
            },
            (Kind::Duration | Kind::Ttl, other) => {
                let expected = format!("{name} is a duration in quotes, such as \"30s\"");
                Err(self.wrong_type(value, &expected, other))
            }
            (_, other) => Err(self.wrong_type(value, &format!("{name} is a text"), other)),
        }
    }

    fn table<'a, 'text>(
        &self,
        value: &'a Spanned<DeValue<'text>>,
        expected: &str,
    ) -> Result<&'a DeTable<'text>, Failure> {
        let wrong = || self.wrong_type(value, expected, value.get_ref());
        value.get_ref().as_table().ok_or_else(wrong)
    }

    fn entry(
        &self,
        key: &'static Key,
        option: Option<String>,
        value: Value,
        at: &Spanned<toml::de::DeString<'_>>,
    ) -> Entry {
        let (path, profile) = (self.path.to_owned(), self.profile.clone());
        let origin = Origin::File { path, line: self.line(&at.span()), profile };
        Entry { key, option, value, origin }
    }

    fn wrong_type(
        &self,
        at: &Spanned<DeValue<'_>>,
        expected: &str,
        found: &DeValue<'_>,
    ) -> Failure {
        let found = match found {
            DeValue::String(text) if text.is_empty() => "nothing between the quotes",
            DeValue::Array(list) if list.is_empty() => "an empty list",
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let message = format!("{expected}, and here is {found}");
        self.fault(&at.span(), &message)
    }

    /// The key alone: its value may be a secret that was put into the wrong place.
    fn unknown(&self, name: &Spanned<toml::de::DeString<'_>>) -> Failure {
        let key = people::plain(name.get_ref());
        let is_option = ["aws_", "azure_", "google_"].iter().any(|begin| key.starts_with(begin));
        let all: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        let known = all.iter().copied().chain(self.profile.is_none().then_some(PROFILE));
        let hint = match nearest(&key, known) {
            _ if is_option => "options of the store belong into the table store-options".to_owned(),
            Some(near) => format!("did you mean {near}? Keys are {}", all.join(", ")),
            None => format!("keys are {}, and tables [profile.NAME]", all.join(", ")),
        };
        self.fault(&name.span(), &format!("there is no key {key:?}")).hint(hint)
    }

    fn fault(&self, at: &Range<usize>, message: &str) -> Failure {
        let place = format!("{}:{}", search::shown(self.path), self.line(at));
        Failure::new(exit::CONFIGURATION, format!("{place}: {message}"))
    }

    fn line(&self, at: &Range<usize>) -> usize {
        self.text.bytes().take(at.start).filter(|byte| *byte == b'\n').count() + 1
    }
}

/// What somebody may have meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|known| (strsim::jaro_winkler(word, known), known));
    // clap's own threshold for what it proposes.
    let near = near.filter(|(likeness, _)| *likeness > 0.7);
    near.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, known)| known)
}
