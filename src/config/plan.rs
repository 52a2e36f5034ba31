//! The pipeline as text again: the whole plan for a reader, and the keys that shape the state for a hash.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::client::Masked;
use super::duration::duration_text;
use super::{Brokers, KafkaSink, KafkaSource, OnChange, Pipeline};

impl Pipeline {
    /// The plan: a pipeline file with every default filled in and every secret masked.
    pub fn plan(&self) -> String {
        let mut out = Text(format!("# {}, with every default filled in\n", self.file.display()));
        out.key("name", &self.name);
        out.key("delivery", &self.delivery);
        self.plan_rows(&mut out);
        self.plan_edges(&mut out);
        self.plan_train(&mut out);
        out.0
    }

    /// The plan key by key, as a script reads it. A key that the plan says is left out is not there.
    pub fn plan_values(&self) -> serde_json::Value {
        let mut plan = toml::from_str(&self.plan()).expect("the plan is a pipeline file");
        unescape(&mut plan);
        plan
    }

    /// The text of a step's length, as it stands in every forecast: "1h".
    pub fn every_text(&self) -> String {
        duration_text(self.rules.grid.every)
    }

    /// The configuration that the state of a series depends on, key by key in a fixed order. Two pipelines with the
    /// same texts (and the same model, start and rows) have the same state at every position; where one differs, its
    /// key is the one to name. They are:
    ///
    /// - all of `columns`, and the format of the messages: what a row says;
    /// - all of `grid`: which step a row falls into, when it closes, what fills a gap;
    /// - of `limits` those that say which rows are refused and which series give way: not how much may wait, nor when to
    ///   stop.
    ///
    /// - where intervals go on to be corrected or forecasts are scored, which forecasts are issued, with which levels, and
    ///   which are scored.
    ///
    /// They are not: `name` (but where there is no series column, it is the id of all rows), paths, brokers, topics,
    /// groups, clients, commits, sinks, `state`, and `train`, whose result is the model.
    pub fn state_keys(&self) -> Vec<(&'static str, String)> {
        let (columns, rules, limits) = (&self.columns, &self.rules, &self.limits);
        let series = match &columns.series {
            Some(column) => value(column),
            None => format!("none, all rows are {}", value(&columns.only_series)),
        };
        let mut keys = vec![
            ("columns.series", series),
            ("columns.time", value(&columns.time)),
            ("columns.time_unit", value(&self.time_unit)),
            ("columns.targets", value(&columns.targets)),
            ("columns.covariates", value(&columns.covariates)),
            ("columns.known_ahead", value(&columns.known_ahead)),
            ("grid.every", duration_text(rules.grid.every)),
            ("grid.offset", duration_text(rules.grid.offset)),
            ("grid.aggregate", value(&rules.aggregate)),
            ("grid.complete_after", rules.complete_after.map_or("none".to_string(), |rows| rows.to_string())),
            ("grid.lateness", duration_text(rules.lateness)),
            ("grid.gaps", value(&rules.gaps)),
            ("grid.max_gap", duration_text(rules.max_gap)),
            ("limits.series", limits.series.to_string()),
            ("limits.full", value(&limits.full)),
            ("limits.open_steps", limits.open_steps.to_string()),
            ("limits.message_bytes", limits.message_bytes.to_string()),
            ("limits.id_bytes", limits.id_bytes.to_string()),
        ];
        if let Some(source) = &self.kafka_source {
            keys.push(("source.kafka.format", value(&source.format)));
        }
        if self.scores.is_some() || !self.forecast.levels.is_empty() {
            keys.push(("forecast.every", self.forecast.every.to_string()));
            keys.push(("forecast.levels", value(&self.forecast.levels)));
        }
        if let Some(scores) = &self.scores {
            let [(_, horizons), (_, every)] = scores.text();
            keys.extend([("scores.horizons", horizons), ("scores.every", every)]);
        }
        keys
    }

