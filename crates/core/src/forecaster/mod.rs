//! From rows to forecasts for one partition: the only place where series meet network. Pure and synchronous: it knows
//! no clock, no file and no thread, never fails on data, and its forecasts are a function of the rows and their order,
//! however they are cut into batches.

mod anchors;
mod capture;
mod carried;
mod closing;
mod features;
mod histories;
mod ids;
mod inputs;
mod jobs;
mod live;
mod predictor;
mod remembered;
mod restore;
mod silence;
mod snapshot;
mod sound;

use std::sync::Arc;

use arrow::array::RecordBatch;

pub use anchors::ExpertForecasts;
pub use capture::{ASIDE_BYTES, BATCH_IDS, SnapshotProgress};
pub use carried::CellStates;
pub use closing::{StepContext, WindowUpdate, Happening};
pub use features::write as write_features;
pub use histories::{CandidateChange, SeriesStore, SeriesState, DroppedRow, TargetState, RowDiagnostics};
pub use inputs::Inputs;
pub use predictor::{OriginView, Predictor};
pub use remembered::MemoryStates;
pub use restore::RestoreError;

use crate::intervals::{CalibrationMode, OnlineCalibrator, SeriesScores};
use crate::model::Model;
use crate::series::{Capacity, Retention, StepConfig, RowCounters};
use crate::schema::{Columns, ForecastBuilder, ForecastStamp, ScoreBuilder};
use crate::time::{DAY, steps_per};
use capture::Capture;
use jobs::Jobs;

/// All that partitions of one pipeline share.
#[derive(Clone, Debug)]
pub struct Setup {
    pub columns: Columns,
    pub rules: StepConfig,
    /// A forecast is issued at every step whose number is a multiple of this.
    pub every: u32,
    /// Interval levels, ascending, each in (0, 1).
    pub levels: Vec<f64>,
    /// Whether intervals go on to be corrected as actuals arrive; else they stay the model's own.
    pub calibration: CalibrationMode,
    /// Whether forecasts are scored when their actuals have come.
    pub scoring: Option<Scoring>,
    pub model: Arc<Model>,
    /// The grid's step as the user wrote it.
    pub every_text: String,
    /// How much a partition may hold.
    pub capacity: Capacity,
}

/// Which forecasts are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scoring {
    /// So many steps ahead, ascending, from 1 to the model's horizon.
    pub horizons: Vec<usize>,
    /// StepBuffer of a period whose scores are written together.
    pub every: u32,
}

/// Numbers of the forecasts of one push, at most: 64 MiB, and far below what a list column can hold.
const NUMBERS_AT_ONCE: usize = 16 << 20;

impl Setup {
    /// StepBuffer after which the naive forecast that scores are held against repeats what was: the model's season, or a day where
    /// the windows reach back over one. Without either it repeats the last value.
    pub fn season(&self) -> Option<usize> {
        let (manifest, every) = (&self.model.manifest, self.rules.grid.every);
        let season = manifest.recurrence.as_ref().map_or(0, |memory| memory.season());
        let day = steps_per(DAY, every).map(|day| day as usize);
        let of_day = day.filter(|day| *day > 1 && *day <= self.past());
        Some(season).filter(|season| *season > 0).or(of_day)
    }

    /// Whether actuals are waited for: intervals are corrected by them, or forecasts scored.
    fn waits_for_actuals(&self) -> bool {
        !self.levels.is_empty() || self.scoring.is_some()
    }

    /// Values of a series that are looked back on at an origin.
    fn past(&self) -> usize {
        self.model.manifest.history_steps(self.waits_for_actuals())
    }

    /// Values of a series that are kept.
    pub fn keep(&self) -> Retention {
        self.model.manifest.retention(&self.rules, self.waits_for_actuals())
    }

    /// Rows that should be pushed at once, so that what comes of them is bounded whatever the horizon and the number of
    /// targets. (A row closes a few steps at most, but usually one.)
    pub fn rows_at_once(&self) -> usize {
        let lists = 1 + 2 * self.levels.len();
        let numbers = self.columns.targets.len() * lists * self.model.manifest.horizon;
        (NUMBERS_AT_ONCE / numbers.max(1)).max(1)
    }
}

/// What came of some rows.
#[derive(Debug)]
pub struct PushOutput {
    /// Forecasts by `schema::forecast_schema`, in the order of the rows that triggered them.
    pub forecasts: RecordBatch,
    /// Scores by `schema::score_schema`, in the order of the rows that ended their periods.
    pub scores: RecordBatch,
    pub refused: Vec<DroppedRow>,
    /// Candidates that came and went, in the order of the rows.
    pub held: Vec<CandidateChange>,
    /// Counts of this push alone.
    pub tally: RowCounters,
}

