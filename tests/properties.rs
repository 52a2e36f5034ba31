//! What must hold for any rows: neither the cutting into batches, nor the mixing of series, nor a restart changes a bit.

use proptest::collection::vec;
use proptest::prelude::*;
use tidecast_core::forecaster::{Histories, OriginView, Predictor, Scoring, Unused};
use tidecast_core::network::{CellKind, Decoder, StateKind};
use tidecast_core::series::{Aggregate, Full, Gaps, Keep, OPEN_STEPS, Scaling, Tally};
use tidecast_train::{Along, History, Lane, Origin, Recorder, Windows, lanes, walk};

use crate::harness::{Came, Case, Forecast, Row, SECOND};

pub fn cases() -> impl Strategy<Value = Case> {
    let rules = (
        prop::sample::select(vec![
            Aggregate::Mean,
            Aggregate::Last,
            Aggregate::Sum,
            Aggregate::Min,
            Aggregate::Max,
        ]),
        prop::option::of(1u32..4),
        0i64..30,
        prop::sample::select(vec![Gaps::Hold, Gaps::Linear, Gaps::Missing]),
        (10i64..80, 10i64..80),
        0i64..10,
    );
    let network = (
        prop::sample::select(vec![CellKind::Gru, CellKind::LstmPeephole, CellKind::Rnn]),
        prop::sample::select(vec![Decoder::Direct, Decoder::Recursive]),
        prop::sample::select(vec![
            Scaling::Fixed,
            Scaling::Running,
            Scaling::WindowLast,
            Scaling::WindowStandard,
        ]),
        1u32..3,
        (
            1usize..5,
            prop::sample::select(vec![Full::Refuse, Full::Evict]),
            prop::sample::select(vec![1, 2, OPEN_STEPS]),
        ),
        (
            prop::bool::ANY,
            prop::option::of(1usize..9),
            0u64..6,
            prop::sample::select(vec![1, 3]),
            prop::bool::ANY,
            prop::sample::select(vec![0, 2]),
        ),
        (
            prop::bool::ANY,
            prop::sample::select(vec![vec![], vec![0.8], vec![0.8, 0.95]]),
            prop::option::of((prop::sample::select(vec![vec![1], vec![2], vec![1, 2]]), 1u32..4)),
        ),
    );
    (rules, network).prop_map(
        |(
            rules,
            (
                cell,
                decoder,
                scaling,
                every,
                (limit, full, open_steps),
                (memory, context, warm, segment, learned, embedding),
                (carried, levels, scoring),
            ),
        )| {
            // What is carried takes one step at a time, is read directly and has a scale without a window.
            let (state, segment, decoder, scaling) = match (carried, scaling) {
                (false, _) => (StateKind::Window, segment, decoder, scaling),
                (true, Scaling::Fixed) => (StateKind::Carried, 1, Decoder::Direct, scaling),
                (true, _) => (StateKind::Carried, 1, Decoder::Direct, Scaling::Running),
            };
            let direct = decoder == Decoder::Direct;
            let segment = if direct { segment } else { 1 };
            let learned = if learned && direct { vec![0.8] } else { vec![] };
            let mut case = Case {
                cell,
                decoder,
                state,
                scaling,
                every,
                limit,
                full,
                open_steps,
                memory,
                context,
                warm,
                segment,
                learned,
                embedding,
                levels,
                scoring: scoring.map(|(horizons, every)| Scoring { horizons, every }),
                ..Case::default()
            };
            let (aggregate, complete_after, lateness, gaps, (max_gap, learned_gap), offset) = rules;
            case.rules.aggregate = aggregate;
            case.rules.complete_after = complete_after;
            case.rules.lateness = lateness * SECOND;
            case.rules.gaps = gaps;
            case.rules.max_gap = max_gap * SECOND;
            case.learned_gap = learned_gap * SECOND;
            case.rules.grid.offset = offset * SECOND;
            case.columns.targets = vec!["t".into(), "h".into()];
            case.columns.covariates = vec!["load".into()];
            case.columns.known_ahead = vec!["plan".into()];
            case
        },
    )
}

