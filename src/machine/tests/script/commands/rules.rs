//! Workflow rules of the namespace: `rule slow type=Work attempts=2` makes one that pauses what it applies to,
//! `no-rule slow` removes it.

use bristlecone_machine::rules::{Compare, Condition, Field, Is, Rule};

use super::{Commands, Line};

impl Commands {
    /// Rules are tried in the order of their ids.
    pub fn rule(&mut self, line: &Line) {
        let id = line.what().to_string();
        let rules = &mut self.shell.namespace.rules;
        rules.retain(|rule| rule.id != id);
        if line.name() == "rule" {
            rules.push(rule(line, id));
            rules.sort_by(|a, b| a.id.cmp(&b.id));
        }
    }
}

fn rule(line: &Line, id: String) -> Rule {
    let text = |key: &str, field, compare| {
        line.value(key).map(|value| Condition::Test(field, Is::Text(compare, value.to_string())))
    };
    let number = |key: &str, field| {
        line.number(key).map(|number| Condition::Test(field, Is::Number(Compare::GreaterEqual, number)))
    };
    let tests = [
        text("type", Field::ActivityType, Compare::Equal),
        text("activity", Field::ActivityId, Compare::StartsWith),
        text("state", Field::ActivityState, Compare::Equal),
        text("queue", Field::TaskQueue, Compare::NotEqual),
        number("attempts", Field::Attempts),
        number("backoff", Field::BackoffInterval),
        line.has("senseless").then_some(Condition::Senseless),
    ];
    let workflow = [
        text("workflow", Field::WorkflowId, Compare::Equal),
        text("workflow-type", Field::WorkflowType, Compare::NotStartsWith),
        text("status", Field::ExecutionStatus, Compare::Equal),
    ];
    Rule {
        id,
        identity: "operator".into(),
        description: line.or("why", ""),
        expires: line.nanos("expires").map(|after| crate::shell::START + after),
        pauses: !line.has("idle"),
        workflow: workflow.into_iter().flatten().next(),
        activity: Condition::And(tests.into_iter().flatten().collect()),
    }
}
