//! RECORD_MARKER: what the SDK wants to find in the history again.

use alloc::format;

use bristlecone_proto::temporal::api::command::v1::{Command, RecordMarkerCommandAttributes};
use bristlecone_proto::temporal::api::enums::v1::WorkflowTaskFailedCause as Cause;
use bristlecone_proto::temporal::api::history::v1::MarkerRecordedEventAttributes;
use bristlecone_proto::temporal::api::history::v1::history_event::Attributes;

use super::{CommandContext, CommandFailure};
use crate::draft::Draft;
use crate::validate;

pub(super) fn apply(
    draft: &mut Draft<'_>,
    ctx: &CommandContext,
    command: &Command,
    attributes: &RecordMarkerCommandAttributes,
) -> Result<(), CommandFailure> {
    const CAUSE: Cause = Cause::BadRecordMarkerAttributes;
    let limits = draft.at().limits;
    let name = &attributes.marker_name;
    if name.is_empty() {
        return Err(CommandFailure::new(CAUSE, "MarkerName is not set on RecordMarkerCommand."));
    }
    let (length, limit) = (name.len(), limits.id_bytes_max);
    if length > limit {
        return Err(CommandFailure::new(
            CAUSE,
            format!(
                "MarkerName on RecordMarkerCommand exceeds length limit. \
                 MarkerName={name} Length={length} Limit={limit}"
            ),
        ));
    }
    let bytes: usize =
        attributes.details.iter().map(|(key, payloads)| key.len() + validate::encoded_len(Some(payloads))).sum();
    if !validate::blob_fits(bytes, limits) {
        return Err(CommandFailure::fatal(CAUSE, "RecordMarkerCommandAttributes.Details exceeds size limit."));
    }
    let recorded = MarkerRecordedEventAttributes {
        marker_name: name.clone(),
        details: attributes.details.clone(),
        workflow_task_completed_event_id: ctx.completed_event_id,
        header: attributes.header.clone(),
        failure: attributes.failure.clone(),
    };
    let recorded = Attributes::MarkerRecordedEventAttributes(recorded);
    draft.add_command_event(&ctx.run_id, recorded, command.user_metadata.as_ref());
    Ok(())
}
