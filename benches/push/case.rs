//! One case: sizes of a model, and rows of so many series.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use serde_json::{Value, json};
use tidecast_core::forecaster::{Forecaster, Scoring, Setup};
use tidecast_core::intervals::CalibrationMode;
use tidecast_core::network::StateKind;

use crate::model::{self, Sizes, batch};
use crate::readings::{FILES, ids};
use crate::words::Words;

/// Rows pushed at once: as many as a busy Kafka partition hands over.
const BATCH: usize = 10_000;
/// Rows that are timed at a time; as often as that, and the best counts: what else runs here only makes it slower.
const TIMED: usize = 200_000;
const REPEATS: usize = 5;
/// And for so long: a machine that is shared has moments.
const LONG: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
pub struct Case {
    sizes: Sizes,
    series: usize,
    levels: usize,
}

impl Default for Case {
    fn default() -> Self {
        Self { sizes: Sizes::default(), series: 10_000, levels: 0 }
    }
}

impl Case {
    pub fn all() -> Vec<Self> {
        let (one, sizes) = (Self::default(), Sizes::default());
        let large = Sizes { hidden: 64, ..sizes };
        vec![
            Self { series: 1000, ..one },
            one,
            Self { series: 100_000, ..one },
            Self { series: 1_000_000, ..one },
            Self { levels: 2, ..one },
            Self { sizes: Sizes { cell: None, poles: 54, ..sizes }, ..one },
            Self { sizes: Sizes { poles: 54, ..sizes }, ..one },
            Self { sizes: large, series: 1000, ..one },
            Self { sizes: Sizes { state: StateKind::Window, ..large }, series: 1000, ..one },
        ]
    }

    pub fn of(words: &Words) -> Self {
        let default = Self::default();
        Self {
            sizes: Sizes::of(words, default.sizes),
            series: words.number("--series", default.series),
            levels: words.number("--levels", default.levels),
        }
    }

    pub fn run(self) -> Value {
        let Self { sizes, series, levels } = self;
        let pipeline = model::pipeline(Path::new("."), FILES);
        let setup = Setup {
            columns: pipeline.columns.clone(),
            rules: pipeline.rules.clone(),
            every: 1,
            levels: [0.8, 0.95][..levels].to_vec(),
            calibration: CalibrationMode::Online,
            // Intervals and scores go together.
            scoring: (levels > 0).then(|| Scoring { horizons: vec![1, sizes.horizon], every: 1440 }),
            model: Arc::new(sizes.model(&pipeline)),
            every_text: pipeline.every_text(),
            capacity: series.into(),
        };
        let mut forecaster = Forecaster::new(Arc::new(setup));
        let names = ids(series);
        let mut next = 0;
        let begin = (sizes.warm() * series).next_multiple_of(BATCH);
        while next < begin {
            forecaster.push(&batch(&pipeline, &names, next, BATCH));
            next += BATCH;
        }
        let (rows, state) = match sizes.state {
            StateKind::Window => (TIMED / 10, json!({ "window": sizes.lookback })),
            StateKind::Carried => (TIMED, json!("carried")),
        };
        let (mut best, mut timed, mut repeats) = (f64::INFINITY, Duration::ZERO, 0);
        while repeats < REPEATS || timed < LONG {
            let batches: Vec<RecordBatch> =
                (0..rows).step_by(BATCH).map(|row| batch(&pipeline, &names, next + row, BATCH)).collect();
            next += rows;
            let started = Instant::now();
            let forecasts: u64 = batches.iter().map(|batch| forecaster.push(batch).tally.forecasts).sum();
            timed += started.elapsed();
            repeats += 1;
            best = best.min(started.elapsed().as_secs_f64());
            assert_eq!(forecasts, rows as u64, "a forecast at every reading");
        }
        json!({
            "bench": "push",
            "state": state,
            "cell": sizes.cell,
            "hidden": sizes.cell.map(|_| sizes.hidden),
            "poles": sizes.poles,
            "horizon": sizes.horizon,
            "levels": levels,
            "series": series,
            "readings_s": (rows as f64 / best).round(),
            "ns_per_reading": (best * 1e9 / rows as f64).round(),
        })
    }
}
