//! The snapshots that a store restores, retains and removes.

use std::time::{Duration, SystemTime};

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;

use super::*;

/// Position and start of the snapshots in a store.
async fn snapshots(store: &SnapshotStore) -> Vec<(i64, i64)> {
    let snapshots = store.positions(&partition()).await.unwrap();
    snapshots.into_iter().map(|(position, start)| (position.0, start.0)).collect()
}

async fn positions(store: &SnapshotStore) -> Vec<i64> {
    snapshots(store).await.into_iter().map(|(position, _)| position).collect()
}

async fn prune(store: &SnapshotStore, committed: i64) {
    store.prune(&partition(), Position(0), Position(committed)).await.unwrap();
}

#[tokio::test]
async fn the_newest_snapshot_at_or_below_the_committed_position_is_restored() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case { series_max: 100, ..Case::default() });
    let store = store(folder.path());
    let mut states: Vec<_> = [1, 2, 3].iter().map(|steps| filled(&case, 7, *steps)).collect();
    for (position, state) in [10, 20, 30].into_iter().zip(&mut states) {
        save(&store, 4, position, state).await;
    }
    let Lookup::Found { position, start, state } = restore_newest(&store, &case, Some(4), 25).await.unwrap()
    else {
        panic!("there is a snapshot at 20")
    };
    assert_eq!((position, start), (Position(20), Position(4)));
    assert_eq!(state.snapshot(), states[1].snapshot());
    for (start, committed, expected) in [(None, 30, Some(30)), (Some(4), 9, None), (Some(5), 30, None)] {
        assert_eq!(newest_position(&store, &case, start, committed).await, expected);
    }
}

#[tokio::test]
async fn pruning_removes_only_superseded_snapshots_of_the_same_lineage_and_start() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let (store, mut state) = (store(folder.path()), filled(&case, 1, 1));
    let other = open_store(folder.path(), lineage("other"));
    for position in [10, 20, 30, 40, 50] {
        save(&store, 0, position, &mut state).await;
    }
    save(&store, 7, 10, &mut state).await;
    save(&other, 0, 5, &mut state).await;
    fs::write(folder.path().join("notes.txt"), "unrelated").unwrap();
    prune(&store, 35).await;
    assert_eq!(snapshots(&store).await, [(10, 7), (20, 0), (30, 0), (40, 0), (50, 0)]);
    assert_eq!(newest_position(&store, &case, Some(0), 35).await, Some(30));
    store.remove_all(&partition()).await.unwrap();
    assert_eq!(snapshots(&store).await, []);
    assert_eq!(snapshots(&other).await, [(5, 0)]);
    assert!(folder.path().join("notes.txt").exists());
}

#[tokio::test]
async fn above_the_committed_position_the_oldest_and_newest_own_snapshots_are_retained() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let (store, mut state) = (store(folder.path()), filled(&case, 1, 1));
    for position in (1..=7).map(|i| 10 * i) {
        save(&store, 0, position, &mut state).await;
        prune(&store, 15).await;
    }
    assert_eq!(positions(&store).await, [10, 20, 70]);
    // The next commit is below the newest; the oldest is restored.
    prune(&store, 65).await;
    assert_eq!(positions(&store).await, [10, 20, 70]);
    assert_eq!(newest_position(&store, &case, Some(0), 65).await, Some(20));
}

#[tokio::test]
async fn a_former_owner_removes_no_snapshot_of_the_present_owner() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let (former, present) = (store(folder.path()), store(folder.path()));
    let mut state = filled(&case, 1, 1);
    for (store, positions) in [(&former, vec![10, 20, 30]), (&present, vec![40, 50, 60, 70])] {
        for position in positions {
            save(store, 0, position, &mut state).await;
        }
    }
    prune(&present, 55).await;
    prune(&former, 5).await;
    assert_eq!(positions(&present).await, [40, 50, 60, 70]);
    assert_eq!(newest_position(&present, &case, Some(0), 55).await, Some(50));
}

#[tokio::test]
async fn repeated_crashes_before_the_next_commit_do_not_fill_the_store() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let mut state = filled(&case, 1, 1);
    for position in 10..50 {
        let store = store(folder.path());
        save(&store, 0, position, &mut state).await;
        prune(&store, 5).await;
    }
    let left = positions(&store(folder.path())).await;
    assert_eq!((left.len(), left.first(), left.last()), (18, Some(&10), Some(&49)));
}

