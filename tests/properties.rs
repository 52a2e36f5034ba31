//! Invariants for arbitrary rows: neither batching nor the interleaving of series nor a restart changes a bit.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;
use tidecast_core::forecaster::{OriginView, Predictor, Scoring};
use tidecast_core::network::{CellKind, Decoder, StateKind};
use tidecast_core::series::{Aggregate, GapFill, OPEN_STEPS_MAX, OnFull, Scaling};
use tidecast_train::{Channel, History, Origin, StateRunner, Windows, scan_states};

use crate::harness::{Case, Collected, Forecast, Row, SECOND};

pub fn cases() -> impl Strategy<Value = Case> {
    (networks(), limits(), outputs(), step_configs()).prop_map(|(network, limits, outputs, steps)| {
        let mut case = network;
        (case.series_max, case.on_full, case.open_steps) = limits;
        (case.every, case.levels, case.scoring) = outputs;
        (case.step_config, case.trained_max_gap) = (steps.step_config, steps.trained_max_gap);
        case.columns.targets = vec!["t".into(), "h".into()];
        case.columns.covariates = vec!["load".into()];
        case.columns.future_covariates = vec!["plan".into()];
        case
    })
}

/// Cases that differ in their models.
fn networks() -> impl Strategy<Value = Case> {
    let structure = (
        prop::sample::select(vec![CellKind::Gru, CellKind::LstmPeephole, CellKind::Rnn]),
        prop::sample::select(vec![Decoder::Direct, Decoder::Recursive]),
        prop::sample::select(vec![
            Scaling::Fixed,
            Scaling::Running,
            Scaling::WindowLast,
            Scaling::WindowStandard,
        ]),
        prop::bool::ANY,
        prop::sample::select(vec![1, 3]),
    );
    let parts = (
        prop::bool::ANY,
        prop::option::of(1usize..9),
        0u64..6,
        prop::bool::ANY,
        prop::sample::select(vec![0, 2]),
    );
    (structure, parts).prop_map(|(structure, parts)| {
        let (cell, decoder, scaling, is_carried, segment) = structure;
        let (recurrence, recurrence_window, warmup, has_quantiles, embedding) = parts;
        // Carried state takes one step at a time, needs a direct decoder and a scale without a window.
        let (state, segment, decoder, scaling) = match (is_carried, scaling) {
            (false, _) => (StateKind::Window, segment, decoder, scaling),
            (true, Scaling::Fixed) => (StateKind::Carried, 1, Decoder::Direct, scaling),
            (true, _) => (StateKind::Carried, 1, Decoder::Direct, Scaling::Running),
        };
        let is_direct = decoder == Decoder::Direct;
        Case {
            cell,
            decoder,
            state,
            scaling,
            recurrence,
            recurrence_window,
            warmup,
            segment: if is_direct { segment } else { 1 },
            quantile_levels: if has_quantiles && is_direct { vec![0.8] } else { vec![] },
            embedding,
            ..Case::default()
        }
    })
}

/// Series, policy and open steps of a full partition.
fn limits() -> impl Strategy<Value = (usize, OnFull, usize)> {
    (
        1usize..5,
        prop::sample::select(vec![OnFull::Refuse, OnFull::Evict]),
        prop::sample::select(vec![1, 2, OPEN_STEPS_MAX]),
    )
}

/// Steps between forecasts, levels and scoring.
fn outputs() -> impl Strategy<Value = (u32, Vec<f64>, Option<Scoring>)> {
    let horizons = prop::sample::select(vec![vec![1], vec![2], vec![1, 2]]);
    let scoring = (horizons, 1u32..4).prop_map(|(horizons, every)| Scoring { horizons, every });
    (1u32..3, prop::sample::select(vec![vec![], vec![0.8], vec![0.8, 0.95]]), prop::option::of(scoring))
}

/// Cases that differ in their steps.
fn step_configs() -> impl Strategy<Value = Case> {
    let aggregates = vec![Aggregate::Mean, Aggregate::Last, Aggregate::Sum, Aggregate::Min, Aggregate::Max];
    let config = (
        prop::sample::select(aggregates),
        prop::option::of(1u32..4),
        0i64..30,
        prop::sample::select(vec![GapFill::Hold, GapFill::Linear, GapFill::Missing]),
        (10i64..80, 10i64..80),
        0i64..10,
    );
    config.prop_map(|(aggregate, complete_after, lateness, gap_fill, (max_gap, trained_max_gap), offset)| {
        let mut case = Case::default();
        case.step_config.aggregate = aggregate;
        case.step_config.complete_after = complete_after;
        case.step_config.lateness = lateness * SECOND;
        case.step_config.gap_fill = gap_fill;
        case.step_config.max_gap = max_gap * SECOND;
        case.step_config.grid.offset = offset * SECOND;
        case.trained_max_gap = trained_max_gap * SECOND;
        case
    })
}