/// One partition's series and the network over them.
pub struct Forecaster {
    setup: Arc<Setup>,
    histories: SeriesStore,
    jobs: Jobs,
    written: Written,
    capture: Option<Capture>,
}

/// What is written.
struct Written {
    forecasts: ForecastBuilder,
    scores: ScoreBuilder,
}

/// What is kept beside the histories, by the numbers of their ids.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// Of a model with a memory.
    pub remembered: Option<&'a MemoryStates>,
    /// Of a model whose cells carry their state.
    pub carried: Option<&'a CellStates>,
    /// Where intervals are corrected or forecasts scored.
    pub online: Option<&'a OnlineCalibrator>,
}

/// The same, to be put back.
pub struct BesideMut<'a> {
    pub remembered: Option<&'a mut MemoryStates>,
    pub carried: Option<&'a mut CellStates>,
    pub online: Option<&'a mut OnlineCalibrator>,
}

/// Who follows a push: forecasts are issued, or only what is carried goes on; ids that a capture has not taken yet are put
/// aside before they change.
struct Following<'a> {
    jobs: &'a mut Jobs,
    written: &'a mut Written,
    capture: &'a mut Option<Capture>,
    keep: Retention,
    silent: bool,
}

impl Following<'_> {
    /// Where it is called, the happening is known: inlined, nothing has to be told apart.
    #[inline(always)]
    fn heed(&mut self, happening: Happening<'_>) {
        match happening {
            Happening::Touched(index, history) if self.capture.is_some() => self.put_aside(index, history),
            Happening::Touched(..) => {}
            Happening::Coming(index) => self.jobs.prefetch(index),
            Happening::Closed(closing) if self.silent => self.jobs.absorb(closing, self.written),
            Happening::Closed(closing) => self.jobs.add(closing, self.written),
            Happening::Evicted(index) => self.jobs.forget(index, self.written),
        }
    }

    #[cold]
    fn put_aside(&mut self, index: usize, history: &SeriesState) {
        if let Some(capture) = self.capture {
            // What waits in the jobs was touched before, and all that waited before the capture was taken.
            capture.touch(index, history, self.keep, self.jobs.beside());
        }
    }
}

impl Forecaster {
    pub fn new(setup: Arc<Setup>) -> Self {
        let manifest = &setup.model.manifest;
        let histories = SeriesStore::new(
            setup.columns.clone(),
            setup.rules.clone(),
            setup.keep(),
            manifest.horizon,
            setup.capacity,
        );
        let stamp = ForecastStamp { every: setup.every_text.clone(), model: setup.model.hash.clone() };
        let forecasts = ForecastBuilder::new(&setup.levels, stamp.clone());
        let written = Written { forecasts, scores: ScoreBuilder::new(&setup.levels, stamp) };
        Self { jobs: Jobs::new(setup.clone()), setup, histories, written, capture: None }
    }

    /// Takes rows, by `schema::Columns::schema`, in order.
    pub fn push(&mut self, rows: &RecordBatch) -> PushOutput {
        let (tally, unused) = self.follow(false, |histories, tally, unused, following| {
            histories.follow(rows, tally, unused, |happening| following.heed(happening));
        });
        self.pushed(tally, unused)
    }

    /// Takes rows whose forecasts are known already: the state afterwards is that of a push. Returns the candidates that
    /// came and went.
    pub fn absorb(&mut self, rows: &RecordBatch) -> Vec<CandidateChange> {
        let (_, unused) = self.follow(true, |histories, tally, unused, following| {
            histories.follow(rows, tally, unused, |happening| following.heed(happening));
        });
        self.jobs.run(&mut self.written);
        unused.held
    }

    /// The input is over: closes what time alone held open, id by id in the order of their names, `ids` at a time.
    pub fn finish(&mut self, ids: usize) -> impl Iterator<Item = PushOutput> {
        let mut left = self.histories.by_id().into_iter();
        std::iter::from_fn(move || {
            let some: Vec<usize> = left.by_ref().take(ids.max(1)).collect();
            if some.is_empty() {
                return None;
            }
            let (tally, unused) = self.follow(false, |histories, tally, unused, following| {
                // Id by id, so that what comes of one stands together however many there are at once.
                for index in some {
                    histories.follow_end(&[index], tally, unused, |happening| following.heed(happening));
                    let history = &histories.all()[index];
                    following.jobs.end(index, &history.id, history.position);
                }
            });
            Some(self.pushed(tally, unused))
        })
    }

