//! `leaselock config`: what is set, and where.

use std::io;

use serde_json::{Map, Value as Json, json};

use super::Settings;
use super::keys::{Entry, KEYS, Key, Kind, Origin, Value};
use super::search::{self, Place};
use crate::args::Config;
use crate::exit::Failure;
use crate::{ls, people, secrets};

/// No store is opened.
pub(crate) fn config(args: &Config, settings: &Settings) -> Result<u8, Failure> {
    let rows = rows(settings)?;
    let text = match args.json {
        true => format!("{:#}", as_json(settings, &rows)),
        false => as_table(settings, &rows),
    };
    ls::print(&mut io::stdout().lock(), &text)?;
    Ok(0)
}

/// A key, or a store option.
struct Row<'a> {
    name: String,
    value: Shown,
    /// `None` for the default.
    origin: Option<&'a Origin>,
}

/// A value without its secrets.
struct Shown {
    /// For people.
    text: String,
    json: Json,
    is_hidden: bool,
}

fn rows(settings: &Settings) -> Result<Vec<Row<'_>>, Failure> {
    let mut rows = Vec::new();
    for key in &KEYS {
        let mut entries: Vec<_> =
            settings.entries.iter().filter(|entry| entry.key.name == key.name).collect();
        if entries.is_empty() {
            rows.push(Row { name: key.name.to_owned(), value: default(key)?, origin: None });
        }
        entries.sort_by(|one, other| one.option.cmp(&other.option));
        rows.extend(entries.into_iter().map(|entry| Row {
            name: people::plain(&entry.name()),
            value: shown(entry),
            origin: Some(&entry.origin),
        }));
    }
    Ok(rows)
}

fn shown(entry: &Entry) -> Shown {
    let plain = |text: String| Shown { json: json!(text), text, is_hidden: false };
    match (&entry.value, &entry.option) {
        (Value::Text(text), Some(option)) => match secrets::shown_option(option, text) {
            (text, true) => Shown { text, json: Json::Null, is_hidden: true },
            (text, false) => plain(text),
        },
        (Value::Text(text), None) => plain(text.clone()),
        (Value::Switch(truth), _) => Shown { json: json!(truth), ..plain(truth.to_string()) },
        (Value::List(urls), _) => {
            let urls = urls.iter().map(|url| secrets::shown_url(url));
            let (urls, hidden): (Vec<_>, Vec<_>) = urls.unzip();
            let is_hidden = hidden.contains(&true);
            Shown { text: urls.join("\n"), json: json!(urls), is_hidden }
        }
    }
}

fn default(key: &Key) -> Result<Shown, Failure> {
    let command = super::command();
    let model = key.commands.first().and_then(|name| command.find_subcommand(name));
    let arg = model.and_then(|it| it.get_arguments().find(|arg| arg.get_id() == &key.id()));
    let of_clap = arg.and_then(|arg| Some(arg.get_default_values().first()?.to_str()?.to_owned()));
    let text = match (of_clap, key.kind) {
        (Some(text), _) => text,
        (None, Kind::Stores) => crate::default_store()?.0,
        (None, Kind::Text) => people::user(),
        (None, Kind::Switch) => {
            return Ok(Shown { text: key.unset.to_owned(), json: json!(false), is_hidden: false });
        }
        (None, _) => {
            return Ok(Shown { text: key.unset.to_owned(), json: Json::Null, is_hidden: false });
        }
    };
    let json = if key.kind == Kind::Stores { json!([text]) } else { json!(text) };
    Ok(Shown { text, json, is_hidden: false })
}

fn as_table(settings: &Settings, rows: &[Row<'_>]) -> String {
    let width = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let names = rows.iter().map(|row| width(&row.name)).max().unwrap_or(0);
    let values = rows.iter().map(|row| width(&row.value.text)).max().unwrap_or(0);
    // One long URL must not push every origin out of sight.
    let values = values.min(60);
    let mut text = format!("{:names$}  {:values$}  FROM", "KEY", "VALUE");
    for row in rows {
        let origin = row.origin.map_or("default".to_owned(), ToString::to_string);
        let mut name = row.name.as_str();
        let mut lines = row.value.text.lines().map(people::plain).peekable();
        // An owner may be empty.
        let mut line = lines.next().unwrap_or_default();
        loop {
            let is_last = lines.peek().is_none();
            let origin = if is_last { origin.as_str() } else { "" };
            text.push('\n');
            text.push_str(format!("{name:names$}  {line:values$}  {origin}").trim_end());
            match lines.next() {
                Some(next) => (name, line) = ("", next),
                None => break,
            }
        }
    }
    let profile = match &settings.profile {
        Some((name, origin)) => format!("{} ({origin})", people::plain(name)),
        None => "none".to_owned(),
    };
    let files: Vec<_> = settings.files.iter().map(|(_, path)| search::shown(path)).collect();
    let files = if files.is_empty() { "none".to_owned() } else { files.join(", ") };
    format!("{text}\n\nprofile: {profile}\nfiles read: {files}")
}

fn as_json(settings: &Settings, rows: &[Row<'_>]) -> Json {
    let settings_by_name: Map<_, _> = rows
        .iter()
        .map(|row| {
            let Shown { json, is_hidden, .. } = &row.value;
            let origin = origin_as_json(row.origin);
            (row.name.clone(), json!({ "value": json, "hidden": is_hidden, "origin": origin }))
        })
        .collect();
    let place = |place: &Place| match place {
        Place::Named => "named",
        Place::Project => "project",
        Place::User => "user",
    };
    let files: Vec<_> = settings
        .files
        .iter()
        .map(|(of, path)| json!({ "path": path.to_string_lossy(), "place": place(of) }))
        .collect();
    let profile = settings
        .profile
        .as_ref()
        .map(|(name, origin)| json!({ "name": name, "origin": origin_as_json(Some(origin)) }));
    json!({ "settings": settings_by_name, "profile": profile, "files": files })
}

fn origin_as_json(origin: Option<&Origin>) -> Json {
    match origin {
        None => json!({ "from": "default" }),
        Some(Origin::Flag(name)) => json!({ "from": "option", "name": name }),
        Some(Origin::Variable(name)) => json!({ "from": "variable", "name": name }),
        Some(Origin::File { path, line, profile }) => json!({
            "from": "file", "path": path.to_string_lossy(), "line": line, "profile": profile,
        }),
    }
}