#[tokio::test]
async fn a_lineage_mismatch_names_the_differences() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    save(&store(folder.path()), 0, 10, &mut filled(&case, 1, 1)).await;
    let keys = vec![("grid.every".into(), "20s".into()), ("grid.offset".into(), "1s".into())];
    let other = open_store(folder.path(), Lineage::new(keys, "m"));
    let Lookup::LineageMismatch(differences) = restore_newest(&other, &case, None, 10).await.unwrap() else {
        panic!("the lineages differ")
    };
    assert_eq!(differences, ["grid.every was 10s, is 20s", "grid.offset is 1s, the snapshot has none"]);
    assert!(matches!(restore_newest(&other, &case, None, 9).await.unwrap(), Lookup::NotFound));
}

#[tokio::test]
async fn equal_states_have_equal_bytes_in_any_store() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case { series_max: 10_000, ..Case::default() });
    let memory = Arc::new(InMemory::new());
    let bucket = SnapshotStore::in_object_store(memory.clone(), lineage("m"));
    let mut state = filled(&case, 5000, 4);
    save(&store(folder.path()), 0, 20_000, &mut state).await;
    save(&bucket, 0, 20_000, &mut state).await;
    let file = &files(folder.path())[0];
    let name = file.file_name().unwrap().to_str().unwrap();
    let stored = memory.get(&ObjectPath::from(name)).await.unwrap().bytes().await.unwrap();
    assert!(stored == fs::read(file).unwrap());
    // Any Arrow reader opens the file.
    let reader = arrow::ipc::reader::FileReader::try_new(fs::File::open(file).unwrap(), None).unwrap();
    let rows: usize = reader.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 5000);
    assert_eq!(newest_position(&bucket, &case, Some(0), 20_000).await, Some(20_000));
}

#[tokio::test]
async fn a_removed_folder_is_recreated() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let folder = folder.path().join("state");
    let store = store(&folder);
    fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(restore_newest(&store, &case, None, 9).await.unwrap(), Lookup::NotFound));
    save(&store, 0, 9, &mut filled(&case, 1, 1)).await;
    assert_eq!(newest_position(&store, &case, None, 9).await, Some(9));
}

#[tokio::test]
async fn stale_uploads_of_dead_processes_are_removed() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let store = store(folder.path());
    save(&store, 0, 10, &mut filled(&case, 1, 1)).await;
    let name = files(folder.path())[0].to_str().unwrap().to_owned();
    let (stale, recent) = (format!("{name}#1"), format!("{name}#2"));
    let of_other_topic = format!("{}#1", name.replace("readings", "others"));
    for file in [&stale, &recent, &of_other_topic] {
        fs::write(file, "incomplete").unwrap();
    }
    let two_hours_ago = SystemTime::now() - Duration::from_secs(7200);
    for file in [&stale, &of_other_topic] {
        fs::File::options().append(true).open(file).unwrap().set_modified(two_hours_ago).unwrap();
    }
    prune(&store, 10).await;
    assert!(!Path::new(&stale).exists() && Path::new(&recent).exists());
    assert!(Path::new(&of_other_topic).exists());
}

#[test]
fn a_store_without_its_cloud_settings_is_an_error() {
    let open = |url: &str| SnapshotStore::open(&StateLocation::Url(url.into()), lineage("m"));
    let error = format!("{:#}", open("az://container/x").unwrap_err());
    assert!(error.contains("cannot open the state store az://container/x"), "{error}");
    open("s3://bucket/x").unwrap();
}

#[tokio::test]
async fn a_store_that_cannot_be_listed_is_an_error_with_its_key() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let folder = folder.path().join("state");
    let store = store(&folder);
    fs::remove_dir(&folder).unwrap();
    // A symbolic link to itself.
    std::os::unix::fs::symlink(&folder, &folder).unwrap();
    let Err(error) = restore_newest(&store, &case, None, 10).await else { panic!("there is no folder") };
    let error = format!("{error:#}");
    assert!(
        error.contains("cannot list the snapshots in") && error.contains("`store` in [state]"),
        "{error}"
    );
}