    fn follow(
        &mut self,
        silent: bool,
        go: impl FnOnce(&mut SeriesStore, &mut RowCounters, &mut RowDiagnostics, &mut Following<'_>),
    ) -> (RowCounters, RowDiagnostics) {
        let Self { histories, jobs, written, capture, .. } = self;
        let (mut tally, mut unused) = (RowCounters::default(), RowDiagnostics::default());
        let keep = histories.keep();
        let mut following = Following { jobs, written, capture, keep, silent };
        go(histories, &mut tally, &mut unused, &mut following);
        (tally, unused)
    }

    fn pushed(&mut self, mut tally: RowCounters, RowDiagnostics { refused, held }: RowDiagnostics) -> PushOutput {
        self.jobs.run(&mut self.written);
        let Written { forecasts, scores } = &mut self.written;
        tally.forecasts = forecasts.len() as u64;
        PushOutput { forecasts: forecasts.finish(), scores: scores.finish(), refused, held, tally }
    }

    /// How many ids there are.
    pub fn series(&self) -> usize {
        self.histories.all().len()
    }

    /// How good the forecasts of each target of the id of this number were of late, in the order of the ids' first rows; all
    /// empty where nothing is scored.
    pub fn scores(&self, index: usize) -> Vec<SeriesScores> {
        let targets = self.setup.columns.targets.len();
        let online = self.jobs.beside().online;
        let columns = index * targets..(index + 1) * targets;
        online.map_or(Vec::new(), |online| columns.map(|column| online.scores(column)).collect())
    }

    /// How many ids can forecast all their targets. Walks over all of them.
    pub fn warm(&self) -> usize {
        let manifest = &self.setup.model.manifest;
        let is_warm = |target: &TargetState| {
            target.window.len() >= manifest.lookback && target.running.count >= manifest.warmup
        };
        let warm = |history: &&SeriesState| history.targets.iter().all(is_warm);
        self.histories.all().iter().filter(warm).count()
    }

    /// Every series' state, a row an id, in the order in which they first came (one that came for another has its place): equal states give equal batches.
    pub fn snapshot(&self) -> RecordBatch {
        let mut rows = snapshot::Rows::default();
        let mut state = snapshot::IdState::default();
        for (index, history) in self.histories.all().iter().enumerate() {
            state.fill(history, self.histories.keep(), index, self.jobs.beside());
            rows.add(&state);
        }
        rows.finish()
    }

    /// The same in batches of [`BATCH_IDS`] ids, each made when it is asked for.
    pub fn snapshot_batches(&mut self) -> impl Iterator<Item = RecordBatch> {
        self.begin_capture(ASIDE_BYTES);
        std::iter::from_fn(move || {
            loop {
                match self.capture(BATCH_IDS) {
                    SnapshotProgress::More => {}
                    SnapshotProgress::Batch(batch) => return Some(batch),
                    SnapshotProgress::Done => return None,
                }
            }
        })
    }

    /// From now on [`Forecaster::capture`] gives the state of this very moment, whatever is pushed in between; one that was
    /// under way is dropped. Ids that change before they are taken are copied aside, in about `aside` bytes ([`ASIDE_BYTES`])
    /// and what one more push touches.
    pub fn begin_capture(&mut self, aside: usize) {
        self.capture = Some(Capture::new(&self.histories, aside));
    }

    /// Takes up to `ids` more of what [`Forecaster::begin_capture`] began. Without that, there is nothing left.
    pub fn capture(&mut self, ids: usize) -> SnapshotProgress {
        let Some(capture) = &mut self.capture else { return SnapshotProgress::Done };
        let captured = capture.take(ids, &self.histories, self.jobs.beside());
        if matches!(captured, SnapshotProgress::Done) {
            self.capture = None;
        }
        captured
    }

    /// Whether a capture is under way.
    pub fn captures(&self) -> bool {
        self.capture.is_some()
    }

    /// Whether so much is put aside that the capture has to go on before more rows come: memory before latency.
    pub fn must_capture(&self) -> bool {
        self.capture.as_ref().is_some_and(Capture::is_full)
    }

    /// Drops a capture that is under way.
    pub fn end_capture(&mut self) {
        self.capture = None;
    }

    /// Puts back a snapshot, in place of all state.
    ///
    /// # Errors
    /// If the columns are not those of a snapshot of this pipeline's columns, or a row contradicts itself.
    pub fn restore(&mut self, snapshot: &RecordBatch) -> Result<(), RestoreError> {
        let mut fresh = Self::new(self.setup.clone());
        fresh.restore_more(snapshot)?;
        *self = fresh;
        Ok(())
    }

    /// Adds the next batch of a snapshot to one that is fresh but for the batches before. After an error it is of no use.
    ///
    /// # Errors
    /// As [`Forecaster::restore`]'s; and if an id is there already, or there are more than may be.
    pub fn restore_more(&mut self, batch: &RecordBatch) -> Result<(), RestoreError> {
        let Self { setup, histories, jobs, .. } = self;
        restore::into(batch, &setup.columns, setup.capacity.series, histories, jobs.beside_mut())
    }
}