/// Rows of up to four series, mostly in order, some late, repeated, far ahead or empty.
pub fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = || prop_oneof![9 => -50.0..50.0f64, 1 => Just(f64::NAN)];
    let future = prop::option::weighted(0.5, vec(value(), 0..3));
    let jump = prop_oneof![12 => 1i64..15, 2 => -40i64..1, 1 => 15i64..200, 1 => Just(1_000_000i64)];
    let row = (0usize..4, jump, value(), value(), value(), future);
    vec(row, 1..120).prop_map(|rows| {
        let mut clocks = [0i64; 4];
        let row = |(id, jump, t, h, load, future): (usize, i64, f64, f64, f64, Option<Vec<f64>>)| {
            let time = (clocks[id] + jump) * SECOND;
            if jump < 1_000_000 {
                clocks[id] += jump;
            }
            let (targets, covariates) = (vec![t, h], vec![load]);
            Row { series: format!("s{id}"), time, targets, covariates, future: future.into_iter().collect() }
        };
        rows.into_iter().map(row).collect()
    })
}

/// The same rows, each series in its own order, the series interleaved by `keys`.
fn interleaved(rows: &[Row], keys: &[u32]) -> Vec<Row> {
    let mut queues: Vec<VecDeque<Row>> = vec![VecDeque::new(); 4];
    for row in rows {
        queues[row.series[1..].parse::<usize>().expect("a series is s and a digit")].push_back(row.clone());
    }
    let mut keys = keys.iter().cycle();
    std::iter::from_fn(|| {
        let remaining: Vec<usize> = (0..4).filter(|i| !queues[*i].is_empty()).collect();
        let key = *keys.next()? as usize;
        remaining.get(key.checked_rem(remaining.len())?).and_then(|i| queues[*i].pop_front())
    })
    .collect()
}

fn assert_same(left: &Collected, right: &Collected) {
    assert_eq!(left.forecasts, right.forecasts);
    assert_eq!(left.scores, right.scores);
    assert_eq!(left.counters, right.counters);
    let sorted = |output: &Collected| {
        let mut refused = output.refused.clone();
        refused.sort();
        refused
    };
    assert_eq!(sorted(left), sorted(right));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_batching_gives_the_same_bits(case in cases(), rows in rows(), sizes in vec(1usize..9, 1..40)) {
        assert_same(&case.run(&rows, &[]), &case.run(&rows, &sizes));
    }

    #[test]
    fn any_interleaving_of_series_gives_each_the_same_bits(case in cases(), rows in rows(), keys in vec(any::<u32>(), 1..50)) {
        // The first series in a partition win its room, so the limit is above their number.
        let case = Case { series_max: 4, ..case };
        let (original, interleaved) = (case.run(&rows, &[]), case.run(&interleaved(&rows, &keys), &[]));
        for id in ["s0", "s1", "s2", "s3"] {
            prop_assert_eq!(original.forecasts_of(id), interleaved.forecasts_of(id));
            prop_assert_eq!(original.scores_of(id), interleaved.scores_of(id));
        }
        prop_assert_eq!(original.counters, interleaved.counters);
    }

    #[test]
    fn a_restart_from_any_snapshot_changes_nothing(case in cases(), rows in rows(), cut in 0usize..120) {
        let cut = cut.min(rows.len());
        let mut first = case.forecaster();
        let mut output = Collected::default();
        output.add(first.push(&case.batch(0, &rows[..cut])));
        let snapshot = first.snapshot();
        let mut second = case.forecaster();
        second.restore(&snapshot).unwrap();
        prop_assert_eq!(&second.snapshot(), &snapshot);
        output.add(second.push(&case.batch(cut as i64, &rows[cut..])));
        let mut uninterrupted = case.forecaster();
        uninterrupted.push(&case.batch(0, &rows));
        prop_assert_eq!(uninterrupted.snapshot(), second.snapshot());
        let mut replayed = case.forecaster();
        replayed.replay(&case.batch(0, &rows));
        prop_assert_eq!(replayed.snapshot(), second.snapshot());
        second.finish(2).for_each(|pushed| output.add(pushed));
        assert_same(&case.run(&rows, &[]), &output);
    }

    #[test]
    fn training_and_serving_compute_the_same_forecasts(case in cases(), rows in rows()) {
        // Without levels, because serving calibrates intervals.
        let case = Case { series_max: 4, on_full: OnFull::Refuse, levels: vec![], ..case };
        let mut served: Vec<_> = case.run(&rows, &[]).forecasts;
        served.iter_mut().for_each(|forecast| forecast.position = 0);
        served.sort();
        prop_assert_eq!(served, forecasts_of_history(&case, &rows));
    }

    #[test]
    fn lower_bounds_are_below_upper_bounds_and_levels_are_nested(case in cases(), rows in rows()) {
        let number = |bits: &u32| f32::from_bits(*bits);
        for forecast in case.run(&rows, &[]).forecasts {
            // From the narrowest level to the widest.
            let mut narrower: Option<Vec<(f32, f32)>> = None;
            for bounds in forecast.bits[1..].chunks(2) {
                let bounds: Vec<_> = bounds[0].iter().map(number).zip(bounds[1].iter().map(number)).collect();
                prop_assert!(bounds.iter().all(|(lower, upper)| lower <= upper));
                let is_nested = |(inner, outer): (&(f32, f32), &(f32, f32))| outer.0 <= inner.0 && inner.1 <= outer.1;
                prop_assert!(narrower.iter().flatten().zip(&bounds).all(is_nested));
                narrower = Some(bounds);
            }
        }
    }

    #[test]
    fn every_row_is_refused_at_most_once(case in cases(), rows in rows()) {
        let output = case.run(&rows, &[]);
        let mut positions: Vec<i64> = output.refused.iter().map(|(position, _)| *position).collect();
        positions.sort();
        positions.dedup();
        prop_assert_eq!(positions.len() as u64, output.counters.refused_total());
        prop_assert_eq!(output.counters.rows, rows.len() as u64);
    }
}

