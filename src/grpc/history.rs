//! Reading a run's history page by page.
//!
//! # Contract
//! | the reader asks for | and the run is | answer |
//! |---|---|---|
//! | all events | any | the next page, and a token while there is more |
//! | all events, waiting | open, all read | new events when there are any, or none after 20 s; always a token |
//! | the close event | closed | that event |
//! | the close event | open | nothing |
//! | the close event, waiting | open | that event once the run closes, or nothing and a token after 20 s |
//!
//! The last page of an open run also has the events that stand in no row yet, unless the reader waits for
//! new ones.
//!
//! Batches pass through as they are stored: an encoded `History` is a row of encoded events, so
//! joining encoded histories gives the encoding of all their events. A reader that waits never gets an
//! event that is not written: it would see it again, perhaps changed.
//!
//! The tokens that workers get with their tasks say `running: false`: their pages end at the token's end
//! (and its virtual events), whatever became of the run since.

use std::future::Future;
use std::time::Duration;

use bristlecone_machine::reply;
use bristlecone_proto::chain::{ChainId, HistoryEnd, HistoryHead, HistoryPageToken};
use bristlecone_proto::node::EventPage;
use bristlecone_proto::temporal::api::common::v1::WorkflowExecution;
use bristlecone_proto::temporal::api::enums::v1::HistoryEventFilterType;
use bristlecone_proto::temporal::api::history::v1::{History, HistoryEvent};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::time::Instant;

use super::{Call, Edge, Result, check, errors};
use crate::dynamic::Settings;
use crate::token::{BadToken, Tokens};

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

/// Where histories are read.
pub(super) trait Histories: Sync {
    /// Where a run's history ends; with `wait_after`, once it has events beyond that one, the run is closed,
    /// or the time is up.
    fn end(
        &self,
        chain: &ChainId,
        head: HistoryHead,
        wait_after: Option<i64>,
        by: Instant,
    ) -> impl Future<Output = Result<HistoryEnd>> + Send;

    /// Whole batches of `[token.next_event_id, token.end_event_id)`.
    fn events(
        &self,
        chain: &ChainId,
        token: &HistoryPageToken,
        events_max: u32,
        reverse: bool,
        by: Instant,
    ) -> impl Future<Output = Result<EventPage>> + Send;
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
    /// How long it may wait at most.
    pub wait_max: Duration,
}

/// The events of a page, encoded, and where the next one begins.
struct Page {
    history: Bytes,
    next: Option<HistoryPageToken>,
}

impl Reading {
    /// Checks what both directions have in common.
    pub fn begin(
        chain: ChainId,
        execution: WorkflowExecution,
        page_size: i32,
        token: &[u8],
        (tokens, settings): (&Tokens, &Settings),
    ) -> Result<Self> {
        check::execution(Some(&execution), &settings.core)?;
        let token = if token.is_empty() { None } else { Some(open(&chain, &execution.run_id, token, tokens)?) };
        let page_events_max = settings.edge.history_page_max.clamp(1, PAGE_EVENTS_MAX);
        let page_events = u32::try_from(page_size).ok().filter(|size| *size > 0).unwrap_or(page_events_max);
        Ok(Self {
            chain,
            execution,
            page_events: page_events.min(page_events_max),
            token,
            filter: HistoryEventFilterType::AllEvent,
            wait: false,
            wait_max: Duration::from_millis(settings.edge.history_wait_ms.unsigned_abs()),
        })
    }

    /// Oldest first.
    pub async fn forward(self, source: &impl Histories, call: &Call, tokens: &Tokens) -> Result<HistoryResponse> {
        let page = match self.filter {
            HistoryEventFilterType::CloseEvent => self.close_event(source, call).await?,
            HistoryEventFilterType::Unspecified | HistoryEventFilterType::AllEvent => {
                self.all_events(source, call).await?
            }
        };
        Ok(seal(page, tokens))
    }

    /// Newest first; events within a batch too.
    pub async fn backward(self, source: &impl Histories, call: &Call, tokens: &Tokens) -> Result<HistoryResponse> {
        let mut token = match self.token {
            Some(token) => token,
            None => {
                let end = source.end(&self.chain, head(&self.execution, false), None, call.answer_by()).await?;
                token_at(&self.chain, &end, 1)
            }
        };
        let page = source.events(&self.chain, &token, self.page_events, true, call.answer_by()).await?;
        let mut events = Vec::new();
        for batch in page.batches {
            let batch = History::decode(batch).map_err(|_| damaged())?;
            events.extend(batch.events.into_iter().rev());
        }
        token.end_event_id = page.next_event_id;
        let next = (page.next_event_id > token.next_event_id).then_some(token);
        Ok(seal(Page { history: encode(events), next }, tokens))
    }

