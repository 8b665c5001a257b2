//! What happened, line by line: hashed always, kept or printed when asked for.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use parking_lot::Mutex;
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// Lines that a failure is reported with.
const TAIL: usize = 40;

#[derive(Debug)]
pub struct Trace {
    begun: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    hash: Xxh3,
    lines: u64,
    tail: VecDeque<String>,
    file: Option<File>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lines", self.lines)
    }
}

impl Trace {
    pub fn new(begun: Instant, file: Option<&Path>) -> std::io::Result<Self> {
        let file = file.map(File::create).transpose()?;
        let inner = Inner { hash: Xxh3::new(), lines: 0, tail: VecDeque::new(), file };
        Ok(Self { begun, inner: Mutex::new(inner) })
    }

    pub fn line(&self, text: &str) {
        let line = format!("{:>10.3} {text}", self.begun.elapsed().as_secs_f64());
        let mut inner = self.inner.lock();
        inner.hash.update(line.as_bytes());
        inner.lines += 1;
        if let Some(file) = &mut inner.file
            && writeln!(file, "{line}").is_err()
        {
            inner.file = None;
        }
        if inner.tail.len() == TAIL {
            inner.tail.pop_front();
        }
        inner.tail.push_back(line);
    }

    pub fn hash(&self) -> u64 {
        self.inner.lock().hash.digest()
    }

    pub fn lines(&self) -> u64 {
        self.inner.lock().lines
    }
}
