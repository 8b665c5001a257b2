//! Rules of the source tree that no compiler checks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The limit, far above what a file should have: one operation, one file.
const LINES_MAX: usize = 800;

/// What may stand at the top, apart from dot files.
const TOP: [&str; 14] = [
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "cluster-tests",
    "clippy.toml",
    "proto",
    "raft",
    "rustfmt.toml",
    "scripts",
    "src",
    "storage",
];

/// Our crates, and which of the others each may depend on.
const CRATES: [(&str, &str, &[&str]); 6] = [
    ("proto", "bristlecone-proto", &[]),
    ("storage", "bristlecone-storage", &["bristlecone-proto"]),
    ("raft", "bristlecone-raft", &["bristlecone-proto", "bristlecone-storage"]),
    ("src/machine", "bristlecone-machine", &["bristlecone-proto"]),
    ("", "bristlecone", &["bristlecone-machine", "bristlecone-proto", "bristlecone-raft", "bristlecone-storage"]),
    (
        "cluster-tests",
        "bristlecone-cluster-tests",
        &["bristlecone", "bristlecone-machine", "bristlecone-proto", "bristlecone-raft", "bristlecone-storage"],
    ),
];

/// Outside technologies, and the crates that may know of them.
const TECHNOLOGIES: [(&str, &[&str]); 3] = [
    ("rocksdb", &["storage"]),
    ("openraft", &["raft"]),
    // The generated stubs are proto's.
    ("tonic", &["proto", "", "cluster-tests"]),
];

/// All that the pure core may depend on: nothing here has a clock, a file, a thread or randomness.
const MACHINE: [&str; 5] = ["bristlecone-proto", "bytes", "jiff", "prost", "prost-types"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of the workspace").to_path_buf()
}

/// All files of the tree, by their path from the top.
fn files() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut dirs = vec![root()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("named").to_string_lossy().into_owned();
            if ["target", ".git", ".cluster", "node_modules", "__pycache__", "lib"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
            } else {
                let relative = path.strip_prefix(root()).expect("below it").to_string_lossy().into_owned();
                found.push((relative, path));
            }
        }
    }
    assert!(found.len() > 100, "the tree was not found");
    found.sort();
    found
}

/// The text files, with what is in them.
fn texts() -> Vec<(String, String)> {
    let texts = files().into_iter().filter_map(|(name, path)| Some((name, fs::read_to_string(path).ok()?)));
    texts.collect()
}

fn sources() -> Vec<(String, String)> {
    texts().into_iter().filter(|(name, _)| name.ends_with(".rs")).collect()
}

#[track_caller]
fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    none(sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(name, _)| name).collect());
}

#[test]
fn no_file_grows_monstrous() {
    let long = sources().into_iter().filter(|(_, text)| text.lines().count() > LINES_MAX);
    none(long.map(|(name, text)| format!("{name}: {} lines", text.lines().count())).collect());
}

#[test]
fn the_top_stays_as_it_is() {
    let mut strange = BTreeSet::new();
    for entry in fs::read_dir(root()).expect("readable") {
        let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && name != "target" && !TOP.contains(&name.as_str()) {
            strange.insert(name);
        }
    }
    none(strange.into_iter().collect());
}

/// Names under `[dependencies]`, and under the other tables that name some when `all`.
fn dependencies(dir: &str, all: bool) -> Vec<String> {
    let manifest = fs::read_to_string(root().join(dir).join("Cargo.toml")).expect("a manifest");
    let mut names = Vec::new();
    let mut counts = false;
    for line in manifest.lines() {
        if let Some(table) = line.strip_prefix('[') {
            counts = table == "dependencies]" || (all && table.ends_with("-dependencies]"));
        } else if counts && let Some(end) = line.find(['.', ' ', '=']) {
            names.push(line.split_at(end).0.to_string());
        }
    }
    names
}

#[test]
fn dependencies_point_one_way() {
    let ours: Vec<&str> = CRATES.iter().map(|(_, name, _)| *name).collect();
    let mut wrong = Vec::new();
    for (dir, name, allowed) in CRATES {
        let named = dependencies(dir, true);
        assert!(!named.is_empty(), "{name} depends on something");
        let found = named.into_iter().filter(|used| ours.contains(&used.as_str()) && !allowed.contains(&used.as_str()));
        wrong.extend(found.map(|used| format!("{name} depends on {used}")));
    }
    none(wrong);
}

