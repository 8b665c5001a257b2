//! MODIFY_WORKFLOW_PROPERTIES: the memo changes.

use bristlecone_proto::temporal::api::command::v1::{Command, ModifyWorkflowPropertiesCommandAttributes};
use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;
use bristlecone_proto::temporal::api::history::v1::WorkflowPropertiesModifiedEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::{CommandContext, CommandFailure, map_bytes};
use crate::draft::Draft;
use crate::{fold, validate};

pub(super) fn apply(
    draft: &mut Draft<'_>,
    ctx: &CommandContext,
    command: &Command,
    attributes: &ModifyWorkflowPropertiesCommandAttributes,
) -> Result<(), CommandFailure> {
    const CAUSE: Cause = Cause::BadModifyWorkflowPropertiesAttributes;
    let limits = draft.at().limits;
    let Some(upserted) = &attributes.upserted_memo else {
        return Err(CommandFailure::new(CAUSE, "UpsertedMemo is not set on ModifyWorkflowPropertiesCommand."));
    };
    if upserted.fields.is_empty() {
        return Err(CommandFailure::new(CAUSE, "UpsertedMemo.Fields is not set on ModifyWorkflowPropertiesCommand."));
    }
    if !validate::blob_fits(map_bytes(&upserted.fields), limits) {
        let message = "ModifyWorkflowPropertiesCommandAttributes exceeds size limit.";
        return Err(CommandFailure::fatal(CAUSE, message));
    }
    let mut merged = draft.run(&ctx.run_id).fields.memo.clone().unwrap_or_default();
    fold::merge(&mut merged.fields, &upserted.fields);
    if !validate::memo_fits(Some(&merged), limits) {
        let message = "ModifyWorkflowPropertiesCommandAttributes. Memo exceeds size limit.";
        return Err(CommandFailure::fatal(CAUSE, message));
    }
    let event = WorkflowPropertiesModifiedEventAttributes {
        workflow_task_completed_event_id: ctx.completed_event_id,
        upserted_memo: Some(upserted.clone()),
    };
    let event = Attributes::WorkflowPropertiesModifiedEventAttributes(event);
    draft.add_command_event(&ctx.run_id, event, command.user_metadata.as_ref());
    Ok(())
}
