//! The keys: which mean something here, what each sets, and how narrowly it may be set.

use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use super::Settings;

/// The keys that Temporal's server knows (v1.31.2), with or without a meaning here; sorted, whatever the case.
const KNOWN: &str = include_str!("known.txt");

/// What a value may be limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub enum Scope {
    Cluster,
    Namespace,
    Queue,
}

/// A key that means something here.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub scope: Scope,
    set: fn(&mut Settings, &Value) -> anyhow::Result<()>,
}

impl Key {
    /// # Errors
    /// The value is of the wrong kind, or out of range.
    pub fn set(&self, settings: &mut Settings, value: &Value) -> anyhow::Result<()> {
        (self.set)(settings, value).with_context(|| format!("setting {}", self.name))
    }
}

/// `KEY=VALUE`, where the value is JSON: a number, `true`, or a text such as `"30s"`.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    pub key: String,
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
pub fn is_known(key: &str) -> bool {
    find(key).is_some()
}

/// The key of this name, whatever its case.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name.eq_ignore_ascii_case(name))
}

/// Whether Temporal's server has such a key.
pub fn is_theirs(name: &str) -> bool {
    KNOWN.lines().any(|known| known.eq_ignore_ascii_case(name))
}

/// Sets what a command line says.
///
/// # Errors
/// A key is unknown, or its value is of the wrong kind or out of range; the message names the key.
pub fn apply(settings: &mut Settings, given: &[Setting]) -> anyhow::Result<()> {
    for Setting { key, value } in given {
        match find(key) {
            Some(key) => key.set(settings, value)?,
            None => bail!("setting {key}: there is no such limit"),
        }
    }
    Ok(())
}

/// One line of the table: name, scope, the field of the settings, and how its value is read.
macro_rules! key {
    ($name:literal, $scope:ident, $read:ident, $part:ident $(. $field:ident)+) => {
        Key { name: $name, scope: Scope::$scope, set: |settings, value| $read(&mut settings.$part$(.$field)+, value) }
    };
}

