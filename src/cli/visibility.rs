//! `bristlecone visibility verify` and `rebuild`: whether listings show what there is, and making them so.

use std::time::Duration;

use bristlecone_proto::admin::CheckVisibilityRequest;
use bristlecone_proto::node::ListingFaults;
use bristlecone_storage::state::keys::SLOTS;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::Outcome;
use super::cluster::client::{Target, refused};
use super::cluster::{Output, table};
use super::say::say;

/// How long the slots of one call may take.
const CALL_TIME: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Holds the rows behind listings and counts against the runs; exits with 2 when some are wrong. Changes nothing.
    Verify(Args),
    /// The same, and makes right what is wrong; exits with 2 when something is left.
    Rebuild(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this namespace.
    #[arg(long, short, env = "TEMPORAL_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(command: Command) -> anyhow::Result<Outcome> {
    let (args, rebuild) = match command {
        Command::Verify(args) => (args, false),
        Command::Rebuild(args) => (args, true),
    };
    super::serve::block_on(check(args, rebuild))
}

async fn check(args: Args, rebuild: bool) -> anyhow::Result<Outcome> {
    let mut admin = args.target.connect(CALL_TIME).await?;
    let bar = ProgressBar::new(SLOTS.into()).with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} slots")?);
    let (mut found, mut left) = (ListingFaults::default(), ListingFaults::default());
    let mut slot = 0;
    while slot < u32::from(SLOTS) {
        let namespace = args.namespace.clone().unwrap_or_default();
        let mut request = tonic::Request::new(CheckVisibilityRequest { namespace, slot, rebuild });
        request.set_timeout(CALL_TIME);
        let checked = admin.check_visibility(request).await.map_err(refused)?.into_inner();
        anyhow::ensure!(checked.next_slot > slot, "the node got nowhere: ask again");
        slot = checked.next_slot;
        for check in checked.slots {
            add(&mut found, &check.found.unwrap_or_default());
            add(&mut left, &check.left.unwrap_or_default());
        }
        bar.set_position(slot.into());
    }
    bar.finish_and_clear();
    print(args.target.output, rebuild, &found, &left);
    Ok(if kinds(&left).iter().all(|(_, runs)| *runs == 0) { Outcome::Done } else { Outcome::Unhealthy })
}

fn add(sum: &mut ListingFaults, more: &ListingFaults) {
    sum.checked += more.checked;
    sum.missing += more.missing;
    sum.different += more.different;
    sum.superfluous += more.superfluous;
    sum.unindexed += more.unindexed;
    sum.misindexed += more.misindexed;
    sum.miscounted += more.miscounted;
    sum.unreadable += more.unreadable;
}

fn kinds(faults: &ListingFaults) -> [(&'static str, u64); 7] {
    [
        ("missing", faults.missing),
        ("different", faults.different),
        ("superfluous", faults.superfluous),
        ("unindexed", faults.unindexed),
        ("misindexed", faults.misindexed),
        ("miscounted", faults.miscounted),
        ("unreadable", faults.unreadable),
    ]
}

fn print(output: Output, rebuild: bool, found: &ListingFaults, left: &ListingFaults) {
    let object = |faults: &ListingFaults| -> Value { kinds(faults).into_iter().map(|(k, n)| (k, json!(n))).collect() };
    match output {
        Output::Json => {
            let shown = match rebuild {
                true => json!({ "checked": found.checked, "found": object(found), "left": object(left) }),
                false => json!({ "checked": found.checked, "found": object(found) }),
            };
            say(format_args!("{shown:#}"));
        }
        Output::Table => {
            let mut rows = table(if rebuild { &["LISTINGS", "FOUND", "LEFT"] } else { &["LISTINGS", "FOUND"] });
            rows.add_row(["checked".to_owned(), found.checked.to_string()]);
            for ((kind, found), (_, left)) in kinds(found).into_iter().zip(kinds(left)) {
                let mut row = vec![kind.to_owned(), found.to_string()];
                row.extend(rebuild.then(|| left.to_string()));
                rows.add_row(row);
            }
            say(&rows);
        }
    }
}
