//! What a model file says of itself, as an object for a script: what `text` says in words.

use serde::Serialize;

use crate::config::duration_text;
use tidecast_core::model::{CellsPart, DataSummary, Model, Score, Share};
use tidecast_core::network::{CellKind, Decoder, StateKind};
use tidecast_core::series::{Aggregate, Calendar, Gaps, Scaling};

#[derive(Serialize)]
pub struct Told<'a> {
    kind: &'static str,
    hash: &'a str,
    parameters: u64,
    memory: Option<Memory>,
    cells: Option<Cells<'a>>,
    horizon: usize,
    every: String,
    /// Observed steps of a series before its first forecast.
    warm: u64,
    lookback: usize,
    targets: &'a [String],
    covariates: &'a [String],
    known_ahead: &'a [String],
    calendar: &'a [Calendar],
    scaling: Scaling,
    aggregate: Aggregate,
    gaps: Gaps,
    max_gap: String,
    intervals: Option<Intervals<'a>>,
    data: &'a DataSummary,
    recipe: &'a serde_json::Value,
    scores: &'a [Score],
}

#[derive(Serialize)]
struct Memory {
    poles: usize,
    context: Option<usize>,
    recent: usize,
    /// How many have coefficients of their own.
    series: usize,
}

#[derive(Serialize)]
struct Cells<'a> {
    cell: CellKind,
    hidden: usize,
    layers: usize,
    decoder: Decoder,
    state: StateKind,
    segment: usize,
    /// Numbers of each series, and of how many.
    embedding: usize,
    series: usize,
    shares: &'a [Share],
}

#[derive(Serialize)]
struct Intervals<'a> {
    /// Of the quantiles that the cells say; none where the errors on the validation part are all there is.
    quantiles: &'a [f64],
}

impl<'a> Told<'a> {
    pub fn of(model: &'a Model) -> Self {
        let of = &model.description;
        let memory = of.memory.as_ref().zip(model.memory.as_ref()).map(|(part, memory)| Memory {
            poles: memory.poles.len(),
            context: part.context,
            recent: part.recent,
            series: of.series.len(),
        });
        let cells = of.cells.as_ref().map(|CellsPart { network, segment, state, shares, .. }| Cells {
            cell: network.cell,
            hidden: network.hidden,
            layers: network.layers,
            decoder: network.decoder,
            state: *state,
            segment: *segment,
            embedding: network.embedding,
            series: network.series,
            shares,
        });
        let quantiles = |has: bool| if has { of.probabilities() } else { &[] };
        let intervals = model
            .errors
            .as_ref()
            .map(|errors| Intervals { quantiles: quantiles(errors.corrected.is_some()) });
        Self {
            kind: "model",
            hash: &model.hash,
            parameters: model.parameters(),
            memory,
            cells,
            horizon: of.horizon,
            every: duration_text(of.rules.grid.every),
            warm: of.warm.max(of.lookback as u64),
            lookback: of.lookback,
            targets: &of.targets,
            covariates: &of.covariates,
            known_ahead: &of.known_ahead,
            calendar: &of.inputs.calendar,
            scaling: of.scaling,
            aggregate: of.rules.aggregate,
            gaps: of.rules.gaps,
            max_gap: duration_text(of.rules.max_gap),
            intervals,
            data: &of.data,
            recipe: &of.recipe,
            scores: &of.scores,
        }
    }
}
