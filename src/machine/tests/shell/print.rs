//! Prints messages compactly: the `Debug` text, without what is unset, with times relative to the start
//! of the script and run ids as `r1`, `r2` in order of appearance.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bristlecone_machine::row::TaskKind;
use bristlecone_machine::{News, Row, UpdateNews};
use bristlecone_proto::chain::{Reply, reply};
use bristlecone_proto::temporal::api::enums::v1::WorkflowExecutionStatus;
use bristlecone_proto::temporal::api::history::v1::HistoryEvent;

use super::{Outcome, SECOND, START};

/// Names of ids, given out in order of appearance.
#[derive(Debug, Default)]
pub struct Names {
    names: BTreeMap<String, String>,
    ids: BTreeMap<String, String>,
}

impl Names {
    /// The id behind a name; other texts stand for themselves.
    pub fn id(&self, name: &str) -> String {
        self.ids.get(name).cloned().unwrap_or_else(|| name.to_string())
    }

    /// Replaces every uuid in the text by its name.
    pub fn shorten(&mut self, text: &str) -> String {
        let bytes = text.as_bytes();
        let mut out = String::new();
        let mut at = 0;
        while at < text.len() {
            let uuid = text.get(at..at + 36).filter(|part| is_uuid(part));
            match uuid {
                Some(uuid) => {
                    out.push_str(&self.name(uuid));
                    at += 36;
                }
                None => {
                    let end = (at + 1..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
                    out.push_str(&text[at..end]);
                    at = end;
                }
            }
        }
        debug_assert!(bytes.len() >= at || out.is_empty());
        out
    }

    fn name(&mut self, uuid: &str) -> String {
        if let Some(name) = self.names.get(uuid) {
            return name.clone();
        }
        let name = format!("r{}", self.names.len() + 1);
        self.names.insert(uuid.to_string(), name.clone());
        self.ids.insert(name.clone(), uuid.to_string());
        name
    }
}

fn is_uuid(text: &str) -> bool {
    text.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase(),
    })
}

/// Everything that a step came to.
pub fn outcome(outcome: &Outcome, names: &mut Names) -> String {
    let mut lines = vec![format!("reply {}", reply_text(&outcome.reply))];
    if !outcome.changed {
        lines.push("unchanged".into());
    }
    for row in &outcome.rows {
        lines.extend(row_lines(row));
    }
    for (key, task) in &outcome.offers {
        let sign = if task.is_some() { "+" } else { "-" };
        lines.push(format!("{sign}offer {} on {}", key.scheduled_event_id, key.queue));
    }
    for UpdateNews { update_id, news, .. } in &outcome.news {
        lines.push(match news {
            News::Accepted => format!("update {update_id} accepted"),
            News::Completed(outcome) => format!("update {update_id} completed {}", compact(outcome)),
            News::Aborted(rejection) => {
                format!("update {update_id} aborted {} {:?}", rejection.code, rejection.message)
            }
            News::Continuing => format!("update {update_id} goes to the next run"),
        });
    }
    let relative = |at: Option<i64>| at.map_or("none".into(), time);
    if outcome.changed {
        let soft = outcome.deadlines.soft.map(|at| format!(" soft {}", time(at))).unwrap_or_default();
        lines.push(format!("deadline {}{soft}", relative(outcome.deadlines.durable)));
    }
    lines.iter().map(|line| names.shorten(line) + "\n").collect()
}

fn reply_text(reply: &Reply) -> String {
    match &reply.kind {
        Some(reply::Kind::Rejected(rejection)) => {
            let detail = rejection.detail.as_ref().map(|d| d.type_url.rsplit('.').next().unwrap_or("").to_string());
            let detail = detail.map(|detail| format!(" [{detail}]")).unwrap_or_default();
            format!("REJECTED {} {:?}{detail}", rejection.code, rejection.message)
        }
        Some(kind) => compact(kind),
        None => "nothing".into(),
    }
}

pub fn event_line(event: &HistoryEvent) -> String {
    let attributes = event.attributes.as_ref().map(compact).unwrap_or_default();
    let attributes = attributes.split_once('{').map(|(_, rest)| format!("{{{rest}")).unwrap_or_default();
    let mut line = format!("{} {} {attributes}", event.event_id, &event.event_type().as_str_name()[11..]);
    if let Some(metadata) = &event.user_metadata {
        line.push_str(&format!(" metadata {}", compact(metadata)));
    }
    if !event.links.is_empty() {
        line.push_str(&format!(" links {}", compact(&event.links)));
    }
    line
}