/// Rows of a few series, mostly moving on, at times late, repeated, far ahead or empty.
pub fn rows() -> impl Strategy<Value = Vec<Row>> {
    let value = || prop_oneof![9 => -50.0..50.0f64, 1 => Just(f64::NAN)];
    let ahead = prop::option::weighted(0.5, vec(value(), 0..3));
    let jump = prop_oneof![12 => 1i64..15, 2 => -40i64..1, 1 => 15i64..200, 1 => Just(1_000_000i64)];
    let row = (0usize..4, jump, value(), value(), value(), ahead);
    vec(row, 1..120).prop_map(|rows| {
        let mut clocks = [0i64; 4];
        let row = |(id, jump, t, h, load, ahead): (usize, i64, f64, f64, f64, Option<Vec<f64>>)| {
            let time = (clocks[id] + jump) * SECOND;
            if jump < 1_000_000 {
                clocks[id] += jump;
            }
            let (targets, covariates) = (vec![t, h], vec![load]);
            Row { series: format!("s{id}"), time, targets, covariates, ahead: ahead.into_iter().collect() }
        };
        rows.into_iter().map(row).collect()
    })
}

/// The same rows with each series' own order kept, the series otherwise mixed by `keys`.
fn interleaved(rows: &[Row], keys: &[u32]) -> Vec<Row> {
    let mut queues: Vec<std::collections::VecDeque<Row>> = vec![Default::default(); 4];
    for row in rows {
        queues[row.series[1..].parse::<usize>().expect("a series is s and a digit")].push_back(row.clone());
    }
    let mut keys = keys.iter().cycle();
    std::iter::from_fn(|| {
        let full: Vec<usize> = (0..4).filter(|i| !queues[*i].is_empty()).collect();
        let key = *keys.next()? as usize;
        full.get(key.checked_rem(full.len())?).and_then(|i| queues[*i].pop_front())
    })
    .collect()
}

fn assert_same(left: &Came, right: &Came) {
    assert_eq!(left.forecasts, right.forecasts);
    assert_eq!(left.scores, right.scores);
    assert_eq!(left.tally, right.tally);
    let sorted = |came: &Came| {
        let mut refused = came.refused.clone();
        refused.sort();
        refused
    };
    assert_eq!(sorted(left), sorted(right));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_into_batches_gives_the_same_bits(case in cases(), rows in rows(), sizes in vec(1usize..9, 1..40)) {
        assert_same(&case.run(&rows, &[]), &case.run(&rows, &sizes));
    }

    #[test]
    fn any_interleaving_of_series_gives_each_the_same_bits(case in cases(), rows in rows(), keys in vec(any::<u32>(), 1..50)) {
        // Which series are over the limit depends on who came first: that is the one thing the order may change.
        let case = Case { limit: 4, ..case };
        let (one, other) = (case.run(&rows, &[]), case.run(&interleaved(&rows, &keys), &[]));
        for id in ["s0", "s1", "s2", "s3"] {
            prop_assert_eq!(one.of(id), other.of(id));
            prop_assert_eq!(one.scores_of(id), other.scores_of(id));
        }
        prop_assert_eq!(one.tally, other.tally);
    }

    #[test]
    fn a_restart_from_a_snapshot_anywhere_changes_nothing(case in cases(), rows in rows(), cut in 0usize..120) {
        let cut = cut.min(rows.len());
        let mut first = case.forecaster();
        let mut came = Came::default();
        came.add(first.push(&case.batch(0, &rows[..cut])));
        let snapshot = first.snapshot();
        let mut second = case.forecaster();
        second.restore(&snapshot).unwrap();
        prop_assert_eq!(&second.snapshot(), &snapshot);
        came.add(second.push(&case.batch(cut as i64, &rows[cut..])));
        let mut unbroken = case.forecaster();
        unbroken.push(&case.batch(0, &rows));
        prop_assert_eq!(unbroken.snapshot(), second.snapshot());
        // Nor does it matter whether what is known already is written again.
        let mut silent = case.forecaster();
        silent.absorb(&case.batch(0, &rows));
        prop_assert_eq!(silent.snapshot(), second.snapshot());
        second.finish(2).for_each(|pushed| came.add(pushed));
        assert_same(&case.run(&rows, &[]), &came);
    }

    #[test]
    fn training_reads_what_serving_reads(case in cases(), rows in rows()) {
        // Intervals go on to learn of what is served.
        let case = Case { limit: 4, levels: vec![], ..case };
        let mut served: Vec<_> = case.run(&rows, &[]).forecasts;
        served.iter_mut().for_each(|forecast| forecast.position = 0);
        served.sort();
        prop_assert_eq!(served, trained(&case, &rows));
    }

    #[test]
    fn a_lower_bound_is_below_its_upper(case in cases(), rows in rows()) {
        let number = |bits: &u32| f32::from_bits(*bits);
        for forecast in case.run(&rows, &[]).forecasts {
            // From the narrowest level on: the wider ones hold the narrower.
            let mut within: Option<Vec<(f32, f32)>> = None;
            for bounds in forecast.bits[1..].chunks(2) {
                let own: Vec<_> = bounds[0].iter().map(number).zip(bounds[1].iter().map(number)).collect();
                prop_assert!(own.iter().all(|(l, u)| l <= u));
                let holds = |(inner, outer): (&(f32, f32), &(f32, f32))| outer.0 <= inner.0 && inner.1 <= outer.1;
                prop_assert!(within.iter().flatten().zip(&own).all(holds));
                within = Some(own);
            }
        }
    }

    #[test]
    fn every_row_is_used_or_refused_once(case in cases(), rows in rows()) {
        let came = case.run(&rows, &[]);
        let mut positions: Vec<i64> = came.refused.iter().map(|(position, _)| *position).collect();
        positions.sort();
        positions.dedup();
        prop_assert_eq!(positions.len() as u64, came.tally.refused_total());
        prop_assert_eq!(came.tally.rows, rows.len() as u64);
    }
}

