//! What a state that is older than the commit costs: the rows between are read again, in silence, and counted down.

use std::collections::VecDeque;

use anyhow::Result;
use tidecast::config::Place;
use tidecast::drive::{OnChange, State};
use tidecast::io::{Assigned, Committed, Event, From, Source};
use tidecast::state::{Lineage, Store};
use tokio::sync::oneshot;

use super::*;

/// A source whose group has committed a position before it begins.
struct Resumed {
    assigned: Option<Assigned>,
    start: Option<oneshot::Receiver<From>>,
    batches: VecDeque<Batch>,
}

impl Resumed {
    fn at(committed: i64, batches: Vec<Batch>) -> Self {
        let (start, told) = oneshot::channel();
        let assigned = Assigned {
            partition: partition(),
            committed: Some(Committed { position: Position(committed), note: String::new() }),
            anew: false,
            fallback: Position(0),
            low: Position(0),
            rewound: None,
            start,
        };
        Self { assigned: Some(assigned), start: Some(told), batches: batches.into() }
    }
}

impl Source for Resumed {
    async fn next(&mut self) -> Result<Event> {
        if let Some(assigned) = self.assigned.take() {
            return Ok(Event::Assigned(assigned));
        }
        if let Some(start) = &mut self.start {
            let from = start.await?;
            assert_eq!(from.position, Position(0), "no snapshot is there to go on from");
            self.start = None;
            return Ok(Event::Reading { partition: partition(), from: from.position });
        }
        Ok(self.batches.pop_front().map_or(Event::End, Event::Rows))
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn rows_that_are_read_again_are_counted_down_and_no_forecast_is_said_twice() {
    let (case, folder) = (Case::default(), tempfile::tempdir().unwrap());
    let store = Store::open(&Place::Folder(folder.path().into()), Lineage::new(vec![], "m")).unwrap();
    let state = State {
        store: Arc::new(store),
        every: Duration::from_secs(3600),
        bytes_per_second: 1 << 30,
        age_most: Duration::from_secs(3600),
        on_change: OnChange::Fail,
    };
    let options = Options { state: Some(state), ..options(&case, 1000, false) };
    // The commit lies within the fourth batch of positions 6 and 7.
    let (mut source, mut told) = (Resumed::at(7, batches(&case)), Vec::new());
    let report = |progress: &Progress| told.push((progress.again, progress.reread, progress.tally.rows));
    let sink = MemorySink::default();
    let driven = drive(&mut source, sink.clone(), options, std::future::pending(), report);
    let (progress, _) = driven.await.expect("it ends");
    assert_eq!(told[..5], [(5, 2, 0), (3, 4, 0), (1, 6, 0), (0, 7, 1), (0, 7, 3)]);
    // Steps close with the row that comes after: those at 7, 8 and 9 close the steps 6, 7 and 8.
    assert_eq!((progress.tally.rows, progress.tally.forecasts), (3, 3));
    assert_eq!(sink.kept().committed[&partition()], Position(10));
}
