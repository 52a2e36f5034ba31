//! The pipeline as text again: the complete plan for a reader, and the keys that determine the state.

use tidecast_core::time::duration_text;
use tidecast_kafka::settings::{Brokers, KafkaSinkConfig, KafkaSourceConfig};
use tidecast_stream::settings::{OnChange, StateConfig};

use super::plan_text::{PlanText, micros, toml_value, unescape};
use super::{Pipeline, ScoreSinkConfig, limits, serve};

impl Pipeline {
    /// The plan: a pipeline file with every default filled in and every secret redacted.
    pub fn plan(&self) -> String {
        let mut out = PlanText(format!("# {}, with every default filled in\n", self.file.display()));
        out.key("name", &self.name);
        out.key("delivery", &self.delivery);
        self.plan_series(&mut out);
        self.plan_sources(&mut out);
        self.plan_sinks(&mut out);
        self.state.iter().for_each(|state| plan_state(state, &mut out));
        limits::plan(&self.limits, &mut out);
        match &self.serve {
            Some(config) => serve::plan(config, &mut out),
            None => out.line("\n# no [serve]: no dashboard and no metrics"),
        }
        self.plan_train(&mut out);
        out.0
    }

    /// The plan as JSON. Keys without a value are absent.
    pub fn plan_json(&self) -> serde_json::Value {
        let mut plan = toml::from_str(&self.plan()).expect("the plan is a pipeline file");
        unescape(&mut plan);
        plan
    }

    /// The length of a step as text, as every forecast contains it: "1h".
    pub fn step_text(&self) -> String {
        duration_text(self.step_config.grid.every)
    }

    /// The keys that determine the state of a series, in a fixed order, with their values. Pipelines with equal keys, model,
    /// start and rows have equal states at every position; a lineage mismatch names the key that differs.
    ///
    /// Included are:
    ///
    /// - `columns` and the message format, which determine the content of a row;
    /// - `grid`, which determines the steps;
    /// - the `limits` that determine which rows are refused and which series are evicted;
    /// - `forecast.every`, `forecast.levels` and `scores`, if forecasts are scored or calibrated.
    ///
    /// Excluded are `name` (unless it is the id of all rows), paths, brokers, topics, groups, clients, commits, sinks, `state`,
    /// and `train`, whose result is the model.
    pub fn state_keys(&self) -> Vec<(&'static str, String)> {
        let (columns, step, limits) = (&self.columns, &self.step_config, &self.limits);
        let series = match &columns.series {
            Some(column) => toml_value(column),
            None => format!("none, all rows are {}", toml_value(&columns.only_series)),
        };
        let mut keys = vec![
            ("columns.series", series),
            ("columns.time", toml_value(&columns.time)),
            ("columns.time_unit", toml_value(&self.time_unit)),
            ("columns.targets", toml_value(&columns.targets)),
            ("columns.covariates", toml_value(&columns.covariates)),
            ("columns.future_covariates", toml_value(&columns.future_covariates)),
            ("grid.every", duration_text(step.grid.every)),
            ("grid.offset", duration_text(step.grid.offset)),
            ("grid.aggregate", toml_value(&step.aggregate)),
            ("grid.complete_after", step.complete_after.map_or("none".to_owned(), |rows| rows.to_string())),
            ("grid.lateness", duration_text(step.lateness)),
            ("grid.gap_fill", toml_value(&step.gap_fill)),
            ("grid.max_gap", duration_text(step.max_gap)),
            ("limits.series", limits.series.to_string()),
            ("limits.on_full", toml_value(&limits.on_full)),
            ("limits.open_steps", limits.open_steps.to_string()),
            ("limits.message_bytes", limits.message_bytes.to_string()),
            ("limits.id_bytes", limits.id_bytes.to_string()),
        ];
        if let Some(source) = &self.kafka_source {
            keys.push(("source.kafka.format", toml_value(&source.format)));
        }
        if self.scores.is_some() || !self.forecast.levels.is_empty() {
            keys.push(("forecast.every", self.forecast.every.to_string()));
            keys.push(("forecast.levels", toml_value(&self.forecast.levels)));
        }
        if let Some(scores) = &self.scores {
            let from_model = || "from the model's horizon".to_owned();
            let horizons =
                scores.horizons.as_ref().map_or_else(from_model, |horizons| format!("{horizons:?}"));
            keys.push(("scores.horizons", horizons));
            keys.push(("scores.every", scores.every.map_or_else(from_model, |every| every.to_string())));
        }
        keys
    }

