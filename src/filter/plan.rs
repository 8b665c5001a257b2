//! Which index rows hold all that a condition can match.
//!
//! # Contract
//! | test | rows |
//! | --- | --- |
//! | RunId | the record itself |
//! | WorkflowId, WorkflowType, ParentWorkflowId, RootWorkflowId | of the value; of the prefix; between two |
//! | ExecutionStatus | of each closed status; open runs for Running and Paused |
//! | CloseTime, StartTime from a time on | all runs, from the latest down to that time |
//! | search attributes | of the value, of each word of a text, between two, or all that have it |
//!
//! An AND offers the ways of each of its parts, an OR one way of every part together, a NOT none. What is listed in the
//! order of start times can be found in that order, too.
//!
//! # Used by
//! [`super::Filter::plans`].

use bristlecone_proto::temporal::api::enums::v1::{IndexedValueType as Kind, WorkflowExecutionStatus as Status};

use super::attribute::Attribute;
use super::evaluate::words;
use super::resolve::{Check, Condition, Order};
use super::value::Value;

/// Index rows of one attribute, or the record of one run.
#[derive(Debug, Clone, PartialEq)]
pub enum Access {
    Run(String),
    /// By the name that the filter has for the attribute.
    Index {
        name: String,
        probe: Probe,
    },
    /// All runs that are open, from the latest start down to `start_from` (Unix nanoseconds).
    Open {
        start_from: i64,
    },
    /// All runs that closed between the two times (Unix nanoseconds, inclusive).
    Closed {
        from: i64,
        to: i64,
    },
    /// All runs that started between the two times (Unix nanoseconds, inclusive), in the order of their starts.
    Started {
        from: i64,
        to: i64,
        descending: bool,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    Is(Value),
    /// One word of a text.
    Word(String),
    StartsWith(String),
    /// Inclusive; without an end on a side, all values of the attribute's type.
    Between(Kind, Option<Value>, Option<Value>),
    Present,
}

pub(super) fn plans(condition: &Condition) -> Vec<Vec<Access>> {
    match condition {
        Condition::And(all) => all.iter().flat_map(plans).collect(),
        Condition::Or(any) => {
            let parts: Option<Vec<Vec<Access>>> = any.iter().map(|part| plans(part).into_iter().next()).collect();
            parts.map(|parts| parts.concat()).into_iter().collect()
        }
        Condition::Not(_) => Vec::new(),
        Condition::Test(attribute, check) => test(attribute, check).into_iter().collect(),
    }
}

/// Between which times (Unix nanoseconds, inclusive) all that match have started.
pub(super) fn started(condition: &Condition) -> (i64, i64) {
    match condition {
        Condition::And(all) => all
            .iter()
            .map(started)
            .fold((i64::MIN, i64::MAX), |(from, to), (later, earlier)| (from.max(later), to.min(earlier))),
        Condition::Test(attribute, check) if attribute.name == "StartTime" => {
            times(check).unwrap_or((i64::MIN, i64::MAX))
        }
        Condition::Or(_) | Condition::Not(_) | Condition::Test(..) => (i64::MIN, i64::MAX),
    }
}

fn test(attribute: &Attribute, check: &Check) -> Option<Vec<Access>> {
    let name = attribute.name.as_str();
    match name {
        "RunId" => texts(check)?.into_iter().map(|text| Some(Access::Run(text))).collect(),
        "RootWorkflowId" => {
            // A run that is its own root stands under its workflow id alone.
            let own = Attribute { name: "WorkflowId".into(), kind: Kind::Keyword };
            Some([searched(attribute, check)?, searched(&own, check)?].concat())
        }
        "WorkflowId" | "WorkflowType" | "ParentWorkflowId" => searched(attribute, check),
        "ExecutionStatus" => statuses(check),
        "CloseTime" => {
            let (from, to) = times(check)?;
            Some(vec![Access::Closed { from, to }])
        }
        // What started later closed later.
        "StartTime" => {
            let (from, _) = times(check).filter(|(from, _)| *from != i64::MIN)?;
            Some(vec![Access::Open { start_from: from }, Access::Closed { from, to: i64::MAX }])
        }
        "ExecutionTime" | "TaskQueue" | "ParentRunId" | "RootRunId" => None,
        "HistoryLength" | "ExecutionDuration" | "StateTransitionCount" | "HistorySizeBytes" => None,
        _ => searched(attribute, check),
    }
}

fn texts(check: &Check) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    match check {
        Check::Equal(value) => Some(vec![text(value)?]),
        Check::In(values) => values.iter().map(text).collect(),
        Check::Order(..) | Check::Between(..) | Check::StartsWith(_) | Check::Present => None,
    }
}