/// The forecasts at all origins of the history that training would see.
fn trained(case: &Case, rows: &[Row]) -> Vec<Forecast> {
    let model = case.model();
    let keep = Keep { steps: 2, filled: case.rules.grid.steps_in(case.rules.max_gap) as usize };
    let mut histories =
        Histories::new(case.columns.clone(), case.rules.clone(), keep, case.horizon, case.capacity());
    let (mut recorder, mut tally, mut unused) = (Recorder::default(), Tally::default(), Unused::default());
    let batch = case.batch(0, rows);
    histories.push(&batch, &mut tally, &mut unused, |closing| recorder.add(&case.rules, closing));
    histories
        .finish(&histories.by_id(), &mut tally, &mut unused, |closing| recorder.add(&case.rules, closing));
    let history = &recorder.history;
    let windows = Windows { history, description: &model.description, rules: &case.rules };
    let (mut predictor, mut outputs, mut forecasts) = (Predictor::default(), Vec::new(), Vec::new());
    for lane in lanes(history) {
        let (id, target) = (&history.ids[lane.series], &case.columns.targets[lane.target]);
        let own = model.description.series.iter().position(|own| (&own.0, &own.1) == (id, target));
        let memory = model.memory.as_ref().map(|part| &part.memory);
        let mut along = Along::new(&model);
        walk(history, &lane, memory, &due(case, history, &lane), |origin, memory| {
            let Some(window) = windows.view(origin) else { return };
            let step = window.origin;
            let running = history.segments[origin.segment as usize].running(origin.place as usize);
            let (ahead, past) = (windows.ahead(origin), windows.past(origin));
            let view = OriginView { window, ahead, memory, past, running: &running, own };
            let scale = predictor.add(&model, &case.rules, &view);
            let carried =
                along.as_mut().map_or(vec![], |along| along.say(&windows, &model, origin, own).to_vec());
            predictor.run(&model, &carried, &mut outputs);
            let bits = |value: f32| (scale.invert(value) as f32).to_bits();
            let lists = vec![outputs.iter().map(|output| bits(*output)).collect()];
            forecasts.push(Forecast {
                series: id.clone(),
                target: target.clone(),
                origin: case.rules.grid.start_of(step) / SECOND,
                position: 0,
                bits: lists,
            });
        });
    }
    forecasts.sort();
    forecasts
}

/// The steps of a lane at which a forecast is due.
fn due(case: &Case, history: &History, lane: &Lane) -> Vec<Origin> {
    let mut origins = Vec::new();
    for number in &lane.segments {
        let segment = &history.segments[*number as usize];
        let due = |place: &usize| {
            segment.observed[*place] && segment.step(*place).rem_euclid(i64::from(case.every)) == 0
        };
        let places = (0..segment.values.len()).filter(due);
        origins.extend(places.map(|place| Origin { segment: *number, place: place as u32 }));
    }
    origins
}

/// `TIDECAST_ROUNDS` asks for a longer search.
fn rounds() -> u32 {
    std::env::var("TIDECAST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(200)
}
