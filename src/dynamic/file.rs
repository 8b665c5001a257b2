//! The file: `key: [{value: X, constraints: {namespace: N, taskQueueName: Q, taskType: T}}]`, in YAML.

use std::fmt::Display;

use anyhow::{Context, anyhow, bail, ensure};
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::Value;

use super::Settings;
use super::keys::{self, Key, Scope};

/// One value of one key.
#[derive(Debug)]
pub struct Entry {
    pub key: &'static Key,
    pub value: Value,
    pub constraints: Constraints,
}

/// Where a value holds; nothing said: everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Constraints {
    pub namespace: Option<String>,
    pub task_queue: Option<String>,
    pub task_type: Option<TaskType>,
}

/// What waits in a task queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskType {
    Workflow,
    Activity,
    Nexus,
}

type Node<'a> = MarkedYaml<'a>;

/// Reads a file. Keys that mean nothing here are warned of and left out.
///
/// # Errors
/// It is no YAML, has a key that nobody knows, a value of the wrong kind, or a constraint that its key does not
/// take; the message names the line.
pub fn parse(text: &str) -> anyhow::Result<Vec<Entry>> {
    let documents = Node::load_from_str(text).map_err(|error| anyhow!("{error}"))?;
    ensure!(documents.len() <= 1, "there is more than one document");
    let mut entries = Vec::new();
    for (name, values) in documents.first().map(|document| pairs(document, "the file")).transpose()?.unwrap_or_default()
    {
        let line = name.span.start.line();
        of_key(name, values, &mut entries).with_context(|| format!("line {line}"))?;
    }
    Ok(entries)
}

fn of_key(name: &Node<'_>, values: &Node<'_>, entries: &mut Vec<Entry>) -> anyhow::Result<()> {
    let name = name.data.as_str().context("a key is not a text")?;
    let Some(key) = keys::find(name) else {
        ensure!(keys::is_theirs(name), "there is no key {name}");
        tracing::warn!(key = name, "this dynamic configuration key means nothing here");
        return Ok(());
    };
    let values = values.data.as_sequence().with_context(|| format!("{name} is not a list of values"))?;
    for entry in values {
        let line = entry.span.start.line();
        entries.push(of_value(key, entry).with_context(|| format!("line {line}: {name}"))?);
    }
    Ok(())
}

fn of_value(key: &'static Key, entry: &Node<'_>) -> anyhow::Result<Entry> {
    let (mut value, mut constraints) = (None, Constraints::default());
    for (field, node) in pairs(entry, "an entry of the list")? {
        match field.data.as_str() {
            Some("value") => value = Some(json(node)?),
            Some("constraints") => constraints = constraints_of(node)?,
            other => bail!("an entry has value and constraints, not {other:?}"),
        }
    }
    let value = value.context("an entry has no value")?;
    key.set(&mut Settings::default(), &value)?;
    let asked = match &constraints {
        Constraints { task_queue: Some(_), .. } => Scope::Queue,
        Constraints { namespace: Some(_), .. } => Scope::Namespace,
        Constraints { task_type: Some(_), .. } => bail!("taskType goes with taskQueueName"),
        _ => Scope::Cluster,
    };
    ensure!(
        asked <= key.scope,
        "it holds for a whole {}",
        match key.scope {
            Scope::Cluster => "cluster",
            Scope::Namespace => "namespace",
            Scope::Queue => "task queue",
        }
    );
    let narrow_type = constraints.task_type.is_some() && constraints.namespace.is_none();
    ensure!(!narrow_type, "taskType goes with namespace and taskQueueName");
    Ok(Entry { key, value, constraints })
}