const KEYS: &[Key] = &[
    key!("limit.maxIDLength", Cluster, number, core.id_bytes_max),
    key!("limit.blobSize.error", Namespace, number, core.blob_bytes_max),
    key!("limit.memoSize.error", Namespace, number, core.memo_bytes_max),
    key!("limit.historySize.error", Namespace, number, core.history_bytes_max),
    key!("limit.historyCount.error", Namespace, number, core.history_events_max),
    key!("limit.mutableStateSize.error", Cluster, number, core.state_bytes_max),
    key!("system.transactionSizeLimit", Cluster, number, core.transaction_bytes_max),
    key!("system.maxCallbacksPerWorkflow", Namespace, number, core.callbacks_max),
    key!("limit.historySize.suggestContinueAsNew", Namespace, number, core.history_bytes_suggest),
    key!("limit.historyCount.suggestContinueAsNew", Namespace, number, core.history_events_suggest),
    key!("limit.numPendingActivities.error", Namespace, number, core.pending_activities_max),
    key!("limit.numPendingChildExecutions.error", Namespace, number, core.pending_children_max),
    key!("limit.numPendingSignals.error", Namespace, number, core.pending_signals_max),
    key!("limit.numPendingCancelRequests.error", Namespace, number, core.pending_cancels_max),
    key!("limit.mutableStateActivityFailureSize.error", Namespace, number, core.activity_failure_bytes_max),
    key!("limit.userMetadataSummarySize", Namespace, number, core.summary_bytes_max),
    key!("limit.userMetadataDetailsSize", Namespace, number, core.details_bytes_max),
    key!("history.maximumSignalsPerExecution", Namespace, number, core.signals_max),
    key!("history.maximumBufferedEventsBatch", Cluster, number, core.buffered_events_max),
    key!("history.maximumBufferedEventsSizeInBytes", Cluster, number, core.buffered_bytes_max),
    key!("history.MaxBufferedQueryCount", Cluster, number, core.buffered_queries_max),
    key!("history.maxInFlightUpdates", Namespace, number, core.updates_in_flight_max),
    key!("history.maxInFlightUpdatePayloads", Namespace, number, core.updates_in_flight_bytes_max),
    key!("history.maxTotalUpdates", Namespace, number, core.updates_max),
    key!("history.maxTotalUpdates.suggestContinueAsNewThreshold", Namespace, share, core.updates_suggest),
    key!("history.discardSpeculativeWorkflowTaskMaximumEventsCount", Cluster, number, core.speculative_events_max),
    key!("history.historyMaxAutoResetPoints", Namespace, number, core.reset_points_max),
    key!("history.defaultWorkflowTaskTimeout", Namespace, milliseconds, core.workflow_task_timeout_ms_default),
    key!("history.workflowTaskRetryMaxInterval", Cluster, milliseconds, core.workflow_task_retry_ms_max),
    key!("history.workflowTaskHeartbeatTimeout", Namespace, milliseconds, core.workflow_task_heartbeat_ms_max),
    key!("frontend.searchAttributesNumberOfKeysLimit", Namespace, number, core.search_attributes_max),
    key!("frontend.searchAttributesSizeOfValueLimit", Namespace, number, core.search_attribute_bytes_max),
    key!("frontend.searchAttributesTotalSizeLimit", Namespace, number, core.search_attributes_bytes_max),
    key!("frontend.maxlinksPerRequest", Namespace, number, core.links_max),
    key!("frontend.linkMaxSize", Namespace, number, core.link_bytes_max),
    key!("frontend.enableBatcher", Namespace, flag, core.batch_enabled),
    key!("frontend.MaxConcurrentBatchOperationPerNamespace", Namespace, number, core.batch_jobs_max),
    key!("worker.batcherRPS", Namespace, number, core.batch_rps),
    key!("worker.batcherConcurrency", Namespace, number, core.batch_concurrency),
    key!("frontend.WorkflowPauseEnabled", Namespace, flag, core.pause_enabled),
    key!("system.enableActivityEagerExecution", Namespace, flag, core.eager_activities),
    key!("matching.longPollExpirationInterval", Queue, milliseconds, edge.poll_ms),
    key!("history.longPollExpirationInterval", Namespace, milliseconds, edge.history_wait_ms),
    key!("activity.longPollTimeout", Namespace, milliseconds, edge.activity_wait_ms),
    key!("limit.historyMaxPageSize", Namespace, number, edge.history_page_max),
    key!("frontend.visibilityMaxPageSize", Namespace, number, edge.listing_page_max),
    key!("system.namespaceMinRetentionLocal", Cluster, milliseconds, edge.retention_ms_min),
    key!("frontend.maxBadBinaries", Namespace, number, edge.bad_binaries_max),
    key!("limit.workerBuildIdSize", Cluster, number, edge.build_id_bytes_max),
    key!("frontend.rps", Cluster, rate, edge.rps.node),
    key!("frontend.globalRPS", Cluster, rate, edge.rps.cluster),
    key!("frontend.namespaceRPS", Namespace, rate, edge.namespace_rps.node),
    key!("frontend.globalNamespaceRPS", Namespace, rate, edge.namespace_rps.cluster),
    key!("frontend.namespaceBurstRatio", Namespace, rate, edge.namespace_burst),
    key!("frontend.namespaceRPS.visibility", Namespace, rate, edge.visibility_rps.node),
    key!("frontend.globalNamespaceRPS.visibility", Namespace, rate, edge.visibility_rps.cluster),
    key!("frontend.namespaceBurstRatio.visibility", Namespace, rate, edge.visibility_burst),
    key!("frontend.namespaceRPS.namespaceReplicationInducingAPIs", Namespace, rate, edge.metadata_rps.node),
    key!("frontend.globalNamespaceRPS.namespaceReplicationInducingAPIs", Namespace, rate, edge.metadata_rps.cluster),
    key!("frontend.namespaceBurstRatio.namespaceReplicationInducingAPIs", Namespace, rate, edge.metadata_burst),
    key!("frontend.namespaceCount", Namespace, rate, edge.waits.node),
    key!("frontend.globalNamespaceCount", Namespace, rate, edge.waits.cluster),
    key!("system.disallowQuery", Namespace, no_flag, edge.queries),
    key!("frontend.enableUpdateWorkflowExecution", Namespace, flag, edge.updates),
    key!("frontend.enableSchedules", Namespace, flag, edge.schedules),
    key!("activity.enableStandalone", Namespace, flag, edge.standalone_activities),
    key!("system.enableEagerWorkflowStart", Namespace, flag, edge.eager_start),
    key!("frontend.enableCancelWorkerPollsOnShutdown", Namespace, flag, edge.polls_end_at_shutdown),
    key!("frontend.workflowRulesAPIsEnabled", Namespace, flag, edge.workflow_rules),
    key!("frontend.maxWorkflowRulesPerNamespace", Namespace, number, edge.workflow_rules_max),
];

fn number<N: TryFrom<u64>>(limit: &mut N, value: &Value) -> anyhow::Result<()> {
    let given = value.as_u64().ok_or_else(|| anyhow!("{value} is not a whole number"))?;
    *limit = N::try_from(given).map_err(|_| anyhow!("{given} is too great"))?;
    Ok(())
}

fn flag(limit: &mut bool, value: &Value) -> anyhow::Result<()> {
    *limit = value.as_bool().ok_or_else(|| anyhow!("{value} is neither true nor false"))?;
    Ok(())
}

