//! From the file as written to a pipeline of usable values: defaults, checks of what belongs together.

use std::path::Path;

use super::checks::{Checks, DAY, MILLISECOND};
use super::duration::duration_text;
use super::problems::Problems;
use super::spec::{self, Spec};
use super::{Brokers, ConfigError, Delivery, Forecast, OnChange, Pipeline, ScoreSink, StateStore};
use tidecast_core::series::{Grid, OPEN_STEPS, Rules};
use tidecast_core::table::{Columns, percent};

/// Steps that one reading may close at once. A gap is filled step by step, each a step of the network: more of them
/// would stall the stream at a single row.
const FILLED_MAX: i64 = 100_000;
/// Interval levels; each adds two lists to every forecast.
const LEVELS_MAX: usize = 16;
/// Columns of each part; a table that is wider has its ids in its column names and wants to be long.
const COLUMNS_MAX: usize = 1024;
/// Characters of a name. It becomes part of a topic's group and of file names.
const NAME_MAX: usize = 100;

/// Every check of `spec`, read from `file`.
pub(super) fn resolve(file: &Path, spec: Spec, problems: Problems) -> Result<Pipeline, ConfigError> {
    let mut checks = Checks { problems, folder: file.parent().unwrap_or(Path::new("")) };
    let name = checks.name(file, spec.name);
    let time_unit = spec.columns.time_unit.unwrap_or_default();
    let delivery = spec.delivery.unwrap_or_default();
    let columns = checks.columns(&name, spec.columns);
    let rules = checks.rules(spec.grid);
    let forecast = checks.forecast(spec.forecast);
    let mut kafka_source = spec.source.kafka.map(|spec| checks.kafka_source(&name, spec));
    let parquet_source = spec.source.parquet.map(|spec| checks.parquet_source(spec));
    let mut kafka_sink = spec.sink.kafka.map(|spec| checks.kafka_sink(kafka_source.as_ref(), spec));
    let parquet_sink = spec.sink.parquet.map(|spec| checks.parquet_sink(parquet_source.as_ref(), spec));
    let topics = (kafka_source.as_ref(), kafka_sink.as_ref());
    let files = (parquet_source.as_ref(), parquet_sink.as_ref());
    let score_sink = spec.sink.scores.map(|spec| checks.score_sink(spec, topics, files));
    if let (Some(sink), Some(ScoreSink { topic, .. })) = (&mut kafka_sink, &score_sink) {
        sink.scores.clone_from(topic);
    }
    // To say where scores go is to want them.
    let scores = spec.scores.or_else(|| score_sink.as_ref().map(|_| spec::Scores::default()));
    let scores = scores.map(|spec| checks.scores(spec));
    // What a live pipeline promises stands on its state: it is kept unless there is nothing to go on from.
    let is_live = kafka_source.as_ref().is_some_and(|source| source.brokers != Brokers::Embedded);
    let kept = || spec::State { store: Some(format!("file:state/{name}")), ..spec::State::default() };
    let state = spec.state.or_else(|| is_live.then(kept)).map(|spec| checks.state(spec));
    if let (Some(source), Some(StateStore { on_change: OnChange::Replay(time), .. })) =
        (&mut kafka_source, &state)
    {
        source.rewind = Some(*time);
    }
    let limits = checks.limits(state.as_ref(), spec.limits);
    if let Some(source) = &mut kafka_source {
        source.queue_rows = limits.queue_rows;
        source.ends = spec.serve.is_some();
    }
    let serve = spec.serve.map(|spec| checks.serve(spec));
    if delivery == Delivery::ExactlyOnce
        && let (Some(source), Some(sink)) = (&kafka_source, &kafka_sink)
        && !source.brokers.are(&sink.brokers)
    {
        checks.problems.value(
            "sink.kafka.brokers",
            "is another cluster than the source's: a transaction spans one; use one, or set delivery = \"at_least_once\"",
        );
    }
    let train = checks.train(&columns, &rules, &forecast.levels, spec.train);
    if !checks.problems.is_empty() {
        return Err(checks.problems.into_error(file));
    }
    Ok(Pipeline {
        file: file.to_path_buf(),
        name,
        columns,
        time_unit,
        delivery,
        rules,
        forecast,
        scores,
        kafka_source,
        parquet_source,
        kafka_sink,
        parquet_sink,
        score_sink,
        state,
        limits,
        serve,
        train,
        lines: checks.problems.into_lines(),
    })
}

