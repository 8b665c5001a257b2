//! Listing and counting executions.
//!
//! # Contract
//! A page token is the sort key of the last row that was shown, the namespace, and a hash of the query: it
//! is good for that query only. There is a token exactly when there are more rows.

use bristlecone_machine::reply;
use bristlecone_machine::stamp;
use bristlecone_proto::chain::Rejection;
use bristlecone_proto::record::{self, Visibility};
use bristlecone_proto::temporal::api::common::v1::{Payload, SearchAttributes, WorkflowExecution, WorkflowType};
use bristlecone_proto::temporal::api::filter::v1::StartTimeFilter;
use bristlecone_proto::temporal::api::workflow::v1::WorkflowExecutionInfo;
use bristlecone_proto::temporal::api::workflowservice::v1::CountWorkflowExecutionsResponse;
use bristlecone_proto::temporal::api::workflowservice::v1::count_workflow_executions_response::AggregationGroup;
use bytes::Bytes;
use prost_types::Timestamp;

use super::{Call, Edge, Result, errors};
use crate::filter::{self, Attribute, Check, Condition, Filter, Order, Value};
use crate::token::{BadToken, ListPageToken};

/// Rows of one page.
const PAGE_ROWS_MAX: u32 = 1000;

pub(super) struct Page {
    pub executions: Vec<WorkflowExecutionInfo>,
    pub next_page_token: Bytes,
}

impl Edge {
    /// The executions that match a user's query.
    pub(super) async fn list_by_query(
        &self,
        call: &Call,
        namespace: &str,
        query: &str,
        page_size: i32,
        token: &[u8],
    ) -> Result<Page> {
        let namespace = self.namespace(namespace)?;
        let filter = parse(query, &namespace.record)?;
        if filter.group_by_status {
            return Err(reply::invalid_argument("invalid query: operation is not supported: 'GROUP BY' clause"));
        }
        self.list_by_filter(call, &namespace.record, &filter, page_size, token).await
    }

    pub(super) async fn list_by_filter(
        &self,
        call: &Call,
        namespace: &record::Namespace,
        filter: &Filter,
        page_size: i32,
        token: &[u8],
    ) -> Result<Page> {
        let query_hash = xxhash_rust::xxh3::xxh3_64(filter.to_string().as_bytes());
        let after = if token.is_empty() { Bytes::new() } else { self.open_place(namespace, query_hash, token)? };
        let most = self.cluster().settings_of(&namespace.name).edge.listing_page_max.clamp(1, PAGE_ROWS_MAX);
        let rows_max = u32::try_from(page_size).ok().filter(|size| (1..=most).contains(size)).unwrap_or(most);
        // One row more tells whether there is a next page.
        let page = self.cluster().list(&namespace.id, filter, rows_max + 1, after, call.answer_by()).await?;
        let mut rows = page.rows;
        let has_more = rows.len() > rows_max as usize;
        rows.truncate(rows_max as usize);
        let next_page_token = match rows.last() {
            Some(last) if has_more => self.cluster().tokens().seal(&ListPageToken {
                after: last.sort_key.clone(),
                namespace_id: namespace.id.clone(),
                query_hash,
            }),
            _ => Bytes::new(),
        };
        let executions = rows.into_iter().filter_map(|row| row.visibility).map(|row| info(row, namespace)).collect();
        Ok(Page { executions, next_page_token })
    }

    pub(super) async fn count_by_query(
        &self,
        call: &Call,
        namespace: &str,
        query: &str,
    ) -> Result<CountWorkflowExecutionsResponse> {
        let namespace = self.namespace(namespace)?;
        let filter = parse(query, &namespace.record)?;
        self.count_by_filter(call, &namespace.record, &filter).await
    }

