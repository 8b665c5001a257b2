//! Search attributes: known names, values of the registered type, sizes.

use alloc::format;
use alloc::string::String;

use bristlecone_proto::temporal::api::common::v1::{Payload, SearchAttributes};
use bristlecone_proto::temporal::api::enums::v1::IndexedValueType;
use prost::Message;

use super::json::{self, Value};
use crate::stamp::{Limits, Stamp};

/// Attributes that the server fills in itself.
const SYSTEM: [&str; 16] = [
    "WorkflowId",
    "RunId",
    "WorkflowType",
    "StartTime",
    "ExecutionTime",
    "CloseTime",
    "ExecutionStatus",
    "TaskQueue",
    "HistoryLength",
    "ExecutionDuration",
    "StateTransitionCount",
    "HistorySizeBytes",
    "ParentWorkflowId",
    "ParentRunId",
    "RootWorkflowId",
    "RootRunId",
];

/// Attributes of the server's making that no request may set.
const INTERNAL: [&str; 6] = [
    "TemporalWorkerDeploymentVersion",
    "TemporalWorkflowVersioningBehavior",
    "TemporalWorkerDeployment",
    "TemporalUsedWorkerDeploymentVersions",
    "TemporalExternalPayloadCount",
    "TemporalExternalPayloadSizeBytes",
];

/// Whether the attributes may be set: their names, how many they are, and their types.
pub(crate) fn check(attributes: Option<&SearchAttributes>, at: &Stamp<'_>) -> Result<(), String> {
    let Some(attributes) = attributes else { return Ok(()) };
    let is_ours = |name: &str| SYSTEM.contains(&name) || INTERNAL.contains(&name);
    // What a namespace does not know is said first, as by a server that stores attributes under other names.
    if let Some(name) = attributes.indexed_fields.keys().find(|name| !is_ours(name) && type_of(name, at).is_none()) {
        let namespace = &at.namespace.name;
        return Err(format!("Namespace {namespace} has no mapping defined for search attribute {name}"));
    }
    let (count, limit) = (attributes.indexed_fields.len(), at.limits.search_attributes_max);
    if count > limit {
        return Err(format!("number of search attributes {count} exceeds limit {limit}"));
    }
    for (name, payload) in &attributes.indexed_fields {
        let Some(value_type) = type_of(name, at).filter(|_| !is_ours(name)) else {
            return Err(format!("{name} attribute can't be set in SearchAttributes"));
        };
        if !fits(payload, value_type) {
            let type_name = crate::command::camel(value_type.as_str_name().trim_start_matches("INDEXED_VALUE_TYPE_"));
            let value = String::from_utf8_lossy(&payload.data);
            let value = value.trim_matches('"');
            return Err(format!("invalid value for search attribute {name} of type {type_name}: {value}"));
        }
    }
    Ok(())
}

/// Whether the attributes are small enough, one by one and together.
pub(crate) fn check_size(attributes: Option<&SearchAttributes>, limits: &Limits) -> Result<(), String> {
    let Some(attributes) = attributes else { return Ok(()) };
    for (name, payload) in &attributes.indexed_fields {
        let (bytes, limit) = (payload.data.len(), limits.search_attribute_bytes_max);
        if bytes > limit {
            return Err(format!("search attribute {name} value size {bytes} exceeds size limit {limit}"));
        }
    }
    let (bytes, limit) = (attributes.encoded_len(), limits.search_attributes_bytes_max);
    if bytes > limit {
        return Err(format!("total size of search attributes {bytes} exceeds size limit {limit}"));
    }
    Ok(())
}

fn type_of(name: &str, at: &Stamp<'_>) -> Option<IndexedValueType> {
    use IndexedValueType as T;
    match name {
        "TemporalChangeVersion" | "BinaryChecksums" | "BuildIds" | "TemporalPauseInfo" | "TemporalReportedProblems" => {
            Some(T::KeywordList)
        }
        "BatcherNamespace" | "BatcherUser" | "TemporalScheduledById" | "TemporalNamespaceDivision" => Some(T::Keyword),
        "TemporalScheduledStartTime" => Some(T::Datetime),
        "TemporalSchedulePaused" => Some(T::Bool),
        custom => at.namespace.search_attributes.get(custom).and_then(|number| T::try_from(*number).ok()),
    }
}

/// Whether the payload is nothing, a value of the type, or a list of such values.
fn fits(payload: &Payload, value_type: IndexedValueType) -> bool {
    match payload.metadata.get("encoding").map(|encoding| &**encoding) {
        Some(b"binary/null") => return true,
        Some(b"json/plain") => {}
        _ => return false,
    }
    let Some(value) = core::str::from_utf8(&payload.data).ok().and_then(json::parse) else { return false };
    match &value {
        Value::Null => true,
        Value::Array(items) => items.iter().all(|item| *item == Value::Null || is(item, value_type)),
        value => is(value, value_type),
    }
}

fn is(value: &Value<'_>, value_type: IndexedValueType) -> bool {
    use IndexedValueType as T;
    match (value_type, value) {
        (T::Bool, Value::Bool) => true,
        (T::Int, Value::Number(text)) => text.parse::<i64>().is_ok(),
        (T::Double, Value::Number(text)) => text.parse::<f64>().is_ok_and(f64::is_finite),
        (T::Keyword | T::Text | T::KeywordList, Value::String(_)) => true,
        (T::Datetime, Value::String(text)) => is_datetime(text),
        _ => false,
    }
}

