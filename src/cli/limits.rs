//! Limits by the well-known keys of dynamic configuration.

use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use bristlecone_machine::Limits;
use serde_json::Value;

/// `KEY=VALUE`, where the value is JSON: a number, `true`, or a text such as `"30s"`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    pub(super) key: String,
    value: Value,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
        // A text may come without quotes, as people write it.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_string()));
        Ok(Self { key: key.to_string(), value })
    }
}

/// Whether a key means something here.
pub(super) fn is_known(key: &str) -> bool {
    set(&mut Limits::default(), key, &Value::Null).is_some()
}

/// Sets limits.
///
/// # Errors
/// A key is unknown, or its value is of the wrong kind or out of range; the message names the key.
pub(super) fn apply(limits: &mut Limits, settings: &[Setting]) -> anyhow::Result<()> {
    for Setting { key, value } in settings {
        match set(limits, key, value) {
            Some(done) => done.with_context(|| format!("setting {key}"))?,
            None => bail!("setting {key}: there is no such limit"),
        }
    }
    Ok(())
}

/// `None`: no such key.
fn set(limits: &mut Limits, key: &str, value: &Value) -> Option<anyhow::Result<()>> {
    let done = match key {
        "limit.maxIDLength" => number(&mut limits.id_bytes_max, value),
        "limit.blobSize.error" => number(&mut limits.blob_bytes_max, value),
        "limit.memoSize.error" => number(&mut limits.memo_bytes_max, value),
        "limit.historySize.error" => number(&mut limits.history_bytes_max, value),
        "limit.historyCount.error" => number(&mut limits.history_events_max, value),
        "limit.mutableStateSize.error" => number(&mut limits.state_bytes_max, value),
        "system.transactionSizeLimit" => number(&mut limits.transaction_bytes_max, value),
        "system.maxCallbacksPerWorkflow" => number(&mut limits.callbacks_max, value),
        "limit.historySize.suggestContinueAsNew" => number(&mut limits.history_bytes_suggest, value),
        "limit.historyCount.suggestContinueAsNew" => number(&mut limits.history_events_suggest, value),
        // One limit for all four kinds.
        "limit.numPendingActivities.error"
        | "limit.numPendingChildExecutions.error"
        | "limit.numPendingSignals.error"
        | "limit.numPendingCancelRequests.error" => number(&mut limits.pending_max, value),
        "limit.mutableStateActivityFailureSize.error" => number(&mut limits.activity_failure_bytes_max, value),
        "limit.userMetadataSummarySize" => number(&mut limits.summary_bytes_max, value),
        "limit.userMetadataDetailsSize" => number(&mut limits.details_bytes_max, value),
        "history.maximumSignalsPerExecution" => number(&mut limits.signals_max, value),
        "history.maximumBufferedEventsBatch" => number(&mut limits.buffered_events_max, value),
        "history.maximumBufferedEventsSizeInBytes" => number(&mut limits.buffered_bytes_max, value),
        "history.MaxBufferedQueryCount" => number(&mut limits.buffered_queries_max, value),
        "history.maxInFlightUpdates" => number(&mut limits.updates_in_flight_max, value),
        "history.maxInFlightUpdatePayloads" => number(&mut limits.updates_in_flight_bytes_max, value),
        "history.maxTotalUpdates" => number(&mut limits.updates_max, value),
        "history.discardSpeculativeWorkflowTaskMaximumEventsCount" => number(&mut limits.speculative_events_max, value),
        "history.maxAutoResetPoints" => number(&mut limits.reset_points_max, value),
        "history.defaultWorkflowTaskTimeout" => milliseconds(&mut limits.workflow_task_timeout_ms_default, value),
        "history.workflowTaskRetryMaxInterval" => milliseconds(&mut limits.workflow_task_retry_ms_max, value),
        "history.workflowTaskHeartbeatTimeout" => milliseconds(&mut limits.workflow_task_heartbeat_ms_max, value),
        "frontend.searchAttributesNumberOfKeysLimit" => number(&mut limits.search_attributes_max, value),
        "frontend.searchAttributesSizeOfValueLimit" => number(&mut limits.search_attribute_bytes_max, value),
        "frontend.searchAttributesTotalSizeLimit" => number(&mut limits.search_attributes_bytes_max, value),
        "frontend.maxlinksPerRequest" => number(&mut limits.links_max, value),
        "frontend.linkMaxSize" => number(&mut limits.link_bytes_max, value),
        "frontend.enableBatcher" => flag(&mut limits.batch_enabled, value),
        "frontend.MaxConcurrentBatchOperationPerNamespace" => number(&mut limits.batch_jobs_max, value),
        "worker.batcherRPS" => number(&mut limits.batch_rps, value),
        "worker.batcherConcurrency" => number(&mut limits.batch_concurrency, value),
        "frontend.WorkflowPauseEnabled" => flag(&mut limits.pause_enabled, value),
        "system.enableActivityEagerExecution" => flag(&mut limits.eager_activities, value),
        _ => return None,
    };
    Some(done)
}