    fn plan_rows(&self, out: &mut Text) {
        let columns = &self.columns;
        out.table("columns");
        match &columns.series {
            Some(series) => out.key("series", series),
            None => {
                out.line(format!("# no series column: the id of all rows is {}", value(&columns.only_series)))
            }
        }
        out.key("time", &columns.time);
        out.key("time_unit", &self.time_unit);
        out.key("targets", &columns.targets);
        out.key("covariates", &columns.covariates);
        out.key("known_ahead", &columns.known_ahead);

        let rules = &self.rules;
        out.table("grid");
        out.micros("every", rules.grid.every);
        out.micros("offset", rules.grid.offset);
        out.key("aggregate", &rules.aggregate);
        match rules.complete_after {
            Some(rows) => out.key("complete_after", &rows),
            None => out.line("# no complete_after: a step closes when a later one shows".to_string()),
        }
        out.micros("lateness", rules.lateness);
        out.key("gaps", &rules.gaps);
        out.micros("max_gap", rules.max_gap);

        out.table("forecast");
        out.path("model", &self.forecast.model);
        out.key("every", &self.forecast.every);
        out.key("levels", &self.forecast.levels);
        if let Some(scores) = &self.scores {
            out.table("scores");
            match &scores.horizons {
                Some(horizons) => out.key("horizons", horizons),
                None => {
                    out.line("# no horizons: up to 8 steps ahead, chosen by the model's horizon".to_string())
                }
            }
            match &scores.every {
                Some(every) => out.key("every", every),
                None => out.line("# no every: scores are written once a horizon".to_string()),
            }
        }
    }

    fn plan_edges(&self, out: &mut Text) {
        if let Some(KafkaSource {
            brokers,
            topic,
            group,
            format,
            start,
            deleted,
            compacted,
            instance,
            static_member,
            rewind: _,
            queue_rows: _,
            ends: _,
            client,
            commit,
        }) = &self.kafka_source
        {
            out.table("source.kafka");
            out.key("brokers", broker_text(brokers));
            out.key("topic", topic);
            out.key("group", group);
            out.key("format", format);
            out.key("start", start);
            out.key("deleted", deleted);
            out.key("compacted", compacted);
            out.key("instance", instance);
            out.key("static_member", static_member);
            out.client(&Masked(client));
            let every = value(&duration_text(micros(commit.every)));
            out.line(format!("commit = {{ every = {every}, rows = {} }}", commit.rows));
        }
        if let Some(source) = &self.parquet_source {
            out.table("source.parquet");
            out.path("path", &source.path);
            out.key("order", &source.order);
        }
        if let Some(KafkaSink { brokers, topic, scores: _, rejects, rejected, client }) = &self.kafka_sink {
            out.table("sink.kafka");
            out.key("brokers", broker_text(brokers));
            out.key("topic", topic);
            match rejects {
                Some(rejects) => out.key("rejects", rejects),
                None => out.line("# no rejects topic: refused rows are only counted".to_string()),
            }
            out.key("rejected", rejected);
            out.client(&Masked(client));
        }
        if let Some(sink) = &self.parquet_sink {
            out.table("sink.parquet");
            out.path("path", &sink.path);
            out.key("layout", &sink.layout);
            out.key("positions", &sink.positions);
        }
        if let Some(super::ScoreSink { topic, path }) = &self.score_sink {
            out.table("sink.scores");
            topic.iter().for_each(|topic| out.key("topic", topic));
            path.iter().for_each(|path| out.path("path", path));
        }
        if let Some(state) = &self.state {
            out.table("state");
            out.key("store", &state.place.to_string());
            out.micros("every", micros(state.every));
            out.key("bytes_per_second", &state.bytes_per_second);
            match &state.on_change {
                OnChange::Fail => out.key("on_change", "fail"),
                OnChange::Cold => out.key("on_change", "cold"),
                OnChange::Replay(time) => {
                    out.key("on_change", "replay");
                    out.micros("replay", micros(*time));
                }
                OnChange::Warm(path) => {
                    out.key("on_change", "warm");
                    out.path("warm", path);
                }
            }
        }
        self.limits.plan(out);
        match &self.serve {
            Some(serve) => serve.plan(out),
            None => out.line(
                "\n# no [serve]: there is nothing to look at while it runs, and no metrics".to_string(),
            ),
        }
    }

