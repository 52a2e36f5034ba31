//! States on their way to the store: taken between pushes, a few ids at a time, one partition after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

use super::State;
use super::age::Clock;
use super::held::{self, Messages};
use super::lane::Lane;
use tidecast_core::forecaster::{ASIDE_BYTES, Captured};
use crate::{Partition, Position};
use crate::state::{Pace, Saver, Store};

/// Ids taken between two pushes: less than a millisecond's work.
const IDS_AT_ONCE: usize = 512;
/// How long to wait for the store to take the next batch.
const WAIT: Duration = Duration::from_millis(20);
/// How long rows wait for a store that takes nothing, before its snapshot is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a stop waits for the states to be kept: a gigabyte at the pace of a slow network.
const KEEP_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Keeper {
    store: Arc<Store>,
    saver: Saver,
    /// Messages of the candidates of the capture under way, as they were when it began.
    held: Messages,
    /// When to look how old the newest good snapshots are.
    clock: Clock,
    /// Some partition is past its own, or may be.
    is_past: bool,
}

type Lanes = BTreeMap<Partition, Lane>;

impl Keeper {
    pub fn new(state: &State) -> Self {
        let pace = Pace { every: state.every, bytes_per_second: state.bytes_per_second };
        let saver = Saver::new(state.store.clone(), pace);
        Self {
            store: state.store.clone(),
            saver,
            held: Messages::default(),
            clock: Clock::new(state.age_most, Instant::now()),
            is_past: false,
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

    /// Until it next has something to do. Cancel-safe.
    pub fn turn(&self) -> impl Future<Output = ()> + use<> {
        let (due, freed) = (self.due(), self.saver.freed());
        async move {
            tokio::select! {
                () = super::sleep_until(due) => {}
                () = freed => {}
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let keep = if self.saver.saving().is_some() {
            let now = Instant::now();
            Some(if self.saver.has_room() { now } else { now + WAIT })
        } else {
            self.saver.next().map(|(_, at)| at)
        };
        let look = self.is_past.then(|| self.clock.due());
        keep.into_iter().chain(look).min()
    }

    /// Takes what is under way a little further, or begins the next that is due.
    ///
    /// # Errors
    /// When the newest good snapshot of a partition is too old: a restart would read too much again.
    pub async fn go_on(&mut self, lanes: &mut Lanes) -> Result<()> {
        if let Some(passed) = self.clock.look(Instant::now()) {
            self.is_past = false;
            lanes.iter_mut().try_for_each(|(partition, lane)| self.check_age(partition, lane, passed))?;
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

    fn check_age(&mut self, partition: &Partition, lane: &mut Lane, passed: Duration) -> Result<()> {
        if lane.next < lane.silent_until || !self.saver.keeps(partition) {
            return Ok(());
        }
        let saved = self.saver.saved(partition).unwrap_or(lane.start);
        let Some(age) = lane.age.look(passed, lane.next, saved) else { return Ok(()) };
        self.is_past = true;
        if self.clock.is_over(age) {
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
            return self.saver.put_off(partition);
        }
        lane.forecaster.begin_capture(ASIDE_BYTES);
        self.held.clone_from(&lane.held);
        lane.age.begin(lane.next);
        self.saver.begin(partition, lane.start, lane.next).await;
    }

    /// Before rows are pushed: makes room where too much is put aside.
    pub async fn make_room(&mut self, lane: &mut Lane) -> Result<()> {
        self.is_past = true;
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
