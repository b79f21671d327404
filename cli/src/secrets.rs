//! What is a secret, and what of a text is none.

/// Takes the query and the user part out of every URL in `text`, and the query out of what only
/// looks like one: they may hold credentials, and errors like to name the whole URL.
pub(crate) fn without(text: &str) -> String {
    text.split_inclusive(is_no_part_of_a_url).map(word_without).collect()
}

fn word_without(word: &str) -> String {
    let (body, end) = word.split_at(word.trim_end_matches(is_url_end).len());
    let (scheme, rest) = match body.find("://") {
        Some(at) => body.split_at(at + 3),
        None => ("", body),
    };
    let (place, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    if scheme.is_empty() && !query.contains('=') {
        return word.to_owned();
    }
    let authority = place.find('/').unwrap_or(place.len());
    let user = place[..authority].rfind('@').filter(|_| !scheme.is_empty());
    let place = user.map_or(place, |at| &place[at + 1..]);
    let query = if query.is_empty() { "" } else { "?…" };
    format!("{scheme}{place}{query}{end}")
}

/// What may stand behind a URL, and is a part of the sentence then.
fn is_url_end(c: char) -> bool {
    is_no_part_of_a_url(c) || matches!(c, '\'' | '(' | ')')
}

fn is_no_part_of_a_url(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '`' | '>' | '<')
}

/// In place of a secret.
pub(crate) const HIDDEN: &str = "(hidden)";

/// Whether a store option of this name has a secret for its value. Rather once too often: what is
/// hidden in vain can be looked up where it was set.
pub(crate) fn is_secret(option: &str) -> bool {
    let name = option.to_ascii_lowercase();
    let words = ["secret", "password", "token", "key", "credential", "signature", "sas"];
    let is_whole = |word: &str| ["sig", "pass", "auth", "authorization"].contains(&word);
    // A name that is written in escapes hides something itself.
    let suspect = name.contains('%')
        || words.iter().any(|word| name.contains(word))
        || name.split(['_', '-', '.']).any(is_whole);
    // An access key's id is what one wants to see when access is denied.
    suspect && !name.ends_with("_id")
}

/// The value of a store option as it may be shown, and whether something was hidden.
pub(crate) fn shown_option(name: &str, value: &str) -> (String, bool) {
    match is_secret(name) || has_user(value) {
        true => (HIDDEN.to_owned(), true),
        false => (value.to_owned(), false),
    }
}

/// A store's URL as it may be shown, and whether something was hidden: who logs in, and the values of
/// secret options.
pub(crate) fn shown_url(url: &str) -> (String, bool) {
    let Some((scheme, rest)) = url.split_once("://") else {
        // No URL at all: nobody knows what it is made of.
        return (HIDDEN.to_owned(), true);
    };
    // What is behind it is used for nothing.
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    let mut hidden = !fragment.is_empty();
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let mut shown = format!("{scheme}://");
    match authority.rsplit_once('@') {
        // abfs://container@account: no user.
        Some((user, _)) if is_container(scheme, user) => shown.push_str(authority),
        Some((_, host)) => {
            hidden = true;
            shown.push_str(&format!("{HIDDEN}@{host}"));
        }
        None => shown.push_str(authority),
    }
    shown.push_str(path);
    if let Some(query) = query {
        let mut options = Vec::new();
        for option in query.split('&') {
            let (name, value) = option.split_once('=').unwrap_or(("", option));
            let (value, was_hidden) = match name.is_empty() && !value.is_empty() {
                // A value whose name was forgotten, perhaps.
                true => (HIDDEN.to_owned(), true),
                false => shown_option(name, value),
            };
            hidden |= was_hidden;
            options.push(if name.is_empty() { value } else { format!("{name}={value}") });
        }
        shown.push_str(&format!("?{}", options.join("&")));
    }
    (shown, hidden)
}

fn is_container(scheme: &str, user: &str) -> bool {
    matches!(scheme, "abfs" | "abfss") && !user.contains(':')
}

/// Of an endpoint with somebody's name, and perhaps password, before the host.
fn has_user(value: &str) -> bool {
    value.contains('@') || value.to_ascii_lowercase().contains("%40")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_secrets_and_nothing_else() {
        assert_eq!(
            without("cannot open s3://key:secret@host/b/p?aws_secret=abc (or x://y)"),
            "cannot open s3://host/b/p?… (or x://y)"
        );
        assert_eq!(without("az://c/p#k?s: no, why?"), "az://c/p?… no, why?");
        assert_eq!(without("the \"typo?key=abc\" is bad"), "the \"typo?…\" is bad");
        assert_eq!(without("no url at all: 1/2, a@b?"), "no url at all: 1/2, a@b?");
        assert_eq!(without("ends in ://"), "ends in ://");
        let quoted = "at 'http://u:a'b(c@host/p', s3://b?key=a'b";
        assert_eq!(without(quoted), "at 'http://host/p', s3://b?…");
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "aws_secret_access_key",
            "AWS_SESSION_TOKEN",
            "azure_storage_account_key",
            "azure_storage_sas_key",
            "azure_client_secret",
            "google_service_account_key",
            "aws_secrt_acces_key",
            "sig",
            "my_password",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in
            ["aws_region", "aws_access_key_id", "aws_endpoint", "azure_storage_account_name"]
        {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, shown) in [
            (
                "s3://b/p?aws_region=r&aws_secret_access_key=S",
                "s3://b/p?aws_region=r&aws_secret_access_key=(hidden)",
            ),
            ("s3://user:S@b/p@q", "s3://(hidden)@b/p@q"),
            ("s3://S@b", "s3://(hidden)@b"),
            ("s3://b?aws_endpoint=http://u:S@h", "s3://b?aws_endpoint=(hidden)"),
            ("s3://b?S", "s3://b?(hidden)"),
            ("s3://b#S", "s3://b"),
            ("s3://b?a=b#S", "s3://b?a=b"),
            ("S", "(hidden)"),
            ("s3://b?%73ecret=S", "s3://b?%73ecret=(hidden)"),
        ] {
            assert_eq!(shown_url(url), (shown.to_owned(), true), "{url}");
        }
        for url in
            ["abfss://c@account.dfs.core.windows.net/p", "file:///a/b", "s3://b?aws_region=r"]
        {
            assert_eq!(shown_url(url), (url.to_owned(), false));
        }
        assert_eq!(shown_url("abfs://c:S@a").0, "abfs://(hidden)@a");
    }
}
