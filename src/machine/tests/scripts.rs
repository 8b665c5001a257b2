//! Machine scripts: the files in `testdata` feed inputs to a shell and print what each comes to.
//!
//! A script is a sequence of steps, each a command (with indented lines where it takes more), a line
//! `----`, and the printed outcome up to an empty line. `BRISTLECONE_REWRITE=1` writes the outcomes anew.
//! The commands stand in `script/commands.rs`.

#![allow(deprecated, reason = "old clients send deprecated fields")]
#![allow(clippy::indexing_slicing, reason = "a wrong index is a failed test")]

mod script;
mod shell;

use std::path::Path;
use std::{env, fs};

use script::Script;

#[test]
fn every_script_prints_what_it_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let rewrite = env::var("BRISTLECONE_REWRITE").is_ok_and(|value| value == "1");
    let mut paths: Vec<_> =
        fs::read_dir(dir).expect("testdata is there").map(|e| e.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(!paths.is_empty(), "no scripts");
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("readable");
        let printed = Script::parse(&text).run(&name);
        if printed == text {
            continue;
        }
        if rewrite {
            fs::write(&path, printed).expect("writable");
        } else {
            wrong.push(format!("{name}:\n{}", first_difference(&text, &printed)));
        }
    }
    assert!(wrong.is_empty(), "{}\n(BRISTLECONE_REWRITE=1 accepts)", wrong.join("\n"));
}

fn first_difference(expected: &str, printed: &str) -> String {
    let mut line = 1;
    for (old, new) in expected.lines().zip(printed.lines()) {
        if old != new {
            return format!("line {line}\n  - {old}\n  + {new}");
        }
        line += 1;
    }
    format!("line {line}: one is longer")
}
