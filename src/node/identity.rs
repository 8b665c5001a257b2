//! Whose data directory this is.
//!
//! # Contract
//! ```text
//! identity    magic «BCNODE01», CRC-32C of the rest (u32, little endian), record.NodeIdentity
//! founding    present while a cluster is being founded: what else is there may be thrown away
//! join        the random key under which this directory asked to join
//! lock        held while a process uses the directory
//! ```
//! | dies after … | what is left | what recovers it |
//! | --- | --- | --- |
//! | `founding` is written | half a cluster | the next `--bootstrap` throws it away and begins anew |
//! | `identity` is written | a founded cluster | any start; `founding` is ignored |
//! | a node id was allocated, or the log was created for it | `join`, no `identity` | the next `--join` throws the log away and gets the same node id |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bristlecone_proto::record::NodeIdentity;
use bristlecone_storage::vfs::{Open, Vfs, read_exact_at};
use prost::Message;

use super::config::Role;

const MAGIC: &[u8; 8] = b"BCNODE01";
/// Layout of the data directory that this version reads and writes.
pub const FORMAT: u32 = 2;

/// A data directory, before anything in it is opened.
#[derive(Debug)]
pub struct DataDir {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
}

impl DataDir {
    pub fn new(vfs: Arc<dyn Vfs>, dir: &Path) -> anyhow::Result<Self> {
        vfs.create_dir_all(dir).with_context(|| format!("cannot create the data directory {}", dir.display()))?;
        Ok(Self { vfs, dir: dir.to_path_buf() })
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    /// The identity; `None` in a directory that no node has used.
    pub fn identity(&self) -> anyhow::Result<Option<NodeIdentity>> {
        let path = self.dir.join("identity");
        let Some(bytes) = self.read(&path)? else { return Ok(None) };
        let damaged = || format!("{} is damaged", path.display());
        let (magic, rest) = bytes.split_first_chunk::<8>().with_context(damaged)?;
        ensure!(magic == MAGIC, "{} is not the identity of a Bristlecone node", path.display());
        let (crc, body) = rest.split_first_chunk::<4>().with_context(damaged)?;
        ensure!(u32::from_le_bytes(*crc) == crc32c::crc32c(body), damaged());
        let identity = NodeIdentity::decode(body).with_context(damaged)?;
        if identity.format > FORMAT {
            bail!(
                "the data directory {} has format {}, this version knows up to {FORMAT}: use a newer version",
                self.dir.display(),
                identity.format
            );
        }
        // Format 1 has no index of start times.
        ensure!(
            identity.format == FORMAT,
            "the data directory {} has format {}, of a version before the first release; this one needs {FORMAT}",
            self.dir.display(),
            identity.format
        );
        Ok(Some(identity))
    }

    pub fn write_identity(&self, identity: &NodeIdentity) -> anyhow::Result<()> {
        let body = identity.encode_to_vec();
        let mut bytes = Vec::with_capacity(12 + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        self.replace("identity", &bytes)?;
        self.remove("founding")?;
        self.remove("join")
    }

    /// Makes a directory without identity ready for its first start, before anything in it is opened: throws
    /// away what an interrupted first start left, and leaves the mark of this one. `fresh_key` is used if there
    /// is no key to join under yet. Does nothing to a directory that has an identity.
    ///
    /// # Errors
    /// The directory holds data that no first start left there, or the role needs data and there is none.
    pub fn prepare(&self, role: &Role, fresh_key: &str) -> anyhow::Result<()> {
        if self.identity()?.is_some() {
            return Ok(());
        }
        if self.vfs.exists(&self.dir.join("founding"))? || self.vfs.exists(&self.dir.join("join"))? {
            for dir in [self.log(), self.state(), self.snapshots()] {
                self.vfs.remove_dir_all(&dir)?;
            }
        }
        self.require_empty()?;
        match role {
            Role::Restart => {
                bail!("the data directory is empty: say --bootstrap to found a cluster, or --join to join one")
            }
            Role::Bootstrap { .. } => self.replace("founding", b""),
            Role::Join { .. } if self.vfs.exists(&self.dir.join("join"))? => Ok(()),
            Role::Join { .. } => self.replace("join", fresh_key.as_bytes()),
        }
    }

    /// The key under which this directory asks to join, the same at every attempt.
    pub fn join_key(&self) -> anyhow::Result<String> {
        let key = self.read(&self.dir.join("join"))?;
        Ok(String::from_utf8(key.context("the directory was not made ready for joining")?)?)
    }

    /// Refuses a directory that holds data but does not say whose.
    fn require_empty(&self) -> anyhow::Result<()> {
        for dir in [self.log(), self.state()] {
            let names = match self.vfs.list(&dir) {
                Ok(names) => names,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            ensure!(
                names.is_empty(),
                "{} holds data, but {} has no identity file: it is damaged or no data directory of a node",
                dir.display(),
                self.dir.display()
            );
        }
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let file = match self.vfs.open(path, Open::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
        read_exact_at(&*file, &mut bytes, 0)?;
        Ok(Some(bytes))
    }

    /// Writes a small file whole or not at all.
    fn replace(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let fresh = self.dir.join(format!("{name}.new"));
        let file = self.vfs.open(&fresh, Open::Create)?;
        file.truncate(0)?;
        file.write_at(bytes, 0)?;
        file.sync_all()?;
        self.vfs.rename(&fresh, &self.dir.join(name))?;
        self.vfs.sync_dir(&self.dir)?;
        Ok(())
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        match self.vfs.remove(&self.dir.join(name)) {
            Ok(()) => Ok(self.vfs.sync_dir(&self.dir)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_storage::vfs::ModelVfs;

    fn directory() -> (ModelVfs, DataDir) {
        let vfs = ModelVfs::new(1);
        let dir = DataDir::new(Arc::new(vfs.clone()), Path::new("/data")).expect("an empty disk");
        (vfs, dir)
    }

    fn founds() -> Role {
        Role::Bootstrap { shards: 1, replication_factor: 3 }
    }

    fn joins() -> Role {
        Role::Join { seeds: vec!["127.0.0.1:7234".into()] }
    }

    #[test]
    fn an_identity_survives_a_power_cut_and_damage_is_named() {
        let (vfs, dir) = directory();
        assert!(dir.identity().expect("readable").is_none());
        dir.prepare(&founds(), "").expect("empty");
        let identity = NodeIdentity { format: FORMAT, cluster_id: "c".into(), node_id: 7, ..NodeIdentity::default() };
        dir.write_identity(&identity).expect("written");
        vfs.crash();
        assert_eq!(dir.identity().expect("readable"), Some(identity));
        assert!(vfs.flip(Path::new("/data/identity"), 14, 1));
        let error = dir.identity().expect_err("damaged").to_string();
        assert!(error.contains("identity is damaged"), "{error}");
    }

    #[test]
    fn a_newer_format_and_a_directory_without_identity_are_refused() {
        let (vfs, dir) = directory();
        let identity = NodeIdentity { format: FORMAT + 1, ..NodeIdentity::default() };
        dir.write_identity(&identity).expect("written");
        assert!(dir.identity().expect_err("newer").to_string().contains("use a newer version"));
        vfs.remove(Path::new("/data/identity")).expect("there");
        vfs.create_dir_all(Path::new("/data/log")).expect("room");
        vfs.open(Path::new("/data/log/1"), Open::Create).expect("room");
        assert!(dir.prepare(&founds(), "").expect_err("data").to_string().contains("no identity file"));
        assert!(dir.prepare(&joins(), "k").is_err());
        assert!(dir.join_key().is_err());
    }

    #[test]
    fn what_an_interrupted_first_start_left_is_thrown_away_and_its_join_key_is_not() {
        let (vfs, dir) = directory();
        for (role, key) in [(joins(), "first"), (joins(), "second"), (founds(), "")] {
            dir.prepare(&role, key).expect("ready");
            vfs.create_dir_all(&dir.state()).expect("room");
            vfs.open(&dir.state().join("CURRENT"), Open::Create).expect("room");
            vfs.crash();
            assert_eq!(dir.join_key().expect("written"), "first");
        }
        assert!(dir.prepare(&Role::Restart, "").expect_err("empty").to_string().contains("--bootstrap"));
    }
}
