//! The bounded queue of frames that wait to be written to one connection.
//!
//! # Contract
//! Frames leave in the order in which they came in, each with a number of its own that is never used
//! again. A frame is encoded when it is taken, so one whose caller has gone costs nothing, and the
//! time that a caller still waits is right when it is sent. Any number of tasks put in; one takes.
//!
//! # Used by
//! `link.rs` (calls and notices), `serve.rs` (answers).

use std::collections::VecDeque;
use std::time::Duration;

use bristlecone_proto::node::{Notice, Request, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::error::{Fault, PeerError};
use super::frame::Kind;
use super::lane::LaneLimits;

/// Payload bytes after which a batch is full.
const BATCH_BYTES: usize = 1 << 20;
/// How long frames of a gathering outbox wait for others, once there are many of them.
pub(super) const GATHER_TIME: Duration = Duration::from_millis(5);
/// So many frames within [`GATHER_TIME`] leave at once; those beyond wait until it is over.
pub(super) const GATHER_FRAMES: usize = 8;

/// A frame to be.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) payload: Payload,
    /// Length of the payload.
    pub(super) bytes: usize,
    /// `None`: the frame's own number in its outbox.
    call: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Payload {
    /// The time left until the deadline is filled in when the request is encoded.
    Request(Box<Request>, Instant),
    Response(Box<Response>),
    Notice(Box<Notice>),
    Raw(Bytes),
}

impl Item {
    /// # Errors
    /// `TooLarge`.
    pub(super) fn new(kind: Kind, payload: Payload) -> Result<Self, PeerError> {
        let bytes = match &payload {
            Payload::Request(request, _) => request.encoded_len(),
            Payload::Response(response) => response.encoded_len(),
            Payload::Notice(notice) => notice.encoded_len(),
            Payload::Raw(bytes) => bytes.len(),
        };
        let bytes_max = kind.payload_bytes_max();
        if bytes > bytes_max {
            return Err(PeerError::TooLarge { bytes, bytes_max });
        }
        Ok(Self { kind, payload, bytes, call: None })
    }

    /// Why a call has no answer.
    pub(super) fn fault(fault: Fault, why: &str) -> Self {
        Self::new(Kind::Error, Payload::Raw(fault.encode(why))).expect("a fault cuts its words")
    }

    /// Names the call that the frame is about.
    pub(super) fn about(self, call: u64) -> Self {
        Self { call: Some(call), ..self }
    }

    pub(super) fn call(&self) -> u64 {
        self.call.unwrap_or(0)
    }
}

#[derive(Debug)]
pub(super) struct Outbox {
    limits: LaneLimits,
    gathers: bool,
    queue: Mutex<Queue>,
    filled: Notify,
    drained: Notify,
}

#[derive(Debug)]
struct Queue {
    /// Number of the first item.
    first: u64,
    /// `None`: withdrawn.
    items: VecDeque<Option<Item>>,
    frames: usize,
    bytes: usize,
    /// Frames taken since `gather_start`.
    gather_start: Instant,
    gathered: usize,
}

impl Outbox {
    /// A gathering outbox lets a few frames leave at once, but many together: heartbeats of thousands
    /// of groups then share a write, while the few that confirm a read are not kept waiting.
    pub(super) fn new(limits: LaneLimits, gathers: bool) -> Self {
        let queue =
            Queue { first: 1, items: VecDeque::new(), frames: 0, bytes: 0, gather_start: Instant::now(), gathered: 0 };
        Self { limits, gathers, queue: Mutex::new(queue), filled: Notify::new(), drained: Notify::new() }
    }

    /// Puts a frame in and returns its number, which is its call number too unless it is about another.
    pub(super) fn offer(&self, item: Item) -> Result<u64, PeerError> {
        let mut queue = self.queue.lock();
        let fits = queue.frames == 0 || queue.bytes + item.bytes <= self.limits.queued_bytes_max;
        // Withdrawn items leave holes, which are bounded too.
        let places = queue.frames < self.limits.queued_frames_max
            && queue.items.len() < self.limits.queued_frames_max.saturating_mul(2);
        if !(fits && places) {
            return Err(PeerError::Busy("to be sent"));
        }
        let number = queue.put(item);
        drop(queue);
        self.filled.notify_one();
        Ok(number)
    }

    /// Puts an answer in, whatever waits already: whoever takes calls in waits for [`Outbox::room`].
    pub(super) fn answer(&self, item: Item) {
        self.queue.lock().put(item);
        self.filled.notify_one();
    }

    /// Takes a frame back; `false` when it has been taken by the writer.
    pub(super) fn withdraw(&self, number: u64) -> bool {
        let mut queue = self.queue.lock();
        let Some(place) = number.checked_sub(queue.first) else { return false };
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let Some(item) = queue.items.get_mut(place).and_then(Option::take) else { return false };
        queue.forget(&item);
        queue.skip_holes();
        true
    }

    /// Throws everything out. Frames with a number below the returned one had been taken.
    pub(super) fn clear(&self) -> u64 {
        let mut queue = self.queue.lock();
        let first = queue.first;
        queue.first += queue.items.len() as u64;
        queue.items = VecDeque::new();
        queue.frames = 0;
        queue.bytes = 0;
        first
    }

    /// Waits until there is a frame.
    pub(super) async fn filled(&self) {
        while self.queue.lock().frames == 0 {
            self.filled.notified().await;
        }
    }

    /// Waits until there is a frame that is due to leave.
    pub(super) async fn due(&self) {
        loop {
            self.filled().await;
            let Some(due) = self.gathers.then(|| self.queue.lock().gather_end()).flatten() else { return };
            tokio::time::sleep_until(due).await;
        }
    }

    /// Moves frames to `batch`, until there are no more or the batch is full.
    pub(super) fn take(&self, batch: &mut Vec<Item>) {
        let mut queue = self.queue.lock();
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(item) = queue.items.pop_front()
        {
            queue.first += 1;
            if let Some(item) = item {
                queue.forget(&item);
                bytes += item.bytes;
                batch.push(item);
            }
        }
        if self.gathers {
            queue.count_gathered(batch.len());
        }
        drop(queue);
        self.drained.notify_one();
    }

    /// Waits until less is queued than the limits say.
    pub(super) async fn room(&self) {
        loop {
            {
                let queue = self.queue.lock();
                if queue.frames < self.limits.queued_frames_max && queue.bytes < self.limits.queued_bytes_max {
                    return;
                }
            }
            self.drained.notified().await;
        }
    }
}

impl Queue {
    fn put(&mut self, mut item: Item) -> u64 {
        let number = self.first + self.items.len() as u64;
        self.frames += 1;
        self.bytes += item.bytes;
        item.call.get_or_insert(number);
        self.items.push_back(Some(item));
        number
    }

    fn forget(&mut self, item: &Item) {
        self.frames -= 1;
        self.bytes -= item.bytes;
    }

    fn skip_holes(&mut self) {
        while let Some(None) = self.items.front() {
            self.items.pop_front();
            self.first += 1;
        }
    }

    /// When the present gathering ends; `None` when frames may leave at once.
    fn gather_end(&self) -> Option<Instant> {
        let end = self.gather_start + GATHER_TIME;
        (self.gathered >= GATHER_FRAMES && Instant::now() < end).then_some(end)
    }

    fn count_gathered(&mut self, frames: usize) {
        let now = Instant::now();
        if now >= self.gather_start + GATHER_TIME {
            self.gather_start = now;
            self.gathered = 0;
        }
        self.gathered += frames;
    }
}
