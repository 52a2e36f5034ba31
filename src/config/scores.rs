//! What a pipeline file says of scores: which forecasts are scored, and where it is written.

use std::path::PathBuf;

use super::checks::Checks;
use super::spec;
use super::{KafkaSink, KafkaSource, ParquetSink, ParquetSource};
use tidecast_core::intervals::HORIZONS_MAX;
use tidecast_core::network::HORIZON_MAX;

/// Which forecasts are scored. What the file leaves out is chosen by the model's horizon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// So many steps ahead, ascending.
    pub horizons: Option<Vec<usize>>,
    /// Steps of a period whose scores are written together.
    pub every: Option<u32>,
}

/// Where scores go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScoreSink {
    /// Beside the topic of the forecasts, in the same transactions.
    pub topic: Option<String>,
    /// A file or folder of Parquet, where forecasts go to Parquet.
    pub path: Option<PathBuf>,
}

impl Scores {
    /// As text, for the plan and for what a state depends on.
    pub fn text(&self) -> [(&'static str, String); 2] {
        let chosen = || "chosen by the model's horizon".to_owned();
        let horizons = self.horizons.as_ref().map_or_else(chosen, |horizons| format!("{horizons:?}"));
        [("horizons", horizons), ("every", self.every.map_or_else(chosen, |every| every.to_string()))]
    }
}

impl Checks<'_> {
    pub(super) fn scores(&mut self, spec: spec::Scores) -> Scores {
        let mut horizons: Vec<usize> = Vec::new();
        for (i, ahead) in spec.horizons.iter().flatten().enumerate() {
            let path = format!("scores.horizons[{i}]");
            let why = "1 is the step after the origin";
            let ahead = self.whole(&path, Some(*ahead), 1, 1..=HORIZON_MAX as i64, why);
            if horizons.contains(&ahead) {
                self.problems.value(&path, format!("is {ahead}, which is there already"));
            }
            horizons.push(ahead);
        }
        horizons.sort_unstable();
        horizons.dedup();
        let count = horizons.len();
        if spec.horizons.is_some() && !(1..=HORIZONS_MAX).contains(&count) {
            let text = format!(
                "has {count} steps ahead, not 1 to {HORIZONS_MAX}: every series keeps as many forecasts as they add up to"
            );
            self.problems.value("scores.horizons", text);
        }
        let every = spec.every.map(|every| {
            let why = "it counts the steps whose scores are written together";
            self.whole("scores.every", Some(every), 1, 1..=i64::from(u32::MAX), why) as u32
        });
        Scores { horizons: spec.horizons.is_some().then_some(horizons), every }
    }

    pub(super) fn score_sink(
        &mut self,
        spec: spec::ScoreSink,
        (source, kafka): (Option<&KafkaSource>, Option<&KafkaSink>),
        (read, written): (Option<&ParquetSource>, Option<&ParquetSink>),
    ) -> ScoreSink {
        if spec.topic.is_none() && spec.path.is_none() {
            let why = "the topic for the scores; or `path`, the file or folder for them";
            self.problems.missing("sink.scores.topic", why);
        }
        let path = "sink.scores.topic";
        let topic = spec.topic.map(|topic| self.filled(path, topic)).map(|topic| self.topic(path, topic));
        if let (Some(topic), Some(sink)) = (&topic, kafka) {
            if *topic == sink.topic || Some(topic) == sink.rejects.as_ref() {
                self.problems.value(path, format!("is `{topic}`, which is a topic of [sink.kafka] already"));
            }
            if source.is_some_and(|source| source.brokers.are(&sink.brokers) && source.topic == *topic) {
                let text =
                    format!("is `{topic}`, the topic of the source: the pipeline would read its own output");
                self.problems.value(path, text);
            }
        }
        if topic.is_some() && kafka.is_none() {
            self.problems.value(path, "is of no use without [sink.kafka], beside whose topic it is written");
        }
        let path = spec.path.map(|path| self.local("sink.scores.path", &path));
        if path.is_some() && path.as_ref() == read.map(|source| &source.path) {
            self.problems
                .value("sink.scores.path", "is the path of the source: the readings would be overwritten");
        }
        if path.is_some() && path.as_ref() == written.map(|sink| &sink.path) {
            let text = "is the path of [sink.parquet]: scores and forecasts would take each other's place";
            self.problems.value("sink.scores.path", text);
        }
        ScoreSink { topic, path }
    }
}
