//! The checks of the recipe of training.

use super::Train;
use super::checks::Checks;
use super::spec;
use tidecast_core::network::{Decoder, EMBEDDING_MAX, HIDDEN_MAX, HORIZON_MAX, LAYERS_MAX, Shape, StateKind};
use tidecast_core::series::{Gaps, Rules, Scaling};
use tidecast_core::table::Columns;

/// Each step of it is unrolled in training, and its activations kept for every window of a batch.
const LOOKBACK_MAX: i64 = 10_000;

/// As many values of each series are kept.
const CONTEXT_MAX: i64 = 65_535;

impl Checks<'_> {
    pub(super) fn train(
        &mut self,
        columns: &Columns,
        rules: &Rules,
        levels: &[f64],
        spec: spec::Train,
    ) -> Train {
        let default = Train::for_grid(rules.grid.every);
        let mut size = |key: &str, value: Option<i64>, default: usize, most: i64, why: &str| {
            self.whole(&format!("train.{key}"), value, default, 1..=most, why)
        };
        let hidden =
            size("hidden", spec.hidden, default.hidden, HIDDEN_MAX as i64, "weights grow with its square");
        let layers =
            size("layers", spec.layers, default.layers, LAYERS_MAX as i64, "deeper stacks do not learn");
        let state = spec.state.unwrap_or(default.state);
        let lookback = size(
            "lookback",
            spec.lookback,
            Train::lookback_for(rules.grid.every, state),
            LOOKBACK_MAX,
            "training keeps every step of it",
        );
        let most = HORIZON_MAX as i64;
        let horizon =
            size("horizon", spec.horizon, default.horizon, most, "every forecast has that many values");
        let epochs = size("epochs", spec.epochs, default.epochs, 100_000, "each reads the whole history");
        let batch =
            size("batch", spec.batch, default.batch, 65_536, "the windows of a batch are in memory together");
        let patience = size("patience", spec.patience, default.patience, 100_000, "it counts epochs");
        let context = spec.context.map(|context| {
            size("context", Some(context), 1, CONTEXT_MAX, "every series keeps as many values")
        });
        let decoder = spec.decoder.unwrap_or(default.decoder);
        let segment = match (decoder, state) {
            (Decoder::Direct, StateKind::Window) => Train::segment_for(lookback),
            (Decoder::Recursive, _) | (_, StateKind::Carried) => 1,
        };
        let segment =
            size("segment", spec.segment, segment, lookback as i64, "the lookback has no more steps");
        let memory = spec.memory.unwrap_or(default.memory);
        let carries = memory || state == StateKind::Carried;
        let scaling = match (carries, &columns.series) {
            (false, _) => default.scaling,
            // The series are the columns, known by name: each has its moments in the training part.
            (true, None) => Scaling::Fixed,
            // Ids come and go, and what is carried is no window.
            (true, Some(_)) => Scaling::Running,
        };
        let positive = |x: f64| x > 0.0;
        let part = |x: f64| x > 0.0 && x < 1.0;
        let train = Train {
            memory,
            context,
            cell: spec.cell.map_or(default.cell, spec::Cell::kind),
            hidden,
            layers,
            lookback,
            segment,
            horizon,
            decoder,
            state,
            scaling: spec.scaling.unwrap_or(scaling),
            calendar: spec.calendar.unwrap_or(default.calendar),
            loss: spec.loss.unwrap_or(default.loss),
            quantiles: spec.quantiles.unwrap_or(default.quantiles),
            embedding: self.whole(
                "train.embedding",
                spec.embedding,
                default.embedding,
                0..=EMBEDDING_MAX as i64,
                "each number is read at every step (0 is without)",
            ),
            epochs,
            batch,
            learning_rate: self.number(
                "train.learning_rate",
                spec.learning_rate,
                Train::learning_rate_for(state),
                |x| positive(x) && x <= 1.0,
                "above 0 and at most 1",
            ),
            warmup: self.number(
                "train.warmup",
                spec.warmup,
                default.warmup,
                |x| (0.0..=0.5).contains(&x),
                "in 0..=0.5, so that the rate falls again",
            ),
            weight_decay: self.number(
                "train.weight_decay",
                spec.weight_decay,
                default.weight_decay,
                |x| (0.0..=1.0).contains(&x),
                "in 0..=1",
            ),
            clip: self.number("train.clip", spec.clip, default.clip, positive, "above 0 (1e9 clips nothing)"),
            average: self.number(
                "train.average",
                spec.average,
                default.average,
                // At 0.9999 the mean is one of ten thousand minibatches, more than most recipes have.
                |x| (0.0..=0.9999).contains(&x),
                "in 0..=0.9999 (0 is without)",
            ),
            dropout: self.number(
                "train.dropout",
                spec.dropout,
                default.dropout,
                // At 0.9 the head reads one in ten, and what it reads is scaled up tenfold.
                |x| (0.0..=0.9).contains(&x),
                "in 0..=0.9 (0 is without)",
            ),
            patience,
            train_part: self.number(
                "train.train_part",
                spec.train_part,
                default.train_part,
                part,
                "between 0 and 1",
            ),
            validation_part: self.number(
                "train.validation_part",
                spec.validation_part,
                default.validation_part,
                part,
                "between 0 and 1",
            ),
            seed: self.whole(
                "train.seed",
                spec.seed,
                default.seed as usize,
                0..=i64::MAX,
                "a seed is no less",
            ) as u64,
        };
        self.recipe_fits(columns, rules, levels, &train);
        train
    }

    /// What several keys have to agree on.
    fn recipe_fits(&mut self, columns: &Columns, rules: &Rules, levels: &[f64], train: &Train) {
        // The sum of two decimals is not exact: 0.1 below 1 in the last place is still 1.
        if train.train_part + train.validation_part > 1.0 + 1e-9 {
            self.problems.value(
                "train.validation_part",
                format!(
                    "is {}, which with \"train_part\" {} is more than the whole history",
                    train.validation_part, train.train_part
                ),
            );
        }
        for (i, calendar) in train.calendar.iter().enumerate() {
            if train.calendar[..i].contains(calendar) {
                self.problems.value(&format!("train.calendar[{i}]"), "repeats an input");
            }
        }
        if !train.memory && train.cell.is_none() {
            self.problems
                .value("train.cell", "is \"none\" and \"memory\" is false: nothing is left to forecast with");
        }
        self.quantiles_fit(levels, train);
        if train.embedding > 0 && train.cell.is_none() {
            let text = format!(
                "is {}, but the cells read it and \"cell\" is \"none\": leave one of them out",
                train.embedding
            );
            self.problems.value("train.embedding", text);
        }
        let Some(cell) = train.cell else { return };
        let segment = train.segment;
        if !train.lookback.is_multiple_of(segment) {
            self.problems.value(
                "train.segment",
                format!("is {segment}: a lookback of {} steps is not a multiple of it", train.lookback),
            );
        }
        if train.state == StateKind::Carried {
            if segment > 1 {
                self.problems.value(
                    "train.segment",
                    format!("is {segment}: a carried state takes one step at a time, so it must be 1"),
                );
            }
            if train.decoder == Decoder::Recursive {
                self.problems
                    .value("train.decoder", "is \"recursive\": a carried state is read by \"direct\"");
            }
            if matches!(train.scaling, Scaling::WindowLast | Scaling::WindowStandard) {
                self.problems.value(
                    "train.scaling",
                    "is by window: a carried state reads none, so it must be \"fixed\" or \"running\"",
                );
            }
        } else if segment > 1 && train.decoder == Decoder::Recursive {
            self.problems.value(
                "train.segment",
                format!(
                    "is {segment}: the recursive decoder reads the one step it has just said, so it must be 1"
                ),
            );
        }
        let width = 1
            + usize::from(train.state == StateKind::Carried)
            + usize::from(rules.gaps == Gaps::Missing)
            + columns.covariates.len()
            + 2 * train.calendar.len();
        let shape = Shape {
            cell,
            inputs: width * segment,
            hidden: train.hidden,
            layers: train.layers,
            horizon: train.horizon,
            known: columns.known_ahead.len(),
            quantiles: 0,
            embedding: train.embedding,
            // There will be more, each with a few numbers.
            series: train.embedding.min(1),
            decoder: train.decoder,
        };
        let quantiles = if train.quantiles { 2 * levels.len() } else { 0 };
        let shape = match shape.decoder {
            Decoder::Direct => Shape { quantiles, ..shape },
            // Said above.
            Decoder::Recursive => shape,
        };
        if let Err(error) = shape.check() {
            self.problems.at("train", format!("no network fits [train]: {error}"));
        }
    }

    /// What learning quantiles takes.
    fn quantiles_fit(&mut self, levels: &[f64], train: &Train) {
        if !train.quantiles {
            return;
        }
        let mut wrong = |text: &str| self.problems.value("train.quantiles", text);
        if train.cell.is_none() {
            wrong("is true, but the cells say the quantiles and \"cell\" is \"none\": leave one of them out");
        }
        if levels.is_empty() {
            wrong("is true, but \"levels\" in [forecast] is empty: there is no quantile to learn");
        }
        if train.decoder == Decoder::Recursive {
            wrong("is true, but the recursive decoder says one value a step: use \"direct\"");
        }
    }
}