impl Checks<'_> {
    fn name(&mut self, file: &Path, given: Option<String>) -> String {
        let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = given.or_else(stem).unwrap_or_default();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) || name.starts_with('.') {
            let text = format!(
                "is `{name}`: a pipeline's name has 1 to {NAME_MAX} letters, digits, dots, underscores or hyphens \
                 (left out, it is the file's name)"
            );
            self.problems.value("name", text);
        }
        name
    }

    fn columns(&mut self, name: &str, spec: spec::Columns) -> Columns {
        let series = spec.series.map(|series| self.filled("columns.series", series));
        let time = self.required("columns.time", spec.time, "the column with the time of a reading");
        match &spec.targets {
            None => self.problems.missing("columns.targets", "the columns to forecast, such as [\"value\"]"),
            Some(targets) if targets.is_empty() => {
                self.problems.value("columns.targets", "is empty: name at least one column to forecast");
            }
            Some(_) => {}
        }
        let parts = [
            ("columns.targets", spec.targets.unwrap_or_default()),
            ("columns.covariates", spec.covariates.unwrap_or_default()),
            ("columns.known_ahead", spec.known_ahead.unwrap_or_default()),
        ];
        let mut used: Vec<(&str, &str)> = series.iter().map(|series| ("series", series.as_str())).collect();
        let mut places = vec![("columns.time".to_string(), "time", &time)];
        for (path, names) in &parts {
            let part = path.trim_start_matches("columns.");
            if names.len() > COLUMNS_MAX {
                let text =
                    format!("has {} columns, more than {COLUMNS_MAX}: make it a long table", names.len());
                self.problems.value(path, text);
            }
            places.extend(names.iter().enumerate().map(|(i, name)| (format!("{path}[{i}]"), part, name)));
        }
        for (path, part, name) in places {
            if path != "columns.time" {
                self.filled(&path, name.clone());
            }
            match used.iter().find(|(_, other)| *other == name.as_str() && !name.is_empty()) {
                Some((first, _)) => {
                    self.problems.value(&path, format!("is `{name}`, which is used already, in \"{first}\""));
                }
                None => used.push((part, name)),
            }
        }
        let [(_, targets), (_, covariates), (_, known_ahead)] = parts;
        Columns { series, only_series: name.to_string(), time, targets, covariates, known_ahead }
    }

    fn rules(&mut self, spec: spec::Grid) -> Rules {
        if spec.every.is_none() {
            self.problems.missing("grid.every", "the length of a step, such as \"1h\"");
        }
        let every = self.micros(
            "grid.every",
            spec.every.as_deref(),
            MILLISECOND..=366 * DAY,
            "Kafka's times are in milliseconds, and a year is the longest season",
        );
        // Where the step is unknown, what is measured in steps is checked against none.
        let step = every.unwrap_or(MILLISECOND);
        let text = duration_text(step);
        let offset = self.micros(
            "grid.offset",
            spec.offset.as_deref(),
            0..=every.map_or(i64::MAX, |every| every - 1),
            &format!("it is the start of a step of {text} after the epoch"),
        );
        let lateness = self.micros(
            "grid.lateness",
            spec.lateness.as_deref(),
            0..=every.map_or(i64::MAX, |every| every.saturating_mul(OPEN_STEPS as i64)),
            &format!("up to {OPEN_STEPS} steps of {text} of a series can be open"),
        );
        let longest = step.saturating_mul(FILLED_MAX).min(10 * 366 * DAY);
        let max_gap = self.micros(
            "grid.max_gap",
            spec.max_gap.as_deref(),
            every.unwrap_or(0)..=every.map_or(i64::MAX, |_| longest),
            &format!("a gap is filled in steps of {text}, up to {FILLED_MAX} of them"),
        );
        let complete_after = spec.complete_after.map(|rows| {
            let why = "it counts the rows of a step; leave it out to wait for the next step";
            self.whole("grid.complete_after", Some(rows), 1, 1..=i64::from(u32::MAX), why) as u32
        });
        Rules {
            grid: Grid { every: step, offset: offset.unwrap_or(0) },
            aggregate: spec.aggregate.unwrap_or_default(),
            complete_after,
            lateness: lateness.unwrap_or(0),
            gaps: spec.gaps.unwrap_or_default(),
            // Long enough to ride over what a few lost readings leave, short enough that what is filled is still true.
            max_gap: max_gap.unwrap_or(step.saturating_mul(6)),
        }
    }

    fn forecast(&mut self, spec: spec::Forecast) -> Forecast {
        let model = self.required("forecast.model", spec.model, "the model file that `train` writes");
        let why = "it counts steps from one forecast to the next";
        let every = self.whole("forecast.every", spec.every, 1, 1..=i64::from(u32::MAX), why) as u32;
        Forecast { model: self.local("forecast.model", &model), every, levels: self.levels(spec.levels) }
    }

    /// Interval levels, ascending.
    fn levels(&mut self, given: Option<Vec<f64>>) -> Vec<f64> {
        let given = given.unwrap_or_else(|| vec![0.8, 0.95]);
        if given.len() > LEVELS_MAX {
            let text = format!(
                "has {} levels, more than {LEVELS_MAX}: each is two lists in every forecast",
                given.len()
            );
            self.problems.value("forecast.levels", text);
            return Vec::new();
        }
        let mut levels: Vec<f64> = Vec::new();
        for (i, level) in given.iter().enumerate() {
            let path = format!("forecast.levels[{i}]");
            let thousandths = level * 1000.0;
            if !(*level > 0.0 && *level < 1.0) {
                self.problems
                    .value(&path, format!("must be between 0 and 1, not {level}: 0.8 is the 80 % interval"));
            } else if (thousandths - thousandths.round()).abs() > 1e-6
                || !(1.0..=999.0).contains(&thousandths.round())
            {
                // Columns are named by tenths of a percent: `lower_97.5`.
                self.problems.value(&path, format!("must have at most three decimals, not {level}"));
            } else if levels.iter().any(|other| percent(*other) == percent(*level)) {
                self.problems.value(&path, format!("is {level}, which is there already"));
            } else {
                levels.push(*level);
            }
        }
        levels.sort_by(f64::total_cmp);
        levels
    }
}
