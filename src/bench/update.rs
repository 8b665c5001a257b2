//! A worker's answers to updates: all are accepted, and give back what they were given.

use bristlecone_proto::temporal::api::command::v1::command::Attributes;
use bristlecone_proto::temporal::api::command::v1::{Command, ProtocolMessageCommandAttributes};
use bristlecone_proto::temporal::api::enums::v1::CommandType;
use bristlecone_proto::temporal::api::protocol::v1::Message;
use bristlecone_proto::temporal::api::protocol::v1::message::SequencingId;
use bristlecone_proto::temporal::api::update::v1::{Acceptance, Outcome, Request, Response, outcome};
use prost::Name;
use prost_types::Any;

use super::plan::command;

/// What goes with the completion of the workflow task that brought the updates.
#[derive(Debug, Default)]
pub struct Answers {
    /// Updates that are answered.
    pub count: u64,
    pub commands: Vec<Command>,
    pub messages: Vec<Message>,
}

impl Answers {
    pub fn new(messages: &[Message]) -> Self {
        let mut answers = Self::default();
        for message in messages {
            let Some(request) = message.body.as_ref().and_then(|body| body.to_msg::<Request>().ok()) else { continue };
            answers.count += 1;
            let acceptance = Acceptance {
                accepted_request_message_id: message.id.clone(),
                accepted_request_sequencing_event_id: match message.sequencing_id {
                    Some(SequencingId::EventId(event)) => event,
                    Some(SequencingId::CommandIndex(_)) | None => 0,
                },
                accepted_request: Some(request.clone()),
            };
            let result = request.input.and_then(|input| input.args).unwrap_or_default();
            let response = Response {
                meta: request.meta,
                outcome: Some(Outcome { value: Some(outcome::Value::Success(result)) }),
            };
            answers.say(message, "accept", &acceptance);
            answers.say(message, "complete", &response);
        }
        answers
    }

    fn say<M: Name>(&mut self, to: &Message, what: &str, body: &M) {
        let id = format!("{}/{what}", to.protocol_instance_id);
        let attributes = ProtocolMessageCommandAttributes { message_id: id.clone() };
        let attributes = Attributes::ProtocolMessageCommandAttributes(attributes);
        self.commands.push(command(CommandType::ProtocolMessage, attributes));
        self.messages.push(Message {
            id,
            protocol_instance_id: to.protocol_instance_id.clone(),
            body: Some(Any { type_url: M::type_url(), value: body.encode_to_vec() }),
            sequencing_id: None,
        });
    }
}
