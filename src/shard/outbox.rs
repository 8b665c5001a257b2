//! Effects on other chains: delivered at least once, in order for each pair of chains.
//!
//! # Contract
//! A row stays until its answer is applied by the chain that wrote it. For each pair (sender, receiver)
//! one row is under way at a time; what fails is tried again for ever, with a growing pause.
//!
//! | dies after … | what is left | what recovers it |
//! |---|---|---|
//! | the row is applied | the row | the next epoch sends it |
//! | the receiver took it | row and receipt | it is sent again; the receipt answers |
//! | the answer is applied | the receipt | the forget that follows, or nothing: it is small and never looked at again |

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bristlecone_proto::chain::{Answer, ChainId, Forget, Input, Origin, Reply, Send, input};
use tokio::time::Instant;

use super::mailbox::{Body, Mail, Mailbox, Respond};
use super::{ChainKey, Surroundings};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Attempts to have a receipt forgotten.
const FORGET_ATTEMPTS: u32 = 10;

/// The effects that wait, by pair of chains; the first of each queue is under way.
#[derive(Debug, Default)]
pub struct Outbox {
    pairs: HashMap<(ChainKey, ChainKey), VecDeque<(u64, Send)>>,
    /// The receiver of each row.
    targets: HashMap<(ChainKey, u64), ChainKey>,
    /// Heads that are to be sent once the batch that wrote them is applied.
    ready: Vec<(ChainKey, ChainKey)>,
}

impl Outbox {
    /// A row was written.
    pub fn added(&mut self, sender: &ChainKey, sequence: u64, send: Send) {
        let Some(target) = &send.target else { return };
        let pair = (sender.clone(), ChainKey::of(target));
        if self.targets.insert((sender.clone(), sequence), pair.1.clone()).is_some() {
            return;
        }
        let queue = self.pairs.entry(pair.clone()).or_default();
        queue.push_back((sequence, send));
        if queue.len() == 1 {
            self.ready.push(pair);
        }
    }

    /// A row was removed: its answer was applied. Returns the receiver, who may forget it.
    pub fn removed(&mut self, sender: &ChainKey, sequence: u64) -> Option<ChainId> {
        let pair = (sender.clone(), self.targets.remove(&(sender.clone(), sequence))?);
        let queue = self.pairs.get_mut(&pair)?;
        let at = queue.iter().position(|(known, _)| *known == sequence)?;
        let (_, send) = queue.remove(at)?;
        if queue.is_empty() {
            self.pairs.remove(&pair);
        } else if at == 0 {
            self.ready.push(pair);
        }
        send.target
    }

    /// Takes what is to be sent now.
    pub fn take_ready(&mut self) -> Vec<(ChainKey, u64, Send)> {
        let ready = std::mem::take(&mut self.ready);
        let heads = ready.into_iter().filter_map(|pair| {
            let (sequence, send) = self.pairs.get(&pair)?.front()?;
            Some((pair.0, *sequence, send.clone()))
        });
        heads.collect()
    }
}

/// Sends one effect until it is answered, and puts the answer into the sender's mailbox.
pub async fn deliver(around: Arc<Surroundings>, mailbox: Mailbox, sender: ChainId, sequence: u64, send: Send) {
    let (Some(target), Some(mut input)) = (send.target, send.input) else { return };
    input.origin = Some(Origin { sender: Some(sender.clone()), sequence });
    let reply = attempt(&around, &target, input).await;
    let answer = Answer { sequence, run_id: send.run_id, reply: Some(reply.into()) };
    let mut mail = Mail {
        chain: sender,
        body: Body::Input {
            input: Box::new(Input { kind: Some(input::Kind::Answer(answer)), origin: None }),
            respond: Respond::Nobody,
        },
        deadline: None,
    };
    while let Err(back) = mailbox.push(mail) {
        mail = *back;
        tokio::time::sleep(PAUSE_MAX).await;
    }
}

/// Tells a receiver that a row is gone.
pub async fn forget(around: Arc<Surroundings>, sender: ChainId, sequence: u64, target: ChainId) {
    let Some(cluster) = around.cluster.get() else { return };
    for _ in 0..FORGET_ATTEMPTS {
        let forget = Forget { sender: Some(sender.clone()), sequence };
        let input = Input { kind: Some(input::Kind::Forget(forget)), origin: None };
        if cluster.deliver(&target, input, Instant::now() + ATTEMPT).await.is_ok() {
            return;
        }
        tokio::time::sleep(PAUSE_MAX).await;
    }
}

async fn attempt(around: &Surroundings, target: &ChainId, input: Input) -> Reply {
    let mut pause = Duration::from_millis(50);
    loop {
        if let Some(cluster) = around.cluster.get()
            && let Ok(reply) = cluster.deliver(target, input.clone(), Instant::now() + ATTEMPT).await
            && !bristlecone_machine::is_for_later(&reply)
        {
            return reply;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
