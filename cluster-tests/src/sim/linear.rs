//! What was asked of each workflow id when, and what was answered: the material of `invariants/b5_linear.rs`.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// A call: when it was sent, when its answer came, in steps of one count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    pub called: u64,
    /// With what came of it; `None` while that is unknown, perhaps for ever.
    pub returned: Option<(u64, Answer)>,
    pub ask: Ask,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Start,
    /// By its request id: a repetition is answered as the first was, even after the run has closed.
    Signal {
        request: String,
    },
    /// A worker's completion that ends the run, or continues it as new.
    Close {
        run: String,
    },
    /// Of a run, or (with none) of the current one.
    Describe {
        run: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    Started(String),
    /// A run is open.
    Exists,
    /// No run is open.
    NotFound,
    Described {
        run: String,
        running: bool,
    },
}

/// A call under way.
#[derive(Debug)]
pub struct Under {
    workflow_id: String,
    index: usize,
}

#[derive(Debug, Default)]
pub struct Calls {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    count: u64,
    ops: BTreeMap<String, Vec<Op>>,
}

impl Calls {
    pub fn call(&self, workflow_id: &str, ask: Ask) -> Under {
        let inner = &mut *self.inner.lock();
        inner.count += 1;
        let ops = inner.ops.entry(workflow_id.to_string()).or_default();
        ops.push(Op { called: inner.count, returned: None, ask });
        Under { workflow_id: workflow_id.to_string(), index: ops.len() - 1 }
    }

    /// What came of a call; one whose outcome is unknown is never told.
    pub fn returned(&self, call: &Under, answer: Answer) {
        let inner = &mut *self.inner.lock();
        inner.count += 1;
        if let Some(op) = inner.ops.get_mut(&call.workflow_id).and_then(|ops| ops.get_mut(call.index)) {
            op.returned = Some((inner.count, answer));
        }
    }

    pub fn all(&self) -> BTreeMap<String, Vec<Op>> {
        self.inner.lock().ops.clone()
    }
}