    pub(super) async fn count_by_filter(
        &self,
        call: &Call,
        namespace: &record::Namespace,
        filter: &Filter,
    ) -> Result<CountWorkflowExecutionsResponse> {
        let counted = self.cluster().count(&namespace.id, filter, call.answer_by()).await?;
        if !filter.group_by_status {
            return Ok(CountWorkflowExecutionsResponse { count: counted.count, groups: Vec::new() });
        }
        let groups: Vec<AggregationGroup> = counted.groups.into_iter().map(|(status, n)| group(&status, n)).collect();
        Ok(CountWorkflowExecutionsResponse { count: groups.iter().map(|group| group.count).sum(), groups })
    }

    fn open_place(&self, namespace: &record::Namespace, query_hash: u64, token: &[u8]) -> Result<Bytes> {
        let opened = self.cluster().tokens().open(token).map_err(|BadToken| errors::bad_list_token());
        let token: ListPageToken = opened?;
        if token.namespace_id != namespace.id || token.query_hash != query_hash {
            return Err(errors::bad_list_token());
        }
        Ok(token.after)
    }
}

/// A test of one of the server's own attributes.
pub(super) fn test(name: &str, check: Check) -> Condition {
    let kind = filter::type_of(name).expect("only called with the server's own attributes");
    Condition::Test(Attribute { name: name.to_owned(), kind }, check)
}

pub(super) fn equals(name: &str, text: &str) -> Condition {
    test(name, Check::Equal(Value::Text(text.to_owned())))
}

/// The time range of the old list calls, on the start or close time.
pub(super) fn in_range(name: &str, range: Option<&StartTimeFilter>) -> Result<Option<Condition>> {
    let Some(range) = range else { return Ok(None) };
    let nanos = |time: Option<&Timestamp>| time.filter(|time| is_set(time)).map(stamp::nanos);
    let check = match (nanos(range.earliest_time.as_ref()), nanos(range.latest_time.as_ref())) {
        (None, None) => return Ok(None),
        (Some(earliest), Some(latest)) if earliest > latest => {
            return Err(reply::invalid_argument(
                "EarliestTime in StartTimeFilter should not be larger than LatestTime.",
            ));
        }
        (Some(earliest), Some(latest)) => Check::Between(Value::Time(earliest), Value::Time(latest)),
        (Some(earliest), None) => Check::Order(Order::GreaterEqual, Value::Time(earliest)),
        (None, Some(latest)) => Check::Order(Order::LessEqual, Value::Time(latest)),
    };
    Ok(Some(test(name, check)))
}

/// Some SDKs send the year 1 when they have no time.
fn is_set(time: &Timestamp) -> bool {
    const YEAR_ONE_SECONDS: i64 = -62_135_596_800;
    time.seconds > YEAR_ONE_SECONDS || (time.seconds == YEAR_ONE_SECONDS && time.nanos > 0)
}

fn parse(query: &str, namespace: &record::Namespace) -> std::result::Result<Filter, Rejection> {
    Filter::parse(query, &namespace.search_attributes).map_err(|error| errors::bad_query(&error))
}

fn group(status: &str, count: i64) -> AggregationGroup {
    let metadata = [("encoding", "json/plain"), ("type", "Keyword")];
    let payload = Payload {
        metadata: metadata.map(|(key, value)| (key.to_owned(), Bytes::from_static(value.as_bytes()))).into(),
        data: format!("{status:?}").into(),
        ..Payload::default()
    };
    AggregationGroup { group_values: vec![payload], count }
}

