//! Snapshots during a run: every partition gets its turn with and without new rows, and only a store that fails for long
//! stops the pipeline.

use std::collections::BTreeMap;
use std::fs;
use std::future::pending;
use std::path::Path;
use std::time::Instant;

use tidecast_stream::driver::{LineageMismatchPolicy, StateOptions};
use tidecast_stream::settings::StateLocation;
use tidecast_stream::state::{Lineage, SnapshotStore, UploadSchedule};
use tidecast_stream::{Assignment, Source, SourceEvent};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::*;

const EVERY: Duration = Duration::from_millis(200);
const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(4);
const LONGER_THAN_AGE_MAX: Duration = Duration::from_millis(5500);

/// A source controlled by a [`Script`]; it ends when the script is dropped.
struct ScriptedSource(mpsc::UnboundedReceiver<SourceEvent>);

impl Source for ScriptedSource {
    async fn next(&mut self) -> Result<SourceEvent> {
        Ok(self.0.recv().await.unwrap_or(SourceEvent::EndOfInput))
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Emits the events of a [`ScriptedSource`] and observes the store.
struct Script {
    events: mpsc::UnboundedSender<SourceEvent>,
    case: Case,
    store: Arc<SnapshotStore>,
    /// The next position of each partition.
    next: BTreeMap<Partition, i64>,
}

impl Script {
    fn emit(&self, event: SourceEvent) {
        self.events.send(event).expect("the driver runs");
    }

    async fn assign(&mut self, number: i32) {
        let partition = Partition { number, ..partition() };
        let (reply, start) = oneshot::channel();
        let assignment = Assignment {
            partition: partition.clone(),
            committed: None,
            reset: false,
            default_start: Position(0),
            log_start: Position(0),
            replay_from: None,
        };
        self.emit(SourceEvent::Assigned { assignment, reply });
        let position = start.await.expect("the driver replies").position;
        self.emit(SourceEvent::ReadingStarted { partition: partition.clone(), position });
        self.next.insert(partition, 0);
    }

    /// Emits a row of every partition.
    fn emit_rows(&mut self) {
        for (partition, at) in self.next.clone() {
            let batch = batch(&self.case, at, &[row("a", 10 * at, 1.0)]);
            self.next.insert(partition.clone(), at + 1);
            self.emit(SourceEvent::Batch(Batch { partition, ..batch }));
        }
    }

    /// Waits until a snapshot of every partition's current position was saved, or until saving it has failed.
    async fn wait_for_snapshots(&self, saved: bool) {
        let mut missing = self.next.clone();
        let all = async {
            while !missing.is_empty() {
                for event in self.store.events().take().into_iter().filter(|event| event.saved == saved) {
                    missing.retain(|partition, at| (partition, *at) != (&event.partition, event.position.0));
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), all).await.expect("every partition has its turn");
    }
}

/// Drives a source controlled by `script`.
async fn run_script(folder: &Path, script: impl AsyncFnOnce(Script)) -> Result<Progress> {
    let case = Case::default();
    let location = StateLocation::Folder(folder.join("state"));
    let store = Arc::new(SnapshotStore::open(&location, Lineage::new(vec![], "m"))?);
    let state = StateOptions {
        store: store.clone(),
        schedule: UploadSchedule { every: EVERY, bytes_per_second: 1 << 30 },
        snapshot_age_max: SNAPSHOT_AGE_MAX,
        on_mismatch: LineageMismatchPolicy::Fail,
    };
    let options = DriverOptions { state: Some(state), ..options(&case, 1000, OnEndOfInput::LeaveOpen) };
    let (events, receiver) = mpsc::unbounded_channel();
    let (mut source, stop) = (ScriptedSource(receiver), CancellationToken::new());
    let handle = Script { events, case, store, next: BTreeMap::new() };
    tokio::select! {
        run = drive(&mut source, MemorySink::default(), options, &stop, |_| ()) => Ok(run?.0),
        () = async { script(handle).await; pending().await } => unreachable!("only the driver ends"),
    }
}

#[tokio::test]
async fn an_idle_partition_does_not_become_stale() {
    let folder = tempfile::tempdir().unwrap();
    let progress = run_script(folder.path(), async |mut script| {
        script.assign(0).await;
        for _ in 0..2 {
            script.emit_rows();
            script.wait_for_snapshots(true).await;
            sleep(LONGER_THAN_AGE_MAX).await;
        }
        script.emit_rows();
    });
    assert_eq!(progress.await.expect("the run continues").counters.rows, 3);
}

#[tokio::test]
async fn every_partition_is_saved_without_further_rows() {
    let folder = tempfile::tempdir().unwrap();
    let progress = run_script(folder.path(), async |mut script| {
        for number in 0..4 {
            script.assign(number).await;
        }
        script.emit_rows();
        script.wait_for_snapshots(true).await;
    });
    assert_eq!(progress.await.expect("the run continues").counters.rows, 4);
}

#[tokio::test]
async fn a_failed_snapshot_is_retried_without_further_rows() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let progress = run_script(folder.path(), async |mut script| {
        script.assign(0).await;
        block_store(&state);
        script.emit_rows();
        script.wait_for_snapshots(false).await;
        fs::remove_file(&state).unwrap();
        script.wait_for_snapshots(true).await;
    });
    assert_eq!(progress.await.expect("the run continues").counters.rows, 1);
}

#[tokio::test]
async fn a_suspended_process_can_save_its_state_after_it_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let progress = run_script(folder.path(), async |mut script| {
        script.assign(0).await;
        script.emit_rows();
        script.wait_for_snapshots(true).await;
        script.emit_rows();
        // The driver notices that it is past its snapshot. Then the only thread of the runtime is blocked.
        sleep(EVERY / 2).await;
        std::thread::sleep(LONGER_THAN_AGE_MAX);
        script.emit_rows();
        script.wait_for_snapshots(true).await;
    });
    assert_eq!(progress.await.expect("the run continues").counters.rows, 3);
}

#[tokio::test]
async fn a_store_that_fails_for_longer_than_snapshot_age_stops_the_pipeline() {
    for with_rows in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let began = Instant::now();
        let run = run_script(folder.path(), async |mut script| {
            script.assign(0).await;
            block_store(&state);
            script.emit_rows();
            loop {
                sleep(EVERY / 4).await;
                if with_rows {
                    script.emit_rows();
                }
            }
        });
        let run = timeout(Duration::from_secs(30), run).await.expect("the run ends");
        let error = run.expect_err("no snapshot can be saved").to_string();
        assert!(error.contains("no snapshot could be saved for"), "{error}");
        assert!(error.contains("limits.snapshot_age") && began.elapsed() > SNAPSHOT_AGE_MAX, "{error}");
    }
}

/// Replaces the store's folder with a file, so that nothing can be written to it.
fn block_store(state: &Path) {
    fs::remove_dir(state).unwrap();
    fs::write(state, "").unwrap();
}