fn number<N: TryFrom<u64>>(limit: &mut N, value: &Value) -> anyhow::Result<()> {
    let given = value.as_u64().ok_or_else(|| anyhow!("{value} is not a whole number"))?;
    *limit = N::try_from(given).map_err(|_| anyhow!("{given} is too great"))?;
    Ok(())
}

fn flag(limit: &mut bool, value: &Value) -> anyhow::Result<()> {
    *limit = value.as_bool().ok_or_else(|| anyhow!("{value} is neither true nor false"))?;
    Ok(())
}

/// A text such as `500ms`, `30s`, `10m` or `2h`.
fn milliseconds(limit: &mut i64, value: &Value) -> anyhow::Result<()> {
    let bad = || anyhow!("{value} is not a duration such as \"30s\"");
    let text = value.as_str().ok_or_else(bad)?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("ms") => 1,
        Some("s") => 1_000,
        Some("m") => 60_000,
        Some("h") => 3_600_000,
        _ => return Err(bad()),
    };
    let count: i64 = digits.parse().map_err(|_| bad())?;
    *limit = count.checked_mul(unit).filter(|ms| *ms >= 0).ok_or_else(bad)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(settings: &[&str]) -> anyhow::Result<Limits> {
        let settings: Vec<Setting> = settings.iter().map(|text| text.parse().expect("KEY=VALUE")).collect();
        let mut limits = Limits::default();
        apply(&mut limits, &settings).map(|()| limits)
    }

    #[test]
    fn known_keys_set_their_limit() {
        let set = limits(&[
            "limit.blobSize.error=100",
            "history.defaultWorkflowTaskTimeout=30s",
            "history.workflowTaskHeartbeatTimeout=\"2m\"",
            "system.enableActivityEagerExecution=false",
        ]);
        let set = set.expect("all known");
        assert_eq!(set.blob_bytes_max, 100);
        assert_eq!(set.workflow_task_timeout_ms_default, 30_000);
        assert_eq!(set.workflow_task_heartbeat_ms_max, 120_000);
        assert!(!set.eager_activities);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (setting, reason) in [
            ("limit.blobSiz.error=1", "setting limit.blobSiz.error: there is no such limit"),
            ("limit.blobSize.error=many", "setting limit.blobSize.error: \"many\" is not a whole number"),
            ("limit.blobSize.error=-1", "setting limit.blobSize.error: -1 is not a whole number"),
            (
                "history.defaultWorkflowTaskTimeout=30",
                "setting history.defaultWorkflowTaskTimeout: 30 is not a duration such as \"30s\"",
            ),
            (
                "system.enableActivityEagerExecution=1",
                "setting system.enableActivityEagerExecution: 1 is neither true nor false",
            ),
        ] {
            let error = limits(&[setting]).expect_err(setting);
            assert_eq!(format!("{error:#}"), reason);
        }
        assert!("no value".parse::<Setting>().is_err());
        assert!(is_known("limit.maxIDLength") && !is_known("frontend.rps"));
    }
}
