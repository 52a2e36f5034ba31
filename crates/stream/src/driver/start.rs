//! How a partition starts: from its committed position, the state that was kept for it, and what is declared for the case
//! that the two do not fit.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use tokio::task::spawn_blocking;

use super::held::Messages;
use super::lane::Lane;
use super::{OnChange, Options, State};
use crate::config::{Deleted, Start};
use tidecast_core::forecaster::Forecaster;
use crate::{Committed, Partition, Position};
use crate::state::Found;

/// What a committed position says of the state that goes with it: of which lineage, and from where on. It is committed
/// as a note, so that the two cannot part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    pub lineage: String,
    pub start: Position,
    /// It began with what a history had told it, which the topic cannot tell again.
    pub warm: bool,
}

impl Life {
    pub fn note(&self) -> String {
        let warm = if self.warm { " warm" } else { "" };
        format!("tidecast {} {}{warm}", self.lineage, self.start)
    }

    /// `None` for a note that is none of ours: the position was set by other means.
    pub fn of(note: &str) -> Option<Self> {
        let mut words = note.split(' ');
        let (ours, lineage, start) = (words.next()?, words.next()?, words.next()?);
        let start = Position(start.parse().ok()?);
        let warm = match words.next() {
            None => false,
            Some("warm") => true,
            Some(_) => return None,
        };
        let is_ours = ours == "tidecast" && words.next().is_none();
        is_ours.then(|| Self { lineage: lineage.to_owned(), start, warm })
    }
}

/// What is known of a partition that starts.
pub struct Facts {
    pub partition: Partition,
    pub committed: Option<Committed>,
    pub anew: bool,
    pub fallback: Position,
    pub low: Position,
    /// The first position of what is to be read again after a change.
    pub rewound: Option<Position>,
}

/// The lane of a partition: with the state that goes with its committed position, or as far below it as the rows that make
/// up that state have to be read again.
///
/// # Errors
/// If what is kept does not fit and nothing else is declared for it.
pub async fn lane(options: Arc<Options>, facts: Facts) -> Result<Lane> {
    let Facts { partition, committed, anew, fallback, low, rewound } = facts;
    let cold = |position| Lane::new(options.setup.clone(), position);
    let Some(Committed { position: committed, note }) = committed else {
        if let Some(State { store, .. }) = &options.state {
            if anew {
                store.forget(&partition).await?;
            }
            refuse_leftovers(&partition, &store.positions(&partition).await?)?;
        }
        return Ok(cold(fallback));
    };
    let mut lane = cold(committed);
    lane.committed = Some(committed);
    let Some(State { store, .. }) = &options.state else {
        tracing::warn!(topic = %partition.topic, partition = partition.number, position = committed.0, "no [state] is kept: series warm up anew");
        return Ok(lane);
    };
    let life = Life::of(&note);
    let is_own = life.as_ref().is_none_or(|life| store.continues(&life.lineage));
    let is_warm = life.as_ref().is_some_and(|life| life.warm);
    let start = life.as_ref().filter(|_| is_own).map(|life| life.start);
    let fresh = || (Forecaster::new(options.setup.clone()), Messages::default());
    let add = |(forecaster, held): &mut (Forecaster, Messages), batch: &RecordBatch| {
        held.restore(batch);
        Ok(forecaster.restore_more(batch)?)
    };
    match store.newest(&partition, start, committed, fresh, add).await? {
        Found::Snapshot { position, .. } if is_own && position < low => {
            let what = format!("the rows from the snapshot at {position} on");
            return deleted(&options, &partition, &what, low, lane);
        }
        Found::Snapshot { position, start, state } if is_own => {
            (lane.forecaster, lane.held) = state;
            (lane.start, lane.next, lane.saved) = (start, position, Some(position));
            lane.warm = is_warm;
        }
        Found::Foreign(differences) if start.is_none() => {
            return changed(&options, &partition, &differences, rewound, lane).await;
        }
        _ if !is_own => {
            let life = life.map_or(String::new(), |life| life.lineage);
            let differences =
                [format!("its lineage is {}, the committed position is of {life}", store.lineage())];
            return changed(&options, &partition, &differences, rewound, lane).await;
        }
        _ if is_warm => {
            let differences = ["it began with a history, and no snapshot of it is left".to_owned()];
            return changed(&options, &partition, &differences, rewound, lane).await;
        }
        // With a life that is known, what others have left is of no interest.
        _ => match (start, options.start) {
            (Some(start), _) if start < low => {
                let what = format!("the rows from {start} on, which its state is made of,");
                return deleted(&options, &partition, &what, low, lane);
            }
            (Some(start), _) => (lane.start, lane.next) = (start, start),
            (None, Start::Earliest) => {
                lane.next = low.min(committed);
                lane.start = lane.next;
            }
            (None, Start::Latest) => {
                tracing::warn!(topic = %partition.topic, partition = partition.number, position = committed.0, "there is no snapshot: series start cold");
            }
            (None, Start::Fail) => bail!(
                "{partition}: committed at {committed}, but there is no snapshot to go on from; \
                 set start = \"earliest\" to rebuild it, or \"latest\" to go on cold"
            ),
        },
    }
    Ok(lane)
}