fn statuses(check: &Check) -> Option<Vec<Access>> {
    let values = match check {
        Check::Equal(value) => std::slice::from_ref(value),
        Check::In(values) => values.as_slice(),
        Check::Order(..) | Check::Between(..) | Check::StartsWith(_) | Check::Present => return None,
    };
    let access = |value: &Value| match value {
        Value::Status(Status::Unspecified | Status::Running | Status::Paused) => {
            Some(Access::Open { start_from: i64::MIN })
        }
        Value::Status(_) => Some(Access::Index { name: "ExecutionStatus".into(), probe: Probe::Is(value.clone()) }),
        _ => None,
    };
    let mut all: Vec<Access> = values.iter().map(access).collect::<Option<_>>()?;
    all.dedup();
    Some(all)
}

/// The times that pass, as an inclusive range.
fn times(check: &Check) -> Option<(i64, i64)> {
    let time = |value: &Value| match value {
        Value::Time(nanos) => Some(*nanos),
        _ => None,
    };
    Some(match check {
        Check::Equal(value) => (time(value)?, time(value)?),
        Check::Order(Order::Less | Order::LessEqual, value) => (i64::MIN, time(value)?),
        Check::Order(Order::Greater | Order::GreaterEqual, value) => (time(value)?, i64::MAX),
        Check::Between(from, to) => (time(from)?, time(to)?),
        Check::Present => (i64::MIN, i64::MAX),
        Check::In(_) | Check::StartsWith(_) => return None,
    })
}

fn searched(attribute: &Attribute, check: &Check) -> Option<Vec<Access>> {
    let access = |probe| Access::Index { name: attribute.name.clone(), probe };
    let kind = attribute.kind;
    let between = |from: Option<&Value>, to: Option<&Value>| {
        // An end that cannot be found by the index makes it no way at all.
        let known = |end: Option<&Value>| end.map_or(Some(None), |value| stored(kind, value).map(Some));
        Some(vec![access(Probe::Between(kind, known(from)?, known(to)?))])
    };
    match check {
        Check::Equal(Value::Text(text)) if kind == Kind::Text => {
            Some(words(text).into_iter().map(|word| access(Probe::Word(word))).collect())
        }
        Check::Equal(value) => Some(vec![access(Probe::Is(stored(kind, value)?))]),
        Check::In(values) => {
            values.iter().map(|value| stored(kind, value).map(|value| access(Probe::Is(value)))).collect()
        }
        Check::Order(Order::Less | Order::LessEqual, value) => between(None, Some(value)),
        Check::Order(Order::Greater | Order::GreaterEqual, value) => between(Some(value), None),
        Check::Between(from, to) => between(Some(from), Some(to)),
        Check::StartsWith(prefix) => Some(vec![access(Probe::StartsWith(prefix.clone()))]),
        // A text may be without words.
        Check::Present => (kind != Kind::Text).then(|| vec![access(Probe::Present)]),
    }
}

/// The value as executions with this type of attribute store it; `None` when no stored value equals it exactly.
fn stored(kind: Kind, value: &Value) -> Option<Value> {
    match (kind, value) {
        (Kind::Keyword | Kind::KeywordList, Value::Text(_))
        | (Kind::Int, Value::Int(_))
        | (Kind::Double, Value::Double(_))
        | (Kind::Bool, Value::Bool(_))
        | (Kind::Datetime, Value::Time(_)) => Some(value.clone()),
        (Kind::Double, Value::Int(int)) => Some(Value::Double(*int as f64)),
        _ => None,
    }
}
