//! Snapshots beside the stream: each partition has its turn whether rows come or not, and only a store that keeps refusing
//! stops the pipeline.

use std::collections::BTreeMap;
use std::fs;
use std::future::pending;

use tidecast::config::Place;
use tidecast_stream::driver::{OnChange, State};
use tidecast_stream::{Assigned, Event, Source};
use tidecast_stream::state::{Lineage, Store};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::*;

const EVERY: Duration = Duration::from_millis(200);
/// So long past its snapshot a partition stops the pipeline.
const AGE: Duration = Duration::from_secs(4);
const LONGER: Duration = Duration::from_millis(5500);

/// A source that says what it is told, and ends when nobody tells it any more.
struct Told(mpsc::UnboundedReceiver<Event>);

impl Source for Told {
    async fn next(&mut self) -> Result<Event> {
        Ok(self.0.recv().await.unwrap_or(Event::End))
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Who tells it, and looks at what is kept.
struct Teller {
    events: mpsc::UnboundedSender<Event>,
    case: Case,
    store: Arc<Store>,
    /// Where each partition stands.
    at: BTreeMap<Partition, i64>,
}

impl Teller {
    fn say(&self, event: Event) {
        self.events.send(event).expect("it is driven");
    }

    async fn assign(&mut self, number: i32) {
        let partition = Partition { number, ..partition() };
        let (start, told) = oneshot::channel();
        let (committed, fallback, low, rewound) = (None, Position(0), Position(0), None);
        let name = partition.clone();
        self.say(Event::Assigned(Assigned {
            partition: name,
            committed,
            anew: false,
            fallback,
            low,
            rewound,
            start,
        }));
        told.await.expect("it is started");
        self.say(Event::Reading { partition: partition.clone(), from: Position(0) });
        self.at.insert(partition, 0);
    }

    /// A row of every partition.
    fn rows(&mut self) {
        for (partition, at) in self.at.clone() {
            let rows = self.case.batch(at, &[row("a", 10 * at, 1.0)]);
            let (malformed, origins, next) = (vec![], Origins::default(), Position(at + 1));
            self.at.insert(partition.clone(), at + 1);
            self.say(Event::Rows(Batch { partition, rows, malformed, origins, next }));
        }
    }

    /// Waits until the store has been tried where every partition stands, for good or not.
    async fn tried(&self, safe: bool) {
        let mut left = self.at.clone();
        let all = async {
            while !left.is_empty() {
                for kept in self.store.keeping().take().into_iter().filter(|kept| kept.safe == safe) {
                    left.retain(|partition, at| (partition, *at) != (&kept.partition, kept.position.0));
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), all).await.expect("every partition has its turn");
    }
}

/// What comes of a pipeline whose source is told by `tell`.
async fn told(folder: &std::path::Path, tell: impl AsyncFnOnce(Teller)) -> Result<Progress> {
    let case = Case::default();
    let store = Store::open(&Place::Folder(folder.join("state")), Lineage::new(vec![], "m"))?;
    let store = Arc::new(store);
    let state = State {
        store: store.clone(),
        every: EVERY,
        bytes_per_second: 1 << 30,
        age_most: AGE,
        on_change: OnChange::Fail,
    };
    let options = Options { state: Some(state), ..options(&case, 1000, false) };
    let (events, said) = mpsc::unbounded_channel();
    let (mut source, teller) = (Told(said), Teller { events, case, store, at: BTreeMap::new() });
    tokio::select! {
        driven = drive(&mut source, MemorySink::default(), options, pending(), |_| ()) => Ok(driven?.0),
        () = async { tell(teller).await; pending().await } => unreachable!("it goes on until it is driven"),
    }
}

#[tokio::test]
async fn a_quiet_stream_does_not_grow_old() {
    let folder = tempfile::tempdir().unwrap();
    let progress = told(folder.path(), async |mut teller| {
        teller.assign(0).await;
        for _ in 0..2 {
            teller.rows();
            teller.tried(true).await;
            sleep(LONGER).await;
        }
        teller.rows();
    });
    assert_eq!(progress.await.expect("it goes on").tally.rows, 3);
}

#[tokio::test]
async fn every_partition_has_its_turn_though_no_rows_come() {
    let folder = tempfile::tempdir().unwrap();
    let progress = told(folder.path(), async |mut teller| {
        for number in 0..4 {
            teller.assign(number).await;
        }
        teller.rows();
        teller.tried(true).await;
    });
    assert_eq!(progress.await.expect("it goes on").tally.rows, 4);
}

#[tokio::test]
async fn a_store_that_failed_is_tried_again_though_no_rows_come() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let progress = told(folder.path(), async |mut teller| {
        teller.assign(0).await;
        refuse(&state);
        teller.rows();
        teller.tried(false).await;
        fs::remove_file(&state).unwrap();
        teller.tried(true).await;
    });
    assert_eq!(progress.await.expect("it goes on").tally.rows, 1);
}

#[tokio::test]
async fn a_process_that_was_stopped_may_keep_its_state_first() {
    let folder = tempfile::tempdir().unwrap();
    let progress = told(folder.path(), async |mut teller| {
        teller.assign(0).await;
        teller.rows();
        teller.tried(true).await;
        teller.rows();
        // It is seen that there is something to keep; and then nothing goes on in this thread, which is all there is.
        sleep(EVERY / 2).await;
        std::thread::sleep(LONGER);
        teller.rows();
        teller.tried(true).await;
    });
    assert_eq!(progress.await.expect("it goes on").tally.rows, 3);
}

#[tokio::test]
async fn a_store_that_keeps_refusing_stops_the_pipeline() {
    for come in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let began = std::time::Instant::now();
        let stopped = told(folder.path(), async |mut teller| {
            teller.assign(0).await;
            refuse(&state);
            teller.rows();
            loop {
                sleep(EVERY / 4).await;
                if come {
                    teller.rows();
                }
            }
        });
        let stopped = timeout(Duration::from_secs(30), stopped).await.expect("it stops");
        let error = stopped.expect_err("nothing could be kept").to_string();
        assert!(error.contains("no snapshot of its state could be kept for"), "{error}");
        assert!(error.contains("limits.snapshot_age") && began.elapsed() > AGE, "{error}");
    }
}

/// Nothing can be kept below a file.
fn refuse(state: &std::path::Path) {
    fs::remove_dir(state).unwrap();
    fs::write(state, "").unwrap();
}