#[test]
fn each_technology_is_known_to_one_crate() {
    let mut wrong = Vec::new();
    for (technology, allowed) in TECHNOLOGIES {
        for (dir, name, _) in CRATES.iter().filter(|(dir, _, _)| !allowed.contains(dir)) {
            let used = dependencies(dir, true).into_iter().filter(|used| used.split('-').next() == Some(technology));
            wrong.extend(used.map(|used| format!("{name} depends on {used}")));
        }
    }
    none(wrong);
}

#[test]
fn the_core_is_pure() {
    let used = dependencies("src/machine", false).into_iter().filter(|used| !MACHINE.contains(&used.as_str()));
    none(used.map(|used| format!("the core depends on {used}")).collect());
    let core = fs::read_to_string(root().join("src/machine/lib.rs")).expect("the core");
    assert!(core.contains("#![no_std]"));
    let std = sources().into_iter().filter(|(name, text)| {
        name.starts_with("src/machine/") && !name.contains("/tests/") && text.contains("extern crate std")
    });
    none(std.map(|(name, _)| name).collect());
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME"), concat!("XX", "X")];
    let skips = [concat!("#[ig", "nore"), concat!("pytest.mark.", "skip")];
    let mut found = Vec::new();
    for (name, text) in texts().into_iter().filter(|(name, _)| !is_lock(name)) {
        let left = marks.iter().chain(&skips).filter(|mark| text.contains(*mark));
        found.extend(left.map(|mark| format!("{name}: {mark}")));
    }
    none(found);
}

/// Whoever waits for something waits for the thing itself, with a bound. In these files pauses between two looks,
/// the work of a worker and the length of a fault are written down.
#[test]
fn no_test_sleeps_until_it_should_be_done() {
    let may = ["cluster-tests/src/api.rs", "cluster-tests/src/probe.rs", "cluster-tests/src/wait.rs"];
    let mut found = Vec::new();
    for (name, text) in sources() {
        if text.contains(concat!("thread::", "sleep")) {
            found.push(format!("{name} blocks a thread"));
        }
        let sleeps = text.contains(concat!("time::", "sleep("));
        if name.starts_with("cluster-tests/")
            && sleeps
            && !may.contains(&name.as_str())
            && !name.starts_with("cluster-tests/src/work/")
        {
            found.push(format!("{name} sleeps"));
        }
    }
    none(found);
}

/// Nothing in the tree depends on, or tells of, one machine.
#[test]
fn nothing_tells_of_a_machine() {
    let places = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];
    let hosts = [
        concat!("crates", ".io"),
        concat!("npmjs", ".org"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("proxy.golang", ".org"),
        concat!("maven", ".org"),
    ];
    let mut found = Vec::new();
    for (name, text) in texts().into_iter().filter(|(name, _)| !is_lock(name)) {
        for (number, line) in text.lines().enumerate() {
            let place = places.iter().any(|place| {
                line.match_indices(place)
                    .any(|(at, _)| !line.as_bytes()[..at].last().is_some_and(u8::is_ascii_alphanumeric))
            });
            if place || hosts.iter().any(|host| line.contains(host)) {
                found.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    none(found);
}

/// Every path that the two guides name exists.
#[test]
fn the_guides_name_what_is_there() {
    let tops = ["src/", "storage/", "raft/", "proto/", "cluster-tests/", "scripts/"];
    let mut found = Vec::new();
    for guide in ["README.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(root().join(guide)).expect("it is there");
        for word in text.split('`').skip(1).step_by(2) {
            let path = word.split([' ', '*']).next().unwrap_or_default();
            if tops.iter().any(|top| path.starts_with(top)) && !root().join(path).exists() {
                found.push(format!("{guide} names {path}"));
            }
        }
    }
    none(found);
}

#[test]
fn scripts_can_be_run() {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Vec::new();
    for (name, path) in files() {
        let is_script = (name.starts_with("scripts/") && !name.ends_with(".sh")) || name.starts_with(".ci/");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        if is_script && mode & 0o111 == 0 {
            found.push(name);
        }
    }
    none(found);
}

/// Written by a program, with what it likes.
fn is_lock(name: &str) -> bool {
    name.ends_with(".lock") || name.ends_with("package-lock.json") || name.ends_with("go.sum")
}
