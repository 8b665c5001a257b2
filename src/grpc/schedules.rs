//! What the RPCs of schedules have in common.

use bristlecone_machine::schedule::{ID_PREFIX, LIST_INFO, NAMESPACE_DIVISION, WORKFLOW_TYPE, complete_ranges};
use bristlecone_machine::{reply, validate};
use bristlecone_proto::chain::ChainId;
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::common::v1::{Memo, SearchAttributes};
use bristlecone_proto::temporal::api::schedule::v1::{Schedule, ScheduleListEntry, ScheduleListInfo, schedule_action};
use bristlecone_proto::temporal::api::workflow::v1::WorkflowExecutionInfo;
use prost::Message;

use super::namespaces::chain_id;
use super::{Edge, Result, check, errors};
use crate::filter::{self, Expr, Query};

/// The server's own search attributes of a schedule.
const OWN_ATTRIBUTES: [&str; 2] = ["TemporalNamespaceDivision", "TemporalSchedulePaused"];

impl Edge {
    /// The chain of a schedule, and its namespace.
    pub(super) fn schedule(&self, namespace: &str, schedule_id: &str) -> Result<(record::Namespace, ChainId)> {
        self.check_schedules(namespace)?;
        let namespace = self.namespace(namespace)?;
        let id = format!("{ID_PREFIX}{schedule_id}");
        check::workflow_id(&id, &self.cluster().settings().core)?;
        Ok((namespace.record.clone(), chain_id(&namespace.record, &id)))
    }

    pub(super) fn check_request_id(&self, request_id: &str) -> Result<()> {
        validate::length(request_id, "RequestId", &self.cluster().settings().core).map_err(reply::invalid_argument)
    }
}

/// Notes the types of the search attributes that a schedule's workflows get.
pub(super) fn note_types(schedule: Option<&mut Schedule>, namespace: &record::Namespace) {
    let action = schedule.and_then(|schedule| schedule.action.as_mut()?.action.as_mut());
    if let Some(schedule_action::Action::StartWorkflow(workflow)) = action {
        check::note_types(workflow.search_attributes.as_mut(), namespace);
    }
}

/// A query on schedules as one on what there is in listings.
pub(super) fn query(query: &str) -> Result<String> {
    // The type has an index: other executions are not looked at.
    let schedules = format!("WorkflowType = '{WORKFLOW_TYPE}' AND TemporalNamespaceDivision = '{NAMESPACE_DIVISION}'");
    if query.trim().is_empty() {
        return Ok(schedules);
    }
    let parsed = Query::parse(query).map_err(|error| errors::bad_query(&error))?;
    let mut names = Vec::new();
    if let Some(condition) = &parsed.condition {
        collect_names(condition, &mut names);
    }
    match names.iter().find(|name| filter::is_reserved(name) && **name != "TemporalSchedulePaused") {
        Some(name) => {
            Err(reply::invalid_argument(format!("invalid query filter for schedules: cannot filter on {name:?}")))
        }
        None => Ok(format!("{schedules} AND ({query})")),
    }
}

fn collect_names<'a>(expr: &'a Expr, names: &mut Vec<&'a str>) {
    match expr {
        Expr::And(all) | Expr::Or(all) => all.iter().for_each(|one| collect_names(one, names)),
        Expr::Not(inner) => collect_names(inner, names),
        Expr::Test(test) => names.push(&test.name),
    }
}

pub(super) fn list_entry(listed: WorkflowExecutionInfo) -> ScheduleListEntry {
    let workflow_id = listed.execution.map(|execution| execution.workflow_id).unwrap_or_default();
    let mut memo = listed.memo.unwrap_or_default();
    let info = memo.fields.remove(LIST_INFO).and_then(|info| ScheduleListInfo::decode(info.data).ok());
    let info = info.map(|mut info| {
        if let Some(spec) = &mut info.spec {
            complete_ranges(spec);
        }
        info
    });
    ScheduleListEntry {
        schedule_id: workflow_id.strip_prefix(ID_PREFIX).unwrap_or(&workflow_id).to_owned(),
        memo: Some(memo).filter(|memo: &Memo| !memo.fields.is_empty()),
        search_attributes: listed.search_attributes.and_then(without_own),
        info,
    }
}

fn without_own(mut attributes: SearchAttributes) -> Option<SearchAttributes> {
    attributes.indexed_fields.retain(|name, _| !OWN_ATTRIBUTES.contains(&name.as_str()));
    (!attributes.indexed_fields.is_empty()).then_some(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::temporal::api::common::v1::{Payload, WorkflowExecution};
    use bristlecone_proto::temporal::api::schedule::v1::{Range, ScheduleSpec, StructuredCalendarSpec};

    #[test]
    fn queries_are_about_schedules_only() {
        let base =
            "WorkflowType = 'temporal-sys-scheduler-workflow' AND TemporalNamespaceDivision = 'TemporalScheduler'";
        assert_eq!(query(" "), Ok(base.to_owned()));
        let paused = "TemporalSchedulePaused = true OR ScheduleId = 'a'";
        assert_eq!(query(paused), Ok(format!("{base} AND ({paused})")));
        let refused = |text: &str| query(text).map_err(|rejection| rejection.message);
        assert_eq!(
            refused("NOT (Mine = 1 AND WorkflowId = 'a')"),
            Err("invalid query filter for schedules: cannot filter on \"WorkflowId\"".to_owned())
        );
        assert!(refused("Mine =").expect_err("no sentence").starts_with("invalid query: "));
    }

    #[test]
    fn an_entry_shows_what_the_user_gave_it() {
        let calendar =
            StructuredCalendarSpec { hour: vec![Range { start: 5, ..Range::default() }], ..Default::default() };
        let spec = ScheduleSpec { structured_calendar: vec![calendar], ..ScheduleSpec::default() };
        let info = ScheduleListInfo { spec: Some(spec), notes: "n".into(), ..ScheduleListInfo::default() };
        let payload = |data: Vec<u8>| Payload { data: data.into(), ..Payload::default() };
        let listed = WorkflowExecutionInfo {
            execution: Some(WorkflowExecution { workflow_id: format!("{ID_PREFIX}daily"), run_id: "r".into() }),
            memo: Some(Memo { fields: [(LIST_INFO.to_owned(), payload(info.encode_to_vec()))].into() }),
            search_attributes: Some(SearchAttributes {
                indexed_fields: [("TemporalSchedulePaused".to_owned(), payload(b"true".to_vec()))].into(),
            }),
            ..WorkflowExecutionInfo::default()
        };
        let entry = list_entry(listed);
        assert_eq!((entry.schedule_id.as_str(), entry.memo, entry.search_attributes), ("daily", None, None));
        let info = entry.info.expect("it is shown");
        let hours = info.spec.map(|spec| spec.structured_calendar[0].hour.clone());
        assert_eq!((info.notes.as_str(), hours), ("n", Some(vec![Range { start: 5, end: 5, step: 1 }])));
    }
}
