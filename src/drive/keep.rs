//! States on their way to the store: taken between pushes, a few ids at a time, one partition after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

use super::State;
use super::held::{self, Messages};
use super::lane::Lane;
use crate::forecaster::{ASIDE_BYTES, Captured};
use crate::io::{Partition, Position};
use crate::state::{Pace, Saver, Store};

/// Ids taken between two pushes: less than a millisecond's work.
const IDS_AT_ONCE: usize = 512;
/// How long to wait for the store to take the next batch.
const WAIT: Duration = Duration::from_millis(20);

pub struct Keeper {
    store: Arc<Store>,
    saver: Saver,
    /// After so long without a good snapshot of a partition the pipeline stops.
    most: Duration,
    /// Messages of the candidates of the capture under way, as they were when it began.
    held: Messages,
}

type Lanes = BTreeMap<Partition, Lane>;

impl Keeper {
    pub fn new(state: &State) -> Self {
        let pace = Pace { every: state.every, bytes_per_second: state.bytes_per_second };
        let saver = Saver::new(state.store.clone(), pace);
        Self { store: state.store.clone(), saver, most: state.age_most, held: Messages::new() }
    }

    /// A partition is ours from now on; its state is safe at `saved`, if there is a snapshot.
    pub fn add(&mut self, partition: &Partition, saved: Option<Position>) {
        self.saver.add(partition, saved);
    }

    /// A partition is ours no more.
    pub async fn remove(&mut self, partition: &Partition) {
        self.saver.remove(partition).await;
    }

    /// When it next has something to do.
    pub fn due(&self) -> Option<Instant> {
        if self.saver.saving().is_some() {
            let now = Instant::now();
            return Some(if self.saver.has_room() { now } else { now + WAIT });
        }
        self.saver.next().map(|(_, at)| at)
    }

    /// Takes what is under way a little further, or begins the next that is due.
    ///
    /// # Errors
    /// When the newest good snapshot of a partition is too old: a restart would read too much again.
    pub async fn go_on(&mut self, lanes: &mut Lanes) -> Result<()> {
        match self.saver.saving().cloned() {
            Some(partition) => {
                let Some(lane) = lanes.get_mut(&partition) else { return Ok(()) };
                if self.saver.is_broken() {
                    self.saver.abandon().await;
                    lane.forecaster.end_capture();
                } else if self.saver.has_room() {
                    self.capture(lane, false).await?;
                }
            }
            None => {
                let Some(partition) = self.saver.due() else { return Ok(()) };
                self.check_age(&partition)?;
                if let Some(lane) = lanes.get_mut(&partition) {
                    self.begin(&partition, lane).await;
                }
            }
        }
        Ok(())
    }

    fn check_age(&self, partition: &Partition) -> Result<()> {
        if let Some(age) = self.saver.age(partition)
            && age > self.most
        {
            bail!(
                "{partition}: no snapshot of its state could be kept for {} s, more than limits.snapshot_age allows: a restart \
                 would have to read all that again; see to the state store",
                age.as_secs()
            );
        }
        Ok(())
    }

    async fn begin(&mut self, partition: &Partition, lane: &mut Lane) {
        lane.forecaster.begin_capture(ASIDE_BYTES);
        self.held.clone_from(&lane.held);
        self.saver.begin(partition, lane.start, lane.next).await;
    }

    /// Before rows are pushed: makes room where too much is put aside.
    pub async fn make_room(&mut self, lane: &mut Lane) -> Result<()> {
        while lane.forecaster.must_capture() && !self.saver.is_broken() {
            self.capture(lane, true).await?;
        }
        Ok(())
    }

    async fn capture(&mut self, lane: &mut Lane, hurry: bool) -> Result<()> {
        match lane.forecaster.capture(IDS_AT_ONCE) {
            Captured::More => {}
            Captured::Batch(batch) => self.saver.put(held::beside(&batch, &self.held)?, hurry).await,
            Captured::Done => self.saver.end(lane.committed).await,
        }
        Ok(())
    }

    /// Keeps all states as they are now, at once.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn keep_all(mut self, lanes: &mut Lanes) -> Result<()> {
        self.saver.abandon().await;
        for (partition, lane) in lanes.iter_mut() {
            if lane.next < lane.silent_until || self.saver.saved(partition) == Some(lane.next) {
                continue;
            }
            let mut writer = self.store.writer(partition, lane.start, lane.next);
            let Lane { forecaster, held, .. } = lane;
            for batch in forecaster.snapshot_batches() {
                writer.batch(&held::beside(&batch, held)?).await?;
            }
            writer.finish().await?;
            if let Some(committed) = lane.committed {
                self.store.prune(partition, lane.start, committed).await?;
            }
        }
        self.saver.close().await;
        Ok(())
    }
}
