//! Values: what a query compares with, and what a search attribute holds.

use std::cmp::Ordering;

use bristlecone_proto::temporal::api::common::v1::Payload;
use bristlecone_proto::temporal::api::enums::v1::{IndexedValueType as Kind, WorkflowExecutionStatus as Status};

use super::FilterError;
use super::attribute::Attribute;
use super::syntax::Literal;
use super::time::{parse_datetime, parse_duration};

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of keywords, keyword lists and texts.
    Text(String),
    Int(i64),
    Double(f64),
    Bool(bool),
    /// Unix nanoseconds.
    Time(i64),
    Status(Status),
}

impl Value {
    /// `None`: the two cannot be compared.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) | (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Double(b)) => (*a as f64).partial_cmp(b),
            (Self::Double(a), Self::Int(b)) => a.partial_cmp(&(*b as f64)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            // Statuses are keywords: they sort by name.
            (Self::Status(a), Self::Status(b)) => Some(status_name(*a).cmp(&status_name(*b))),
            _ => None,
        }
    }
}

/// The name of a status as queries spell it.
pub fn status_name(status: Status) -> String {
    format!("{status:?}")
}

/// What a literal means for an attribute.
pub(super) fn value(attribute: &Attribute, written_as: &str, literal: &Literal) -> Result<Value, FilterError> {
    match attribute.name.as_str() {
        "ExecutionStatus" => return status(literal),
        "ExecutionDuration" => return execution_duration(literal),
        _ => {}
    }
    match (attribute.kind, literal) {
        (Kind::Int | Kind::Double, Literal::Int(int)) => Ok(Value::Int(*int)),
        (Kind::Int | Kind::Double, Literal::Float(float)) => Ok(Value::Double(*float)),
        (Kind::Bool, Literal::Bool(bool)) => Ok(Value::Bool(*bool)),
        (Kind::Datetime, Literal::Int(nanos)) => Ok(Value::Time(*nanos)),
        (Kind::Datetime, Literal::Text(text)) => parse_datetime(text)
            .map(Value::Time)
            .ok_or_else(|| FilterError::Invalid(format!("unable to parse datetime '{text}'"))),
        (Kind::Keyword | Kind::KeywordList | Kind::Text, Literal::Text(text)) => {
            let is_schedule = written_as == "ScheduleId" && attribute.name == "WorkflowId";
            let prefix = if is_schedule { "temporal-sys-scheduler:" } else { "" };
            Ok(Value::Text(format!("{prefix}{text}")))
        }
        _ => Err(FilterError::Invalid(format!(
            "invalid value type for search attribute {written_as} of type {:?}: {}",
            attribute.kind,
            describe(literal)
        ))),
    }
}

fn status(literal: &Literal) -> Result<Value, FilterError> {
    let invalid = |text: String| FilterError::Invalid(format!("invalid ExecutionStatus value {text}"));
    match literal {
        Literal::Text(name) => (0..=8)
            .filter_map(|number| Status::try_from(number).ok())
            .find(|status| status_name(*status) == *name || status.as_str_name() == name)
            .map(Value::Status)
            .ok_or_else(|| invalid(format!("'{name}'"))),
        Literal::Int(number) => i32::try_from(*number)
            .ok()
            .and_then(|number| Status::try_from(number).ok())
            .map(Value::Status)
            .ok_or_else(|| invalid(number.to_string())),
        Literal::Float(_) | Literal::Bool(_) => Err(wrong_type(literal, "ExecutionStatus")),
    }
}

fn execution_duration(literal: &Literal) -> Result<Value, FilterError> {
    match literal {
        Literal::Int(nanos) => Ok(Value::Int(*nanos)),
        Literal::Text(text) => parse_duration(text).map(Value::Int).ok_or_else(|| {
            FilterError::Invalid(format!("invalid duration value for search attribute ExecutionDuration: {text}"))
        }),
        Literal::Float(_) | Literal::Bool(_) => Err(wrong_type(literal, "ExecutionDuration")),
    }
}

fn wrong_type(literal: &Literal, attribute: &str) -> FilterError {
    FilterError::Invalid(format!("unexpected value type {} for search attribute {attribute}", type_name(literal)))
}

fn describe(literal: &Literal) -> String {
    let value = match literal {
        Literal::Text(text) => format!("{text:?}"),
        Literal::Int(int) => int.to_string(),
        Literal::Float(float) => float.to_string(),
        Literal::Bool(bool) => bool.to_string(),
    };
    format!("{value} (type: {})", type_name(literal))
}

fn type_name(literal: &Literal) -> &'static str {
    match literal {
        Literal::Text(_) => "string",
        Literal::Int(_) => "int64",
        Literal::Float(_) => "float64",
        Literal::Bool(_) => "bool",
    }
}

/// The values that a search attribute holds: several for a list, none when it is unset or doesn't fit its type.
pub fn decode_payload(payload: &Payload, kind: Kind) -> Vec<Value> {
    match serde_json::from_slice(&payload.data) {
        Ok(serde_json::Value::Array(items)) => items.iter().filter_map(|item| decode_one(item, kind)).collect(),
        Ok(item) => decode_one(&item, kind).into_iter().collect(),
        Err(_) => Vec::new(),
    }
}

fn decode_one(item: &serde_json::Value, kind: Kind) -> Option<Value> {
    match kind {
        Kind::Keyword | Kind::KeywordList | Kind::Text => item.as_str().map(|text| Value::Text(text.to_owned())),
        Kind::Int => item.as_i64().map(Value::Int),
        Kind::Double => item.as_f64().map(Value::Double),
        Kind::Bool => item.as_bool().map(Value::Bool),
        Kind::Datetime => item.as_str().and_then(parse_datetime).map(Value::Time),
        Kind::Unspecified => None,
    }
}
