//! A series as the board sees it: what is believed, what is scored, what it is called.

use std::time::{Duration, Instant};

use super::rows::natural;
use super::*;
use crate::config::Units;
use tidecast_core::forecaster::Scoring;
use tidecast_core::intervals::{HorizonScores, SeriesScores};
use tidecast_core::series::{Aggregate, Grid};
use crate::serve::facts::Page;
use tidecast_core::table::{Columns, ForecastStamp, ScoreBuilder};

const HOUR: i64 = 3_600_000_000;

/// Hours, forecast four ahead, with a season of three.
fn facts() -> Facts {
    let columns = Columns {
        series: Some("sensor".into()),
        only_series: String::new(),
        time: "time".into(),
        targets: vec!["value".into()],
        covariates: vec![],
        known_ahead: vec![],
    };
    Facts {
        columns,
        grid: Grid { every: HOUR, offset: 0 },
        aggregate: Aggregate::Mean,
        complete_after: Some(1),
        max_gap: 6,
        horizon: 4,
        ahead: [1, 4],
        levels: vec![0.8],
        shown: vec![0],
        scoring: None,
        season: Some(3),
        warm: 5,
        ready_lag: 0,
        rejected: vec![],
        units: Units::default(),
        page: Page::default(),
    }
}

fn track() -> Track {
    Track::new("a".into(), 0, None)
}

const FRESH: Origin = Origin { partition: 0, goes_on: false };

const ROOM: Room = Room { steps: 104, fan: 4 };

/// Hour after hour a reading, and a forecast that is off by so much and bounded by so much on either side.
fn feed(track: &mut Track, hours: std::ops::Range<i64>, off: f32, bound: f32) {
    let facts = facts();
    for hour in hours {
        track.observe(&facts, hour * HOUR, value(hour), ROOM);
        let values: Vec<f32> = (1..=4).map(|ahead| value(hour + ahead) as f32 + off).collect();
        let [low, high] =
            [-bound, bound].map(|by| values.iter().map(|value| value + by).collect::<Vec<f32>>());
        track.forecast(&facts, hour * HOUR, &[&values, &low, &high], ROOM);
    }
}

/// Rises by one an hour: the value three hours before is off by three.
fn value(hour: i64) -> f64 {
    hour as f64
}

#[test]
fn forecasts_are_held_against_what_came_and_against_the_season_before() {
    let mut track = track();
    feed(&mut track, 0..50, 0.5, 1.0);
    track.judge(&facts(), None);
    let [one, four] = &track.scores;
    // The first forecast is for hour 1, the first four ahead for hour 4; nothing beyond hour 49 has come.
    assert_eq!((one.count, four.count), (49, 46));
    assert_eq!((one.error, one.bias, one.coverage.as_slice()), (Some(0.5), Some(-0.5), &[1.0][..]));
    assert_eq!((one.naive, four.naive), (Some(3.0), Some(6.0)), "four ahead knows two seasons before");
    assert_eq!(one.ratio(), Some(0.5 / 3.0));
    assert_eq!(track.state, State::Ok);
    // What is usual has to be known before something can be unusual.
    for (hours, off, state) in
        [(50..120, 0.5, State::Ok), (120..190, 0.5, State::Ok), (190..230, -3.0, State::Drifting)]
    {
        feed(&mut track, hours, off, 1.0);
        track.judge(&facts(), None);
        assert_eq!(track.state, state);
    }
    assert!(track.scores[0].coverage[0] < 0.8);
}

#[test]
fn a_step_that_is_forecast_and_did_not_come_is_no_error() {
    let mut track = track();
    feed(&mut track, 0..20, 0.0, 1.0);
    feed(&mut track, 23..30, 0.0, 1.0);
    track.judge(&facts(), None);
    assert_eq!((track.scores[0].error, track.scores[0].count), (Some(0.0), 19 + 6));
    assert_eq!(track.value(21), None);
}

#[test]
fn one_reading_far_ahead_is_not_believed_and_two_are() {
    let (facts, mut track) = (facts(), track());
    feed(&mut track, 0..20, 0.0, 1.0);
    track.observe(&facts, 999_999 * HOUR, 1.0, ROOM);
    track.observe(&facts, 20 * HOUR, value(20), ROOM);
    assert_eq!(track.last.unwrap().step, 20);
    track.observe(&facts, 40 * HOUR, 1.0, ROOM);
    track.observe(&facts, 41 * HOUR, 2.0, ROOM);
    assert_eq!((track.last.unwrap().step, track.observed), (41, Some(2)), "it begins anew");
    assert_eq!((track.value(20), track.value(30), track.value(40)), (Some(20.0), None, Some(1.0)));
    track.judge(&facts, None);
    assert_eq!(track.state, State::Cold);
}

