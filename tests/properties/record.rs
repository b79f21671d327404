//! Records survive a rewrite, and nothing implausible passes for one.

use leaselock::record::{Fault, Record, RecordError};
use proptest::prelude::*;
use serde_json::Value;

use crate::cases;
use crate::checks::{assert_plausible, record_decode};
use crate::made::{document, json, read};

proptest! {
    #![proptest_config(cases(384))]

    #[test]
    fn what_is_read_is_written_again_with_everything_in_it(document in document()) {
        let text = document.to_string();
        let record = Record::decode(text.as_bytes()).expect("nothing is wrong with it");
        assert_plausible(&record);
        // Whatever is unknown is in here too, down to the last digit.
        prop_assert_eq!(read(&record), document);
        let bytes = record.encode().expect("is small");
        let again = Record::decode(&bytes).expect("reads what it has written");
        prop_assert_eq!(&again, &record);
        prop_assert_eq!(again.encode().expect("is small"), bytes);
    }

    #[test]
    fn a_damaged_record_is_refused_or_plausible(
        document in document(), damage in prop::collection::vec(damage(), 1..4),
    ) {
        let mut bytes = document.to_string().into_bytes();
        for damage in damage {
            damage.apply(&mut bytes);
        }
        record_decode(&bytes);
    }

    #[test]
    fn a_record_with_one_value_replaced_is_refused_or_plausible(
        mut document in document(), place in any::<prop::sample::Index>(),
        with in prop_oneof![json(), extremes()],
    ) {
        let mut places = Vec::new();
        pointers(&document, String::new(), &mut places);
        let place: &String = place.get(&places);
        *document.pointer_mut(place).expect("is there") = with;
        record_decode(document.to_string().as_bytes());
    }

    #[test]
    fn a_record_without_one_of_its_fields_is_refused_or_plausible(
        mut document in document(), place in any::<prop::sample::Index>(),
    ) {
        let mut places = Vec::new();
        pointers(&document, String::new(), &mut places);
        let place: &String = place.get(&places);
        if let Some((parent, key)) = place.rsplit_once('/')
            && let Some(Value::Object(parent)) = document.pointer_mut(parent)
        {
            parent.remove(&key.replace("~1", "/").replace("~0", "~"));
        }
        record_decode(document.to_string().as_bytes());
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in any::<Vec<u8>>()) {
        record_decode(&bytes);
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn nothing_larger_than_the_limit_is_read_or_written(
        mut document in document(), size in 236_608..266_608_usize,
    ) {
        document["xxxxxxx"] = "y".repeat(size).into();
        let text = document.to_string();
        match Record::decode(text.as_bytes()) {
            Err(RecordError { fault: Fault::TooLarge { size, limit }, .. }) => {
                prop_assert_eq!((size, limit), (text.len() as u64, 262_144));
                prop_assert!(text.len() > 262_144);
            }
            Err(other) => prop_assert!(false, "{}", other),
            Ok(mut record) => {
                // Every tenure grows: the oldest have to go, and nothing else does.
                for past in &mut record.history {
                    let mut tenure = (**past).clone();
                    tenure.reason = Some("z".repeat(1024));
                    *past = tenure.into();
                }
                let Ok(bytes) = record.encode() else {
                    record.history.clear();
                    prop_assert!(record.encode().is_err(), "fits without its history");
                    return Ok(());
                };
                prop_assert!(bytes.len() <= 262_144);
                let again = Record::decode(&bytes).expect("reads what it has written");
                let gone = record.history.len() - again.history.len();
                if gone > 0 {
                    let mut longer = record.clone();
                    longer.history.drain(..gone - 1);
                    let text = bytes.len() + tenure_size(&longer.history[0]);
                    prop_assert!(text > 262_144, "one more would have fitted");
                }
                record.history.drain(..gone);
                prop_assert_eq!(again, record);
            }
        }
    }
}

/// At most what a tenure adds to its record.
fn tenure_size(tenure: &leaselock::record::Tenure) -> usize {
    let token = leaselock::FencingToken::MAX;
    let mut record = Record::free(token, leaselock::Nonce::from_random(0));
    let without = record.encode().expect("is small").len();
    record.history.push(tenure.clone().into());
    record.encode().expect("is small").len() - without + 1
}

/// What happens to bytes on their way.
#[derive(Clone, Debug)]
enum Damage {
    Cut(prop::sample::Index),
    Change(prop::sample::Index, u8),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>;
    let digits = "[-0-9.eE]{1,3}|[\\[\\]{},:\"]|null|NaN";
    prop_oneof![
        place().prop_map(Damage::Cut),
        (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Change(at, byte)),
        (place(), 1..20_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        (place(), digits).prop_map(|(at, text)| Damage::Insert(at, text.into_bytes())),
        (place(), 1..200_usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
    ]
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        if len == 0 {
            return;
        }
        match self {
            Self::Cut(at) => bytes.truncate(at.index(len)),
            Self::Change(at, byte) => bytes[at.index(len)] = byte,
            Self::Remove(at, count) => {
                let at = at.index(len);
                bytes.drain(at..len.min(at + count));
            }
            Self::Insert(at, new) => {
                let at = at.index(len);
                bytes.splice(at..at, new);
            }
            Self::Repeat(at, count) => {
                let at = at.index(len);
                let again = bytes[at..len.min(at + count)].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
}

/// Values at and beyond the limits of fields.
fn extremes() -> impl Strategy<Value = Value> {
    let numbers = prop::sample::select(vec![
        0_u64,
        1,
        2,
        999,
        1000,
        86_400_000,
        86_400_001,
        (1 << 53) - 2,
        (1 << 53) - 1,
        1 << 53,
        u64::MAX - 1,
        u64::MAX,
    ]);
    let times = prop::sample::select(vec![
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59-23:59",
        "0000-01-01T00:00:00Z",
        "0000-01-01T00:00:00+23:59",
        "2016-12-31T23:59:60Z",
        "2026-11-21t03:10:02z",
        "2026-11-21 03:10:02.1182045678+05:30",
        "+10000-01-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
    ]);
    let lengths = prop::sample::select(vec![64_usize, 65, 128, 129, 255, 256, 1024, 1025]);
    prop_oneof![
        numbers.prop_map(Value::from),
        times.prop_map(Value::from),
        lengths.prop_map(|length| "x".repeat(length).into()),
        Just(Value::from(vec![Value::Null; 257])),
    ]
}

/// Where a document has values.
fn pointers(value: &Value, here: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                pointers(value, format!("{here}/{key}"), found);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                pointers(value, format!("{here}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(here);
}
