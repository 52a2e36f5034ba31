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
/// How long rows wait for a store that takes nothing, before its snapshot is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a stop waits for the states to be kept: a gigabyte at the pace of a slow network.
const KEEP_TIMEOUT: Duration = Duration::from_secs(60);
const CHECK_EVERY: Duration = Duration::from_secs(1);

pub struct Keeper {
    store: Arc<Store>,
    saver: Saver,
    /// After so long without a good snapshot of a partition the pipeline stops.
    most: Duration,
    /// Messages of the candidates of the capture under way, as they were when it began.
    held: Messages,
    /// When the ages were last looked at.
    checked: Instant,
}

type Lanes = BTreeMap<Partition, Lane>;

impl Keeper {
    pub fn new(state: &State) -> Self {
        let pace = Pace { every: state.every, bytes_per_second: state.bytes_per_second };
        let saver = Saver::new(state.store.clone(), pace);
        Self {
            store: state.store.clone(),
            saver,
            most: state.age_most,
            held: Messages::new(),
            checked: Instant::now(),
        }
    }

    /// A partition is ours from now on; its state is safe at `saved`, if there is a snapshot.
    pub fn add(&mut self, partition: &Partition, saved: Option<Position>) {
        self.saver.add(partition, saved);
    }

    /// A partition is ours no more.
    pub fn remove(&mut self, partition: &Partition) {
        self.saver.remove(partition);
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
        if self.checked.elapsed() >= CHECK_EVERY {
            self.checked = Instant::now();
            lanes.keys().try_for_each(|partition| self.check_age(partition))?;
        }
        match self.saver.saving().cloned() {
            Some(partition) => {
                let Some(lane) = lanes.get_mut(&partition) else { return Ok(()) };
                if self.saver.is_broken() {
                    self.saver.abandon();
                    lane.forecaster.end_capture();
                } else if self.saver.has_room() {
                    self.capture(lane, false).await?;
                }
            }
            None => {
                let Some(partition) = self.saver.due() else { return Ok(()) };
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
        if lane.next < lane.silent_until || self.saver.saved(partition) == Some(lane.next) {
            // It is behind what is kept, or has not moved since.
            return self.saver.renew(partition);
        }
        lane.forecaster.begin_capture(ASIDE_BYTES);
        self.held.clone_from(&lane.held);
        self.saver.begin(partition, lane.start, lane.next).await;
    }

    /// Before rows are pushed: makes room where too much is put aside.
    pub async fn make_room(&mut self, lane: &mut Lane) -> Result<()> {
        let begun = Instant::now();
        while lane.forecaster.must_capture() && !self.saver.is_broken() {
            let capture = tokio::time::timeout(PATIENCE, self.capture(lane, true));
            match capture.await {
                Ok(captured) => captured?,
                Err(_) => {
                    tracing::warn!(
                        "the state store takes nothing for {} s: this snapshot is given up",
                        begun.elapsed().as_secs()
                    );
                    self.saver.abandon();
                    lane.forecaster.end_capture();
                }
            }
        }
        Ok(())
    }

    async fn capture(&mut self, lane: &mut Lane, hurry: bool) -> Result<()> {
        match lane.forecaster.capture(IDS_AT_ONCE) {
            Captured::More => {}
            Captured::Batch(batch) => self.saver.put(held::beside(&batch, &self.held)?, hurry).await,
            Captured::Done => self.saver.end(Some(lane.committed.unwrap_or(lane.start))).await,
        }
        Ok(())
    }

    /// Keeps all states as they are now, at once. Where the store fails the next start reads more again, and nothing is lost.
    pub async fn keep_all(self, lanes: &mut Lanes) {
        match tokio::time::timeout(KEEP_TIMEOUT, self.keep_each(lanes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!("{error:#}: the next start reads back what came since the snapshot before")
            }
            Err(_) => tracing::warn!(
                "the state could not be kept within {} s: the next start reads back what came since the snapshot before",
                KEEP_TIMEOUT.as_secs()
            ),
        }
    }

    async fn keep_each(mut self, lanes: &mut Lanes) -> Result<()> {
        self.saver.abandon();
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
            self.store.prune(partition, lane.start, lane.committed.unwrap_or(lane.start)).await?;
        }
        self.saver.close().await;
        Ok(())
    }
}