#[test]
fn late_and_double_readings_change_nothing() {
    let (facts, mut track) = (facts(), track());
    feed(&mut track, 0..20, 0.0, 1.0);
    for hour in [19, 18, 3] {
        track.observe(&facts, hour * HOUR, 77.0, ROOM);
    }
    track.observe(&facts, 20 * HOUR, 20.0, ROOM);
    track.observe(&facts, 20 * HOUR, 77.0, ROOM);
    assert_eq!((17..21).map(|step| track.value(step).unwrap()).collect::<Vec<_>>(), [17.0, 18.0, 19.0, 20.0]);
}

#[test]
fn steps_of_several_rows_are_what_the_grid_makes_of_them() {
    let readings = [1.0, 5.0, 3.0];
    let expected = [
        (Aggregate::Mean, 3.0),
        (Aggregate::Last, 3.0),
        (Aggregate::Sum, 9.0),
        (Aggregate::Min, 1.0),
        (Aggregate::Max, 5.0),
    ];
    for (aggregate, value) in expected {
        let facts = Facts { aggregate, complete_after: None, ..facts() };
        let mut track = track();
        for (i, reading) in readings.iter().enumerate() {
            track.observe(&facts, 5 * HOUR + i as i64, *reading, ROOM);
        }
        assert_eq!(track.value(5), Some(value), "{aggregate:?}");
    }
}

#[test]
fn what_is_kept_is_bounded_and_the_scores_are_those_of_what_is_kept() {
    let (facts, mut track) = (facts(), track());
    feed(&mut track, 0..500, 0.0, 1.0);
    assert_eq!(track.steps.len(), ROOM.steps);
    let less = Room { steps: 24, fan: 4 };
    for hour in 500..520 {
        track.observe(&facts, hour * HOUR, value(hour), less);
        track.forecast(&facts, hour * HOUR, &[&[0.0; 4]], less);
    }
    assert_eq!((track.steps.len(), track.first), (24, 500));
    track.judge(&facts, None);
    assert_eq!(track.scores[0].count, 20);
}

#[test]
fn a_series_that_stands_still_while_the_others_go_on_is_late_and_then_silent() {
    let (facts, mut track) = (facts(), track());
    feed(&mut track, 0..20, 0.0, 1.0);
    let mut state = |now: i64| {
        track.judge(&facts, Some(now * HOUR));
        track.state
    };
    assert_eq!([19, 23, 23].map(&mut state), [State::Ok, State::Ok, State::Late], "a moment is not late");
    assert_eq!([26, 40].map(&mut state), [State::Silent, State::Silent]);
    feed(&mut track, 20..21, 0.0, 1.0);
    track.judge(&facts, Some(40 * HOUR));
    assert_eq!(track.state, State::Ok, "it catches up");
}

#[test]
fn names_are_in_the_order_of_their_numbers() {
    let mut names = ["mote-10", "mote-2", "mote-02b", "a", "mote", "Ä/3", ""];
    names.sort_by(|a, b| natural(a, b));
    assert_eq!(names, ["", "a", "mote", "mote-2", "mote-02b", "mote-10", "Ä/3"]);
}

