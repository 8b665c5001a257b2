//! UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: by what listings find the workflow from now on.

use alloc::string::String;

use bristlecone_proto::temporal::api::command::v1::{Command, UpsertWorkflowSearchAttributesCommandAttributes};
use bristlecone_proto::temporal::api::common::v1::SearchAttributes;
use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;
use bristlecone_proto::temporal::api::history::v1::UpsertWorkflowSearchAttributesEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::{CommandContext, CommandFailure, map_bytes};
use crate::draft::Draft;
use crate::fold;
use crate::validate::{self, search_attributes};

pub(super) fn apply(
    draft: &mut Draft<'_>,
    ctx: &CommandContext,
    command: &Command,
    attributes: &UpsertWorkflowSearchAttributesCommandAttributes,
) -> Result<(), CommandFailure> {
    const CAUSE: Cause = Cause::BadSearchAttributes;
    let at = draft.at();
    let bad = |message: String| CommandFailure::new(CAUSE, message);
    let Some(upserted) = &attributes.search_attributes else {
        return Err(bad("SearchAttributes is not set on UpsertWorkflowSearchAttributesCommand.".into()));
    };
    if upserted.indexed_fields.is_empty() {
        return Err(bad("IndexedFields is not set on UpsertWorkflowSearchAttributesCommand.".into()));
    }
    search_attributes::check(Some(upserted), at).map_err(bad)?;
    if !validate::blob_fits(map_bytes(&upserted.indexed_fields), at.limits) {
        let message = "UpsertWorkflowSearchAttributesCommandAttributes exceeds size limit.";
        return Err(CommandFailure::fatal(CAUSE, message));
    }
    let mut merged = draft.run(&ctx.run_id).fields.search_attributes.clone().unwrap_or_default();
    fold::merge(&mut merged.indexed_fields, &upserted.indexed_fields);
    search_attributes::check_size(Some(&merged), at.limits).map_err(|text| CommandFailure::fatal(CAUSE, text))?;
    let event = UpsertWorkflowSearchAttributesEventAttributes {
        workflow_task_completed_event_id: ctx.completed_event_id,
        search_attributes: Some(SearchAttributes { indexed_fields: upserted.indexed_fields.clone() }),
    };
    let event = Attributes::UpsertWorkflowSearchAttributesEventAttributes(event);
    draft.add_command_event(&ctx.run_id, event, command.user_metadata.as_ref());
    Ok(())
}
