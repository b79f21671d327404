//! Names of locks and of work that is run once, and the keys they have on the store.

use object_store::path::{Path, PathPart};

use crate::error::{Error, ErrorKind, Result};
use crate::record::Kind;

/// Longest name, in bytes.
const MAX_BYTES: usize = 512;
/// Longest segment, in bytes: a file name may have 255, of which percent-encoding and the store's
/// own suffixes take their share.
const MAX_SEGMENT: usize = 200;
/// Keys under this segment are the library's own: probes and sessions, never locks.
pub(crate) const SCRATCH: &str = ".leaselock";

/// The key of the lock called `name` under `prefix`.
///
/// # Errors
/// [`InvalidName`](ErrorKind::InvalidName), saying what is wrong with it.
pub(crate) fn key(prefix: &Path, name: &str) -> Result<Path> {
    key_of(Kind::Lock, prefix, name)
}

/// The key of the record of this kind and `name` under `prefix`.
///
/// # Errors
/// [`InvalidName`](ErrorKind::InvalidName), saying what is wrong with it.
pub(crate) fn key_of(kind: Kind, prefix: &Path, name: &str) -> Result<Path> {
    if let Some(fault) = fault(name) {
        let what = match kind {
            Kind::Once => "the key of work that is run once".to_owned(),
            kind => format!("the name of {}", kind.described()),
        };
        return Err(Error::new(
            ErrorKind::InvalidName,
            format!("{:?} cannot be {what}: {fault}", shorten(name)),
        ));
    }
    let file = format!("{name}{}", suffix(kind));
    let folder = (kind == Kind::Session).then_some([SCRATCH, "sessions"]);
    let folder = folder.into_iter().flatten().map(PathPart::from);
    // The prefix is a key's beginning as it is, percent signs and all.
    Ok(prefix.parts().chain(folder).chain(file.split('/').map(PathPart::from)).collect())
}

/// What lies under this key: this kind, or one that shares its keys.
pub(crate) fn kind_of(key: &Path) -> Kind {
    let is = |kind: &Kind| key.as_ref().ends_with(suffix(*kind));
    [Kind::Once, Kind::Session].into_iter().find(is).unwrap_or(Kind::Lock)
}

/// What the keys of records of this kind end in. Whatever may be mistaken for a lock lies where the
/// lock of that name would, so that the mistake is noticed.
const fn suffix(kind: Kind) -> &'static str {
    match kind {
        Kind::Once => ".once",
        Kind::Session => ".session",
        _ => ".lock",
    }
}

/// The name of the lock whose record has this key; `None` when the key is no lock's.
pub(crate) fn of_key(prefix: &Path, key: &Path) -> Option<String> {
    name_of(Kind::Lock, prefix, key)
}

fn name_of(kind: Kind, prefix: &Path, key: &Path) -> Option<String> {
    let segments: Vec<_> = key.prefix_match(prefix)?.map(|part| decode(part.as_ref())).collect();
    let name = segments.join("/").strip_suffix(suffix(kind))?.to_owned();
    // Somebody else's object may have a key that only decodes to the name.
    key_of(kind, prefix, &name).is_ok_and(|own| own == *key).then_some(name)
}

/// Whether the library keeps something of its own under this key.
pub(crate) fn is_reserved(prefix: &Path, key: &Path) -> bool {
    let scratch = || key.prefix_match(prefix)?.next().map(|part| part.as_ref() == SCRATCH);
    let record = |kind| name_of(kind, prefix, key).is_some();
    record(Kind::Lock) || record(Kind::Once) || scratch().unwrap_or(false)
}

fn fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if name.len() > MAX_BYTES {
        return Some(format!("it has {} bytes, and at most {MAX_BYTES} are allowed", name.len()));
    }
    if name.chars().any(char::is_control) {
        return Some("it contains a control character".to_owned());
    }
    let segments: Vec<_> = name.split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        if segment.is_empty() {
            return Some("it begins or ends with '/', or contains \"//\"".to_owned());
        }
        if segment.len() > MAX_SEGMENT {
            return Some(format!("a part between slashes has more than {MAX_SEGMENT} bytes"));
        }
        if segment.starts_with('.') {
            return Some(format!(
                "the part {segment:?} begins with a dot; \".\", \"..\" and hidden names are not \
                 the same thing on every store"
            ));
        }
        // `a.lock` as a folder would stand where the record of the lock `a` stands.
        let taken = [Kind::Lock, Kind::Once].map(suffix);
        let ending = taken.into_iter().find(|suffix| segment.ends_with(suffix));
        if let Some(suffix) = ending.filter(|_| index + 1 < segments.len()) {
            return Some(format!("the part {segment:?} before a '/' ends in {suffix:?}"));
        }
    }
    None
}

