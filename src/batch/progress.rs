//! How far a job has come, as its heartbeats, its result and its memo tell it.

use bristlecone_proto::temporal::api::common::v1::{Payload, Payloads, WorkflowExecution};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Names as the original server has them, for tools that read heartbeats and memos.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Progress {
    /// Where the listing goes on after the current page.
    pub page_token: Vec<u8>,
    pub current_page: u64,
    /// Executions that there were at the beginning.
    pub total_estimate: i64,
    pub success_count: i64,
    pub error_count: i64,
    /// Of the current page: workflow id and run id of what is not done yet.
    pub pending: Vec<(String, String)>,
    /// There is no page after the current one.
    pub is_last: bool,
}

/// What became of a finished job, in its memo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Stats {
    pub num_success: i64,
    pub num_failure: i64,
}

impl Progress {
    /// Notes that an execution of the current page is done with.
    pub fn done(&mut self, execution: &WorkflowExecution, succeeded: bool) {
        let done = |(workflow_id, run_id): &(String, String)| {
            *workflow_id == execution.workflow_id && *run_id == execution.run_id
        };
        let Some(place) = self.pending.iter().position(done) else { return };
        self.pending.swap_remove(place);
        if succeeded {
            self.success_count += 1;
        } else {
            self.error_count += 1;
        }
    }
}

/// A value in JSON, as the default converters of SDKs encode it.
pub fn json<T: Serialize>(value: &T) -> Payload {
    let data = serde_json::to_vec(value).expect("texts and numbers can be written as JSON");
    let encoding = ("encoding".to_owned(), Bytes::from_static(b"json/plain"));
    Payload { metadata: [encoding].into_iter().collect(), data: data.into(), ..Payload::default() }
}

pub fn payloads(payload: Payload) -> Payloads {
    Payloads { payloads: vec![payload] }
}

/// The value of the first payload, if it is one of these.
pub fn read<T: DeserializeOwned>(payloads: Option<&Payloads>) -> Option<T> {
    read_one(payloads?.payloads.first())
}

pub fn read_one<T: DeserializeOwned>(payload: Option<&Payload>) -> Option<T> {
    serde_json::from_slice(&payload?.data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_written_and_read_and_each_execution_counts_once() {
        let execution = |n: u8| WorkflowExecution { workflow_id: format!("w{n}"), run_id: "r".into() };
        let pending = (1..=3).map(|n| (format!("w{n}"), "r".to_owned())).collect();
        let mut progress = Progress { page_token: vec![0, 255], total_estimate: 3, pending, ..Progress::default() };
        progress.done(&execution(1), true);
        progress.done(&execution(1), true);
        progress.done(&execution(3), false);
        let read: Progress = read(Some(&payloads(json(&progress)))).expect("it was written so");
        assert_eq!(read, progress);
        assert_eq!((read.success_count, read.error_count), (1, 1));
        assert_eq!(read.pending, [("w2".to_owned(), "r".to_owned())]);
        let stats: Stats = serde_json::from_str(r#"{"NumSuccess":2,"NumFailure":1}"#).expect("stats");
        assert_eq!(stats, Stats { num_success: 2, num_failure: 1 });
    }
}