fn constraints_of(node: &Node<'_>) -> anyhow::Result<Constraints> {
    let mut constraints = Constraints::default();
    for (field, node) in pairs(node, "constraints")? {
        let text = || node.data.as_str().map(str::to_owned).context("a constraint is not a text");
        match field.data.as_str() {
            Some("namespace") => constraints.namespace = Some(text()?),
            Some("taskQueueName") => constraints.task_queue = Some(text()?),
            Some("taskType") => constraints.task_type = Some(task_type(node)?),
            other => bail!("constraints are namespace, taskQueueName and taskType, not {other:?}"),
        }
    }
    Ok(constraints)
}

fn task_type(node: &Node<'_>) -> anyhow::Result<TaskType> {
    match (node.data.as_str(), node.data.as_integer()) {
        (Some(name), _) if name.eq_ignore_ascii_case("Workflow") => Ok(TaskType::Workflow),
        (Some(name), _) if name.eq_ignore_ascii_case("Activity") => Ok(TaskType::Activity),
        (Some(name), _) if name.eq_ignore_ascii_case("Nexus") => Ok(TaskType::Nexus),
        (_, Some(1)) => Ok(TaskType::Workflow),
        (_, Some(2)) => Ok(TaskType::Activity),
        (_, Some(3)) => Ok(TaskType::Nexus),
        _ => bail!("a taskType is Workflow, Activity or Nexus"),
    }
}

/// The fields of a mapping; nothing at all has none.
fn pairs<'a, 'b>(node: &'a Node<'b>, what: impl Display) -> anyhow::Result<Vec<(&'a Node<'b>, &'a Node<'b>)>> {
    match &node.data {
        YamlData::Mapping(mapping) => Ok(mapping.iter().collect()),
        YamlData::Value(Scalar::Null) => Ok(Vec::new()),
        _ => bail!("{what} is not a mapping"),
    }
}

/// No key has a list or a mapping for its value.
fn json(node: &Node<'_>) -> anyhow::Result<Value> {
    match &node.data {
        YamlData::Value(Scalar::Boolean(value)) => Ok(Value::from(*value)),
        YamlData::Value(Scalar::Integer(value)) => Ok(Value::from(*value)),
        YamlData::Value(Scalar::FloatingPoint(value)) => Ok(Value::from(value.into_inner())),
        YamlData::Value(Scalar::String(value)) => Ok(Value::from(value.as_ref())),
        _ => bail!("a value is a number, a text, true or false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_file_too() {
        for text in ["", "# nothing\n", "{}", "matching.rps: [{value: 5}]"] {
            assert!(parse(text).expect(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, says) in [
            ("a: [", "while parsing"),
            ("- 1", "the file is not a mapping"),
            ("{}\n---\n{}", "more than one document"),
            ("\nlimit.blobSiz: [{value: 1}]", "line 2: there is no key limit.blobSiz"),
            ("limit.maxIDLength: 5", "line 1: limit.maxIDLength is not a list of values"),
            (
                "limit.maxIDLength:\n- value: 5\n- value: x",
                "line 3: limit.maxIDLength: setting limit.maxIDLength: \"x\" is not a whole number",
            ),
            ("limit.maxIDLength:\n- {}", "line 2: limit.maxIDLength: an entry has no value"),
            ("limit.maxIDLength:\n- 5", "an entry of the list is not a mapping"),
            ("limit.maxIDLength:\n- {value: [1]}", "a value is a number, a text, true or false"),
            ("limit.maxIDLength:\n- {val: 1}", "an entry has value and constraints, not Some(\"val\")"),
            ("limit.maxIDLength:\n- {value: 1, constraints: {namespace: a}}", "it holds for a whole cluster"),
            ("limit.blobSize.error:\n- {value: 1, constraints: {taskQueueName: q}}", "it holds for a whole namespace"),
            ("limit.blobSize.error:\n- {value: 1, constraints: {shard: q}}", "constraints are namespace"),
            (
                "matching.longPollExpirationInterval:\n- {value: 1s, constraints: {taskQueueName: q, taskType: 1}}",
                "taskType goes with namespace and taskQueueName",
            ),
        ] {
            let error = format!("{:#}", parse(text).expect_err(text));
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
