//! What commands print on standard output.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints a line. When nobody reads any more (`bristlecone … | head`) the process ends with code 0, and with 1 when
/// the line cannot be written for another reason.
pub(super) fn say(line: impl Display) {
    write(format_args!("{line}\n"));
}

/// As [`say`], without the end of the line.
pub(super) fn show(text: impl Display) {
    write(format_args!("{text}"));
}

fn write(text: std::fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("bristlecone: cannot write to standard output: {error}");
        std::process::exit(1);
    }
}
