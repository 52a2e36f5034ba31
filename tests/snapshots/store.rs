//! What a store keeps, gives back and removes.

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;

use super::*;

#[tokio::test]
async fn the_newest_at_or_below_the_commit_is_given_back() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case { limit: 100, ..Case::default() });
    let store = store(folder.path());
    let mut states: Vec<_> = [1, 2, 3].iter().map(|steps| filled(&case, 7, *steps)).collect();
    for (at, state) in [10, 20, 30].into_iter().zip(&mut states) {
        save(&store, 4, at, state).await;
    }
    let Found::Snapshot { position, start, state } = found(&store, &case, Some(4), 25).await.unwrap() else {
        panic!("there is one")
    };
    assert_eq!((position, start), (Position(20), Position(4)));
    assert_eq!(state.snapshot(), states[1].snapshot());
    for (start, committed, at) in [(None, 30, Some(30)), (Some(4), 9, None), (Some(5), 30, None)] {
        assert_eq!(super::position(&found(&store, &case, start, committed).await.unwrap()), at);
    }
}

#[tokio::test]
async fn what_the_commit_needs_and_what_is_above_it_stays() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let (mine, mut state) = (store(folder.path()), filled(&Case::default(), 1, 1));
    let theirs = Store::open(&Place::Folder(folder.path().into()), lineage("other")).unwrap();
    for at in [10, 20, 30, 40, 50] {
        save(&mine, 0, at, &mut state).await;
    }
    save(&mine, 7, 10, &mut state).await;
    save(&theirs, 0, 5, &mut state).await;
    std::fs::write(folder.path().join("notes.txt"), "somebody's").unwrap();
    mine.prune(&partition(), Position(0), Position(35)).await.unwrap();
    let left = |positions: Vec<(Position, Option<Position>)>| {
        positions.into_iter().map(|(at, start)| (at.0, start.unwrap().0)).collect::<Vec<_>>()
    };
    let kept = [(10, 7), (20, 0), (30, 0), (40, 0), (50, 0)];
    assert_eq!(left(mine.positions(&partition()).await.unwrap()), kept);
    assert_eq!(position(&found(&mine, &case, Some(0), 35).await.unwrap()), Some(30));
    mine.forget(&partition()).await.unwrap();
    assert_eq!(left(mine.positions(&partition()).await.unwrap()), []);
    assert_eq!(left(theirs.positions(&partition()).await.unwrap()), [(5, 0)]);
    assert!(folder.path().join("notes.txt").exists());
}

/// The positions of what a store has.
async fn kept(store: &Store) -> Vec<i64> {
    store.positions(&partition()).await.unwrap().iter().map(|(at, _)| at.0).collect()
}

#[tokio::test]
async fn above_the_commit_the_oldest_and_the_newest_of_ones_own_stay() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let (store, mut state) = (store(folder.path()), filled(&case, 1, 1));
    for at in (1..=7).map(|i| 10 * i) {
        save(&store, 0, at, &mut state).await;
        store.prune(&partition(), Position(0), Position(15)).await.unwrap();
    }
    assert_eq!(kept(&store).await, [10, 20, 70]);
    // The next commit lies before the newest, and finds the oldest.
    store.prune(&partition(), Position(0), Position(65)).await.unwrap();
    assert_eq!(kept(&store).await, [10, 20, 70]);
    assert_eq!(position(&found(&store, &case, Some(0), 65).await.unwrap()), Some(20));
}

#[tokio::test]
async fn who_has_lost_a_partition_removes_nothing_that_its_owner_needs() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let (before, after) = (store(folder.path()), store(folder.path()));
    let mut state = filled(&case, 1, 1);
    for (of, positions) in [(&before, vec![10, 20, 30]), (&after, vec![40, 50, 60, 70])] {
        for at in positions {
            save(of, 0, at, &mut state).await;
        }
    }
    after.prune(&partition(), Position(0), Position(55)).await.unwrap();
    before.prune(&partition(), Position(0), Position(5)).await.unwrap();
    assert_eq!(kept(&after).await, [40, 50, 60, 70]);
    assert_eq!(position(&found(&after, &case, Some(0), 55).await.unwrap()), Some(50));
}

#[tokio::test]
async fn processes_that_die_before_the_next_commit_do_not_fill_the_store() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let mut state = filled(&case, 1, 1);
    for at in 10..50 {
        let store = store(folder.path());
        save(&store, 0, at, &mut state).await;
        store.prune(&partition(), Position(0), Position(5)).await.unwrap();
    }
    let left = kept(&store(folder.path())).await;
    assert_eq!((left.len(), left.first(), left.last()), (18, Some(&10), Some(&49)));
}