fn row_lines(row: &Row) -> Vec<String> {
    let sign = |stays: bool| if stays { "+" } else { "-" };
    match row {
        Row::History { run_id, events, .. } => {
            let of = |(at, event): (usize, &HistoryEvent)| {
                format!("{} {}", if at == 0 { run_id.as_str() } else { "  " }, event_line(event))
            };
            events.iter().enumerate().map(of).collect()
        }
        Row::Buffered { run_id, arrival, event } => match event {
            Some(event) => vec![format!("{run_id} buffered {arrival}: {}", event_line(event))],
            None => vec![format!("{run_id} buffered {arrival} -")],
        },
        Row::Chain(record) => vec![format!("{}chain", sign(record.is_some()))],
        Row::Head { .. } | Row::Fields { .. } => Vec::new(),
        Row::Schedule(row) => vec![format!("{}schedule", sign(row.is_some()))],
        Row::ScheduleHead(row) => match row {
            Some(head) => vec![format!("+{}", compact(&**head))],
            None => vec!["-schedule head".into()],
        },
        Row::ScheduleResult(row) => match row {
            Some(result) => vec![format!("+{}", compact(&**result))],
            None => vec!["-schedule result".into()],
        },
        Row::Activity { scheduled_event_id, activity, .. } => match activity {
            Some(a) => {
                let mut line = format!("+activity {scheduled_event_id} attempt {}", a.attempt);
                if a.offered {
                    line.push_str(" offered");
                }
                if a.started_time.is_some() {
                    line.push_str(" started");
                }
                if a.cancel_requested {
                    line.push_str(" cancel-requested");
                }
                if a.paused {
                    line.push_str(" paused");
                }
                if !a.paused_by_rule.is_empty() {
                    line.push_str(&format!(" by {}", a.paused_by_rule));
                }
                if a.reset_requested {
                    line.push_str(" reset");
                }
                if let Some(failure) = &a.last_failure {
                    line.push_str(&format!(" last failure {:?}", failure.message));
                }
                vec![line]
            }
            None => vec![format!("-activity {scheduled_event_id}")],
        },
        Row::Timer { started_event_id, timer, .. } => {
            vec![format!("{}timer {started_event_id}", sign(timer.is_some()))]
        }
        Row::Child { initiated_event_id, child, .. } => {
            vec![format!("{}child {initiated_event_id}", sign(child.is_some()))]
        }
        Row::ExternalSignal { initiated_event_id, external, .. } => {
            vec![format!("{}external signal {initiated_event_id}", sign(external.is_some()))]
        }
        Row::ExternalCancel { initiated_event_id, external, .. } => {
            vec![format!("{}external cancel {initiated_event_id}", sign(external.is_some()))]
        }
        Row::Update { update_id, update, .. } => match update {
            Some(u) => vec![format!(
                "+update {update_id} admitted {} accepted {} completed {}",
                u.admitted_event_id, u.accepted_event_id, u.completed_event_id
            )],
            None => vec![format!("-update {update_id}")],
        },
        Row::SignalRequest { request_id, seen, .. } => vec![format!("{}signal request {request_id}", sign(*seen))],
        Row::Task { key, task } => {
            let kind = match key.kind {
                TaskKind::Workflow => "workflow",
                TaskKind::Activity => "activity",
            };
            let attempt = task.as_ref().map(|task| format!(" attempt {}", task.attempt)).unwrap_or_default();
            let priority = if key.priority == 3 { String::new() } else { format!(" priority {}", key.priority) };
            let id = key.scheduled_event_id;
            vec![format!("{}task {kind} {id} on {}{attempt}{priority}", sign(task.is_some()), key.queue)]
        }
        Row::Deadline { due, armed } => vec![format!("{}deadline row {}", sign(*armed), time(*due))],
        Row::Send { sequence, send } => match send {
            Some(send) => {
                let target = send.target.as_ref().map(|target| target.workflow_id.as_str()).unwrap_or_default();
                let kind = send.input.as_ref().and_then(|input| input.kind.as_ref()).map(compact).unwrap_or_default();
                vec![format!("+send {} to {target}: {kind}", sequence_text(*sequence))]
            }
            None => vec![format!("-send {}", sequence_text(*sequence))],
        },
        Row::Receipt { key, receipt } => {
            let sequence = sequence_text(key.sequence);
            vec![format!("{}receipt {} {sequence}", sign(receipt.is_some()), key.workflow_id)]
        }
        Row::Visibility { before, now, .. } => {
            let status = |listed: &Option<_>| {
                listed
                    .as_ref()
                    .map_or("–".to_string(), |v: &bristlecone_proto::record::Visibility| status_name(v.status))
            };
            vec![format!("listed {} → {}", status(before), status(now))]
        }
        Row::ForgetCounts => vec!["-counts".to_string()],
        Row::PurgeRun { run_id } => vec![format!("purge {run_id}")],
    }
}

/// Outbox sequences begin with the time at which the chain came into being.
fn sequence_text(sequence: u64) -> String {
    let start = START as u64;
    format!("#{}", sequence.wrapping_sub(start) % (SECOND as u64 / 1000))
}

fn status_name(status: i32) -> String {
    let status = WorkflowExecutionStatus::try_from(status).expect("a status of the API");
    status.as_str_name().trim_start_matches("WORKFLOW_EXECUTION_STATUS_").to_string()
}

/// Time since the script began.
pub fn time(at: i64) -> String {
    format!("+{}", span(at - START))
}

fn span(nanos: i64) -> String {
    let seconds = nanos as f64 / SECOND as f64;
    format!("{}s", (seconds * 1e6).round() / 1e6)
}

