//! Readers of a history that grows, ends, or has a workflow task under way.

use std::time::Duration;

use bristlecone_proto::temporal::api::workflowservice::v1::GetWorkflowExecutionHistoryResponse;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::*;

const RUN: &str = "32049b68-7872-4094-8e63-d0dd59896a83";

/// One run's history.
#[derive(Default)]
struct Model {
    state: Mutex<State>,
    changed: Notify,
    asked: Mutex<Vec<HistoryHead>>,
}

#[derive(Default, Clone)]
struct State {
    batches: Vec<Vec<i64>>,
    closed: bool,
    virtual_events: Vec<i64>,
}

impl Model {
    fn open(batches: &[&[i64]]) -> Self {
        let batches = batches.iter().map(|batch| batch.to_vec()).collect();
        Self { state: Mutex::new(State { batches, ..State::default() }), ..Self::default() }
    }

    fn append(&self, batch: &[i64], closed: bool) {
        let mut state = self.state.lock();
        state.batches.push(batch.to_vec());
        state.closed = closed;
        self.changed.notify_waiters();
    }

    fn end_now(&self, with_virtual_events: bool) -> HistoryEnd {
        let state = self.state.lock();
        let last = state.batches.last().cloned().unwrap_or_default();
        let virtual_events = if with_virtual_events { events(&state.virtual_events) } else { Vec::new() };
        HistoryEnd {
            run_id: RUN.into(),
            next_event_id: last.last().map_or(1, |id| id + 1),
            last_batch_id: last.first().copied().unwrap_or(1),
            running: !state.closed,
            virtual_events,
        }
    }
}

impl Histories for Model {
    async fn end(&self, _: &ChainId, head: HistoryHead, wait_after: Option<i64>, by: Instant) -> Result<HistoryEnd> {
        self.asked.lock().push(head.clone());
        loop {
            let changed = self.changed.notified();
            let end = self.end_now(head.with_virtual_events);
            let waits = wait_after.is_some_and(|known| end.running && end.next_event_id <= known);
            if !waits || tokio::time::timeout_at(by, changed).await.is_err() {
                return Ok(end);
            }
        }
    }

    async fn events(
        &self,
        _: &ChainId,
        token: &HistoryPageToken,
        events_max: u32,
        reverse: bool,
        _: Instant,
    ) -> Result<EventPage> {
        let mut batches = self.state.lock().batches.clone();
        batches.retain(|batch| (token.next_event_id..token.end_event_id).contains(&batch[0]));
        if reverse {
            batches.reverse();
        }
        let mut page = EventPage::default();
        let (mut given, mut before) = (0, 0);
        for batch in batches {
            if given >= events_max as usize {
                page.next_event_id = if reverse { before } else { batch[0] };
                break;
            }
            given += batch.len();
            before = batch[0];
            page.batches.push(encode(events(&batch)));
        }
        Ok(page)
    }
}

fn events(ids: &[i64]) -> Vec<HistoryEvent> {
    ids.iter().map(|event_id| HistoryEvent { event_id: *event_id, ..HistoryEvent::default() }).collect()
}

fn tokens() -> Tokens {
    Tokens::new(b"key")
}

fn call(client: &'static str) -> Call {
    let headers = [("client-name".try_into().expect("a name"), HeaderValue::from_static(client))];
    Call::of(&HeaderMap::from_iter(headers), Instant::now())
}

fn reading(token: &[u8], page_size: i32) -> Result<Reading> {
    let chain = ChainId { namespace_id: "n".into(), workflow_id: "w".into(), namespace: "shop".into() };
    let execution = WorkflowExecution { workflow_id: "w".into(), run_id: String::new() };
    Reading::begin(chain, execution, page_size, token, (&tokens(), &Settings::default()))
}

/// Event ids, and the token for the next page.
fn contents(response: HistoryResponse) -> (Vec<i64>, Bytes) {
    let wire = response.encode_to_vec();
    let response = GetWorkflowExecutionHistoryResponse::decode(wire.as_slice()).expect("the API's own message");
    let events = response.history.expect("always there").events;
    (events.iter().map(|event| event.event_id).collect(), response.next_page_token)
}

async fn forward(model: &Model, client: &'static str, token: &[u8], page_size: i32, wait: bool) -> (Vec<i64>, Bytes) {
    let reading = Reading { wait, ..reading(token, page_size).expect("valid") };
    contents(reading.forward(model, &call(client), &tokens()).await.expect("it can be read"))
}

async fn close_event(model: &Model, token: &[u8], wait: bool) -> (Vec<i64>, Bytes) {
    let filter = HistoryEventFilterType::CloseEvent;
    let reading = Reading { wait, filter, ..reading(token, 0).expect("valid") };
    contents(reading.forward(model, &call("temporal-go"), &tokens()).await.expect("it can be read"))
}

#[tokio::test]
async fn pages_hold_whole_batches_and_join_up() {
    let model = Model::open(&[&[1, 2], &[3], &[4, 5, 6], &[7]]);
    let (first, token) = forward(&model, "temporal-go", b"", 3, false).await;
    let (second, token) = forward(&model, "temporal-go", &token, 3, false).await;
    let (third, token) = forward(&model, "temporal-go", &token, 3, false).await;
    assert_eq!((first, second, third), (vec![1, 2, 3], vec![4, 5, 6], vec![7]));
    assert!(token.is_empty());
}

