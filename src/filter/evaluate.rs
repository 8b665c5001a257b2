//! Whether an execution passes a filter's condition.

use std::cmp::Ordering;

use bristlecone_machine::stamp::nanos;
use bristlecone_proto::record::Visibility;
use bristlecone_proto::temporal::api::enums::v1::IndexedValueType as Kind;

use bristlecone_storage::state::keys::{Double, IndexValue, Part};

use super::attribute::Attribute;
use super::resolve::{Check, Condition, Order, Sort};
use super::value::{Value, decode_payload, status_name};

pub(super) fn matches(condition: &Condition, execution: &Visibility) -> bool {
    match condition {
        Condition::And(all) => all.iter().all(|one| matches(one, execution)),
        Condition::Or(any) => any.iter().any(|one| matches(one, execution)),
        Condition::Not(inner) => !matches(inner, execution),
        Condition::Test(attribute, check) => test(attribute, check, execution),
    }
}

/// The execution's place in an order: equal to the order of the keys, byte by byte.
pub(super) fn sort_values(order_by: &[Sort], execution: &Visibility, key: &mut Vec<u8>) {
    for sort in order_by {
        let Some(value) = values(&sort.attribute, execution).into_iter().next() else {
            key.push(1);
            continue;
        };
        key.push(0);
        let start = key.len();
        index_value(value).write(key);
        if sort.descending {
            key.iter_mut().skip(start).for_each(|byte| *byte = !*byte);
        }
    }
}

/// A value as it stands in keys.
pub fn index_value(value: Value) -> IndexValue<'static> {
    match value {
        Value::Text(text) => IndexValue::Keyword { value: text.into() },
        Value::Int(value) => IndexValue::Int { value },
        Value::Double(value) => IndexValue::Double { value: Double(value) },
        Value::Bool(value) => IndexValue::Bool { value },
        Value::Time(value) => IndexValue::Datetime { value },
        // Statuses are keywords: they sort by name.
        Value::Status(status) => IndexValue::Keyword { value: status_name(status).into() },
    }
}

fn test(attribute: &Attribute, check: &Check, execution: &Visibility) -> bool {
    // The strings that are tested most are not copied.
    if let (Some(text), Check::Equal(Value::Text(wanted))) = (own_text(&attribute.name, execution), check) {
        return text == wanted && !text.is_empty();
    }
    values(attribute, execution).iter().any(|value| passes(attribute.kind, value, check))
}

fn passes(kind: Kind, value: &Value, check: &Check) -> bool {
    let ordered = |other: &Value, wanted: fn(Ordering) -> bool| value.order(other).is_some_and(wanted);
    match check {
        Check::Equal(Value::Text(wanted)) if kind == Kind::Text => has_word_of(value, wanted),
        Check::Equal(wanted) => ordered(wanted, Ordering::is_eq),
        Check::Order(Order::Less, bound) => ordered(bound, Ordering::is_lt),
        Check::Order(Order::LessEqual, bound) => ordered(bound, Ordering::is_le),
        Check::Order(Order::Greater, bound) => ordered(bound, Ordering::is_gt),
        Check::Order(Order::GreaterEqual, bound) => ordered(bound, Ordering::is_ge),
        Check::In(wanted) => wanted.iter().any(|one| ordered(one, Ordering::is_eq)),
        Check::Between(from, to) => ordered(from, Ordering::is_ge) && ordered(to, Ordering::is_le),
        Check::StartsWith(prefix) => match value {
            Value::Text(text) => text.starts_with(prefix.as_str()),
            Value::Status(status) => status_name(*status).starts_with(prefix.as_str()),
            Value::Int(_) | Value::Double(_) | Value::Bool(_) | Value::Time(_) => false,
        },
        Check::Present => true,
    }
}

/// Words are runs of letters and digits; case does not matter.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

fn has_word_of(value: &Value, wanted: &str) -> bool {
    let Value::Text(text) = value else { return false };
    let wanted = words(wanted);
    words(text).iter().any(|word| wanted.contains(word))
}

/// What the execution has of an attribute: nothing, one value, or several.
fn values(attribute: &Attribute, execution: &Visibility) -> Vec<Value> {
    let closed = execution.close_time.is_some();
    let time = |time: Option<&prost_types::Timestamp>| time.map(|time| Value::Time(nanos(time)));
    let at_close = |value: i64| closed.then_some(Value::Int(value));
    let own = match attribute.name.as_str() {
        "ExecutionStatus" => Some(Value::Status(execution.status())),
        "StartTime" => time(execution.start_time.as_ref()),
        "ExecutionTime" => time(execution_time(execution)),
        "CloseTime" => time(execution.close_time.as_ref()),
        "HistoryLength" => at_close(execution.history_length),
        "HistorySizeBytes" => at_close(execution.history_size),
        "StateTransitionCount" => at_close(execution.transitions),
        "ExecutionDuration" => duration(execution).map(Value::Int),
        name => match own_text(name, execution) {
            Some("") => None,
            Some(text) => Some(Value::Text(text.to_owned())),
            None => return searched(attribute, execution),
        },
    };
    own.into_iter().collect()
}

fn searched(attribute: &Attribute, execution: &Visibility) -> Vec<Value> {
    let fields = execution.search_attributes.as_ref().map(|attributes| &attributes.indexed_fields);
    match fields.and_then(|fields| fields.get(&attribute.name)) {
        Some(payload) => decode_payload(payload, attribute.kind),
        None => Vec::new(),
    }
}

/// The attributes that are plain strings of the record; `None` for all others.
fn own_text<'a>(name: &str, execution: &'a Visibility) -> Option<&'a str> {
    let or = |text: &'a str, otherwise: &'a str| if text.is_empty() { otherwise } else { text };
    Some(match name {
        "WorkflowId" => &execution.workflow_id,
        "RunId" => &execution.run_id,
        "WorkflowType" => &execution.workflow_type,
        "TaskQueue" => &execution.task_queue,
        "ParentWorkflowId" => &execution.parent_workflow_id,
        "ParentRunId" => &execution.parent_run_id,
        // An execution without a parent is its own root.
        "RootWorkflowId" => or(&execution.root_workflow_id, &execution.workflow_id),
        "RootRunId" => or(&execution.root_run_id, &execution.run_id),
        _ => return None,
    })
}

fn execution_time(execution: &Visibility) -> Option<&prost_types::Timestamp> {
    execution.execution_time.as_ref().or(execution.start_time.as_ref())
}

fn duration(execution: &Visibility) -> Option<i64> {
    let from = execution_time(execution)?;
    execution.close_time.as_ref().map(|close| nanos(close).saturating_sub(nanos(from)))
}
