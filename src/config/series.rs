//! Checks of `[columns]`, `[grid]`, `[forecast]` and `[scores]`.

use tidecast_core::intervals::TRACKED_HORIZONS_MAX;
use tidecast_core::network::HORIZON_MAX;
use tidecast_core::schema::{Columns, format_percent};
use tidecast_core::series::{Grid, OPEN_STEPS_MAX, StepConfig};
use tidecast_core::time::{DAY, MILLISECOND, duration_text};

use super::checks::Checks;
use super::file;
use super::{Forecast, Scores};

/// Steps that one observation may close. Each filled step is a step of the network, so a longer gap would stall the stream.
const FILLED_STEPS_MAX: i64 = 100_000;
/// Interval levels; each adds two lists to every forecast.
const LEVELS_MAX: usize = 16;
/// Columns of each role. A wider table has its ids in its column names and should be a long table.
const COLUMNS_MAX: usize = 1024;

impl Checks<'_> {
    pub fn columns(&mut self, pipeline_name: &str, table: file::Columns) -> Columns {
        let series = table.series.map(|series| self.non_empty("columns.series", series));
        let time = self.required("columns.time", table.time, "the column with the time of an observation");
        match &table.targets {
            None => self.problems.missing("columns.targets", "the columns to forecast, such as [\"value\"]"),
            Some(targets) if targets.is_empty() => {
                self.problems.value("columns.targets", "is empty: name at least one column to forecast");
            }
            Some(_) => {}
        }
        let lists = [
            ("targets", table.targets.unwrap_or_default()),
            ("covariates", table.covariates.unwrap_or_default()),
            ("future_covariates", table.future_covariates.unwrap_or_default()),
        ];
        let mut used: Vec<(&str, &str)> = series.iter().map(|series| ("series", series.as_str())).collect();
        self.unused_column("columns.time".to_owned(), "time", &time, &mut used);
        for (key, names) in &lists {
            if names.len() > COLUMNS_MAX {
                let text = format!("has {} columns, more than {COLUMNS_MAX}: use a long table", names.len());
                self.problems.value(&format!("columns.{key}"), text);
            }
            for (i, name) in names.iter().enumerate() {
                let path = format!("columns.{key}[{i}]");
                self.non_empty(&path, name.clone());
                self.unused_column(path, key, name, &mut used);
            }
        }
        let [(_, targets), (_, covariates), (_, future_covariates)] = lists;
        Columns {
            series,
            only_series: pipeline_name.to_owned(),
            time,
            targets,
            covariates,
            future_covariates,
        }
    }

    /// Adds a column to those in use, by the key that names them.
    fn unused_column<'n>(
        &mut self,
        path: String,
        key: &'n str,
        name: &'n str,
        used: &mut Vec<(&'n str, &'n str)>,
    ) {
        match used.iter().find(|(_, other)| *other == name && !name.is_empty()) {
            Some((first, _)) => {
                self.problems.value(&path, format!("is `{name}`, which \"{first}\" names already"));
            }
            None => used.push((key, name)),
        }
    }

    pub fn grid(&mut self, table: file::Grid) -> StepConfig {
        if table.every.is_none() {
            self.problems.missing("grid.every", "the length of a step, such as \"1h\"");
        }
        let every = self.micros(
            "grid.every",
            table.every.as_deref(),
            MILLISECOND..=366 * DAY,
            "Kafka's timestamps are in milliseconds, and a year is the longest season",
        );
        // With an unknown step, bounds in steps are not checked.
        let step = every.unwrap_or(MILLISECOND);
        let step_text = duration_text(step);
        let offset = self.micros(
            "grid.offset",
            table.offset.as_deref(),
            0..=every.map_or(i64::MAX, |every| every - 1),
            &format!("it shifts the start of the {step_text} steps"),
        );
        let lateness = self.micros(
            "grid.lateness",
            table.lateness.as_deref(),
            0..=every.map_or(i64::MAX, |every| every.saturating_mul(OPEN_STEPS_MAX as i64)),
            &format!("a series can have {OPEN_STEPS_MAX} open steps of {step_text}"),
        );
        let gap_max = step.saturating_mul(FILLED_STEPS_MAX).min(10 * 366 * DAY);
        let max_gap = self.micros(
            "grid.max_gap",
            table.max_gap.as_deref(),
            every.unwrap_or(0)..=every.map_or(i64::MAX, |_| gap_max),
            &format!("a gap is filled with steps of {step_text}, at most {FILLED_STEPS_MAX}"),
        );
        let why = "it counts the rows of a step; without it, a step waits for a row of a later step";
        let complete_after = table.complete_after.map(|rows| self.count("grid.complete_after", rows, why));
        StepConfig {
            grid: Grid { every: step, offset: offset.unwrap_or(0) },
            aggregate: table.aggregate.unwrap_or_default(),
            complete_after,
            lateness: lateness.unwrap_or(0),
            gap_fill: table.gap_fill.unwrap_or_default(),
            // Bridges a few lost observations; values held for longer are stale.
            max_gap: max_gap.unwrap_or(step.saturating_mul(6)),
        }
    }

    /// A positive number of rows or steps.
    fn count(&mut self, path: &str, value: i64, why: &str) -> u32 {
        self.integer(path, Some(value), 1, 1..=i64::from(u32::MAX), why) as u32
    }

    pub fn forecast(&mut self, table: file::Forecast) -> Forecast {
        let model = self.required("forecast.model", table.model, "the model file that `train` writes");
        let why = "it counts the steps from one forecast to the next";
        let every = table.every.map_or(1, |every| self.count("forecast.every", every, why));
        let levels = table.levels.map_or(Forecast::DEFAULT_LEVELS.to_vec(), |levels| self.levels(&levels));
        Forecast { model: self.local_path("forecast.model", &model), every, levels }
    }

    /// Interval levels, ascending.
    fn levels(&mut self, given: &[f64]) -> Vec<f64> {
        if given.len() > LEVELS_MAX {
            let count = given.len();
            let text =
                format!("has {count} levels, more than {LEVELS_MAX}: each adds two lists to every forecast");
            self.problems.value("forecast.levels", text);
            return Vec::new();
        }
        let mut levels: Vec<f64> = Vec::new();
        for (i, level) in given.iter().enumerate() {
            let path = format!("forecast.levels[{i}]");
            let thousandths = level * 1000.0;
            if !(*level > 0.0 && *level < 1.0) {
                let text = format!("must be between 0 and 1, not {level}: 0.8 is the 80 % interval");
                self.problems.value(&path, text);
            } else if (thousandths - thousandths.round()).abs() > 1e-6
                || !(1.0..=999.0).contains(&thousandths.round())
            {
                // Columns are named by tenths of a percent: `lower_97.5`.
                self.problems.value(&path, format!("must have at most three decimals, not {level}"));
            } else if levels.iter().any(|other| format_percent(*other) == format_percent(*level)) {
                self.problems.value(&path, format!("repeats {level}"));
            } else {
                levels.push(*level);
            }
        }
        levels.sort_by(f64::total_cmp);
        levels
    }

    pub fn scores(&mut self, table: file::Scores) -> Scores {
        let mut horizons: Vec<usize> = Vec::new();
        for (i, horizon) in table.horizons.iter().flatten().enumerate() {
            let path = format!("scores.horizons[{i}]");
            let why = "1 is the step after the origin";
            let horizon = self.integer(&path, Some(*horizon), 1, 1..=HORIZON_MAX as i64, why);
            if horizons.contains(&horizon) {
                self.problems.value(&path, format!("repeats {horizon}"));
            }
            horizons.push(horizon);
        }
        horizons.sort_unstable();
        horizons.dedup();
        let count = horizons.len();
        if table.horizons.is_some() && !(1..=TRACKED_HORIZONS_MAX).contains(&count) {
            let text = format!(
                "has {count} horizons, not 1 to {TRACKED_HORIZONS_MAX}: for each, every series queues the forecasts without an actual"
            );
            self.problems.value("scores.horizons", text);
        }
        let why = "it counts the steps of a scoring period";
        let every = table.every.map(|every| self.count("scores.every", every, why));
        Scores { horizons: table.horizons.is_some().then_some(horizons), every }
    }
}