#[test]
fn ten_thousand_series_are_looked_over_in_a_moment() {
    let mut board = Board::new(Arc::new(facts()));
    for number in 0..10_000 {
        let place = board.place(&format!("plant-{number}/flow"), FRESH).unwrap();
        feed(&mut board.tracks[place], 0..40, 0.5, 1.0);
    }
    let began = Instant::now();
    board.tick(10_000);
    let order = Order { search: "flow".into(), sort: Sort::Ratio, ..Order::default() };
    let ordered = board.ordered(&order);
    let rows: Vec<_> = ordered.iter().take(60).map(|place| board.row(*place, 0)).collect();
    let took = began.elapsed();
    assert_eq!((board.states.ok, ordered.len(), rows.len()), (10_000, 10_000, 60));
    // It is done once a second, and takes some hundredths of one.
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn rows_are_found_by_words_and_sorted_with_what_has_no_value_last() {
    let mut board = Board::new(Arc::new(facts()));
    for (id, count) in [("b/wind", 9), ("a/wind", 30), ("a/rain", 2), ("c/wind", 0)] {
        let place = board.place(id, FRESH).unwrap();
        feed(&mut board.tracks[place], 0..count, 0.0, 1.0);
    }
    board.tick(4);
    let names = |order: Order| -> Vec<String> {
        board.ordered(&order).iter().map(|place| board.tracks[*place].name.to_string()).collect()
    };
    let order = Order::default;
    assert_eq!(names(order()), ["a/rain", "a/wind", "b/wind", "c/wind"]);
    assert_eq!(names(Order { search: "WIND a".into(), ..order() }), ["a/wind"]);
    let by = |descending| names(Order { sort: Sort::Value, descending, ..order() });
    assert_eq!(by(false), ["a/rain", "b/wind", "a/wind", "c/wind"]);
    assert_eq!(by(true), ["a/wind", "b/wind", "a/rain", "c/wind"]);
    assert_eq!(names(Order { state: Some(State::Cold), ..order() }), ["c/wind"]);
    // What comes next comes behind the latest reading: the last forecast is of the hour before.
    let wind = board.place("b/wind", FRESH).unwrap();
    board.tracks[wind].observe(&facts(), 9 * HOUR, value(9), ROOM);
    assert_eq!((board.tracks[wind].next(0), board.tracks[wind].next(2)), (Some(10.0), Some(11.0)));
}

#[test]
fn series_leave_with_their_partition_and_the_silent_give_way() {
    let mut board = Board::new(Arc::new(facts()));
    let show = |board: &mut Board, id: &str, partition: i32, hours: std::ops::Range<i64>| {
        let place = board.place(id, Origin { partition, ..FRESH });
        place.into_iter().for_each(|place| feed(&mut board.tracks[place], hours.clone(), 0.0, 1.0));
        place.is_some()
    };
    for (id, partition, end) in [("a", 0, 11), ("d", 1, 12), ("c", 0, 13), ("b", 1, 14)] {
        assert!(show(&mut board, id, partition, 0..end));
    }
    board.tick(4);
    board.gone(&[0, 7]);
    let names = |board: &Board| -> Vec<String> {
        let ordered = board.ordered(&Order::default());
        ordered.iter().map(|place| board.tracks[*place].name.to_string()).collect()
    };
    assert_eq!((names(&board), board.moves), (vec!["b".into(), "d".into()], 1));
    let last = |id: &str| board.find(id, 0).map(|track| track.last.unwrap().step);
    assert_eq!((last("a"), last("b"), last("d")), (None, Some(13), Some(11)));
    let place = board.place("g", Origin { partition: 4, goes_on: true }).unwrap();
    feed(&mut board.tracks[place], 0..2, 0.0, 1.0);
    assert_eq!(board.tracks[place].observed, None, "what it knows from before is not to be seen here");
    board.gone(&[4]);

    board.most = 3;
    assert!(show(&mut board, "e", 2, 0..60) && !show(&mut board, "f", 2, 0..60));
    board.tick(4);
    assert_eq!((names(&board).len(), board.left_out), (3, 1), "nobody is known to be silent yet");
    show(&mut board, "b", 1, 14..60);
    (0..3).for_each(|_| board.tick(4));
    assert_eq!(board.find("d", 0).unwrap().state, State::Silent);
    assert!(!show(&mut board, "f", 2, 0..60), "there is no room yet");
    board.tick(4);
    assert!(show(&mut board, "f", 2, 0..60));
    board.tick(3);
    assert_eq!((names(&board), board.left_out), (["b", "e", "f"].map(String::from).to_vec(), 0));
}

/// What was scored of a series in a day, one and four steps ahead.
fn told(series: &str, target: &str, day: i64, mae: f32) -> RecordBatch {
    let of = |horizon: usize| HorizonScores {
        horizon,
        forecasts: 24.0,
        mae: mae * horizon as f32,
        naive_mae: if horizon == 1 { 2.0 } else { 0.0 },
        bias: 0.25,
        ties: 0.0,
        coverage: vec![0.75],
    };
    let stamp = ForecastStamp { every: "1h".into(), model: "m".into() };
    let mut rows = ScoreBuilder::new(&[0.8], stamp);
    let scores = SeriesScores { horizons: vec![of(1), of(4)], drifts: day == 1 };
    rows.push(0, series, target, [day, day + 1].map(|day| 24 * day * HOUR), &scores);
    rows.finish()
}

#[test]
fn of_each_step_ahead_the_period_that_was_told_last_is_kept() {
    let scoring = Some(Scoring { horizons: vec![1, 4], every: 24 });
    let mut board = Board::new(Arc::new(Facts { scoring, ..facts() }));
    let place = board.place("a", FRESH).unwrap();
    board.scores(&told("a", "value", 0, 0.5));
    board.scores(&told("a", "value", 1, 1.0));
    // Of a series that is not held, and of a target that is none.
    board.scores(&told("b", "value", 1, 9.0));
    board.scores(&told("a", "other", 2, 9.0));
    assert_eq!((board.tracks.len(), board.left_out), (1, 0));
    let periods = &board.tracks[place].periods;
    let [one, four] = periods.all() else { panic!("{periods:?}") };
    let day = 86_400_000.0;
    assert_eq!((one.ahead, one.from_ms, one.until_ms), (1, day, 2.0 * day));
    assert_eq!((one.mae, one.mase, one.forecasts), (1.0, Some(0.5), 24));
    assert_eq!((one.bias, &*one.coverage), (0.25, &[0.75][..]), "actual less forecast, as it was told");
    assert_eq!((four.ahead, four.mae, four.mase), (4, 4.0, None));
    let detail = rows::detail(&board, &board.tracks[place]);
    assert_eq!((&detail["periods"][1]["ahead"], &detail["drift"]), (&4.into(), &true.into()));
    board.scores(&told("a", "value", 2, 1.0));
    assert_eq!(board.tracks[place].periods.drift(), Some(false), "of the series, as of its latest period");
}

/// So many series of these facts, of which the first are full before the others come, and all in the end; what they take.
fn filled(facts: Facts, early: usize) -> (Board, usize) {
    let mut board = Board::new(Arc::new(facts));
    let fill = |board: &mut Board, from: usize| {
        let (facts, room) = (board.facts.clone(), board.room);
        let list = vec![0.0; facts.horizon];
        let lists = vec![&list[..]; 1 + 2 * facts.shown.len()];
        for track in &mut board.tracks[from..] {
            for step in 0..room.steps as i64 + 9 {
                track.observe(&facts, step * HOUR, 1.0, room);
            }
            track.forecast(&facts, (room.steps as i64 + 8) * HOUR, &lists, room);
        }
    };
    for number in 0..=SERIES_MOST {
        board.place(&number.to_string(), FRESH);
        if number + 1 == early {
            fill(&mut board, 0);
        }
    }
    let periods = Periods::bytes(board.facts.scoring.as_ref(), board.facts.levels.len());
    let before: usize = board.tracks.iter().map(Track::bytes).sum();
    fill(&mut board, early);
    let after: usize = board.tracks.iter().map(Track::bytes).sum();
    assert!(before > 0 && before < after, "{before} {after}");
    let bytes = after + board.tracks.len() * periods;
    board.tick(SERIES_MOST + 1);
    (board, bytes)
}

#[test]
fn what_series_keep_stays_within_its_bytes_however_many_there_are_and_whenever_they_came() {
    let day = Facts { horizon: 24, ahead: [1, 24], levels: vec![0.8, 0.95], shown: vec![0, 1], ..facts() };
    let scoring = Some(Scoring { horizons: vec![1, 3, 6, 12, 24], every: 24 });
    let (board, bytes) = filled(Facts { scoring, ..day.clone() }, 500);
    assert_eq!((board.tracks.len(), board.left_out), (SERIES_MOST, 1));
    assert!((BYTES / 10 * 9..=BYTES).contains(&bytes), "{bytes}");

    // A week ahead is kept for every series, however little room there is.
    let (board, bytes) = filled(Facts { horizon: 168, ahead: [1, 168], ..day }, 500);
    assert!((5_000..SERIES_MOST).contains(&board.tracks.len()), "{}", board.tracks.len());
    assert_eq!(board.tracks.len() + board.left_out, SERIES_MOST + 1);
    assert!((BYTES / 10 * 9..=BYTES).contains(&bytes), "{bytes}");
}

#[test]
fn a_track_grows_by_little_and_gives_back_what_is_no_longer_its_own() {
    let (facts, mut track) = (facts(), track());
    for hour in 0..40 {
        track.observe(&facts, hour * HOUR, value(hour), ROOM);
    }
    assert!((40..=50).contains(&track.steps.capacity()), "{}", track.steps.capacity());
    feed(&mut track, 40..300, 0.0, 1.0);
    assert_eq!((track.steps.len(), track.steps.capacity(), track.first), (104, 104, 200));
    track.give_back(Room { steps: 20, fan: 2 });
    assert_eq!((track.steps.len(), track.steps.capacity(), track.first), (20, 20, 284));
    assert_eq!((track.value(299), track.value(283)), (Some(299.0), None));
    assert_eq!(track.fan.as_ref().map(|fan| fan.lists[0].len()), Some(2));
}
