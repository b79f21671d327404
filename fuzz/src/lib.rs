//! What every fuzz target checks. `tests/corpus.rs` includes this file and runs the same checks on
//! every input of the corpus, without a fuzzer.

use std::collections::BTreeSet;

use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use leaselock::ErrorKind;
use leaselock::fuzzing::{date_of_answer, key_of_name, name_of_key};
use leaselock::record::{Kind, Record};
use object_store::path::Path;
use url::Url;

/// Bytes that may be a record: refused, or plausible and the same after every rewrite.
pub fn record_decode(input: &[u8]) {
    for (kind, limit) in
        [(Kind::Lock, 256 * 1024), (Kind::Once, 128 * 1024), (Kind::Session, 64 * 1024)]
    {
        record_of(kind, limit, input);
    }
}

fn record_of(kind: Kind, limit: usize, input: &[u8]) {
    let Ok(record) = Record::decode_of(kind, input) else { return };
    assert!(record.kind.shares_keys_with(kind));
    assert_plausible(&record);
    // Numbers with an exponent are written out, and the record may grow over its limit by that.
    let Ok(written) = record.encode() else { return };
    assert!(written.len() <= limit);
    let again = Record::decode_of(kind, &written).expect("what is written can be read");
    if again.history.len() == record.history.len() {
        assert_eq!(again, record);
    }
    assert_eq!(again.encode().expect("it was written before"), written);
}

/// The table of accepted values in `docs/PROTOCOL.md`.
pub fn assert_plausible(record: &Record) {
    const LARGEST_TOKEN: u64 = (1 << 53) - 2;
    assert!(record.token.get() <= LARGEST_TOKEN);
    assert!(record.holders.len() <= 128 && record.history.len() <= 16);
    assert!(record.waiters.len() <= 64);
    if let Some(done) = &record.done {
        assert!(record.kind == Kind::Once && record.holders.is_empty());
        assert!(done.token <= record.token);
        let kept = done.retention.map(|time| time.as_millis());
        assert!(kept.is_none_or(|time| (1000..=3_155_760_000_000).contains(&time)));
        assert!(done.owner.label.len() <= 128 && done.owner.host.len() <= 255);
        assert!(done.owner.note.as_ref().is_none_or(|note| note.len() <= 1024));
    }
    assert_eq!(record.gathering.is_some(), matches!(record.kind, Kind::Latch | Kind::Barrier));
    if let Some(gathering) = &record.gathering {
        assert!(record.holders.is_empty() && (1..=1024).contains(&record.limit));
        let room = record.limit as usize - usize::from(record.kind == Kind::Barrier);
        assert!(gathering.epoch <= LARGEST_TOKEN && gathering.arrived.len() <= room);
        let members: BTreeSet<_> = gathering.arrived.iter().map(|one| &one.member).collect();
        assert_eq!(members.len(), gathering.arrived.len());
        assert!(members.iter().all(|member| (1..=128).contains(&member.len())));
    }
    for lease in &record.holders {
        assert!(lease.token <= record.token);
        assert!((1000..=86_400_000).contains(&lease.ttl.as_millis()));
        assert!(lease.renewals < u64::MAX);
        assert!(lease.owner.label.len() <= 128 && lease.owner.host.len() <= 255);
        assert!(lease.owner.note.as_ref().is_none_or(|note| note.len() <= 1024));
    }
    for tenure in &record.history {
        assert!(tenure.token.get() <= LARGEST_TOKEN);
        assert!(tenure.ended.as_str().len() <= 64);
        assert!(tenure.owner.label.len() <= 128 && tenure.owner.host.len() <= 255);
        for text in [&tenure.by, &tenure.reason, &tenure.owner.note].into_iter().flatten() {
            assert!(text.len() <= 1024);
        }
    }
}

/// What stands for a secret in URLs.
const SECRET: &str = "hunter2";

