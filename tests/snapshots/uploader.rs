//! Snapshots uploaded in the background.

use std::time::Duration;

use tidecast_core::forecaster::COPIED_BYTES_MAX;
use tidecast_stream::state::{SnapshotUploader, Throttle, UploadSchedule};
use tokio::time::{Instant, sleep_until, timeout};

use super::*;

fn other_partition() -> Partition {
    Partition { topic: "readings".into(), number: 4 }
}

const SCHEDULE: UploadSchedule =
    UploadSchedule { every: Duration::from_millis(200), bytes_per_second: 1 << 30 };

fn spawn_uploader(folder: &Path, schedule: UploadSchedule) -> SnapshotUploader {
    SnapshotUploader::spawn(Arc::new(store(folder)), schedule)
}

async fn upload(uploader: &mut SnapshotUploader, partition: &Partition, at: i64, state: &mut Forecaster) {
    state.begin_snapshot(COPIED_BYTES_MAX);
    uploader.begin(partition, Position(0), Position(at)).await;
    while let Some(batch) = next_batch(state, 100) {
        uploader.write(batch, Throttle::Limited).await;
    }
    uploader.finish(Some(Position(at))).await;
}

/// Waits until a snapshot is due.
async fn wait_until_due(uploader: &SnapshotUploader) -> Partition {
    loop {
        match uploader.next() {
            Some((_, at)) => sleep_until(at).await,
            None => uploader.idle().await,
        }
        if let Some(partition) = uploader.due() {
            return partition;
        }
    }
}

#[tokio::test]
async fn partitions_alternate_at_even_intervals() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let mut uploader = spawn_uploader(folder.path(), SCHEDULE);
    uploader.add(&partition(), None);
    uploader.add(&other_partition(), Some(Position(7)));
    assert_eq!((uploader.due(), uploader.saved(&other_partition())), (None, Some(Position(7))));
    let (mut turns, mut state) = (Vec::new(), filled(&case, 1, 1));
    for at in 0..6 {
        let partition = wait_until_due(&uploader).await;
        turns.push((partition.clone(), Instant::now()));
        upload(&mut uploader, &partition, 10 + at, &mut state).await;
    }
    assert!(turns.windows(2).all(|pair| pair[0].0 != pair[1].0), "{turns:?}");
    assert!(turns.windows(2).all(|pair| pair[1].1 - pair[0].1 >= SCHEDULE.every / 2), "{turns:?}");
    uploader.remove(&other_partition());
    assert!(uploader.is_tracking(&partition()) && !uploader.is_tracking(&other_partition()));
    uploader.close().await;
    // The two newest of each partition are retained.
    assert_eq!(files(folder.path()).len(), 4);
}

#[tokio::test]
async fn a_failed_upload_is_retried() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case { series_max: 10_000, ..Case::default() });
    let folder = folder.path().join("state");
    let mut uploader = spawn_uploader(&folder, SCHEDULE);
    uploader.add(&partition(), None);
    block_store(&folder);
    let mut state = filled(&case, 1, 1);
    let turn = wait_until_due(&uploader).await;
    upload(&mut uploader, &turn, 10, &mut state).await;
    let turn = wait_until_due(&uploader).await;
    assert_eq!(uploader.saved(&turn), None);
    fs::remove_file(&folder).unwrap();
    upload(&mut uploader, &turn, 20, &mut state).await;
    wait_until_due(&uploader).await;
    assert_eq!(uploader.saved(&turn), Some(Position(20)));
    uploader.close().await;
    assert_eq!(newest_position(&store(&folder), &case, Some(0), 20).await, Some(20));
}

#[tokio::test]
async fn an_aborted_upload_leaves_no_file() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case { series_max: 10_000, ..Case::default() });
    let mut uploader = spawn_uploader(folder.path(), SCHEDULE);
    uploader.add(&partition(), None);
    let mut state = filled(&case, 5000, 1);
    for end in [SnapshotUploader::abort, |uploader: &mut SnapshotUploader| uploader.remove(&partition())] {
        state.begin_snapshot(COPIED_BYTES_MAX);
        uploader.begin(&partition(), Position(0), Position(10)).await;
        uploader.write(next_batch(&mut state, 5000).unwrap(), Throttle::Limited).await;
        assert_eq!(uploader.current(), Some(&partition()));
        end(&mut uploader);
        assert_eq!(uploader.current(), None);
    }
    uploader.close().await;
    assert!(files(folder.path()).is_empty());
}

#[tokio::test]
async fn the_rate_limit_holds_until_rows_wait_for_the_upload() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case { series_max: 10_000, ..Case::default() });
    // A batch would take most of an hour.
    let mut uploader = spawn_uploader(folder.path(), UploadSchedule { bytes_per_second: 100, ..SCHEDULE });
    uploader.add(&partition(), None);
    let mut state = filled(&case, 10_000, 1);
    state.begin_snapshot(COPIED_BYTES_MAX);
    uploader.begin(&partition(), Position(0), Position(10)).await;
    let began = Instant::now();
    while uploader.has_capacity() {
        uploader.write(next_batch(&mut state, 1000).unwrap(), Throttle::Limited).await;
        tokio::task::yield_now().await;
    }
    let write = uploader.write(next_batch(&mut state, 1000).unwrap(), Throttle::Limited);
    timeout(Duration::from_millis(50), write).await.expect_err("the queue stays full");
    while let Some(batch) = next_batch(&mut state, 1000) {
        uploader.write(batch, Throttle::Unlimited).await;
    }
    uploader.abort();
    uploader.close().await;
    assert!(began.elapsed() < Duration::from_secs(60));
}
