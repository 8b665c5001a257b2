//! Where logs go and how they look, and what a panic leaves behind.

use std::io::IsTerminal;
use std::panic;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    /// One line for people.
    #[default]
    #[value(alias = "text")]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Libraries whose news below warnings is of no use to an operator.
const QUIET: &str = "openraft=warn,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn";

/// Starts logging to standard error.
///
/// `level` is `trace` … `error`, `off` (or `never`), or filter directives such as `info,bristlecone::shard=debug`.
///
/// # Errors
/// The level cannot be read.
pub(super) fn init(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = filter(level)?;
    // Colours are for people: a file would keep their codes.
    let ansi = std::io::stderr().is_terminal();
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    match format {
        LogFormat::Pretty => base.init(),
        LogFormat::Json => base.json().flatten_event(true).init(),
    }
    log_panics();
    Ok(())
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    let directives = match level {
        "never" => "off".to_string(),
        "off" | "error" => level.to_string(),
        "trace" | "debug" | "info" | "warn" => format!("{level},{QUIET}"),
        directives => directives.to_string(),
    };
    EnvFilter::try_new(&directives).map_err(|error| anyhow::anyhow!("log level {level:?}: {error}"))
}

/// A panic ends one task or quarantines one chain; the log is where its reason survives.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        let thread = std::thread::current();
        let payload = info.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic");
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, thread = thread.name().unwrap_or_default(), %backtrace, "panic: {message}");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_understood() {
        assert_eq!(filter("never").expect("known").to_string(), "off");
        assert!(filter("info").expect("known").to_string().contains("openraft=warn"));
        assert_eq!(filter("warn,bristlecone=debug").expect("directives").to_string(), "bristlecone=debug,warn");
        assert!(filter("bristlecone=loud").is_err());
    }
}