    fn plan_series(&self, out: &mut PlanText) {
        let columns = &self.columns;
        out.table("columns");
        match &columns.series {
            Some(series) => out.key("series", series),
            None => out.line(&format!(
                "# no series column: the id of all rows is {}",
                toml_value(&columns.only_series)
            )),
        }
        out.key("time", &columns.time);
        out.key("time_unit", &self.time_unit);
        out.key("targets", &columns.targets);
        out.key("covariates", &columns.covariates);
        out.key("future_covariates", &columns.future_covariates);

        let step = &self.step_config;
        out.table("grid");
        out.duration("every", step.grid.every);
        out.duration("offset", step.grid.offset);
        out.key("aggregate", &step.aggregate);
        out.optional_key(
            "complete_after",
            step.complete_after.as_ref(),
            "a step waits for a row of a later step",
        );
        out.duration("lateness", step.lateness);
        out.key("gap_fill", &step.gap_fill);
        out.duration("max_gap", step.max_gap);

        out.table("forecast");
        out.path("model", &self.forecast.model);
        out.key("every", &self.forecast.every);
        out.key("levels", &self.forecast.levels);
        if let Some(scores) = &self.scores {
            out.table("scores");
            out.optional_key("horizons", scores.horizons.as_ref(), "up to 8, from the model's horizon");
            out.optional_key(
                "every",
                scores.every.as_ref(),
                "scores are written once per horizon of the model",
            );
        }
    }

    fn plan_sources(&self, out: &mut PlanText) {
        if let Some(KafkaSourceConfig {
            brokers,
            topic,
            group,
            format,
            start,
            on_data_loss,
            allow_compacted,
            instance,
            static_membership,
            replay_window: _,
            queue_rows: _,
            track_lag: _,
            client,
            commit,
        }) = &self.kafka_source
        {
            out.table("source.kafka");
            out.key("brokers", brokers_text(brokers));
            out.key("topic", topic);
            out.key("group", group);
            out.key("format", format);
            out.key("start", start);
            out.key("on_data_loss", on_data_loss);
            out.key("allow_compacted", allow_compacted);
            out.key("instance", instance);
            out.key("static_membership", static_membership);
            out.client(client);
            let every = toml_value(&duration_text(micros(commit.every)));
            out.line(&format!("commit = {{ every = {every}, rows = {} }}", commit.rows));
        }
        if let Some(source) = &self.parquet_source {
            out.table("source.parquet");
            out.path("path", &source.path);
            out.key("order", &source.order);
        }
    }

    fn plan_sinks(&self, out: &mut PlanText) {
        if let Some(KafkaSinkConfig {
            brokers,
            topic,
            scores_topic: _,
            rejects_topic,
            reject_reasons,
            client,
        }) = &self.kafka_sink
        {
            out.table("sink.kafka");
            out.key("brokers", brokers_text(brokers));
            out.key("topic", topic);
            out.optional_key("rejects_topic", rejects_topic.as_ref(), "refused rows are only counted");
            out.key("reject_reasons", reject_reasons);
            out.client(client);
        }
        if let Some(sink) = &self.parquet_sink {
            out.table("sink.parquet");
            out.path("path", &sink.path);
            out.key("layout", &sink.layout);
            out.key("positions_per_file", &sink.positions_per_file);
        }
        if let Some(ScoreSinkConfig { topic, path }) = &self.score_sink {
            out.table("sink.scores");
            topic.iter().for_each(|topic| out.key("topic", topic));
            path.iter().for_each(|path| out.path("path", path));
        }
    }

    fn plan_train(&self, out: &mut PlanText) {
        out.table("train");
        if self.train.recurrence_window.is_none() {
            out.line("# no recurrence_window: the recurrence decays without a cut-off");
        }
        if self.train.cell.is_none() {
            out.key("cell", "none");
        }
        // Options without a value are omitted.
        out.0.push_str(&toml::to_string(&self.train).expect("the recipe has plain keys"));
    }
}

fn plan_state(state: &StateConfig, out: &mut PlanText) {
    out.table("state");
    out.key("store", &state.location.to_string());
    out.duration("every", micros(state.every));
    out.key("bytes_per_second", &state.bytes_per_second);
    match &state.on_change {
        OnChange::Fail => out.key("on_change", "fail"),
        OnChange::Cold => out.key("on_change", "cold"),
        OnChange::Replay(window) => {
            out.key("on_change", "replay");
            out.duration("replay", micros(*window));
        }
        OnChange::Bootstrap(path) => {
            out.key("on_change", "bootstrap");
            out.path("bootstrap", path);
        }
    }
}

fn brokers_text(brokers: &Brokers) -> &str {
    match brokers {
        Brokers::Addresses(addresses) => addresses,
        Brokers::Embedded => "embedded",
    }
}
