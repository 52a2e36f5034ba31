//! From rows to forecasts for one partition: the only place where series meet network. Pure and synchronous: it knows
//! no clock, no file and no thread, never fails on data, and its forecasts are a function of the rows and their order,
//! however they are cut into batches.

mod anchors;
mod carried;
mod closing;
mod features;
mod histories;
mod inputs;
mod jobs;
mod predictor;
mod silence;
mod snapshot;
mod sound;

use std::sync::Arc;

use arrow::array::RecordBatch;

pub use anchors::Anchors;
pub use carried::Carried;
pub use closing::{Closing, Entry, Happening};
pub use features::write as write_features;
pub use histories::{Held, Histories, History, Refused, Target, Unused};
pub use inputs::Inputs;
pub use predictor::{OriginView, Predictor};
pub use snapshot::RestoreError;

use crate::model::Model;
use crate::series::{Capacity, Rules, Tally};
use crate::table::{Columns, ForecastBuilder, ForecastStamp};
use jobs::Jobs;

/// All that partitions of one pipeline share.
#[derive(Debug)]
pub struct Setup {
    pub columns: Columns,
    pub rules: Rules,
    /// A forecast is issued at every step whose number is a multiple of this.
    pub every: u32,
    /// Interval levels, ascending, each in (0, 1).
    pub levels: Vec<f64>,
    pub model: Arc<Model>,
    /// The grid's step as the user wrote it.
    pub every_text: String,
    /// How much a partition may hold.
    pub capacity: Capacity,
}

/// Numbers of the forecasts of one push, at most: 64 MiB, and far below what a list column can hold.
const NUMBERS_AT_ONCE: usize = 16 << 20;

impl Setup {
    /// Rows that should be pushed at once, so that what comes of them is bounded whatever the horizon and the number of
    /// targets. (A row closes a few steps at most, but usually one.)
    pub fn rows_at_once(&self) -> usize {
        let lists = 1 + 2 * self.levels.len();
        let numbers = self.columns.targets.len() * lists * self.model.description.horizon;
        (NUMBERS_AT_ONCE / numbers.max(1)).max(1)
    }
}

/// What came of some rows.
#[derive(Debug)]
pub struct Pushed {
    /// Forecasts by `table::forecast_schema`, in the order of the rows that triggered them.
    pub forecasts: RecordBatch,
    pub refused: Vec<Refused>,
    /// Candidates that came and went, in the order of the rows.
    pub held: Vec<Held>,
    /// Counts of this push alone.
    pub tally: Tally,
}

/// One partition's series and the network over them.
pub struct Forecaster {
    setup: Arc<Setup>,
    histories: Histories,
    jobs: Jobs,
    forecasts: ForecastBuilder,
}

impl Forecaster {
    pub fn new(setup: Arc<Setup>) -> Self {
        let description = &setup.model.description;
        let histories = Histories::new(
            setup.columns.clone(),
            setup.rules.clone(),
            description.keep(&setup.rules),
            description.horizon,
            setup.capacity,
        )
        .with_memory(setup.model.memory.as_ref().map(|part| part.memory.clone()));
        let stamp = ForecastStamp { every: setup.every_text.clone(), model: setup.model.hash.clone() };
        let forecasts = ForecastBuilder::new(&setup.levels, stamp);
        Self { jobs: Jobs::new(setup.clone()), setup, histories, forecasts }
    }

    /// Takes rows, by `table::Columns::schema`, in order.
    pub fn push(&mut self, rows: &RecordBatch) -> Pushed {
        let Self { histories, jobs, forecasts, .. } = self;
        let (mut tally, mut unused) = (Tally::default(), Unused::default());
        histories.follow(rows, &mut tally, &mut unused, |happening| match happening {
            Happening::Closed(closing) => jobs.add(&closing, forecasts),
            Happening::Evicted(index) => jobs.forget(index, forecasts),
        });
        self.pushed(tally, unused)
    }

    /// Takes rows whose forecasts are known already: the state afterwards is that of a push. Returns the candidates that
    /// came and went.
    pub fn absorb(&mut self, rows: &RecordBatch) -> Vec<Held> {
        let Self { histories, jobs, forecasts, .. } = self;
        let (mut tally, mut unused) = (Tally::default(), Unused::default());
        histories.follow(rows, &mut tally, &mut unused, |happening| match happening {
            Happening::Closed(closing) => jobs.absorb(&closing, forecasts),
            Happening::Evicted(index) => jobs.forget(index, forecasts),
        });
        jobs.run(forecasts);
        unused.held
    }

    /// The input is over: closes what time alone held open, id by id in the order of their names, `ids` at a time.
    pub fn finish(&mut self, ids: usize) -> impl Iterator<Item = Pushed> {
        let mut left = self.histories.by_id().into_iter();
        std::iter::from_fn(move || {
            let some: Vec<usize> = left.by_ref().take(ids.max(1)).collect();
            if some.is_empty() {
                return None;
            }
            let Self { histories, jobs, forecasts, .. } = self;
            let (mut tally, mut unused) = (Tally::default(), Unused::default());
            histories.finish(&some, &mut tally, &mut unused, |closing| jobs.add(&closing, forecasts));
            Some(self.pushed(tally, unused))
        })
    }

    fn pushed(&mut self, mut tally: Tally, Unused { refused, held }: Unused) -> Pushed {
        self.jobs.run(&mut self.forecasts);
        tally.forecasts = self.forecasts.len() as u64;
        Pushed { forecasts: self.forecasts.finish(), refused, held, tally }
    }

    /// How many ids there are.
    pub fn series(&self) -> usize {
        self.histories.all().len()
    }

    /// How many ids can forecast all their targets. Walks over all of them.
    pub fn warm(&self) -> usize {
        let description = &self.setup.model.description;
        let is_warm = |target: &Target| {
            target.window.len() >= description.lookback && target.running.count >= description.warm
        };
        let warm = |history: &&History| history.targets.iter().all(is_warm);
        self.histories.all().iter().filter(warm).count()
    }

    /// Every series' state, a row an id, ordered by id: equal states give equal batches.
    pub fn snapshot(&self) -> RecordBatch {
        snapshot::of(&self.histories, self.jobs.carried())
    }

    /// Puts back a snapshot, in place of all state.
    ///
    /// # Errors
    /// If the columns are not those of a snapshot of this pipeline's columns, or a row contradicts itself.
    pub fn restore(&mut self, snapshot: &RecordBatch) -> Result<(), RestoreError> {
        let mut fresh = Self::new(self.setup.clone());
        let carried = fresh.jobs.carried_mut();
        snapshot::into(snapshot, &self.setup.columns, &mut fresh.histories, carried)?;
        *self = fresh;
        Ok(())
    }
}
