//! Reading a run's history page by page.
//!
//! # Contract
//! | the reader asks for | and the run is | answer |
//! |---|---|---|
//! | all events | any | the next page, with a token while there is more; the last page of an open run has the events that stand in no row yet, unless the reader waits for new ones |
//! | all events, waiting | open, all read | new events as soon as there are any, or none after 20 s; always a token |
//! | the close event | closed | that event |
//! | the close event | open | nothing |
//! | the close event, waiting | open | that event once the run closes, or nothing and a token after 20 s |
//!
//! Batches pass through as they are stored: an encoded `History` is a row of encoded events, so
//! joining encoded histories gives the encoding of all their events. A reader that waits never gets an
//! event that is not written: it would see it again, perhaps changed.
//!
//! The tokens that workers get with their tasks say `running: false`: their pages end at the token's end
//! (and its virtual events), whatever became of the run since.

use bristlecone_proto::chain::{ChainId, HistoryEnd, HistoryHead, HistoryPageToken};
use bristlecone_proto::node::EventPage;
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::enums::v1::HistoryEventFilterType;
use bristlecone_proto::temporal::api::history::v1::{History, HistoryEvent};
use bristlecone_machine::reply;
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::{Call, Edge, Result, check, errors};
use crate::token::BadToken;

/// Events of one page; a page is never less than one batch.
const PAGE_EVENTS_MAX: u32 = 256;

/// `GetWorkflowExecutionHistoryResponse` and `GetWorkflowExecutionHistoryReverseResponse` on the wire, with
/// the events encoded already.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HistoryResponse {
    /// An encoded `temporal.api.history.v1.History`: there even when it is empty.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub history: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "3")]
    pub next_page_token: Bytes,
}

/// What a reader asks for.
pub(super) struct Reading {
    pub chain: ChainId,
    pub execution: WorkflowExecution,
    pub page_events: u32,
    /// The token that the reader brings; `None` on its first call.
    pub token: Option<HistoryPageToken>,
    pub filter: HistoryEventFilterType,
    pub wait: bool,
}

/// The events of a page, encoded, and where the next one begins.
pub(super) struct Page {
    history: Bytes,
    next: Option<HistoryPageToken>,
}

impl Edge {
    /// Checks what both directions have in common.
    pub(super) fn begin_reading(
        &self,
        chain: ChainId,
        execution: WorkflowExecution,
        page_size: i32,
        token: &[u8],
    ) -> Result<Reading> {
        check::execution(Some(&execution), self.cluster().limits())?;
        let token = if token.is_empty() { None } else { Some(self.open_page(&chain, &execution.run_id, token)?) };
        let page_events = u32::try_from(page_size).ok().filter(|size| *size > 0).unwrap_or(PAGE_EVENTS_MAX);
        Ok(Reading {
            chain,
            execution,
            page_events: page_events.min(PAGE_EVENTS_MAX),
            token,
            filter: HistoryEventFilterType::AllEvent,
            wait: false,
        })
    }

    fn open_page(&self, chain: &ChainId, run_id: &str, token: &[u8]) -> Result<HistoryPageToken> {
        let opened = self.cluster().tokens().open(token).map_err(|BadToken| errors::bad_history_token());
        let token: HistoryPageToken = opened?;
        if token.namespace_id != chain.namespace_id || token.workflow_id != chain.workflow_id {
            return Err(errors::bad_history_token());
        }
        if !run_id.is_empty() && token.run_id != run_id {
            return Err(reply::invalid_argument("RunId in the request does not match the NextPageToken."));
        }
        Ok(token)
    }

    pub(super) async fn read_history(&self, call: &Call, reading: Reading) -> Result<HistoryResponse> {
        let page = match reading.filter {
            HistoryEventFilterType::CloseEvent => self.close_event(call, reading).await?,
            HistoryEventFilterType::Unspecified | HistoryEventFilterType::AllEvent => {
                self.all_events(call, reading).await?
            }
        };
        Ok(self.seal_page(page))
    }