fn info(row: Visibility, namespace: &record::Namespace) -> WorkflowExecutionInfo {
    let closed = row.close_time.is_some();
    let execution_time = row.execution_time.or(row.start_time);
    let run = |workflow_id: String, run_id: String| WorkflowExecution { workflow_id, run_id };
    let root = if row.root_workflow_id.is_empty() {
        run(row.workflow_id.clone(), row.run_id.clone())
    } else {
        run(row.root_workflow_id, row.root_run_id)
    };
    let has_parent = !row.parent_workflow_id.is_empty();
    let duration = match (row.close_time.as_ref(), execution_time.as_ref()) {
        (Some(close), Some(from)) => Some(stamp::duration(stamp::nanos(close).saturating_sub(stamp::nanos(from)))),
        _ => None,
    };
    let at_close = |value: i64| if closed { value } else { 0 };
    WorkflowExecutionInfo {
        execution: Some(run(row.workflow_id, row.run_id)),
        r#type: Some(WorkflowType { name: row.workflow_type }),
        start_time: row.start_time,
        close_time: row.close_time,
        status: row.status,
        history_length: at_close(row.history_length),
        parent_execution: has_parent.then(|| run(row.parent_workflow_id, row.parent_run_id)),
        execution_time,
        memo: row.memo,
        search_attributes: row.search_attributes.map(|attributes| known(attributes, namespace)),
        task_queue: row.task_queue,
        state_transition_count: at_close(row.transitions),
        history_size_bytes: at_close(row.history_size),
        execution_duration: duration,
        root_execution: Some(root),
        ..WorkflowExecutionInfo::default()
    }
}

/// Without the attributes that were removed from the namespace since.
fn known(mut attributes: SearchAttributes, namespace: &record::Namespace) -> SearchAttributes {
    let is_known = |name: &String| filter::type_of(name).is_some() || namespace.search_attributes.contains_key(name);
    attributes.indexed_fields.retain(|name, _| is_known(name));
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    #[test]
    fn time_ranges_have_open_ends() {
        let range =
            |earliest_time, latest_time| in_range("StartTime", Some(&StartTimeFilter { earliest_time, latest_time }));
        let text =
            |condition: Result<Option<Condition>>| condition.map(|c| c.map(|c| c.to_string())).map_err(|r| r.message);
        assert_eq!(text(range(None, at(-62_135_596_800))), Ok(None));
        assert_eq!(text(range(at(1), None)), Ok(Some("StartTime >= 1000000000".into())));
        assert_eq!(text(range(None, at(2))), Ok(Some("StartTime <= 2000000000".into())));
        assert_eq!(text(range(at(1), at(2))), Ok(Some("StartTime BETWEEN 1000000000 AND 2000000000".into())));
        let reversed = Err("EarliestTime in StartTimeFilter should not be larger than LatestTime.".into());
        assert_eq!(text(range(at(2), at(1))), reversed);
    }

    #[test]
    fn an_open_execution_shows_what_is_known_of_it() {
        let namespace = record::Namespace { search_attributes: [("Mine".into(), 2)].into(), ..Default::default() };
        let fields = ["Mine", "Removed", "BuildIds"].map(|name| (name.to_owned(), Payload::default()));
        let row = Visibility {
            workflow_id: "w".into(),
            run_id: "r".into(),
            start_time: at(5),
            history_length: 7,
            search_attributes: Some(SearchAttributes { indexed_fields: fields.into() }),
            ..Visibility::default()
        };
        let open = info(row.clone(), &namespace);
        assert_eq!((open.history_length, open.execution_time, open.execution_duration), (0, at(5), None));
        assert_eq!(open.root_execution, open.execution);
        assert_eq!(open.parent_execution, None);
        let names: Vec<_> = open.search_attributes.expect("some").indexed_fields.into_keys().collect();
        assert_eq!(names, ["BuildIds", "Mine"]);
        let closed = info(Visibility { close_time: at(65), ..row }, &namespace);
        assert_eq!((closed.history_length, closed.execution_duration.map(|d| d.seconds)), (7, Some(60)));
    }

    #[test]
    fn groups_are_keywords() {
        let group = group("ContinuedAsNew", 3);
        let [payload] = group.group_values.as_slice() else { panic!("one value, not {:?}", group.group_values) };
        assert_eq!((payload.data.as_ref(), group.count), (b"\"ContinuedAsNew\"".as_slice(), 3));
        assert_eq!(payload.metadata.get("type"), Some(&Bytes::from("Keyword")));
    }
}
