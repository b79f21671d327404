//! Results as the report asks for them: medians over rounds.

use std::collections::BTreeMap;

use crate::contestant::{Entry, Kind};
use crate::place::Place;
use crate::results::{Measurement, Results};
use crate::statistics::{median, percentile};

pub struct View<'a> {
    pub results: &'a Results,
}

impl View<'_> {
    fn of<'b>(
        &'b self,
        scenario: &'b str,
        case: &'b str,
        contestant: &'b str,
    ) -> impl Iterator<Item = &'b Measurement> {
        self.results.measurements.iter().filter(move |measurement| {
            (&*measurement.scenario, &*measurement.case, &*measurement.contestant)
                == (scenario, case, contestant)
        })
    }

    /// Who was measured in this case, this library first.
    pub fn contestants(&self, scenario: &str, case: &str) -> Vec<Entry> {
        let measured = |entry: &Entry| self.of(scenario, case, &entry.to_string()).next().is_some();
        let mut entries: Vec<Entry> = Vec::new();
        let of_scenario = self.results.measurements.iter().filter(|one| one.scenario == scenario);
        for entry in of_scenario.filter_map(|one| one.contestant.parse().ok()) {
            if !entries.contains(&entry) && measured(&entry) {
                entries.push(entry);
            }
        }
        entries.sort_by_key(|entry| (entry.kind, order(entry.place.as_ref())));
        entries
    }

    pub fn was_measured(&self, scenario: &str) -> bool {
        self.results.measurements.iter().any(|one| one.scenario == scenario)
    }

    pub fn cases(&self, scenario: &str) -> Vec<String> {
        let mut cases = Vec::new();
        for one in self.results.measurements.iter().filter(|one| one.scenario == scenario) {
            if !cases.contains(&one.case) {
                cases.push(one.case.clone());
            }
        }
        cases
    }

    fn by_round(
        &self,
        scenario: &str,
        case: &str,
        entry: &Entry,
        figure: &str,
    ) -> BTreeMap<usize, f64> {
        self.of(scenario, case, &entry.to_string())
            .filter_map(|one| one.figures.get(figure).map(|value| (one.round, *value)))
            .collect()
    }

    /// The median over rounds.
    pub fn figure(&self, scenario: &str, case: &str, entry: &Entry, figure: &str) -> Option<f64> {
        let values: Vec<f64> = self.by_round(scenario, case, entry, figure).into_values().collect();
        (!values.is_empty()).then(|| median(&values))
    }

    /// The median over rounds of how the one stood to the other in the same round.
    pub fn ratio(
        &self,
        scenario: &str,
        case: &str,
        (one, other): (&Entry, &Entry),
        figure: &str,
    ) -> Option<f64> {
        let others = self.by_round(scenario, case, other, figure);
        let ratios: Vec<f64> = self
            .by_round(scenario, case, one, figure)
            .into_iter()
            .filter_map(|(round, value)| others.get(&round).map(|other| value / other))
            .collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    /// A percentile of the single values of all rounds.
    pub fn sample(&self, scenario: &str, case: &str, entry: &Entry, fraction: f64) -> Option<f64> {
        let samples = self.samples(scenario, case, entry);
        (!samples.is_empty()).then(|| percentile(&samples, fraction))
    }

    pub fn samples(&self, scenario: &str, case: &str, entry: &Entry) -> Vec<f64> {
        self.of(scenario, case, &entry.to_string())
            .flat_map(|one| one.samples.iter().copied())
            .collect()
    }
}

fn order(place: Option<&Place>) -> (u64, usize) {
    match place {
        Some(Place::Far(delay)) => (*delay, 0),
        Some(place) => (0, Place::all().iter().position(|one| one == place).unwrap_or_default()),
        None => (0, 0),
    }
}

/// As readers know it.
pub fn label(entry: &Entry) -> String {
    let name = match entry.kind {
        Kind::Leaselock => "leaselock",
        Kind::Fair => "leaselock (fair)",
        Kind::Newcomer => "leaselock (newcomer)",
        Kind::Naive => "create/delete",
        Kind::Floor => "raw requests",
        Kind::Redis => "Redis",
        Kind::Redlock => "Redlock, 5 Redis",
        Kind::Etcd => "etcd",
        Kind::ZooKeeper => "ZooKeeper",
        Kind::Postgres => "PostgreSQL",
    };
    entry.place.as_ref().map_or(name.to_owned(), |place| format!("{name} on {}", store(place)))
}

pub fn store(place: &Place) -> String {
    match place {
        Place::Memory => "memory".to_owned(),
        Place::File => "a directory".to_owned(),
        Place::Far(delay) => format!("ministack, {delay} ms away"),
        Place::Emulator(name) => match &**name {
            "ministack" => "ministack (S3)".to_owned(),
            "seaweedfs" => "SeaweedFS (S3)".to_owned(),
            "azurite" => "Azurite (Azure)".to_owned(),
            "gcs" => "fake-gcs-server (GCS)".to_owned(),
            other => other.to_owned(),
        },
    }
}