/// Forecasts at all origins of the history that training reads.
fn forecasts_of_history(case: &Case, rows: &[Row]) -> Vec<Forecast> {
    let (model, history) = (case.model(), case.history(rows));
    let windows = Windows { history: &history, manifest: &model.manifest, step_config: &case.step_config };
    let (mut predictor, mut outputs, mut forecasts) = (Predictor::default(), Vec::new(), Vec::new());
    for channel in history.channels() {
        let (id, target) = (&history.ids[channel.series], &case.columns.targets[channel.target]);
        let series_idx = model.manifest.series.iter().position(|key| (&key.id, &key.target) == (id, target));
        let recurrence = model.recurrence.as_ref().map(|part| &part.recurrence);
        let mut runner = StateRunner::new(&model);
        scan_states(
            &history,
            &channel,
            recurrence,
            &due_origins(case, &history, &channel),
            |origin, state| {
                let Some(window) = windows.view(origin) else { return };
                let step = window.origin;
                let stats = history.segments[origin.segment as usize].stats_at(origin.index as usize);
                let (future, past) = (windows.future(origin), windows.past(origin));
                let view = OriginView {
                    window,
                    future,
                    recurrence: state,
                    history: past,
                    stats: &stats,
                    series_idx,
                };
                let scale = predictor.add(&model, &case.step_config, &view);
                let cells = runner
                    .as_mut()
                    .map_or(vec![], |runner| runner.forecast(&windows, &model, origin, series_idx).to_vec());
                predictor.run(&model, &cells, &mut outputs);
                let bits = |value: f32| (scale.invert(value) as f32).to_bits();
                forecasts.push(Forecast {
                    series: id.clone(),
                    target: target.clone(),
                    origin: case.step_config.grid.start_of(step) / SECOND,
                    position: 0,
                    bits: vec![outputs.iter().map(|output| bits(*output)).collect()],
                });
            },
        );
    }
    forecasts.sort();
    forecasts
}

/// The steps of a channel at which a forecast is due.
fn due_origins(case: &Case, history: &History, channel: &Channel) -> Vec<Origin> {
    let mut origins = Vec::new();
    for number in &channel.segments {
        let segment = &history.segments[*number as usize];
        let is_due = |index: &usize| {
            segment.observed[*index] && segment.step(*index).rem_euclid(i64::from(case.every)) == 0
        };
        let indices = (0..segment.values.len()).filter(is_due);
        origins.extend(indices.map(|index| Origin { segment: *number, index: index as u32 }));
    }
    origins
}

/// Number of cases; `TIDECAST_ROUNDS` extends the search.
fn rounds() -> u32 {
    std::env::var("TIDECAST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(200)
}