/// A store's URL, and on further lines its prefix and options: understood or refused as such, and
/// no secret is shown.
pub fn store_url(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.split('\n');
    let url = lines.next().unwrap_or_default();
    if touches_files(text) {
        return;
    }
    let mut builder = leaselock::Store::builder(url);
    for line in lines {
        builder = match line.split_once('=') {
            Some((key, value)) => builder.option(key, value),
            None => builder.prefix(line),
        };
    }
    let opened = builder.open().now_or_never().expect("opening asks nobody");
    let (shown, debug) = match &opened {
        Ok(store) => (store.url().to_owned(), format!("{store:?}")),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{error:?}");
            (error.to_string(), format!("{error:?}"))
        }
    };
    if holds_secret(text) {
        assert!(!shown.contains(SECRET), "{shown}");
        assert!(!debug.contains(SECRET), "{debug}");
    }
    if opened.is_ok() {
        let shown = Url::parse(&shown).expect("what is shown is a URL");
        assert_eq!((shown.password(), shown.query(), shown.fragment()), (None, None, None));
    }
}

/// Whether opening might make or read a file: not here.
fn touches_files(text: &str) -> bool {
    let file_like = ["file", "account", "credential", "certificate", "path"];
    let lower = text.to_ascii_lowercase();
    let options = lower.split_once(['?', '\n']).map_or("", |(_, options)| options);
    let scheme = Url::parse(text.split('\n').next().unwrap_or_default());
    scheme.is_ok_and(|url| url.scheme() == "file")
        || (options.contains(['/', '%', '.'])
            && file_like.iter().any(|word| options.contains(word)))
}

/// Whether the secret stands where secrets stand, and nowhere else.
fn holds_secret(text: &str) -> bool {
    let mut parts = text.split(SECRET);
    let (Some(before), Some(after), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let password = before.split_once("://").is_some_and(|(scheme, user)| {
        user.ends_with(':')
            && !user.contains(['/', '\\', '?', '#', '@', '\n', '\t', '\r'])
            && scheme.chars().all(|letter| letter.is_ascii_alphanumeric())
    }) && after.starts_with('@');
    let option = ["secret_access_key=", "account_key=", "bearer_token="];
    let option = before.contains(['?', '\n'])
        && !before.contains('#')
        && option.iter().any(|key| before.ends_with(key))
        && (after.is_empty() || after.starts_with(['&', '\n']));
    password || option
}

/// A prefix and, on the next line, what may be a lock's name or an object's key: names become keys
/// below the prefix, and back; and no other key has a name.
pub fn lock_name(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (prefix, name) = text.split_once('\n').unwrap_or(("team/locks", text));
    let Ok(prefix) = Path::parse(prefix) else { return };
    if let Ok(key) = key_of_name(&prefix, name) {
        assert!(!name.is_empty() && name.len() <= 512);
        let below: Vec<_> = key.prefix_match(&prefix).expect("is below the prefix").collect();
        assert_eq!(below.len(), name.split('/').count());
        for part in &below {
            // Scratch objects, hidden files, and the ways out begin with a dot.
            assert!(!part.as_ref().is_empty() && !part.as_ref().starts_with('.'), "{key}");
        }
        assert!(key.as_ref().ends_with(".lock"));
        assert_eq!(name_of_key(&prefix, &key).as_deref(), Some(name));
    }
    if let Ok(key) = Path::parse(name)
        && let Some(name) = name_of_key(&prefix, &key)
    {
        assert_eq!(key_of_name(&prefix, &name).expect("is a name"), key);
    }
}

/// The headers of an answer, one a line: its date is told whole, and only if nobody kept it.
pub fn http_date(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            && !headers.contains_key(&name)
        {
            headers.insert(name, value);
        }
    }
    let Some(date) = date_of_answer(&headers) else { return };
    assert!(!headers.contains_key("age") && !headers.contains_key("via"));
    assert_eq!(date.micros() % 1_000_000, 0);
    // The years 1970 to 9999.
    assert!((0..253_402_300_800_000_000).contains(&date.micros()));
    let again = httpdate::fmt_http_date(date.into());
    headers.insert("date", again.parse().expect("is a header"));
    assert_eq!(date_of_answer(&headers), Some(date));
}
