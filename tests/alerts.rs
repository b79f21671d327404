//! The alerts of `docs/alerts/` speak of metrics that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn text(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every word of the library's metrics in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter| !is_part(letter));
    words.filter(|word| word.starts_with("leaselock_")).collect()
}

#[test]
fn every_alert_is_about_metrics_that_are_counted() {
    let telemetry = text("src/telemetry.rs");
    let counted = metrics(&telemetry);
    for file in ["docs/alerts/leaselock.rules.yml", "docs/alerts/leaselock.test.yml"] {
        let file = text(file);
        let named = metrics(&file);
        assert!(named.len() > 6, "{named:?}");
        for name in named {
            // What Prometheus makes of a histogram.
            let histogram = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(counted.contains(histogram), "{name} is counted nowhere");
        }
    }
}

#[test]
fn every_label_of_an_alert_is_documented() {
    let guarantees = text("docs/GUARANTEES.md");
    let documented = |word: &str| guarantees.contains(&format!("`{word}`"));
    let rules = text("docs/alerts/leaselock.rules.yml");
    let mut values = BTreeSet::new();
    for label in ["reason", "resolved", "kind", "outcome"] {
        for (at, _) in rules.match_indices(label) {
            let rest = &rules[at + label.len()..];
            let value = rest.trim_start_matches(['=', '!', '~']).strip_prefix('"');
            let value = value.and_then(|rest| rest.split('"').next());
            values.extend(value.into_iter().flat_map(|value| value.split('|')));
        }
    }
    assert!(values.len() > 8, "{values:?}");
    for value in values {
        assert!(documented(value), "{value} is no label of docs/GUARANTEES.md");
    }
}

#[test]
fn every_alert_is_explained_and_has_been_seen_to_fire() {
    let rules = text("docs/alerts/leaselock.rules.yml");
    let (guide, tests) = (text("docs/OPERATIONS.md"), text("docs/alerts/leaselock.test.yml"));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.split("- alert: ").nth(1)).collect();
    assert!(alerts.len() > 6, "{alerts:?}");
    for alert in alerts {
        assert!(guide.contains(&format!("`{alert}`")), "{alert} is not in docs/OPERATIONS.md");
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
    }
}
