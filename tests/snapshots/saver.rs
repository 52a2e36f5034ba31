//! Snapshots written beside the stream.

use std::time::Duration;

use tidecast_core::forecaster::ASIDE_BYTES;
use tidecast_stream::state::{Pace, Saver};
use tokio::time::{Instant, sleep_until};

use super::*;

fn other() -> Partition {
    Partition { topic: "readings".into(), number: 4 }
}

const PACE: Pace = Pace { every: Duration::from_millis(200), bytes_per_second: 1 << 30 };

async fn whole(saver: &mut Saver, of: &Partition, at: i64, forecaster: &mut Forecaster) {
    forecaster.begin_capture(ASIDE_BYTES);
    saver.begin(of, Position(0), Position(at)).await;
    while let Some(batch) = next(forecaster, 100) {
        saver.put(batch, false).await;
    }
    saver.end(Some(Position(at))).await;
}

/// Waits until a snapshot is due.
async fn due(saver: &Saver) -> Partition {
    loop {
        match saver.next() {
            Some((_, at)) => sleep_until(at).await,
            None => saver.freed().await,
        }
        if let Some(partition) = saver.due() {
            return partition;
        }
    }
}

#[tokio::test]
async fn partitions_take_turns_spread_over_the_time() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case::default());
    let mut saver = Saver::new(shared(folder.path()), PACE);
    saver.add(&partition(), None);
    saver.add(&other(), Some(Position(7)));
    assert_eq!((saver.due(), saver.saved(&other())), (None, Some(Position(7))));
    let (mut turns, mut state) = (Vec::new(), filled(&case, 1, 1));
    for at in 0..6 {
        let turn = due(&saver).await;
        turns.push((turn.clone(), Instant::now()));
        whole(&mut saver, &turn, 10 + at, &mut state).await;
    }
    assert!(turns.windows(2).all(|pair| pair[0].0 != pair[1].0), "{turns:?}");
    assert!(turns.windows(2).all(|pair| pair[1].1 - pair[0].1 >= PACE.every / 2), "{turns:?}");
    saver.remove(&other());
    assert!(saver.keeps(&partition()) && !saver.keeps(&other()));
    saver.close().await;
    // Of each partition the two newest are left.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
}

#[tokio::test]
async fn a_store_that_fails_is_tried_again() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case { limit: 10_000, ..Case::default() });
    let place = folder.path().join("state");
    let mut saver = Saver::new(shared(&place), PACE);
    saver.add(&partition(), None);
    // Nothing can be written below a file.
    std::fs::remove_dir(&place).unwrap();
    std::fs::write(&place, "").unwrap();
    let mut state = filled(&case, 1, 1);
    let turn = due(&saver).await;
    whole(&mut saver, &turn, 10, &mut state).await;
    let turn = due(&saver).await;
    assert_eq!(saver.saved(&turn), None);
    std::fs::remove_file(&place).unwrap();
    whole(&mut saver, &turn, 20, &mut state).await;
    due(&saver).await;
    assert_eq!(saver.saved(&turn), Some(Position(20)));
    saver.close().await;
    assert_eq!(position(&found(&store(&place), &case, Some(0), 20).await.unwrap()), Some(20));
}

#[tokio::test]
async fn what_is_abandoned_leaves_nothing() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case { limit: 10_000, ..Case::default() });
    let mut saver = Saver::new(shared(folder.path()), PACE);
    saver.add(&partition(), None);
    let mut state = filled(&case, 5000, 1);
    for end in [false, true] {
        state.begin_capture(ASIDE_BYTES);
        saver.begin(&partition(), Position(0), Position(10)).await;
        saver.put(next(&mut state, 5000).unwrap(), false).await;
        assert_eq!(saver.saving(), Some(&partition()));
        match end {
            false => saver.abandon(),
            true => saver.remove(&partition()),
        }
        assert_eq!(saver.saving(), None);
    }
    saver.close().await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_pace_holds_until_rows_wait() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case { limit: 10_000, ..Case::default() });
    // A batch would take most of an hour.
    let mut saver = Saver::new(shared(folder.path()), Pace { bytes_per_second: 100, ..PACE });
    saver.add(&partition(), None);
    let mut state = filled(&case, 10_000, 1);
    state.begin_capture(ASIDE_BYTES);
    saver.begin(&partition(), Position(0), Position(10)).await;
    let began = Instant::now();
    while saver.has_room() {
        saver.put(next(&mut state, 1000).unwrap(), false).await;
        tokio::task::yield_now().await;
    }
    // There is no room, and there will be none for long.
    tokio::time::timeout(Duration::from_millis(50), saver.put(next(&mut state, 1000).unwrap(), false))
        .await
        .unwrap_err();
    while let Some(batch) = next(&mut state, 1000) {
        saver.put(batch, true).await;
    }
    saver.abandon();
    saver.close().await;
    assert!(began.elapsed() < Duration::from_secs(60));
}
