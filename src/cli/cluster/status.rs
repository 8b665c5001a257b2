//! `bristlecone cluster status`: nodes, shards and leaders.

use std::time::Duration;

use super::super::Outcome;
use super::Output;
use super::client::{self, ASK_TIME, Target};
use super::health;
use super::view::ClusterView;
use crate::cli::say::{say, show};

const WATCH_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    target: Target,
    /// Shows it again and again, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<Outcome> {
    if args.watch {
        watch(&args.target).await;
    }
    let view = ask(&args.target).await?;
    match args.target.output {
        Output::Json => say(serde_json::to_string_pretty(&view)?),
        Output::Table => show(render(&view)),
    }
    Ok(health::outcome(&view))
}

/// Shows the status until somebody ends the program.
async fn watch(target: &Target) -> ! {
    loop {
        let text = match ask(target).await {
            Ok(view) => render(&view),
            Err(error) => format!("{error:#}\n"),
        };
        // Clears the screen and begins at its top.
        show(format_args!("\x1b[2J\x1b[H{text}"));
        tokio::time::sleep(WATCH_PAUSE).await;
    }
}

async fn ask(target: &Target) -> anyhow::Result<ClusterView> {
    Ok(ClusterView::new(client::status(&mut target.connect(ASK_TIME).await?).await?))
}

fn render(view: &ClusterView) -> String {
    let mut text = format!("cluster {} ({})\n\n", view.name, view.cluster_id);
    text += &format!("{}\n\n{}\n", view.node_table(), view.group_table());
    for problem in &view.problems {
        text += &format!("\n! {problem}");
    }
    text += if view.healthy { "\nhealthy\n" } else { "\n" };
    text
}