/// `2006-01-02T15:04:05`, with any fraction of the second, and `Z` or an offset.
fn is_datetime(text: &str) -> bool {
    const DATE_AND_TIME: &str = "dddd-dd-ddTdd:dd:dd";
    let Some((date_and_time, rest)) = text.split_at_checked(DATE_AND_TIME.len()) else { return false };
    if !matches(date_and_time, DATE_AND_TIME) {
        return false;
    }
    let number = |from: usize| date_and_time.get(from..from + 2).and_then(|digits| digits.parse::<u32>().ok());
    let (month, day, hour, minute, second) = (number(5), number(8), number(11), number(14), number(17));
    let in_range = |value: Option<u32>, low: u32, high: u32| value.is_some_and(|value| (low..=high).contains(&value));
    let year = date_and_time.get(..4).and_then(|digits| digits.parse::<u32>().ok());
    let (Some(year), Some(month)) = (year, month) else { return false };
    let valid = in_range(Some(month), 1, 12)
        && in_range(day, 1, days(year, month))
        && in_range(hour, 0, 23)
        && in_range(minute, 0, 59)
        && in_range(second, 0, 59);
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
        None => rest,
    };
    valid && (zone == "Z" || matches(zone, "+dd:dd") || matches(zone, "-dd:dd"))
}

fn days(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}

/// Whether the text has digits where the pattern has a `d`, and else what the pattern has.
fn matches(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(byte, wanted)| match wanted {
            b'd' => byte.is_ascii_digit(),
            other => byte == other,
        })
}

/// An attribute as SDKs send it.
#[cfg(test)]
pub(crate) fn json_payload(text: &str) -> Payload {
    let encoding = (String::from("encoding"), bytes::Bytes::from_static(b"json/plain"));
    Payload {
        metadata: [encoding].into_iter().collect(),
        data: bytes::Bytes::copy_from_slice(text.as_bytes()),
        ..Payload::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Namespace;
    use alloc::collections::BTreeMap;
    use alloc::string::ToString;

    #[derive(Debug)]
    struct NoNamespaces;

    impl crate::stamp::NamespaceLookup for NoNamespaces {
        fn id_of(&self, _: &str) -> Option<String> {
            None
        }
    }

    fn check_one(name: &str, text: &str) -> Result<(), String> {
        let search_attributes = [
            ("Word", IndexedValueType::Keyword),
            ("Words", IndexedValueType::KeywordList),
            ("Whole", IndexedValueType::Int),
            ("Real", IndexedValueType::Double),
            ("When", IndexedValueType::Datetime),
            ("Yes", IndexedValueType::Bool),
        ];
        let search_attributes: BTreeMap<_, _> =
            search_attributes.into_iter().map(|(name, t)| (name.to_string(), t.into())).collect();
        let namespace = Namespace { name: "default".into(), search_attributes, ..Namespace::default() };
        let limits = Limits::default();
        let at = Stamp {
            now: 0,
            seed: 0,
            limits: &limits,
            namespace: &namespace,
            namespaces: &NoNamespaces,
            caller_timeout_ms: 0,
        };
        let indexed_fields = [(name.to_string(), json_payload(text))].into_iter().collect();
        check(Some(&SearchAttributes { indexed_fields }), &at)
    }

    #[test]
    fn values_have_the_registered_type() {
        for (name, text) in [
            ("Word", "\"x\""),
            ("Word", "null"),
            ("Word", "[]"),
            ("Words", "[\"a\",\"b\"]"),
            ("Whole", "-5"),
            ("Real", "1e3"),
            ("Real", "[1.5]"),
            ("When", "\"2024-02-29T23:59:59.123456789+02:00\""),
            ("When", "\"2024-01-01T00:00:00Z\""),
            ("Yes", "true"),
            ("TemporalChangeVersion", "[\"v-1\"]"),
        ] {
            assert_eq!(check_one(name, text), Ok(()), "{name}: {text}");
        }
        assert_eq!(
            check_one("Whole", "\"five\""),
            Err("invalid value for search attribute Whole of type Int: five".to_string())
        );
        for (name, text) in [
            ("Whole", "1.5"),
            ("Whole", "9223372036854775808"),
            ("Word", "1"),
            ("When", "\"2023-02-29T00:00:00Z\""),
            ("When", "\"2024-01-01 00:00:00Z\""),
            ("When", "\"2024-01-01T00:00:00.Z\""),
            ("When", "\"2024-01-01\""),
            ("Yes", "\"true\""),
            ("Word", "{}"),
            ("Word", "\"x"),
        ] {
            assert!(check_one(name, text).is_err(), "{name}: {text}");
        }
    }

    #[test]
    fn names_are_known_and_settable() {
        let unknown = "Namespace default has no mapping defined for search attribute Other";
        assert_eq!(check_one("Other", "1"), Err(unknown.to_string()));
        for name in ["WorkflowId", "TemporalWorkerDeployment"] {
            assert_eq!(check_one(name, "\"x\""), Err(format!("{name} attribute can't be set in SearchAttributes")));
        }
    }

    #[test]
    fn sizes_have_limits() {
        let limits = Limits { search_attribute_bytes_max: 4, search_attributes_bytes_max: 100, ..Limits::default() };
        let attributes = |names: &[&str], text: &str| SearchAttributes {
            indexed_fields: names.iter().map(|name| (name.to_string(), json_payload(text))).collect(),
        };
        assert_eq!(check_size(Some(&attributes(&["A"], "1234")), &limits), Ok(()));
        assert_eq!(
            check_size(Some(&attributes(&["A"], "12345")), &limits),
            Err("search attribute A value size 5 exceeds size limit 4".to_string())
        );
        let error = check_size(Some(&attributes(&["A", "B", "C", "D"], "1")), &limits).expect_err("too large");
        assert!(error.starts_with("total size of search attributes "), "{error}");
    }
}