    /// Newest first; events within a batch too.
    pub(super) async fn read_history_reverse(&self, call: &Call, reading: Reading) -> Result<HistoryResponse> {
        let mut token = match reading.token {
            Some(token) => token,
            None => {
                let end = self.history_end(call, &reading.chain, &reading.execution, false).await?;
                token_at(&reading.chain, &end, 1)
            }
        };
        let page = self.read(call, &reading.chain, &token, reading.page_events, true).await?;
        let mut events = Vec::new();
        for batch in page.batches {
            let batch = History::decode(batch).map_err(|_| damaged())?;
            events.extend(batch.events.into_iter().rev());
        }
        token.end_event_id = page.next_event_id;
        let next = (page.next_event_id > token.next_event_id).then_some(token);
        Ok(self.seal_page(Page { history: encode(events), next }))
    }

    async fn all_events(&self, call: &Call, reading: Reading) -> Result<Page> {
        let with_virtual = call.wants_virtual_events() && !reading.wait;
        let mut virtual_events = None;
        let mut token = match reading.token {
            Some(mut token) => {
                if token.next_event_id >= token.end_event_id && reading.wait && token.running {
                    let known = token.end_event_id;
                    let end = self.wait_beyond(call, &reading.chain, &run_of(&token), known).await?;
                    token.end_event_id = end.next_event_id.max(known);
                    token.running = end.running;
                }
                token
            }
            None => {
                let end = self.history_end(call, &reading.chain, &reading.execution, with_virtual).await?;
                let token = token_at(&reading.chain, &end, 1);
                virtual_events = Some(end.virtual_events);
                token
            }
        };
        if token.next_event_id >= token.end_event_id {
            let next = token.running.then_some(token);
            return Ok(Page { history: Bytes::new(), next });
        }
        let page = self.read(call, &reading.chain, &token, reading.page_events, false).await?;
        let mut history = join(page.batches);
        if page.next_event_id != 0 && page.next_event_id < token.end_event_id {
            token.next_event_id = page.next_event_id;
            return Ok(Page { history: history.freeze(), next: Some(token) });
        }
        token.next_event_id = token.end_event_id;
        if !token.virtual_events.is_empty() {
            append(&mut history, std::mem::take(&mut token.virtual_events));
            return Ok(Page { history: history.freeze(), next: None });
        }
        if with_virtual && token.running {
            let events = match virtual_events {
                Some(events) => events,
                None => {
                    let end = self.history_end(call, &reading.chain, &run_of(&token), true).await?;
                    if end.next_event_id > token.end_event_id {
                        // More was written while the reader took its pages: this was not the last one.
                        token.end_event_id = end.next_event_id;
                        token.running = end.running;
                        return Ok(Page { history: history.freeze(), next: Some(token) });
                    }
                    end.virtual_events
                }
            };
            append(&mut history, events);
        }
        let next = (reading.wait && token.running).then_some(token);
        Ok(Page { history: history.freeze(), next })
    }

    async fn close_event(&self, call: &Call, reading: Reading) -> Result<Page> {
        let execution = reading.token.as_ref().map_or(reading.execution, run_of);
        let end = if reading.wait {
            self.wait_beyond(call, &reading.chain, &execution, i64::MAX).await?
        } else {
            self.history_end(call, &reading.chain, &execution, false).await?
        };
        let token = token_at(&reading.chain, &end, end.last_batch_id);
        if end.running {
            return Ok(Page { history: Bytes::new(), next: reading.wait.then_some(token) });
        }
        let page = self.read(call, &reading.chain, &token, PAGE_EVENTS_MAX, false).await?;
        let last = page.batches.into_iter().next_back().ok_or_else(damaged)?;
        let close = History::decode(last).map_err(|_| damaged())?.events.pop();
        Ok(Page { history: encode(close.into_iter().collect()), next: None })
    }

    async fn history_end(
        &self,
        call: &Call,
        chain: &ChainId,
        execution: &WorkflowExecution,
        with_virtual_events: bool,
    ) -> Result<HistoryEnd> {
        let head = HistoryHead { execution: Some(execution.clone()), with_virtual_events };
        self.cluster().history_end(chain, head, None, call.answer_by()).await
    }