#[tokio::test]
async fn a_page_that_was_the_last_one_is_not_when_more_was_written() {
    let model = Model::open(&[&[1, 2], &[3]]);
    let (first, token) = forward(&model, "temporal-go", b"", 2, false).await;
    model.append(&[4, 5], false);
    let (second, token) = forward(&model, "temporal-go", &token, 2, false).await;
    let (third, token) = forward(&model, "temporal-go", &token, 2, false).await;
    assert_eq!((first, second, third, token), (vec![1, 2], vec![3], vec![4, 5], Bytes::new()));
}

#[tokio::test]
async fn virtual_events_end_the_history_of_an_open_run_for_sdks_only() {
    let model = Model::open(&[&[1, 2, 3]]);
    model.state.lock().virtual_events = vec![4, 5];
    assert_eq!(forward(&model, "temporal-go", b"", 0, false).await, (vec![1, 2, 3, 4, 5], Bytes::new()));
    for client in ["temporal-cli", "temporal-ui"] {
        assert_eq!(forward(&model, client, b"", 0, false).await, (vec![1, 2, 3], Bytes::new()));
    }
    let (waiting, token) = forward(&model, "temporal-go", b"", 0, true).await;
    assert_eq!((waiting, token.is_empty()), (vec![1, 2, 3], false));
}

#[tokio::test]
async fn a_workers_pages_end_where_its_task_began() {
    let model = Model::open(&[&[1, 2], &[3]]);
    let token = HistoryPageToken {
        run_id: RUN.into(),
        next_event_id: 3,
        end_event_id: 4,
        running: false,
        namespace_id: "n".into(),
        workflow_id: "w".into(),
        virtual_events: events(&[4, 5]),
    };
    model.append(&[4], false);
    assert_eq!(forward(&model, "temporal-go", &tokens().seal(&token), 0, false).await, (vec![3, 4, 5], Bytes::new()));
    assert!(model.asked.lock().is_empty(), "asking would make the task's start durable");
}

#[tokio::test(start_paused = true)]
async fn a_follower_gets_new_events_as_they_come() {
    let model = Model::open(&[&[1, 2]]);
    let (first, token) = forward(&model, "temporal-go", b"", 0, true).await;
    assert_eq!(first, [1, 2]);
    let began = Instant::now();
    let (nothing, token) = forward(&model, "temporal-go", &token, 0, true).await;
    assert_eq!((nothing, began.elapsed(), token.is_empty()), (vec![], Duration::from_secs(20), false));
    let follower = forward(&model, "temporal-go", &token, 0, true);
    let (next, ()) = tokio::join!(follower, async { model.append(&[3, 4], false) });
    assert_eq!(next.0, [3, 4]);
    model.append(&[5], true);
    let (last, token) = forward(&model, "temporal-go", &next.1, 0, true).await;
    assert_eq!((last, token), (vec![5], Bytes::new()));
}

#[tokio::test(start_paused = true)]
async fn the_close_event_can_be_waited_for() {
    let model = Model::open(&[&[1, 2]]);
    assert_eq!(close_event(&model, b"", false).await, (vec![], Bytes::new()));
    let (nothing, token) = close_event(&model, b"", true).await;
    assert_eq!((nothing, token.is_empty()), (vec![], false));
    let (closed, ()) = tokio::join!(close_event(&model, &token, true), async { model.append(&[3, 4, 5], true) });
    assert_eq!(closed, (vec![5], Bytes::new()));
    assert_eq!(close_event(&model, b"", false).await, (vec![5], Bytes::new()));
}

#[tokio::test]
async fn backwards_is_newest_first() {
    let model = Model::open(&[&[1, 2], &[3], &[4, 5]]);
    let mut read = Vec::new();
    let mut token = Bytes::new();
    loop {
        let page = reading(&token, 2).expect("valid").backward(&model, &call(""), &tokens()).await.expect("readable");
        let (ids, next) = contents(page);
        read.push(ids);
        token = next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(read, [vec![5, 4], vec![3, 2, 1]]);
}

#[test]
fn tokens_are_good_for_their_own_run_only() {
    let seal = |namespace_id: &str, run_id: &str| {
        let token = HistoryPageToken {
            run_id: run_id.into(),
            namespace_id: namespace_id.into(),
            workflow_id: "w".into(),
            ..HistoryPageToken::default()
        };
        tokens().seal(&token)
    };
    let refused = |token: &[u8], run_id: &str| {
        let chain = ChainId { namespace_id: "n".into(), workflow_id: "w".into(), namespace: "shop".into() };
        let execution = WorkflowExecution { workflow_id: "w".into(), run_id: run_id.into() };
        Reading::begin(chain, execution, 0, token, (&tokens(), &Settings::default())).err().map(|r| r.message)
    };
    assert_eq!(refused(&seal("n", RUN), RUN), None);
    assert_eq!(refused(&seal("n", RUN), ""), None);
    let other = "00000000-0000-4000-8000-000000000000";
    let mismatch = "RunId in the request does not match the NextPageToken.";
    assert_eq!(refused(&seal("n", RUN), other), Some(mismatch.into()));
    assert_eq!(refused(&seal("m", RUN), RUN), Some("Invalid NextPageToken.".into()));
    assert_eq!(refused(b"garbage", RUN), Some("Invalid NextPageToken.".into()));
}

#[test]
fn an_empty_history_is_there() {
    let wire = HistoryResponse { history: Some(Bytes::new()), next_page_token: Bytes::new() }.encode_to_vec();
    let decoded = GetWorkflowExecutionHistoryResponse::decode(wire.as_slice()).expect("the API's own message");
    assert_eq!(decoded.history, Some(History::default()));
}