/// A start is committed before the first row is read, so that a state without a commit is that of a group whose positions
/// have expired or were deleted: to begin again would forecast all of the topic once more.
fn refuse_leftovers(partition: &Partition, kept: &[(Position, Option<Position>)]) -> Result<()> {
    match kept.last() {
        Some((position, _)) => bail!(
            "{partition}: the group has no committed position (any more: see the brokers' offsets.retention.minutes), but there is \
             a snapshot at {position}; to go on, set the group's position there; to start anew, remove the partition's \
             snapshots or use another `group`"
        ),
        None => Ok(()),
    }
}

/// Rows that the state needs are gone: `lane` is the one that starts without them.
fn deleted(options: &Options, partition: &Partition, what: &str, low: Position, lane: Lane) -> Result<Lane> {
    match options.deleted {
        Deleted::Fail => bail!(
            "{partition}: {what} are needed, and the topic's retention has deleted all below {low}; \
             set `deleted = \"cold\"` to go on with series that know nothing"
        ),
        Deleted::Cold => {
            tracing::warn!(topic = %partition.topic, partition = partition.number, "{what} are deleted below {low}: series start cold");
            Ok(lane)
        }
    }
}

/// The state that is kept is of another pipeline: `lane` is the one that starts without it.
async fn changed(
    options: &Options,
    partition: &Partition,
    differences: &[String],
    rewound: Option<Position>,
    mut lane: Lane,
) -> Result<Lane> {
    let differences = differences.join(", ");
    let Some(State { store, on_change, .. }) = &options.state else { return Ok(lane) };
    if !matches!(on_change, OnChange::Fail) {
        // What there is of this lineage is of another life than the one that begins.
        store.forget(partition).await?;
    }
    match on_change {
        OnChange::Fail => bail!(
            "{partition}: the kept state does not fit this pipeline: {differences}; go back, or set state.on_change = \"cold\", \
             or \"replay\" or \"warm\" to read the past again"
        ),
        OnChange::Cold => {
            tracing::warn!(topic = %partition.topic, partition = partition.number, differences, "series start cold")
        }
        OnChange::Replay => {
            lane.next = rewound.unwrap_or(lane.next).min(lane.next);
            lane.start = lane.next;
            tracing::warn!(topic = %partition.topic, partition = partition.number, differences, from = lane.next.0, "the topic is read again to make up the state");
        }
        OnChange::Warm { history, partitions, turn } => {
            // Each reads all of the history: one after the other.
            let _turn = turn.lock().await;
            tracing::warn!(topic = %partition.topic, partition = partition.number, differences, "the state is made up from {}", history.path.display());
            let (setup, history, partitions) = (options.setup.clone(), history.clone(), *partitions);
            let wanted = [(partition.number, lane.next)].into();
            let states = spawn_blocking(move || history.push(&setup, partitions, &wanted, |_, _| ()));
            for (_, state) in states.await.context("reading the history panicked")?? {
                lane.forecaster = state;
            }
            lane.warm = true;
            // From here on the topic alone could not make it up again.
            store.save(partition, lane.start, lane.next, lane.forecaster.snapshot_batches()).await?;
            lane.saved = Some(lane.next);
        }
    }
    Ok(lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_read_back_and_nothing_else_is_taken_for_one() {
        for warm in [false, true] {
            let life = Life { lineage: "0123456789ab".into(), start: Position(7), warm };
            assert_eq!(Life::of(&life.note()), Some(life));
        }
        for other in ["", "tidecast", "tidecast x", "tidecast x y", "tidecast x 7 8", "another x 7"] {
            assert_eq!(Life::of(other), None, "{other}");
        }
    }
}
