//! One node: a process, its directory, and where it listens.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait::until;

/// Ports below those that the system gives to outgoing connections: a node finds its own free again after a restart.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Where a node listens, and from where it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub api: String,
    pub internal: String,
    /// The network namespace that it lives in.
    pub namespace: Option<String>,
}

impl Place {
    /// Two free ports of this machine.
    pub fn local() -> Self {
        Self {
            api: format!("127.0.0.1:{}", free_port()),
            internal: format!("127.0.0.1:{}", free_port()),
            namespace: None,
        }
    }
}

/// What a node with an empty directory is to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Becomes {
    Founder,
    Member {
        seeds: Vec<String>,
    },
    /// Waits to be told.
    Unjoined,
}

#[derive(Debug)]
pub struct Node {
    pub place: Place,
    /// Name for people.
    pub name: String,
    pub dir: PathBuf,
    data_dir: PathBuf,
    becomes: Becomes,
    /// Further flags.
    pub flags: Vec<String>,
    /// What its environment has beside ours.
    pub environment: Vec<(String, PathBuf)>,
    process: Option<Child>,
}

impl Node {
    pub fn new(dir: PathBuf, name: String, place: Place, becomes: Becomes) -> Self {
        let data_dir = dir.join("data");
        Self { place, name, dir, data_dir, becomes, flags: Vec::new(), environment: Vec::new(), process: None }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    /// The next start uses another directory.
    pub fn set_data_dir(&mut self, data_dir: PathBuf) {
        self.data_dir = data_dir;
    }

    pub fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// All that the node has logged so far, in all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn set_becomes(&mut self, becomes: Becomes) {
        self.becomes = becomes;
    }

    /// Starts the process; does not wait for it to serve.
    ///
    /// # Errors
    /// The program is missing, or the process runs already.
    pub fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        fs::create_dir_all(&self.dir)?;
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = match &self.place.namespace {
            None => Command::new(program()),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program());
                command
            }
        };
        command.arg("start").arg("--data-dir").arg(self.data_dir());
        command.args([
            "--node-name",
            &self.name,
            "--listen",
            &self.place.api,
            "--internal-listen",
            &self.place.internal,
        ]);
        match &self.becomes {
            Becomes::Founder => drop(command.arg("--bootstrap")),
            Becomes::Member { seeds } => drop(command.args(["--join", &seeds.join(",")])),
            Becomes::Unjoined => {}
        }
        if self.place.namespace.is_some() {
            command.arg("--insecure");
        }
        command.args(&self.flags);
        for (key, _) in
            std::env::vars().filter(|(key, _)| key.starts_with("BRISTLECONE_") || key.starts_with("TEMPORAL_"))
        {
            command.env_remove(key);
        }
        if let Ok(level) = std::env::var("BRISTLECONE_LOG_LEVEL") {
            command.env("BRISTLECONE_LOG_LEVEL", level);
        }
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Whether the process lives. One that has ended by itself is noticed here.
    pub fn is_running(&mut self) -> bool {
        self.ended().is_none() && self.process.is_some()
    }

    /// How the process ended, when it did so by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait().ok()??;
        self.process = None;
        Some(status)
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended meanwhile.
            drop(process.kill());
            drop(process.wait());
        }
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_end(Duration::from_secs(30)).await
    }

    /// Waits until the process has ended by itself.
    pub async fn wait_end(&mut self, time: Duration) -> ExitStatus {
        let name = self.name.clone();
        let mut process = self.process.take().expect("it was started");
        until(&format!("the end of {name}"), time, || {
            let status = process.try_wait();
            async move { status.expect("a child can be waited for").ok_or("it still runs") }
        })
        .await
    }

    /// The process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// What the process has in memory, in MiB.
    pub fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(resident.trim().trim_end_matches(" kB").parse::<u64>().ok()? >> 10)
    }

    /// SIGSTOP: the process hangs, its connections stay.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it was started");
        kill_process(Pid::from_child(process), signal).expect("the process is ours");
    }

    /// Deletes the data, as if the disk had been replaced.
    pub fn wipe(&mut self) {
        assert!(self.process.is_none(), "{} still runs", self.name);
        fs::remove_dir_all(self.data_dir()).expect("the data is there");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.process.is_some() {
            // A process that was paused dies of SIGKILL all the same.
            self.kill();
        }
    }
}

/// The program under test: `BRISTLECONE_BIN`, or the one built beside the tests.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("BRISTLECONE_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test is a program");
    let built = test.parent().and_then(Path::parent).map(|dir| dir.join("bristlecone"));
    built.filter(|path| path.exists()).expect("build the program first: cargo build --release")
}

/// A port that nobody listens on. Each is given once by this process; others begin elsewhere.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    let first = (std::process::id().wrapping_mul(1_009) % u32::from(count)) as u16;
    loop {
        let offset = (u32::from(first) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) * 7) % u32::from(count);
        let port = PORTS.start + offset as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
