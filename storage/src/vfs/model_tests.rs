//! What only the model does: power cuts, failures on demand, limits.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{ModelVfs, Open, SECTOR, Vfs, VfsFile};

fn disk(seed: u64) -> (ModelVfs, PathBuf) {
    let vfs = ModelVfs::new(seed);
    let dir = PathBuf::from("/d");
    vfs.create_dir_all(&dir).unwrap();
    (vfs, dir.join("file"))
}

fn contents(vfs: &ModelVfs, path: &Path) -> Vec<u8> {
    let file = vfs.open(path, Open::Existing).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// A durable file with ones in `sectors` sectors.
fn durable(vfs: &ModelVfs, path: &Path, sectors: usize) -> std::sync::Arc<dyn VfsFile> {
    let file = vfs.open(path, Open::Create).unwrap();
    file.write_at(&vec![1; sectors * SECTOR], 0).unwrap();
    file.sync_all().unwrap();
    vfs.sync_dir(path.parent().unwrap()).unwrap();
    file
}

#[test]
fn what_is_synced_survives_and_the_rest_is_torn_by_sectors() {
    let (mut outcomes, mut torn) = (BTreeSet::new(), 0);
    for seed in 0..400 {
        let (vfs, path) = disk(seed);
        let file = durable(&vfs, &path, 4);
        file.write_at(&[2; SECTOR], 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(&[3; 3 * SECTOR], SECTOR as u64).unwrap();
        file.write_at(&[4; 2 * SECTOR], 4 * SECTOR as u64).unwrap();
        vfs.crash();
        assert!(file.len().is_err(), "handles die with the machine");
        let bytes = contents(&vfs, &path);
        assert_eq!(bytes[..SECTOR], [2; SECTOR]);
        let sectors: Vec<_> =
            bytes.chunks(SECTOR).map(|sector| (sector[0], sector.iter().all(|byte| *byte == sector[0]))).collect();
        assert!(sectors.iter().all(|(_, whole)| *whole), "no sector is torn");
        assert!(sectors[1..4].iter().all(|(byte, _)| [1, 3].contains(byte)));
        torn += usize::from(sectors[1..4].iter().any(|(byte, _)| *byte != sectors[1].0));
        outcomes.insert(sectors);
    }
    assert!(outcomes.len() > 15 && torn > 50, "{} outcomes, {torn} torn", outcomes.len());
}

#[test]
fn one_seed_has_one_outcome() {
    let outcome = |seed| {
        let (vfs, path) = disk(seed);
        let file = durable(&vfs, &path, 8);
        file.write_at(&[2; 8 * SECTOR], 0).unwrap();
        vfs.crash();
        contents(&vfs, &path)
    };
    for seed in 0..20 {
        assert_eq!(outcome(seed), outcome(seed));
    }
}

#[test]
fn names_are_durable_after_the_directory_is_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let (vfs, path) = disk(seed);
        let dir = path.parent().unwrap();
        durable(&vfs, &path, 1);
        vfs.rename(&path, &dir.join("renamed")).unwrap();
        vfs.open(&dir.join("new"), Open::CreateNew).unwrap();
        vfs.remove(&dir.join("renamed")).unwrap();
        vfs.crash();
        outcomes.insert(vfs.list(dir).unwrap());
    }
    let steps: [&[&str]; 4] = [&["file"], &["renamed"], &["new", "renamed"], &["new"]];
    assert_eq!(outcomes, steps.iter().map(|names| names.iter().map(ToString::to_string).collect()).collect());
}

#[test]
fn a_failed_sync_is_never_made_good_by_a_later_one() {
    let mut lost = 0;
    for seed in 0..100 {
        let (vfs, path) = disk(seed);
        let file = durable(&vfs, &path, 4);
        file.write_at(&[2; 4 * SECTOR], 0).unwrap();
        vfs.fail_next_sync();
        file.sync_data().unwrap_err();
        assert_eq!(contents(&vfs, &path), vec![2; 4 * SECTOR], "reads show it all the same");
        file.sync_data().unwrap();
        vfs.crash();
        lost += usize::from(contents(&vfs, &path) != vec![2; 4 * SECTOR]);
    }
    assert!(lost > 20, "{lost} lost");
}

#[test]
fn a_killed_process_leaves_the_machine_as_it_is() {
    let (vfs, path) = disk(1);
    let file = durable(&vfs, &path, 1);
    let lock = vfs.lock(path.parent().unwrap()).unwrap();
    file.write_at(&[2; 10], 0).unwrap();
    vfs.kill();
    assert!(file.write_at(&[3], 0).is_err() && file.sync_data().is_err());
    assert_eq!(contents(&vfs, &path)[..11], [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
    let next = vfs.lock(path.parent().unwrap()).unwrap();
    drop(lock);
    assert_eq!(
        vfs.lock(path.parent().unwrap()).unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "a dead guard frees nothing"
    );
    drop(next);
}

#[test]
fn the_power_goes_when_it_is_told_to() {
    let (vfs, path) = disk(1);
    let file = durable(&vfs, &path, 1);
    vfs.cut_power_after(2);
    file.write_at(&[2; SECTOR], 0).unwrap();
    file.sync_data().unwrap();
    assert!(file.write_at(&[3; SECTOR], 0).is_err() && vfs.list(path.parent().unwrap()).is_err());
    vfs.crash();
    assert_eq!(contents(&vfs, &path), [2; SECTOR]);
}

#[test]
fn failures_on_demand() {
    let (vfs, path) = disk(3);
    let file = durable(&vfs, &path, 8);
    vfs.fail_next_write();
    file.write_at(&[2; 8 * SECTOR], 0).unwrap_err();
    let bytes = contents(&vfs, &path);
    assert!(bytes.contains(&1) && bytes.contains(&2), "a part of it was written");
    file.write_at(&[3; SECTOR], 0).unwrap();

    vfs.fail_reads(&path, 100..101);
    let mut buffer = [0; 50];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 50);
    file.read_at(&mut buffer, 60).unwrap_err();
    assert_eq!(file.read_at(&mut buffer, 101).unwrap(), 50);
    vfs.heal_reads();
    assert_eq!(file.read_at(&mut buffer, 60).unwrap(), 50);

    file.sync_data().unwrap();
    assert!(vfs.flip(&path, 7, 2) && !vfs.flip(&path, 99_999, 0) && !vfs.flip(Path::new("/d/none"), 0, 0));
    assert_eq!(contents(&vfs, &path)[6..9], [3, 7, 3]);
    vfs.crash();
    assert_eq!(contents(&vfs, &path)[6..9], [3, 7, 3]);
}

#[test]
fn the_capacity_is_a_limit() {
    let (vfs, path) = disk(1);
    vfs.set_capacity(10_000);
    let file = vfs.open(&path, Open::Create).unwrap();
    file.allocate(8_000).unwrap();
    assert_eq!(vfs.space(path.parent().unwrap()).unwrap().free, 2_000);
    file.write_at(&[1; 8_000], 0).unwrap();
    assert_eq!(file.write_at(&[1; 3_000], 8_000).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.allocate(10_001).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_at(&[1; 2_000], 8_000).unwrap();
    assert_eq!(vfs.space(path.parent().unwrap()).unwrap().free, 0);
    file.truncate(1_000).unwrap();
    assert_eq!(vfs.space(path.parent().unwrap()).unwrap().free, 9_000);
    drop(file);
    vfs.remove(&path).unwrap();
    vfs.sync_dir(path.parent().unwrap()).unwrap();
    assert_eq!(vfs.space(path.parent().unwrap()).unwrap().free, 10_000);
}