    async fn all_events(self, source: &impl Histories, call: &Call) -> Result<Page> {
        let with_virtual = call.wants_virtual_events() && !self.wait;
        let mut virtual_events = None;
        let mut token = match self.token {
            Some(token) => token,
            None => {
                let end = source.end(&self.chain, head(&self.execution, with_virtual), None, call.answer_by()).await?;
                let token = token_at(&self.chain, &end, 1);
                virtual_events = Some(end.virtual_events);
                token
            }
        };
        if token.next_event_id >= token.end_event_id && token.running && self.wait {
            let known = token.end_event_id;
            let end =
                source.end(&self.chain, head_of(&token, false), Some(known), call.wait_until(self.wait_max)?).await?;
            token.end_event_id = end.next_event_id.max(known);
            token.running = end.running;
        }
        if token.next_event_id >= token.end_event_id {
            let next = token.running.then_some(token);
            return Ok(Page { history: Bytes::new(), next });
        }
        let page = source.events(&self.chain, &token, self.page_events, false, call.answer_by()).await?;
        let mut history = join(page.batches);
        if page.next_event_id != 0 && page.next_event_id < token.end_event_id {
            token.next_event_id = page.next_event_id;
            return Ok(Page { history: history.freeze(), next: Some(token) });
        }
        token.next_event_id = token.end_event_id;
        append(&mut history, std::mem::take(&mut token.virtual_events));
        if with_virtual && token.running {
            let events = match virtual_events {
                Some(events) => events,
                None => {
                    let end = source.end(&self.chain, head_of(&token, true), None, call.answer_by()).await?;
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
        let next = (self.wait && token.running).then_some(token);
        Ok(Page { history: history.freeze(), next })
    }

    async fn close_event(self, source: &impl Histories, call: &Call) -> Result<Page> {
        let head = self.token.as_ref().map_or_else(|| head(&self.execution, false), |token| head_of(token, false));
        let end = if self.wait {
            source.end(&self.chain, head, Some(i64::MAX), call.wait_until(self.wait_max)?).await?
        } else {
            source.end(&self.chain, head, None, call.answer_by()).await?
        };
        let token = token_at(&self.chain, &end, end.last_batch_id);
        if end.running {
            return Ok(Page { history: Bytes::new(), next: self.wait.then_some(token) });
        }
        let page = source.events(&self.chain, &token, PAGE_EVENTS_MAX, false, call.answer_by()).await?;
        let last = page.batches.into_iter().next_back().ok_or_else(damaged)?;
        let close = History::decode(last).map_err(|_| damaged())?.events.pop();
        Ok(Page { history: encode(close.into_iter().collect()), next: None })
    }
}

impl Histories for Edge {
    async fn end(
        &self,
        chain: &ChainId,
        head: HistoryHead,
        wait_after: Option<i64>,
        by: Instant,
    ) -> Result<HistoryEnd> {
        let waiting = self.cluster().history_end(chain, head.clone(), wait_after, by);
        match self.unless_draining(waiting).await {
            Some(end) => end,
            None => self.cluster().history_end(chain, head, None, by).await,
        }
    }

    async fn events(
        &self,
        chain: &ChainId,
        token: &HistoryPageToken,
        events_max: u32,
        reverse: bool,
        by: Instant,
    ) -> Result<EventPage> {
        let (first, end) = (token.next_event_id, token.end_event_id);
        self.cluster().read_events(chain, &token.run_id, first, end, events_max, reverse, by).await
    }
}

fn open(chain: &ChainId, run_id: &str, token: &[u8], tokens: &Tokens) -> Result<HistoryPageToken> {
    let token: HistoryPageToken = tokens.open(token).map_err(|BadToken| errors::bad_history_token())?;
    if token.namespace_id != chain.namespace_id || token.workflow_id != chain.workflow_id {
        return Err(errors::bad_history_token());
    }
    if !run_id.is_empty() && token.run_id != run_id {
        return Err(reply::invalid_argument("RunId in the request does not match the NextPageToken."));
    }
    Ok(token)
}

fn seal(page: Page, tokens: &Tokens) -> HistoryResponse {
    let next_page_token = page.next.map(|token| tokens.seal(&token)).unwrap_or_default();
    HistoryResponse { history: Some(page.history), next_page_token }
}

fn head(execution: &WorkflowExecution, with_virtual_events: bool) -> HistoryHead {
    HistoryHead { execution: Some(execution.clone()), with_virtual_events }
}

fn head_of(token: &HistoryPageToken, with_virtual_events: bool) -> HistoryHead {
    let run = WorkflowExecution { workflow_id: token.workflow_id.clone(), run_id: token.run_id.clone() };
    HistoryHead { execution: Some(run), with_virtual_events }
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
mod tests;