    fn plan_train(&self, out: &mut Text) {
        let train = &self.train;
        out.table("train");
        out.key("memory", &train.memory);
        match &train.context {
            Some(context) => out.key("context", context),
            None => out.line("# no context: the memory fades, and forgets nothing at once".to_string()),
        }
        match &train.cell {
            Some(cell) => out.key("cell", cell),
            None => out.key("cell", "none"),
        }
        out.key("hidden", &train.hidden);
        out.key("layers", &train.layers);
        out.key("lookback", &train.lookback);
        out.key("segment", &train.segment);
        out.key("horizon", &train.horizon);
        out.key("decoder", &train.decoder);
        out.key("state", &train.state);
        out.key("scaling", &train.scaling);
        out.key("calendar", &train.calendar);
        out.key("loss", &train.loss);
        out.key("quantiles", &train.quantiles);
        out.key("embedding", &train.embedding);
        out.key("epochs", &train.epochs);
        out.key("batch", &train.batch);
        out.key("learning_rate", &train.learning_rate);
        out.key("warmup", &train.warmup);
        out.key("weight_decay", &train.weight_decay);
        out.key("clip", &train.clip);
        out.key("average", &train.average);
        out.key("dropout", &train.dropout);
        out.key("patience", &train.patience);
        out.key("train_part", &train.train_part);
        out.key("validation_part", &train.validation_part);
        out.key("seed", &train.seed);
    }
}

fn broker_text(brokers: &Brokers) -> &str {
    match brokers {
        Brokers::At(list) => list,
        Brokers::Embedded => "embedded",
    }
}

/// Durations come from whole microseconds in an i64, so this takes them back as they were.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A value as TOML writes it. A `${` of the result is escaped, as it would have to be in a file.
pub(super) fn value(value: &(impl Serialize + ?Sized)) -> String {
    let value = toml::Value::try_from(value).expect("texts, numbers and lists of them are TOML values");
    value.to_string().replace("${", "$${")
}

/// Takes back what `value` escaped.
fn unescape(of: &mut serde_json::Value) {
    match of {
        serde_json::Value::String(text) => *text = text.replace("$${", "${"),
        serde_json::Value::Array(values) => values.iter_mut().for_each(unescape),
        serde_json::Value::Object(keys) => keys.values_mut().for_each(unescape),
        _ => {}
    }
}

/// A TOML text in the making.
pub(super) struct Text(String);

impl Text {
    pub fn line(&mut self, line: String) {
        self.0.push_str(&line);
        self.0.push('\n');
    }

    pub fn table(&mut self, name: &str) {
        self.line(format!("\n[{name}]"));
    }

    pub fn key(&mut self, key: &str, of: &(impl Serialize + ?Sized)) {
        self.line(format!("{key} = {}", value(of)));
    }

    /// A key with what it is there for.
    pub fn because(&mut self, key: &str, of: &(impl Serialize + ?Sized), why: &str) {
        self.line(format!("{key} = {} # {why}", value(of)));
    }

    fn micros(&mut self, key: &str, micros: i64) {
        self.key(key, &duration_text(micros));
    }

    fn path(&mut self, key: &str, path: &Path) {
        self.key(key, &path.to_string_lossy());
    }

    fn client(&mut self, client: &Masked<'_>) {
        let mut list = String::new();
        for (property, text) in client.iter() {
            let comma = if list.is_empty() { "" } else { "," };
            let _ = write!(list, "{comma} {} = {}", key_text(property), value(text));
        }
        let end = if list.is_empty() { "" } else { " " };
        self.line(format!("client = {{{list}{end}}}"));
    }
}

/// A property's name as a quoted TOML key, in which no variable is looked for.
pub(super) fn key_text(property: &str) -> String {
    toml::Value::from(property).to_string()
}
