//! Whether two stores are the same, as far as their URLs tell.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use url::Url;

/// What tells the store at `url`, opened with these options, from others in this process; `None` when
/// the URL does not tell: a store in memory is new whenever it is opened. Prefixes do not count, as
/// two prefixes of one bucket fail together. A digest, as options may be secret.
pub(crate) fn place_of(url: &str, options: &BTreeMap<String, String>) -> Option<u64> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() != "memory")?;
    let mut given: BTreeMap<_, _> = options.clone();
    given.extend(url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())));
    // `s3://bucket/prefix` and its like; of others, the path says which bucket or directory it is.
    let path = match url.scheme() {
        "file" | "http" | "https" => url.path().trim_end_matches('/'),
        _ => "",
    };
    let mut hasher = DefaultHasher::new();
    (url.scheme(), url.username(), url.host_str(), url.port(), path, given).hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Option<u64> {
        place_of(url, &BTreeMap::new())
    }

    #[test]
    fn prefixes_of_a_bucket_are_one_place_and_directories_are_many() {
        assert_eq!(place("s3://bucket/a"), place("s3://bucket/b/"));
        assert_ne!(place("s3://bucket/a"), place("s3://other/a"));
        assert_ne!(place("s3://bucket"), place("gs://bucket"));
        assert_eq!(place("file:///a/"), place("file:///a"));
        assert_ne!(place("file:///a"), place("file:///b"));
    }

    #[test]
    fn options_may_lead_to_another_server() {
        assert_ne!(place("s3://x?aws_endpoint=http://a"), place("s3://x?aws_endpoint=http://b"));
        let options = BTreeMap::from([("aws_endpoint".to_owned(), "http://a".to_owned())]);
        assert_eq!(place("s3://x?aws_endpoint=http://a"), place_of("s3://x", &options));
    }

    #[test]
    fn every_memory_is_another() {
        assert_eq!(place("memory:///"), None);
    }
}