fn no_flag(limit: &mut bool, value: &Value) -> anyhow::Result<()> {
    flag(limit, value)?;
    *limit = !*limit;
    Ok(())
}

fn rate(limit: &mut f64, value: &Value) -> anyhow::Result<()> {
    let given = value.as_f64().filter(|rate| *rate >= 0.0);
    *limit = given.ok_or_else(|| anyhow!("{value} is not a number from 0 up"))?;
    Ok(())
}

/// A share of a whole, in thousandths.
fn share(limit: &mut u32, value: &Value) -> anyhow::Result<()> {
    let given = value.as_f64().filter(|share| (0.0..=1.0).contains(share));
    let given = given.ok_or_else(|| anyhow!("{value} is not a number from 0 to 1"))?;
    *limit = (given * 1_000.0) as u32;
    Ok(())
}

/// A text such as `500ms`, `30s` or `1h30m`; a number, or one as a text, is seconds.
fn milliseconds(limit: &mut i64, value: &Value) -> anyhow::Result<()> {
    let bad = || anyhow!("{value} is not a duration such as \"30s\"");
    let seconds = match value {
        Value::String(text) => match text.parse() {
            Ok(seconds) => Some(seconds),
            Err(_) => {
                *limit = parts(text).ok_or_else(bad)?;
                return Ok(());
            }
        },
        value => value.as_f64(),
    };
    let milliseconds = seconds.map(|seconds| seconds * 1_000.0);
    *limit = milliseconds.filter(|ms| (0.0..=i64::MAX as f64 / 2.0).contains(ms)).ok_or_else(bad)? as i64;
    Ok(())
}

/// Numbers with units, one after the other, in milliseconds.
fn parts(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (count, after) = rest.split_at_checked(digits)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let unit = match unit {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return None,
        };
        sum += count.parse::<f64>().ok()? * unit;
        rest = after;
    }
    (!text.is_empty() && sum < i64::MAX as f64 / 2.0).then_some(sum as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(given: &[&str]) -> anyhow::Result<Settings> {
        let given: Vec<Setting> = given.iter().map(|text| text.parse().expect("KEY=VALUE")).collect();
        let mut settings = Settings::default();
        apply(&mut settings, &given).map(|()| settings)
    }

    #[test]
    fn known_keys_set_their_limit() {
        let set = settings(&[
            "limit.blobsize.error=100",
            "history.defaultWorkflowTaskTimeout=30s",
            "history.workflowTaskHeartbeatTimeout=\"1h30m\"",
            "history.workflowTaskRetryMaxInterval=2.5",
            "history.maxTotalUpdates.suggestContinueAsNewThreshold=0.5",
            "system.enableActivityEagerExecution=false",
            "system.disallowQuery=true",
        ]);
        let set = set.expect("all known");
        assert_eq!(set.core.blob_bytes_max, 100);
        assert_eq!(set.core.workflow_task_timeout_ms_default, 30_000);
        assert_eq!(set.core.workflow_task_heartbeat_ms_max, 5_400_000);
        assert_eq!(set.core.workflow_task_retry_ms_max, 2_500);
        assert_eq!(set.core.updates_suggest, 500);
        assert!(!set.core.eager_activities && !set.edge.queries);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (setting, reason) in [
            ("limit.blobSiz.error=1", "setting limit.blobSiz.error: there is no such limit"),
            ("limit.blobSize.error=many", "setting limit.blobSize.error: \"many\" is not a whole number"),
            ("limit.blobSize.error=-1", "setting limit.blobSize.error: -1 is not a whole number"),
            (
                "history.defaultWorkflowTaskTimeout=30x",
                "setting history.defaultWorkflowTaskTimeout: \"30x\" is not a duration such as \"30s\"",
            ),
            (
                "history.defaultWorkflowTaskTimeout=-1",
                "setting history.defaultWorkflowTaskTimeout: -1 is not a duration such as \"30s\"",
            ),
            (
                "system.enableActivityEagerExecution=1",
                "setting system.enableActivityEagerExecution: 1 is neither true nor false",
            ),
        ] {
            let error = settings(&[setting]).expect_err(setting);
            assert_eq!(format!("{error:#}"), reason);
        }
        assert!("no value".parse::<Setting>().is_err());
        assert!(is_known("limit.maxIDLength") && !is_known("history.persistenceMaxQPS"));
    }

    #[test]
    fn all_keys_have_the_names_that_are_known() {
        let unknown: Vec<&str> = KEYS.iter().map(|key| key.name).filter(|name| !is_theirs(name)).collect();
        assert_eq!(unknown, Vec::<&str>::new());
    }
}
