//! `bristlecone debug rows`: what a stopped node has stored, by table.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Context;
use bristlecone_storage::state::keys::{ChainRow, Key};
use bristlecone_storage::state::{Direction, KeyRange, Read, RocksOptions, RocksStore};
use serde_json::json;

use super::Outcome;
use super::cluster::{Output, table};
use super::say::say;

#[derive(Debug, clap::Args)]
pub(super) struct Rows {
    /// Data directory of a node that does not run.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Only rows of the namespace with this id, and runs that no listing knows.
    #[arg(long, value_name = "ID")]
    namespace: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(rows: &Rows) -> anyhow::Result<Outcome> {
    let directory = rows.data_dir.join("state");
    anyhow::ensure!(directory.is_dir(), "{} is no data directory of a node", rows.data_dir.display());
    let store = RocksStore::open(&directory, RocksOptions::small())
        .with_context(|| format!("cannot open {}: does its node run?", directory.display()))?;
    let counts = count(&store, rows.namespace.as_deref())?;
    match rows.output {
        Output::Table => {
            let mut shown = table(&["TABLE", "ROWS"]);
            for (name, count) in counts {
                shown.add_row([name.to_string(), count.to_string()]);
            }
            say(&shown);
        }
        Output::Json => say(format_args!("{:#}", json!(counts))),
    }
    Ok(Outcome::Done)
}

/// Rows by table. A run's own rows don't name its namespace: runs that no listing knows stand apart.
fn count(store: &(impl Read + ?Sized), namespace: Option<&str>) -> anyhow::Result<BTreeMap<&'static str, u64>> {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut known = BTreeSet::new();
    let mut runs: BTreeMap<String, u64> = BTreeMap::new();
    let everything = KeyRange::new(Vec::new(), vec![0xFF; 3]);
    store.scan(&everything, Direction::Forward, &mut |key, _| {
        let Ok((_, key)) = Key::parse(key) else {
            *counts.entry("unknown").or_default() += 1;
            return ControlFlow::Continue(());
        };
        if let Key::Visibility { run, .. } = &key {
            known.insert(run.to_string());
        }
        if let Key::Run { run, .. } | Key::History { run, .. } = &key {
            *runs.entry(run.to_string()).or_default() += 1;
        }
        let (name, of) = about(&key);
        let wanted = namespace.is_none_or(|wanted| of.iter().any(|id| id == wanted));
        if wanted {
            *counts.entry(name).or_default() += 1;
        }
        ControlFlow::Continue(())
    })?;
    let orphans = runs.iter().filter(|(run, _)| !known.contains(*run)).map(|(_, rows)| *rows).sum();
    counts.insert("of runs that no listing knows", orphans);
    Ok(counts)
}

/// The table of a row, and the namespaces that it names.
fn about(key: &Key<'_>) -> (&'static str, Vec<String>) {
    match key {
        Key::Chain { namespace, row: ChainRow::Receipt { namespace: sender, .. }, .. } => {
            ("receipts", vec![namespace.to_string(), sender.to_string()])
        }
        Key::Chain { namespace, .. } => ("chains", vec![namespace.to_string()]),
        Key::Run { .. } => ("runs", Vec::new()),
        Key::History { .. } => ("history", Vec::new()),
        Key::Task { namespace, .. } => ("tasks", vec![namespace.to_string()]),
        Key::TaskCount { namespace, .. } => ("task counts", vec![namespace.to_string()]),
        Key::Deadline { namespace, .. } => ("deadlines", vec![namespace.to_string()]),
        Key::Outbox { namespace, .. } => ("outbox", vec![namespace.to_string()]),
        Key::Visibility { namespace, .. } => ("visibility", vec![namespace.to_string()]),
        Key::Index { namespace, .. } => ("indexes", vec![namespace.to_string()]),
        Key::RunCount { namespace, .. } => ("run counts", vec![namespace.to_string()]),
        Key::Fence { namespace } => ("fences", vec![namespace.to_string()]),
        Key::Namespace { namespace } => ("namespaces", vec![namespace.to_string()]),
        _ => ("others", Vec::new()),
    }
}
