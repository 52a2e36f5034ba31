//! Throughput of the forecaster on one core, from batch to batch, with a forecast for every row. One line of JSON per case.
//!
//! `cargo bench --bench push` runs all cases. Any of `--series 10000 --state carried --cell lstm --hidden 32 --horizon 12
//! --poles 54 --levels 2` runs one case instead (`--state window` reads windows of `--lookback` steps, `--cell none` is the
//! recurrence alone).

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use common::model::{ModelSize, batch, pipeline, setup};
use common::options::Options;
use common::rows::{FILES, ids};
use serde_json::{Value, json};
use tidecast_core::forecaster::{Forecaster, Scoring, Setup};
use tidecast_core::network::StateKind;

/// Rows per batch, as in a busy Kafka partition.
const BATCH: usize = 10_000;
/// Rows per measurement. The fastest counts: other load on the machine only slows one down.
const MEASURED_ROWS: usize = 200_000;
const MEASUREMENTS_MIN: usize = 5;
/// Least time of all measurements together, since a shared machine has slow periods.
const MEASURED_TIME_MIN: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
struct Case {
    size: ModelSize,
    series: usize,
    levels: usize,
}

fn main() {
    let options = Options::from_args();
    let mut names = ModelSize::OPTIONS.iter().chain(&["--series", "--levels"]);
    let is_single = names.any(|name| options.value(name).is_some());
    let cases = if is_single { vec![Case::from_options(&options)] } else { Case::all() };
    for case in cases {
        println!("{}", case.run());
    }
}

impl Case {
    const DEFAULT_SERIES: usize = 10_000;

    fn all() -> Vec<Self> {
        let size = ModelSize::default();
        let case = Self { size, series: Self::DEFAULT_SERIES, levels: 0 };
        let large = ModelSize { hidden: 64, ..size };
        vec![
            Self { series: 1000, ..case },
            case,
            Self { series: 100_000, ..case },
            Self { series: 1_000_000, ..case },
            Self { levels: 2, ..case },
            Self { size: ModelSize { cell: None, poles: 54, ..size }, ..case },
            Self { size: ModelSize { poles: 54, ..size }, ..case },
            Self { size: large, series: 1000, ..case },
            Self { size: ModelSize { state: StateKind::Window, ..large }, series: 1000, ..case },
        ]
    }

    fn from_options(options: &Options) -> Self {
        Self {
            size: ModelSize::from_options(options, ModelSize::default()),
            series: options.number("--series", Self::DEFAULT_SERIES),
            levels: options.number("--levels", 0),
        }
    }

    fn run(self) -> Value {
        let Self { size, series, levels } = self;
        let pipeline = pipeline(Path::new("."), FILES);
        let setup = Setup {
            levels: [0.8, 0.95][..levels].to_vec(),
            scoring: (levels > 0).then(|| Scoring { horizons: vec![1, size.horizon], every: 1440 }),
            ..setup(&pipeline, size, series)
        };
        let mut forecaster = Forecaster::new(Arc::new(setup));
        let names = ids(series);
        let mut next = 0;
        let warmup = (size.warmup() * series).next_multiple_of(BATCH);
        while next < warmup {
            forecaster.push(&batch(&pipeline, &names, next, BATCH));
            next += BATCH;
        }
        let (rows, state) = match size.state {
            StateKind::Window => (MEASURED_ROWS / 10, json!({ "window": size.lookback })),
            StateKind::Carried => (MEASURED_ROWS, json!("carried")),
        };
        let (mut best, mut total, mut measurements) = (f64::INFINITY, Duration::ZERO, 0);
        while measurements < MEASUREMENTS_MIN || total < MEASURED_TIME_MIN {
            let batches: Vec<RecordBatch> =
                (0..rows).step_by(BATCH).map(|row| batch(&pipeline, &names, next + row, BATCH)).collect();
            next += rows;
            let started = Instant::now();
            let forecasts: u64 = batches.iter().map(|batch| forecaster.push(batch).counters.forecasts).sum();
            total += started.elapsed();
            measurements += 1;
            best = best.min(started.elapsed().as_secs_f64());
            assert_eq!(forecasts, rows as u64, "every row triggers a forecast");
        }
        json!({
            "bench": "push",
            "state": state,
            "cell": size.cell,
            "hidden": size.cell.map(|_| size.hidden),
            "poles": size.poles,
            "horizon": size.horizon,
            "levels": levels,
            "series": series,
            "rows_per_second": (rows as f64 / best).round(),
            "ns_per_row": (best * 1e9 / rows as f64).round(),
        })
    }
}
