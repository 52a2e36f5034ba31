//! Checks of `[train]`.

use tidecast_core::network::{Decoder, EMBEDDING_MAX, HIDDEN_MAX, HORIZON_MAX, LAYERS_MAX, Shape, StateKind};
use tidecast_core::schema::Columns;
use tidecast_core::series::{GapFill, Scaling, StepConfig};
use tidecast_train::TrainConfig;

use super::checks::Checks;
use super::file;

/// Training unrolls every step of the lookback and saves its activations for every window of a batch.
const LOOKBACK_MAX: usize = 10_000;

/// Every series stores as many values.
const RECURRENCE_WINDOW_MAX: usize = 65_535;

/// The tables that a recipe must be consistent with.
#[derive(Clone, Copy)]
pub(super) struct RecipeContext<'a> {
    pub columns: &'a Columns,
    pub step_config: &'a StepConfig,
    pub levels: &'a [f64],
}

impl Checks<'_> {
    pub fn train(&mut self, context: RecipeContext<'_>, table: file::Train) -> TrainConfig {
        let mut recipe = TrainConfig::for_grid(context.step_config.grid.every);
        self.architecture(context, &table, &mut recipe);
        self.optimization(&table, &mut recipe);
        self.splits(&table, &mut recipe);
        self.consistent_recipe(context, &recipe);
        recipe
    }

    /// The keys that determine the model: its parts, their sizes and their inputs.
    fn architecture(&mut self, context: RecipeContext<'_>, table: &file::Train, recipe: &mut TrainConfig) {
        let mut size = |key: &str, value: Option<i64>, default: usize, max: usize, why: &str| {
            self.integer(&format!("train.{key}"), value, default, 1..=max as i64, why)
        };
        recipe.recurrence = table.recurrence.unwrap_or(recipe.recurrence);
        let why = "every series stores as many values";
        recipe.recurrence_window = table
            .recurrence_window
            .map(|window| size("recurrence_window", Some(window), 1, RECURRENCE_WINDOW_MAX, why));
        recipe.cell = table.cell.map_or(recipe.cell, file::Cell::kind);
        recipe.state = table.state.unwrap_or(recipe.state);
        recipe.decoder = table.decoder.unwrap_or(recipe.decoder);
        let lookback = TrainConfig::lookback_for(context.step_config.grid.every, recipe.state);
        let why = "training saves every step";
        recipe.lookback = size("lookback", table.lookback, lookback, LOOKBACK_MAX, why);
        let segment = match (recipe.decoder, recipe.state) {
            (Decoder::Direct, StateKind::Window) => TrainConfig::segment_for(recipe.lookback),
            (Decoder::Recursive, _) | (_, StateKind::Carried) => 1,
        };
        let why = "a segment is a part of the lookback";
        recipe.segment = size("segment", table.segment, segment, recipe.lookback, why);
        let why = "weights grow with its square";
        recipe.hidden = size("hidden", table.hidden, recipe.hidden, HIDDEN_MAX, why);
        let why = "deeper stacks do not learn";
        recipe.layers = size("layers", table.layers, recipe.layers, LAYERS_MAX, why);
        let why = "every forecast has as many values";
        recipe.horizon = size("horizon", table.horizon, recipe.horizon, HORIZON_MAX, why);
        let why = "every step reads as many numbers; 0 disables the embedding";
        let sizes = 0..=EMBEDDING_MAX as i64;
        recipe.embedding = self.integer("train.embedding", table.embedding, recipe.embedding, sizes, why);
        let carries_state = recipe.recurrence || recipe.state == StateKind::Carried;
        let scaling = match (carries_state, &context.columns.series) {
            (false, _) => recipe.scaling,
            // The series are the columns: each has its moments from the training split.
            (true, None) => Scaling::Fixed,
            // New ids have no moments, and a carried state has no window.
            (true, Some(_)) => Scaling::Running,
        };
        recipe.scaling = table.scaling.unwrap_or(scaling);
        table.calendar.iter().for_each(|calendar| recipe.calendar.clone_from(calendar));
        recipe.quantiles = table.quantiles.unwrap_or(recipe.quantiles);
    }

    /// The keys of the optimizer and its regularization.
    fn optimization(&mut self, table: &file::Train, recipe: &mut TrainConfig) {
        let mut count = |key: &str, value: Option<i64>, default: usize, max: i64, why: &str| {
            self.integer(&format!("train.{key}"), value, default, 1..=max, why)
        };
        let why = "an epoch reads the whole training split";
        recipe.epochs = count("epochs", table.epochs, recipe.epochs, 100_000, why);
        let why = "the windows of a batch are in memory together";
        recipe.batch_size = count("batch_size", table.batch_size, recipe.batch_size, 65_536, why);
        recipe.patience = count("patience", table.patience, recipe.patience, 100_000, "it counts epochs");
        recipe.loss = table.loss.unwrap_or(recipe.loss);
        let (seed, seeds) = (recipe.seed as usize, 0..=i64::MAX);
        recipe.seed = self.integer("train.seed", table.seed, seed, seeds, "a seed is not negative") as u64;
        let mut number =
            |key: &str, value: Option<f64>, default: f64, is_valid: fn(f64) -> bool, valid: &str| {
                self.number(&format!("train.{key}"), value, default, is_valid, valid)
            };
        let (rate, valid) = (TrainConfig::learning_rate_for(recipe.state), "above 0 and at most 1");
        recipe.learning_rate =
            number("learning_rate", table.learning_rate, rate, |x| x > 0.0 && x <= 1.0, valid);
        let valid = "in 0..=0.5, so that the rate decays afterwards";
        recipe.warmup = number("warmup", table.warmup, recipe.warmup, |x| (0.0..=0.5).contains(&x), valid);
        let (decay, valid) = (recipe.weight_decay, "in 0..=1");
        recipe.weight_decay =
            number("weight_decay", table.weight_decay, decay, |x| (0.0..=1.0).contains(&x), valid);
        let (clip, valid) = (recipe.gradient_clip, "above 0 (1e9 disables clipping)");
        recipe.gradient_clip = number("gradient_clip", table.gradient_clip, clip, |x| x > 0.0, valid);
        // At 0.9999 the average covers ten thousand minibatches, more than most trainings have.
        let (ema, valid) = (recipe.weight_ema, "in 0..=0.9999 (0 disables averaging)");
        recipe.weight_ema =
            number("weight_ema", table.weight_ema, ema, |x| (0.0..=0.9999).contains(&x), valid);
        // At 0.9 the head reads a tenth of its inputs, scaled up tenfold.
        let valid = "in 0..=0.9 (0 disables dropout)";
        recipe.dropout =
            number("dropout", table.dropout, recipe.dropout, |x| (0.0..=0.9).contains(&x), valid);
    }

    fn splits(&mut self, table: &file::Train, recipe: &mut TrainConfig) {
        let mut fraction = |key: &str, value, default| {
            self.number(&format!("train.{key}"), value, default, |x| x > 0.0 && x < 1.0, "between 0 and 1")
        };
        recipe.train_fraction = fraction("train_fraction", table.train_fraction, recipe.train_fraction);
        recipe.validation_fraction =
            fraction("validation_fraction", table.validation_fraction, recipe.validation_fraction);
        // The sum of two decimals is not exact: 0.9 + 0.1 may exceed 1 in the last place.
        if recipe.train_fraction + recipe.validation_fraction > 1.0 + 1e-9 {
            let text = format!(
                "is {}: the sum with \"train_fraction\" {} exceeds 1",
                recipe.validation_fraction, recipe.train_fraction
            );
            self.problems.value("train.validation_fraction", text);
        }
    }

    fn consistent_recipe(&mut self, context: RecipeContext<'_>, recipe: &TrainConfig) {
        for (i, calendar) in recipe.calendar.iter().enumerate() {
            if recipe.calendar[..i].contains(calendar) {
                self.problems.value(&format!("train.calendar[{i}]"), "repeats an input");
            }
        }
        if !recipe.recurrence && recipe.cell.is_none() {
            let text = "is \"none\" and \"recurrence\" is false: one of them must forecast";
            self.problems.value("train.cell", text);
        }
        self.consistent_quantiles(context.levels, recipe);
        if recipe.embedding > 0 && recipe.cell.is_none() {
            let text =
                format!("is {}, but \"cell\" is \"none\": only cells have an embedding", recipe.embedding);
            self.problems.value("train.embedding", text);
        }
        if recipe.cell.is_some() {
            self.consistent_cells(recipe);
            self.valid_shape(context, recipe);
        }
    }

    fn consistent_quantiles(&mut self, levels: &[f64], recipe: &TrainConfig) {
        if !recipe.quantiles {
            return;
        }
        let mut inconsistent = |text: &str| self.problems.value("train.quantiles", text);
        if recipe.cell.is_none() {
            inconsistent("is true, but \"cell\" is \"none\": only cells learn quantiles");
        }
        if levels.is_empty() {
            inconsistent("is true, but \"levels\" in [forecast] is empty: there is no quantile to learn");
        }
        if recipe.decoder == Decoder::Recursive {
            inconsistent("is true, but the recursive decoder has a single output: use \"direct\"");
        }
    }

    fn consistent_cells(&mut self, recipe: &TrainConfig) {
        let segment = recipe.segment;
        if !recipe.lookback.is_multiple_of(segment) {
            let text = format!("is {segment}: the lookback of {} steps is not a multiple", recipe.lookback);
            self.problems.value("train.segment", text);
        }
        if recipe.state == StateKind::Carried {
            if segment > 1 {
                let text = format!("is {segment}: a carried state advances step by step, so it must be 1");
                self.problems.value("train.segment", text);
            }
            if recipe.decoder == Decoder::Recursive {
                self.problems.value("train.decoder", "is \"recursive\": a carried state needs \"direct\"");
            }
            if matches!(recipe.scaling, Scaling::WindowLast | Scaling::WindowStandard) {
                let text =
                    "is per window: a carried state has no window, so it must be \"fixed\" or \"running\"";
                self.problems.value("train.scaling", text);
            }
        } else if segment > 1 && recipe.decoder == Decoder::Recursive {
            let text = format!(
                "is {segment}: the recursive decoder reads its last output, one step, so it must be 1"
            );
            self.problems.value("train.segment", text);
        }
    }

    /// Checks that a network of the recipe's size exists.
    fn valid_shape(&mut self, context: RecipeContext<'_>, recipe: &TrainConfig) {
        let Some(cell) = recipe.cell else { return };
        let columns = context.columns;
        let inputs = 1
            + usize::from(recipe.state == StateKind::Carried)
            + usize::from(context.step_config.gap_fill == GapFill::Missing)
            + columns.covariates.len()
            + 2 * recipe.calendar.len();
        let learns_quantiles = recipe.quantiles && recipe.decoder == Decoder::Direct;
        let shape = Shape {
            cell,
            inputs: inputs * recipe.segment,
            hidden: recipe.hidden,
            layers: recipe.layers,
            horizon: recipe.horizon,
            future_covariates: columns.future_covariates.len(),
            quantiles: if learns_quantiles { 2 * context.levels.len() } else { 0 },
            embedding: recipe.embedding,
            // The number of series is unknown before the history is read; each adds a few parameters.
            series: recipe.embedding.min(1),
            decoder: recipe.decoder,
        };
        if let Err(error) = shape.check() {
            self.problems.at("train", format!("no network has the size of [train]: {error}"));
        }
    }
}
