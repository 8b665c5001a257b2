//! Which of the workers that send heartbeats a query means.
//!
//! # Contract
//! The language of list filters over a worker's own attributes: texts (`=`, `!=`, `STARTS_WITH`,
//! `NOT STARTS_WITH`) and times (comparisons, `BETWEEN`), each also `IS NULL`; `AND`, `OR` and brackets.

use std::cmp::Ordering;

use bristlecone_machine::{reply, stamp};
use bristlecone_proto::temporal::api::worker::v1::{WorkerHeartbeat, WorkerListInfo};

use super::Result;
use crate::filter::{Expr, FilterError, Literal, Operator, Query, Test, parse_datetime};

/// What a worker has of an attribute; an empty text or an unset time is none.
enum Attribute {
    Text(String),
    Time(Option<i64>),
}

/// Keeps the workers that match the query; an empty one matches all.
pub(super) fn matching(query: &str, workers: Vec<WorkerHeartbeat>) -> Result<Vec<WorkerHeartbeat>> {
    let query = Query::parse(query).map_err(|error| reply::invalid_argument(text_of(&error)))?;
    if !query.group_by.is_empty() || !query.order_by.is_empty() {
        return Err(unsupported("'GROUP BY' and 'ORDER BY' clauses"));
    }
    let Some(condition) = query.condition else { return Ok(workers) };
    // A query that is wrong is refused even when there is no worker to try it on.
    matches(&condition, &WorkerHeartbeat::default())?;
    let mut kept = Vec::new();
    for worker in workers {
        if matches(&condition, &worker)? {
            kept.push(worker);
        }
    }
    Ok(kept)
}

pub(super) fn summary(worker: &WorkerHeartbeat) -> WorkerListInfo {
    let host = worker.host_info.clone().unwrap_or_default();
    WorkerListInfo {
        worker_instance_key: worker.worker_instance_key.clone(),
        worker_identity: worker.worker_identity.clone(),
        task_queue: worker.task_queue.clone(),
        deployment_version: worker.deployment_version.clone(),
        sdk_name: worker.sdk_name.clone(),
        sdk_version: worker.sdk_version.clone(),
        status: worker.status,
        start_time: worker.start_time,
        host_name: host.host_name,
        worker_grouping_key: host.worker_grouping_key,
        process_id: host.process_id,
        plugins: worker.plugins.clone(),
        drivers: worker.drivers.clone(),
    }
}

fn matches(condition: &Expr, worker: &WorkerHeartbeat) -> Result<bool> {
    match condition {
        // All operands are looked at: a wrong one is an error wherever it stands.
        Expr::And(all) => fold(all, worker, |results| results.iter().all(|result| *result)),
        Expr::Or(any) => fold(any, worker, |results| results.iter().any(|result| *result)),
        Expr::Not(_) => Err(unsupported("'not' expression")),
        Expr::Test(test) => match attribute(&test.name, worker)? {
            Attribute::Text(text) => text_passes(&text, test),
            Attribute::Time(time) => time_passes(time, test),
        },
    }
}

fn fold(conditions: &[Expr], worker: &WorkerHeartbeat, of: fn(&[bool]) -> bool) -> Result<bool> {
    let results: Vec<bool> = conditions.iter().map(|condition| matches(condition, worker)).collect::<Result<_>>()?;
    Ok(of(&results))
}

fn attribute(name: &str, worker: &WorkerHeartbeat) -> Result<Attribute> {
    let version = worker.deployment_version.as_ref();
    let text = match name {
        "WorkerInstanceKey" => worker.worker_instance_key.clone(),
        "WorkerIdentity" => worker.worker_identity.clone(),
        "HostName" => worker.host_info.as_ref().map(|host| host.host_name.clone()).unwrap_or_default(),
        "TaskQueue" => worker.task_queue.clone(),
        "DeploymentName" => version.map(|version| version.deployment_name.clone()).unwrap_or_default(),
        "BuildId" => version.map(|version| version.build_id.clone()).unwrap_or_default(),
        "SdkName" => worker.sdk_name.clone(),
        "SdkVersion" => worker.sdk_version.clone(),
        "WorkerStatus" | "Status" | "status" => format!("{:?}", worker.status()),
        "StartTime" => return Ok(Attribute::Time(worker.start_time.as_ref().map(stamp::nanos))),
        "HeartbeatTime" => return Ok(Attribute::Time(worker.heartbeat_time.as_ref().map(stamp::nanos))),
        _ => {
            let message = format!("unknown or unsupported worker heartbeat search field: {name}");
            return Err(reply::invalid_argument(message));
        }
    };
    Ok(Attribute::Text(text))
}

fn text_passes(text: &str, test: &Test) -> Result<bool> {
    match (test.operator, test.literals.as_slice()) {
        (Operator::IsNull, _) => Ok(text.is_empty()),
        (Operator::IsNotNull, _) => Ok(!text.is_empty()),
        (_, [Literal::Text(wanted)]) if wanted.is_empty() => {
            Err(reply::invalid_argument(format!("{} cannot be empty", test.name)))
        }
        (Operator::Equal, [Literal::Text(wanted)]) => Ok(text == wanted),
        (Operator::NotEqual, [Literal::Text(wanted)]) => Ok(text != wanted),
        (Operator::StartsWith, [Literal::Text(prefix)]) => Ok(text.starts_with(prefix.as_str())),
        (Operator::NotStartsWith, [Literal::Text(prefix)]) => Ok(!text.starts_with(prefix.as_str())),
        _ => Err(wrong_operation(test)),
    }
}