/// What `object_store` percent-encoded in a segment, decoded.
fn decode(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match tail {
            [high, low, ..] if first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// A name as an error message shows it.
fn shorten(name: &str) -> String {
    if name.len() <= 80 {
        return name.to_owned();
    }
    name.chars().take(60).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock_key(name: &str) -> Path {
        key(&Path::from("team/locks"), name).unwrap()
    }

    #[test]
    fn names_become_keys_under_the_prefix_and_back() {
        assert_eq!(lock_key("payments/42").as_ref(), "team/locks/payments/42.lock");
        let names = [
            "a",
            "payments/42",
            "a.lock",
            "tabelle/größe",
            "50% off/#1",
            "with space",
            "a%2Fb",
            "~x",
            "a\\b",
            "q?*[]{}|<>^`\"",
        ];
        for name in names {
            assert_eq!(of_key(&Path::from("team/locks"), &lock_key(name)).as_deref(), Some(name));
        }
        assert_eq!(key(&Path::default(), "x").unwrap().as_ref(), "x.lock");
    }

    #[test]
    fn names_that_stores_disagree_about_are_refused_with_the_reason() {
        let long = "x".repeat(513);
        let wide = "x".repeat(201);
        let cases = [
            ("", "empty"),
            ("/a", "begins or ends"),
            ("a/", "begins or ends"),
            ("a//b", "//"),
            ("..", "dot"),
            ("a/../b", "dot"),
            ("./a", "dot"),
            (".leaselock/x", "dot"),
            ("a\nb", "control"),
            ("a\0b", "control"),
            (long.as_str(), "513 bytes"),
            (wide.as_str(), "200 bytes"),
            ("a.lock/b", ".lock"),
            ("a.once/b", ".once"),
        ];
        for (name, reason) in cases {
            for kind in [Kind::Lock, Kind::Once] {
                let error = key_of(kind, &Path::default(), name).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidName);
                assert!(error.to_string().contains(reason), "{name:?}: {error}");
            }
        }
    }

    #[test]
    fn what_is_run_once_has_keys_of_its_own_that_are_no_locks() {
        let prefix = Path::from("p");
        let names = ["a", "a.lock", "a.once", "b/c"];
        for name in names {
            let once = key_of(Kind::Once, &prefix, name).unwrap();
            assert_eq!(kind_of(&once), Kind::Once);
            assert_eq!(kind_of(&key(&prefix, name).unwrap()), Kind::Lock);
            assert_eq!(of_key(&prefix, &once), None, "{once}");
            for other in names {
                assert_ne!(once, key(&prefix, other).unwrap());
            }
        }
    }

    #[test]
    fn a_prefix_is_taken_as_it_is() {
        let prefix = Path::parse("a%20b/50%25").unwrap();
        let key = key(&prefix, "x").unwrap();
        assert_eq!(key.as_ref(), "a%20b/50%25/x.lock");
        assert_eq!(of_key(&prefix, &key).as_deref(), Some("x"));
    }

    #[test]
    fn a_key_that_only_decodes_to_a_name_is_no_locks() {
        assert!(of_key(&Path::default(), &Path::parse("a.lock").unwrap()).is_some());
        assert_eq!(of_key(&Path::default(), &Path::parse("%61.lock").unwrap()), None);
    }

    #[test]
    fn keys_that_are_no_locks_have_no_name() {
        let prefix = Path::from("p");
        for key in ["p/a.txt", "p/.leaselock/probe.lock", "q/a.lock", "p/.lock", "p"] {
            assert_eq!(of_key(&prefix, &Path::from(key)), None, "{key}");
        }
    }
}
