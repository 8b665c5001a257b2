//! Wall clocks of nodes that can be set: a library that is loaded before the program, and a file that says how far off.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

const SOURCE: &str = include_str!("skew.c");

/// The library, built once for a test.
#[derive(Debug)]
pub struct Skews {
    library: PathBuf,
}

/// The wall clock of one node.
#[derive(Debug)]
pub struct Skew {
    path: PathBuf,
    file: File,
    library: PathBuf,
}

impl Skews {
    /// Builds the library in a directory.
    ///
    /// # Errors
    /// There is no C compiler.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let (source, library) = (dir.join("skew.c"), dir.join("skew.so"));
        fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        let output = compiler.output().context("cc is missing")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Self { library })
    }

    /// A clock that is right until it is told otherwise.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn clock(&self, path: PathBuf) -> anyhow::Result<Skew> {
        let file = File::create(&path)?;
        let skew = Skew { path, file, library: self.library.clone() };
        skew.set(0);
        Ok(skew)
    }
}

impl Skew {
    /// From now on the clock is so many seconds ahead.
    pub fn set(&self, seconds: i64) {
        let nanos = seconds * 1_000_000_000;
        self.file.write_all_at(&nanos.to_ne_bytes(), 0).expect("a file of ours");
    }

    /// What the environment of the node has to be.
    pub fn environment(&self) -> Vec<(String, PathBuf)> {
        vec![("LD_PRELOAD".to_string(), self.library.clone()), ("SKEW_FILE".to_string(), self.path.clone())]
    }
}