#[tokio::test]
async fn another_lineage_names_what_differs() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    save(&store(folder.path()), 0, 10, &mut filled(&case, 1, 1)).await;
    let keys = vec![("grid.every".into(), "20s".into()), ("grid.offset".into(), "1s".into())];
    let other = Store::open(&Place::Folder(folder.path().into()), Lineage::new(keys, "m")).unwrap();
    let Found::Foreign(differences) = found(&other, &case, None, 10).await.unwrap() else {
        panic!("foreign")
    };
    assert_eq!(differences, ["grid.every was 10s, is 20s", "grid.offset is 1s, the snapshot has none"]);
    assert!(matches!(found(&other, &case, None, 9).await.unwrap(), Found::Nothing));
}

#[tokio::test]
async fn the_same_state_is_the_same_bytes_in_any_store() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case { limit: 10_000, ..Case::default() });
    let memory = Arc::new(InMemory::new());
    let bucket = Store::within(memory.clone(), lineage("m"));
    let mut state = filled(&case, 5000, 4);
    save(&store(folder.path()), 0, 20_000, &mut state).await;
    save(&bucket, 0, 20_000, &mut state).await;
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let name = file.file_name().unwrap().to_str().unwrap();
    let stored = memory.get(&ObjectPath::from(name)).await.unwrap().bytes().await.unwrap();
    assert!(stored == std::fs::read(&file).unwrap());
    // Any Arrow reader opens it.
    let reader = arrow::ipc::reader::FileReader::try_new(std::fs::File::open(&file).unwrap(), None).unwrap();
    let rows: usize = reader.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 5000);
    assert_eq!(position(&found(&bucket, &case, Some(0), 20_000).await.unwrap()), Some(20_000));
}

#[tokio::test]
async fn a_folder_that_was_taken_away_comes_back() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let place = folder.path().join("state");
    let store = store(&place);
    std::fs::remove_dir_all(&place).unwrap();
    assert!(matches!(found(&store, &case, None, 9).await.unwrap(), Found::Nothing));
    save(&store, 0, 9, &mut filled(&case, 1, 1)).await;
    assert_eq!(position(&found(&store, &case, None, 9).await.unwrap()), Some(9));
}

#[tokio::test]
async fn what_a_dead_upload_left_is_swept() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let store = store(folder.path());
    save(&store, 0, 10, &mut filled(&case, 1, 1)).await;
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let name = file.to_str().unwrap();
    let (dead, live) = (format!("{name}#1"), format!("{name}#2"));
    for file in [&dead, &live, &format!("{}#1", name.replace("readings", "others"))] {
        std::fs::write(file, "half").unwrap();
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    for file in [&dead, &format!("{}#1", name.replace("readings", "others"))] {
        std::fs::File::options().append(true).open(file).unwrap().set_modified(long_ago).unwrap();
    }
    store.prune(&partition(), Position(0), Position(10)).await.unwrap();
    assert!(!Path::new(&dead).exists() && Path::new(&live).exists());
    assert!(Path::new(&format!("{}#1", name.replace("readings", "others"))).exists());
}

/// A snapshot as it was written before there were batches and digests.
#[tokio::test]
async fn an_older_format_is_named() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let name = format!("readings@3@{:020}-0123456789ab.arrow", 10);
    let state = filled(&case, 1, 1).snapshot();
    let file = std::fs::File::create(folder.path().join(name)).unwrap();
    let mut writer = arrow::ipc::writer::FileWriter::try_new(file, &state.schema()).unwrap();
    let keys = [("grid.every", "10s"), ("model", "m"), ("snapshot format", "2")];
    writer.write_metadata("lineage", serde_json::to_string(&keys).unwrap());
    writer.write(&state).unwrap();
    writer.finish().unwrap();
    let found = found(&store(folder.path()), &case, None, 10).await.unwrap();
    let Found::Foreign(differences) = found else { panic!("foreign") };
    assert_eq!(differences, [format!("snapshot format was 2, is {}", tidecast_stream::state::FORMAT)]);
}

#[test]
fn what_a_cloud_needs_is_asked_for_by_name() {
    let open = |url: &str| Store::open(&Place::Url(url.into()), lineage("m"));
    let error = format!("{:#}", open("az://container/x").unwrap_err());
    assert!(error.contains("cannot open the state store az://container/x"), "{error}");
    open("s3://bucket/x").unwrap();
}

#[tokio::test]
async fn a_store_that_cannot_be_listed_is_named_with_its_key() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let place = folder.path().join("state");
    let store = store(&place);
    std::fs::remove_dir(&place).unwrap();
    // A link that leads back to itself.
    std::os::unix::fs::symlink(&place, &place).unwrap();
    let Err(error) = found(&store, &case, None, 10).await else { panic!("there is nothing to list") };
    let error = format!("{error:#}");
    assert!(
        error.contains("cannot list the snapshots in") && error.contains("is [state] store right"),
        "{error}"
    );
}