fn time_passes(time: Option<i64>, test: &Test) -> Result<bool> {
    let bounds: Vec<i64> = test.literals.iter().map(|literal| time_of(literal, test)).collect::<Result<_>>()?;
    let ordered = |bound: i64, wanted: fn(Ordering) -> bool| Ok(time.is_some_and(|time| wanted(time.cmp(&bound))));
    match (test.operator, bounds.as_slice()) {
        (Operator::IsNull, _) => Ok(time.is_none()),
        (Operator::IsNotNull, _) => Ok(time.is_some()),
        (Operator::Equal, [bound]) => ordered(*bound, Ordering::is_eq),
        (Operator::NotEqual, [bound]) => ordered(*bound, Ordering::is_ne),
        (Operator::Less, [bound]) => ordered(*bound, Ordering::is_lt),
        (Operator::LessEqual, [bound]) => ordered(*bound, Ordering::is_le),
        (Operator::Greater, [bound]) => ordered(*bound, Ordering::is_gt),
        (Operator::GreaterEqual, [bound]) => ordered(*bound, Ordering::is_ge),
        (Operator::Between, [from, to]) => Ok(time.is_some_and(|time| (*from..=*to).contains(&time))),
        (Operator::NotBetween, [from, to]) => Ok(time.is_some_and(|time| !(*from..=*to).contains(&time))),
        _ => Err(wrong_operation(test)),
    }
}

fn time_of(literal: &Literal, test: &Test) -> Result<i64> {
    let time = match literal {
        Literal::Text(text) => parse_datetime(text),
        Literal::Int(nanos) => Some(*nanos),
        Literal::Float(_) | Literal::Bool(_) => None,
    };
    time.ok_or_else(|| reply::invalid_argument(format!("invalid value for {}: not a time in RFC 3339", test.name)))
}

fn wrong_operation(test: &Test) -> bristlecone_proto::chain::Rejection {
    let operation = test.operator.text().to_lowercase();
    let message = format!("invalid expression: operation {operation} is not supported for {} column", test.name);
    reply::invalid_argument(message)
}

fn unsupported(what: &str) -> bristlecone_proto::chain::Rejection {
    reply::invalid_argument(format!("operation is not supported: {what}"))
}

fn text_of(error: &FilterError) -> String {
    error.to_string().replacen("malformed SQL query", "malformed query", 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::temporal::api::enums::v1::WorkerStatus;
    use bristlecone_proto::temporal::api::worker::v1::WorkerHostInfo;
    use prost_types::Timestamp;

    fn worker(key: &str, queue: &str, seconds: i64) -> WorkerHeartbeat {
        WorkerHeartbeat {
            worker_instance_key: key.into(),
            task_queue: queue.into(),
            host_info: Some(WorkerHostInfo { host_name: "h1".into(), ..WorkerHostInfo::default() }),
            status: WorkerStatus::Running.into(),
            start_time: Some(Timestamp { seconds, nanos: 0 }),
            ..WorkerHeartbeat::default()
        }
    }

    fn keys(query: &str) -> std::result::Result<Vec<String>, String> {
        let workers = vec![worker("a", "orders", 10), worker("b", "mail", 20)];
        let kept = matching(query, workers).map_err(|rejection| rejection.message)?;
        Ok(kept.into_iter().map(|worker| worker.worker_instance_key).collect())
    }

    #[test]
    fn queries_choose_workers() {
        for (query, expected) in [
            ("", "ab"),
            ("TaskQueue = 'orders'", "a"),
            ("TaskQueue != 'orders' AND HostName = 'h1'", "b"),
            ("TaskQueue STARTS_WITH 'or' OR WorkerInstanceKey = 'b'", "ab"),
            ("(BuildId IS NULL) AND SdkName IS NOT NULL", ""),
            ("WorkerStatus = 'Running' AND Status = 'Running' AND `status` != 'Shutdown'", "ab"),
            ("StartTime > '1970-01-01T00:00:15Z'", "b"),
            ("StartTime BETWEEN '1970-01-01T00:00:05Z' AND '1970-01-01T00:00:15Z'", "a"),
            ("HeartbeatTime IS NULL", "ab"),
            ("HeartbeatTime < '2100-01-01T00:00:00Z'", ""),
        ] {
            assert_eq!(keys(query).map(|keys| keys.concat()), Ok(expected.to_owned()), "{query}");
        }
    }

    #[test]
    fn wrong_queries_are_refused() {
        for (query, error) in [
            ("Nothing = 'x'", "unknown or unsupported worker heartbeat search field: Nothing"),
            ("TaskQueue = ''", "TaskQueue cannot be empty"),
            ("TaskQueue > 'x'", "invalid expression: operation > is not supported for TaskQueue column"),
            ("NOT TaskQueue = 'x'", "operation is not supported: 'not' expression"),
            ("StartTime = 'now'", "invalid value for StartTime: not a time in RFC 3339"),
            ("TaskQueue =", "malformed query: syntax error at position 12"),
            ("TaskQueue = 'x' ORDER BY StartTime", "operation is not supported: 'GROUP BY' and 'ORDER BY' clauses"),
        ] {
            assert_eq!(keys(query), Err(error.to_owned()), "{query}");
        }
    }
}
