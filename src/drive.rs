//! The only loop: pull rows, push them through their partition's forecaster, write what comes out, commit, stop.
//!
//! Order of a commit: everything written is made durable first, then the positions it came from. So a crash repeats
//! rows and loses none (at least once).

mod lanes;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::config::{Commit, OnChange, Start};
use crate::forecaster::Setup;
use crate::io::{Event, Position, Positions, Sink, Source};
use crate::series::Tally;
use crate::state::Store;
use lanes::Lanes;

/// How a pipeline is driven.
#[derive(Debug)]
pub struct Options {
    pub setup: Arc<Setup>,
    pub commit: Commit,
    pub state: Option<State>,
    /// Where a partition starts that has a commit and no state to go with it.
    pub start: Start,
    /// Whether the end of the input closes what time alone held open.
    pub finish: bool,
}

/// Where states are kept.
#[derive(Debug)]
pub struct State {
    pub store: Store,
    pub every: Duration,
    pub on_change: OnChange,
}

/// How far it has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub tally: Tally,
    /// Ids, and how many of them can forecast.
    pub series: usize,
    pub warm: usize,
    /// Where the latest batch ended.
    pub reached: Option<Position>,
    /// Positions that are durable.
    pub committed: Positions,
    /// Whether it was told to stop before the input was over.
    pub stopped: bool,
}

/// Runs the line from `source` to `sink` until the input ends, `stop` is ready or something fails; what is written by
/// then is committed, except after a failure. `report` is called after every batch.
///
/// # Errors
/// Whatever source, sink or state store report. The committed positions then stand where the last commit put them.
pub async fn drive(
    source: &mut impl Source,
    sink: &mut impl Sink,
    options: Options,
    stop: impl Future<Output = ()>,
    mut report: impl FnMut(&Progress),
) -> Result<Progress> {
    let mut stop = pin!(stop);
    let Options { commit, finish, .. } = options;
    let rows_at_once = options.setup.rows_at_once();
    let mut lanes = Lanes::new(options);
    let mut due: Option<Instant> = None;
    let stopped = loop {
        let deadline = due.unwrap_or_else(|| Instant::now() + commit.every);
        tokio::select! {
            biased;
            () = &mut stop => break true,
            () = tokio::time::sleep_until(deadline), if due.is_some() => {
                lanes.commit(source, sink).await?;
                due = None;
            }
            event = source.next() => match event? {
                Event::Assigned(assigned) => lanes.assign(assigned).await?,
                Event::Rows(batch) => {
                    for piece in batch.pieces(rows_at_once) {
                        let output = lanes.push(piece);
                        sink.write(&output).await?;
                    }
                    due.get_or_insert_with(|| Instant::now() + commit.every);
                    if lanes.uncommitted_rows() >= commit.rows {
                        lanes.commit(source, sink).await?;
                        due = None;
                    }
                    report(&lanes.progress());
                }
                Event::Revoked { partitions, done } => {
                    lanes.commit(source, sink).await?;
                    due = None;
                    lanes.drop(&partitions).await?;
                    // The source may have given up waiting; then the partitions are gone either way.
                    let _ = done.send(());
                }
                Event::End => break false,
            },
        }
    };
    if !stopped && finish {
        lanes.finish(sink, rows_at_once).await?;
    }
    lanes.commit(source, sink).await?;
    lanes.save_all().await?;
    if !stopped {
        // What was broken off is not the end: a file that needs one is not put in place.
        sink.finish().await?;
    }
    if let Err(error) = source.close().await {
        // Everything is committed; the group will find out by itself.
        tracing::warn!("{error:#}");
    }
    lanes.count_warm();
    let mut progress = lanes.progress();
    progress.stopped = stopped;
    report(&progress);
    Ok(progress)
}
