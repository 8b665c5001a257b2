//! What every file system does: the same tests over the operating system's and over the model.

use std::io::ErrorKind;
use std::path::Path;

use super::{ModelVfs, Open, RealVfs, Vfs, VfsFile, read_exact_at};

const TESTS: [fn(&dyn Vfs, &Path); 9] = [
    opening_asks_for_what_is_there,
    reads_and_writes_at_any_offset,
    files_grow_and_shrink,
    allocating_keeps_bytes_and_adds_zeros,
    renaming_replaces,
    removed_files_stay_readable,
    directories,
    locks_are_exclusive,
    space_is_told,
];

fn conforms(vfs: &dyn Vfs, root: &Path) {
    for (number, test) in TESTS.iter().enumerate() {
        let dir = root.join(format!("test-{number}"));
        vfs.create_dir_all(&dir).unwrap();
        test(vfs, &dir);
    }
}

#[test]
fn the_operating_system_conforms() {
    let root = tempfile::tempdir().unwrap();
    conforms(&RealVfs, root.path());
}

#[test]
fn the_model_conforms() {
    conforms(&ModelVfs::new(1), Path::new("/data"));
    conforms(&ModelVfs::volatile(), Path::new("/data"));
}

fn contents(file: &dyn VfsFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(file, &mut bytes, 0).unwrap();
    bytes
}

fn opening_asks_for_what_is_there(vfs: &dyn Vfs, dir: &Path) {
    let path = dir.join("file");
    assert!(!vfs.exists(&path).unwrap());
    assert_eq!(vfs.open(&path, Open::Existing).unwrap_err().kind(), ErrorKind::NotFound);
    let file = vfs.open(&path, Open::CreateNew).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_at(b"bytes", 0).unwrap();
    assert!(vfs.exists(&path).unwrap());
    assert_eq!(vfs.open(&path, Open::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(contents(&*vfs.open(&path, Open::Create).unwrap()), b"bytes");
    assert_eq!(contents(&*vfs.open(&path, Open::Existing).unwrap()), b"bytes");
    let nowhere = dir.join("absent").join("file");
    assert_eq!(vfs.open(&nowhere, Open::Create).unwrap_err().kind(), ErrorKind::NotFound);
}

fn reads_and_writes_at_any_offset(vfs: &dyn Vfs, dir: &Path) {
    let file = vfs.open(&dir.join("file"), Open::Create).unwrap();
    file.write_at(b"world", 6).unwrap();
    file.write_at(b"hello ", 0).unwrap();
    assert_eq!(contents(&*file), b"hello world");
    file.write_at(b"far", 2_000).unwrap();
    assert_eq!(file.len().unwrap(), 2_003);
    let mut buffer = [9; 8];
    assert_eq!(file.read_at(&mut buffer, 1_998).unwrap(), 5);
    assert_eq!(&buffer, b"\0\0far\x09\x09\x09");
    assert_eq!(file.read_at(&mut buffer, 2_003).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, 9_999).unwrap(), 0);
    assert_eq!(read_exact_at(&*file, &mut buffer, 1_998).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    file.sync_data().unwrap();
    file.sync_all().unwrap();
}

fn files_grow_and_shrink(vfs: &dyn Vfs, dir: &Path) {
    let file = vfs.open(&dir.join("file"), Open::Create).unwrap();
    file.write_at(b"0123456789", 0).unwrap();
    file.truncate(4).unwrap();
    assert_eq!(contents(&*file), b"0123");
    file.truncate(6).unwrap();
    assert_eq!(contents(&*file), b"0123\0\0");
}

fn allocating_keeps_bytes_and_adds_zeros(vfs: &dyn Vfs, dir: &Path) {
    let file = vfs.open(&dir.join("file"), Open::Create).unwrap();
    file.write_at(b"abc", 0).unwrap();
    file.allocate(8_192).unwrap();
    assert_eq!(file.len().unwrap(), 8_192);
    let bytes = contents(&*file);
    assert!(bytes.starts_with(b"abc") && bytes.iter().skip(3).all(|byte| *byte == 0));
    file.allocate(100).unwrap();
    assert_eq!(file.len().unwrap(), 8_192);
}

fn renaming_replaces(vfs: &dyn Vfs, dir: &Path) {
    let (old, new) = (dir.join("old"), dir.join("new"));
    vfs.open(&new, Open::Create).unwrap().write_at(b"replaced", 0).unwrap();
    let file = vfs.open(&old, Open::Create).unwrap();
    file.write_at(b"kept", 0).unwrap();
    vfs.rename(&old, &new).unwrap();
    vfs.sync_dir(dir).unwrap();
    assert_eq!(vfs.list(dir).unwrap(), ["new"]);
    assert_eq!(contents(&*vfs.open(&new, Open::Existing).unwrap()), b"kept");
    file.write_at(b"more", 4).unwrap();
    assert_eq!(contents(&*vfs.open(&new, Open::Existing).unwrap()), b"keptmore");
    assert_eq!(vfs.rename(&old, &new).unwrap_err().kind(), ErrorKind::NotFound);
    vfs.create_dir_all(&dir.join("other")).unwrap();
    let elsewhere = dir.join("other").join("new");
    assert_eq!(vfs.rename(&new, &elsewhere).unwrap_err().kind(), ErrorKind::InvalidInput);
}

fn removed_files_stay_readable(vfs: &dyn Vfs, dir: &Path) {
    let path = dir.join("file");
    let file = vfs.open(&path, Open::Create).unwrap();
    file.write_at(b"still", 0).unwrap();
    vfs.remove(&path).unwrap();
    vfs.sync_dir(dir).unwrap();
    assert!(!vfs.exists(&path).unwrap());
    assert_eq!(contents(&*file), b"still");
    assert_eq!(vfs.remove(&path).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(vfs.open(&path, Open::CreateNew).unwrap().is_empty().unwrap());
}

fn directories(vfs: &dyn Vfs, dir: &Path) {
    let deep = dir.join("a").join("b");
    vfs.create_dir_all(&deep).unwrap();
    vfs.create_dir_all(&deep).unwrap();
    vfs.open(&deep.join("2"), Open::Create).unwrap();
    vfs.open(&deep.join("10"), Open::Create).unwrap();
    vfs.open(&dir.join("z"), Open::Create).unwrap();
    assert_eq!(vfs.list(&deep).unwrap(), ["10", "2"]);
    assert_eq!(vfs.list(dir).unwrap(), ["a", "z"]);
    assert!(vfs.exists(&deep).unwrap());
    assert!(vfs.create_dir_all(&dir.join("z").join("below")).is_err());
    vfs.remove_dir_all(&dir.join("a")).unwrap();
    vfs.remove_dir_all(&dir.join("a")).unwrap();
    assert!(!vfs.exists(&deep).unwrap());
    assert_eq!(vfs.list(&deep).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(vfs.sync_dir(&deep).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(vfs.list(dir).unwrap(), ["z"]);
}

fn locks_are_exclusive(vfs: &dyn Vfs, dir: &Path) {
    let held = vfs.lock(dir).unwrap();
    assert_eq!(vfs.lock(dir).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(held);
    drop(vfs.lock(dir).unwrap());
}

fn space_is_told(vfs: &dyn Vfs, dir: &Path) {
    let space = vfs.space(dir).unwrap();
    assert!(space.free > 0 && space.free <= space.total, "{space:?}");
}
