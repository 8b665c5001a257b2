//! Clusters of real processes: their life by the command line, and what they refuse.

mod bench;
mod damage;
mod life;
mod listings;
mod refusals;

use std::process::Output;

/// What a command printed.
fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command that succeeded printed.
#[track_caller]
fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(output), stderr(output));
    stdout(output)
}

/// The JSON of a command that ended with this code.
#[track_caller]
fn json(output: &Output, code: i32) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(code), "{}{}", stdout(output), stderr(output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a command that could not do it said: exit code 1, and words that include these.
#[track_caller]
fn refused(output: &Output, says: &str) {
    assert_eq!(output.status.code(), Some(1), "{}{}", stdout(output), stderr(output));
    assert!(stderr(output).contains(says), "{}", stderr(output));
}
