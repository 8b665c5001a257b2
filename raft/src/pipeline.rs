//! Appends to one replica, several in flight, answers in order.
//!
//! # Used by
//! `network.rs`.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::time::{Instant, Sleep};

use crate::NodeId;
use crate::frame::{self, AppendAnswer, Status};
use crate::network::{Link, Peer, Rpc, decode_append_answer, encode_append, quarantine_error, refused};
use crate::transport::{Lane, TransportError};
use crate::types::{LogId, TypeConfig};

/// Bytes in flight lengthen the time that an answer may take: a second for each 8 MiB.
const BYTES_PER_MICROSECOND: u64 = 8;

pub(crate) struct Pipeline<S> {
    link: Arc<Link>,
    to: NodeId,
    peer: Arc<Peer>,
    input: S,
    lane: Lane,
    /// Requests in flight.
    window: usize,
    timeout: Duration,
    heartbeat: bool,
    in_flight: VecDeque<InFlight>,
    bytes_in_flight: usize,
    /// A request without entries that waits for one with entries, which would carry its commit too.
    held: Option<AppendEntriesRequest<TypeConfig>>,
    hold: Duration,
    hold_timer: Option<Pin<Box<Sleep>>>,
    input_ended: bool,
    /// After the first error nothing more comes out.
    ended: bool,
}

struct InFlight {
    answer: BoxFuture<'static, Result<Bytes, TransportError>>,
    previous: Option<LogId>,
    last: Option<LogId>,
    /// The replica had acknowledged `previous` when the request was sent.
    previous_acknowledged: bool,
    bytes: usize,
    timeout: Duration,
}

impl<S> Pipeline<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    pub fn replication(link: Arc<Link>, to: NodeId, peer: Arc<Peer>, input: S) -> Self {
        let lane = Lane::Append { group: link.shared.group };
        let (window, timeout, hold) = (link.config.append_window, link.config.append_timeout, link.config.commit_delay);
        Self::new(link, to, peer, input, lane, window, timeout, hold)
    }

    /// Heartbeats overtake appends, so nothing is held and one is in flight.
    pub fn heartbeat(link: Arc<Link>, to: NodeId, peer: Arc<Peer>, input: S, timeout: Duration) -> Self {
        let mut pipeline = Self::new(link, to, peer, input, Lane::Control, 1, timeout, Duration::ZERO);
        pipeline.heartbeat = true;
        pipeline
    }

    #[expect(clippy::too_many_arguments, reason = "private, and each is told apart by its type or name")]
    fn new(
        link: Arc<Link>,
        to: NodeId,
        peer: Arc<Peer>,
        input: S,
        lane: Lane,
        window: usize,
        timeout: Duration,
        hold: Duration,
    ) -> Self {
        Self {
            link,
            to,
            peer,
            input,
            lane,
            window,
            timeout,
            heartbeat: false,
            in_flight: VecDeque::new(),
            bytes_in_flight: 0,
            held: None,
            hold,
            hold_timer: None,
            input_ended: false,
            ended: false,
        }
    }

    fn take_requests(&mut self, cx: &mut Context<'_>) {
        while !self.input_ended && self.in_flight.len() < self.window {
            match self.input.poll_next_unpin(cx) {
                Poll::Ready(Some(request)) if request.entries.is_empty() && !self.hold.is_zero() => {
                    self.hold_request(request);
                }
                Poll::Ready(Some(request)) => {
                    self.held = None;
                    self.send(&request);
                }
                Poll::Ready(None) => self.input_ended = true,
                Poll::Pending => break,
            }
        }
        if self.held.is_none() || self.in_flight.len() >= self.window {
            return;
        }
        let due = self.hold_timer.as_mut().is_none_or(|timer| timer.as_mut().poll(cx).is_ready());
        if (due || self.input_ended)
            && let Some(request) = self.held.take()
        {
            self.send(&request);
        }
    }

    fn hold_request(&mut self, request: AppendEntriesRequest<TypeConfig>) {
        if self.held.replace(request).is_some() {
            return;
        }
        match &mut self.hold_timer {
            Some(timer) => timer.as_mut().reset(Instant::now() + self.hold),
            None => self.hold_timer = Some(Box::pin(tokio::time::sleep(self.hold))),
        }
    }

    fn send(&mut self, request: &AppendEntriesRequest<TypeConfig>) {
        let frame = encode_append(self.link.shared.group, request);
        let bytes = frame.len();
        self.bytes_in_flight += bytes;
        let extra = Duration::from_micros(self.bytes_in_flight as u64 / BYTES_PER_MICROSECOND);
        let timeout = self.timeout + extra;
        let previous = request.prev_log_id;
        self.in_flight.push_back(InFlight {
            answer: self.link.transport.call(self.to, self.lane, frame, timeout),
            previous,
            last: request.entries.last().map(|entry| entry.log_id).or(previous),
            previous_acknowledged: previous.is_some() && previous <= self.peer.acknowledged(),
            bytes,
            timeout,
        });
    }

    fn settle(
        &mut self,
        sent: &InFlight,
        answer: Result<Bytes, TransportError>,
    ) -> Rpc<StreamAppendResult<TypeConfig>> {
        let raw = answer.map_err(|error| self.link.failed(self.to, error, sent.timeout))?;
        let answer: AppendAnswer = frame::decode_answer(raw).map_err(|status| {
            if status == Status::Quarantined {
                // An earlier leader found out, and the replica remembers.
                self.peer.quarantine();
            }
            refused(self.to, status)
        })?;
        let response = decode_append_answer(&answer).ok_or_else(|| refused(self.to, Status::Malformed))?;
        if response.is_conflict() && sent.previous.is_none() {
            return Err(refused(self.to, Status::Malformed));
        }
        let result = response.into_stream_result(sent.previous, sent.last);
        match &result {
            Ok(matched) => self.peer.acknowledge(*matched),
            Err(StreamAppendError::Conflict(at)) if sent.previous_acknowledged || self.heartbeat => {
                tracing::error!(
                    group = self.link.shared.group,
                    node = self.to,
                    entry = %at,
                    "replica lost entries that it had acknowledged: quarantined"
                );
                self.peer.quarantine();
                return Err(quarantine_error());
            }
            Err(StreamAppendError::Conflict(_) | StreamAppendError::HigherVote(_)) => {}
        }
        Ok(result)
    }
}

impl<S> Stream for Pipeline<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    type Item = Rpc<StreamAppendResult<TypeConfig>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.peer.is_quarantined() {
            this.ended = true;
            return Poll::Ready(Some(Err(quarantine_error())));
        }
        this.take_requests(cx);
        let Some(first) = this.in_flight.front_mut() else {
            let idle = this.input_ended && this.held.is_none();
            return if idle { Poll::Ready(None) } else { Poll::Pending };
        };
        let Poll::Ready(answer) = first.answer.poll_unpin(cx) else {
            return Poll::Pending;
        };
        let sent = this.in_flight.pop_front().expect("the front was just polled");
        this.bytes_in_flight -= sent.bytes;
        let result = this.settle(&sent, answer);
        this.ended = !matches!(result, Ok(Ok(_)));
        Poll::Ready(Some(result))
    }
}