    /// Where the history ends once it has events beyond `known`, the run is closed, or the time is up.
    async fn wait_beyond(
        &self,
        call: &Call,
        chain: &ChainId,
        execution: &WorkflowExecution,
        known: i64,
    ) -> Result<HistoryEnd> {
        let head = HistoryHead { execution: Some(execution.clone()), with_virtual_events: false };
        let until = call.wait_until()?;
        let waiting = self.cluster().history_end(chain, head, Some(known), until);
        match self.unless_draining(waiting).await {
            Some(end) => end,
            None => self.history_end(call, chain, execution, false).await,
        }
    }

    async fn read(
        &self,
        call: &Call,
        chain: &ChainId,
        token: &HistoryPageToken,
        events_max: u32,
        reverse: bool,
    ) -> Result<EventPage> {
        let (first, end) = (token.next_event_id, token.end_event_id);
        self.cluster().read_events(chain, &token.run_id, first, end, events_max, reverse, call.answer_by()).await
    }

    fn seal_page(&self, page: Page) -> HistoryResponse {
        let next_page_token = page.next.map(|token| self.cluster().tokens().seal(&token)).unwrap_or_default();
        HistoryResponse { history: Some(page.history), next_page_token }
    }
}

fn token_at(chain: &ChainId, end: &HistoryEnd, next_event_id: i64) -> HistoryPageToken {
    HistoryPageToken {
        run_id: end.run_id.clone(),
        next_event_id,
        end_event_id: end.next_event_id,
        running: end.running,
        namespace_id: chain.namespace_id.clone(),
        workflow_id: chain.workflow_id.clone(),
        virtual_events: Vec::new(),
    }
}

fn run_of(token: &HistoryPageToken) -> WorkflowExecution {
    WorkflowExecution { workflow_id: token.workflow_id.clone(), run_id: token.run_id.clone() }
}

fn join(batches: Vec<Bytes>) -> BytesMut {
    let mut joined = BytesMut::with_capacity(batches.iter().map(Bytes::len).sum());
    for batch in batches {
        joined.put(batch);
    }
    joined
}

fn append(history: &mut BytesMut, events: Vec<HistoryEvent>) {
    History { events }.encode(history).expect("a BytesMut grows as needed");
}

fn encode(events: Vec<HistoryEvent>) -> Bytes {
    History { events }.encode_to_vec().into()
}

/// A batch that doesn't decode, or is missing.
fn damaged() -> bristlecone_proto::chain::Rejection {
    const DATA_LOSS: i32 = 15;
    reply::plain(DATA_LOSS, "a batch of the workflow's history cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::temporal::api::workflowservice::v1::GetWorkflowExecutionHistoryResponse;

    #[test]
    fn joined_batches_decode_as_one_history() {
        let event = |event_id| HistoryEvent { event_id, ..HistoryEvent::default() };
        let mut history = join(vec![encode(vec![event(1), event(2)]), encode(vec![event(3)])]);
        append(&mut history, vec![event(4), event(5)]);
        let response = HistoryResponse { history: Some(history.freeze()), next_page_token: Bytes::from_static(b"t") };
        let wire = response.encode_to_vec();
        let decoded = GetWorkflowExecutionHistoryResponse::decode(wire.as_slice()).expect("the API's own message");
        let ids: Vec<_> = decoded.history.expect("set").events.iter().map(|event| event.event_id).collect();
        assert_eq!((ids, decoded.next_page_token), (vec![1, 2, 3, 4, 5], Bytes::from_static(b"t")));
    }

    #[test]
    fn an_empty_history_is_there() {
        let wire = HistoryResponse { history: Some(Bytes::new()), next_page_token: Bytes::new() }.encode_to_vec();
        let decoded = GetWorkflowExecutionHistoryResponse::decode(wire.as_slice()).expect("the API's own message");
        assert_eq!(decoded.history, Some(History::default()));
    }
}