/// The `Debug` text of a message, without what is unset.
pub fn compact(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let mut parser = Parser { rest: &text };
    let tree = parser.value();
    print(&tree)
}

#[derive(Debug)]
enum Tree {
    Word(String),
    Text(String),
    Struct(String, Vec<(String, Tree)>),
    Tuple(String, Vec<Tree>),
    List(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn value(&mut self) -> Tree {
        self.space();
        if self.rest.starts_with("b\"") {
            self.rest = &self.rest[1..];
            return self.text();
        }
        if self.rest.starts_with('"') {
            return self.text();
        }
        if self.eat('[') {
            return Tree::List(self.items(']'));
        }
        if self.eat('{') {
            return self.map();
        }
        let word = self.word();
        self.space();
        if self.eat('{') {
            return Tree::Struct(word, self.fields());
        }
        if self.eat('(') {
            return Tree::Tuple(word, self.items(')'));
        }
        Tree::Word(word)
    }

    fn text(&mut self) -> Tree {
        let mut escaped = false;
        let end = self.rest[1..]
            .char_indices()
            .find(|(_, c)| {
                let ends = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            })
            .map(|(at, _)| at + 1)
            .expect("a text ends");
        let text = self.rest[1..end].replace("\\\"", "\"").replace("\\\\", "\\");
        self.rest = &self.rest[end + 1..];
        Tree::Text(text)
    }

    fn items(&mut self, end: char) -> Vec<Tree> {
        let mut items = Vec::new();
        while !self.ends(end) {
            items.push(self.value());
            self.space();
            self.eat(',');
        }
        items
    }

    fn map(&mut self) -> Tree {
        let mut entries = Vec::new();
        while !self.ends('}') {
            let key = self.value();
            self.space();
            assert!(self.eat(':'), "a colon before {:?}", self.rest);
            entries.push((key, self.value()));
            self.space();
            self.eat(',');
        }
        Tree::Map(entries)
    }

    fn fields(&mut self) -> Vec<(String, Tree)> {
        let mut fields = Vec::new();
        while !self.ends('}') {
            let name = self.word();
            self.space();
            assert!(self.eat(':'), "a colon before {:?}", self.rest);
            fields.push((name, self.value()));
            self.space();
            self.eat(',');
        }
        fields
    }

    fn ends(&mut self, end: char) -> bool {
        self.space();
        self.eat(end)
    }

    fn word(&mut self) -> String {
        let end = self.rest.find([',', ':', '{', '}', '[', ']', '(', ')', ' ']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_string()
    }

    fn eat(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

fn print(tree: &Tree) -> String {
    match tree {
        Tree::Word(word) => word.clone(),
        Tree::Text(text) => format!("{text:?}"),
        Tree::Tuple(name, items) if name == "Some" => items.first().map(print).unwrap_or_default(),
        Tree::Tuple(name, items) => {
            let items: Vec<String> = items.iter().map(print).collect();
            let inner = items.join(", ");
            if inner.starts_with(char::is_uppercase) { inner } else { format!("{name}({inner})") }
        }
        Tree::List(items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(", ")),
        Tree::Map(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", print(key), print(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Tree::Struct(name, fields) => print_struct(name, fields),
    }
}

fn print_struct(name: &str, fields: &[(String, Tree)]) -> String {
    let number = |wanted: &str| {
        let found = fields.iter().find(|(name, _)| name == wanted);
        found.and_then(|(_, tree)| print(tree).parse::<i64>().ok())
    };
    match name {
        "Timestamp" => return time(number("seconds").unwrap_or(0) * SECOND + number("nanos").unwrap_or(0)),
        "Duration" => return span(number("seconds").unwrap_or(0) * SECOND + number("nanos").unwrap_or(0)),
        "WorkflowTaskToken" => return format!("token{{transitions: {}}}", number("transitions").unwrap_or(0)),
        "Payload" => {
            let data = fields.iter().find(|(name, _)| name == "data");
            return data.map(|(_, tree)| format!("‹{}›", print(tree).trim_matches('"'))).unwrap_or_default();
        }
        _ => {}
    }
    let mut kept: Vec<String> = fields
        .iter()
        .filter(|(name, tree)| !is_unset(tree) && name != "task_id" && name != "event_type")
        .map(|(name, tree)| format!("{name}: {}", print(tree)))
        .collect();
    match (name, kept.len()) {
        ("Payloads" | "WorkflowType" | "ActivityType", 1) => {
            let only = kept.remove(0);
            only.split_once(": ").map(|(_, value)| value.to_string()).unwrap_or(only)
        }
        _ => format!("{name}{{{}}}", kept.join(", ")),
    }
}

fn is_unset(tree: &Tree) -> bool {
    match tree {
        Tree::Word(word) => matches!(word.as_str(), "None" | "0" | "false" | "0.0" | "Unspecified"),
        Tree::Text(text) => text.is_empty(),
        Tree::List(items) => items.is_empty(),
        Tree::Map(entries) => entries.is_empty(),
        Tree::Struct(..) | Tree::Tuple(..) => false,
    }
}
