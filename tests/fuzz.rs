//! What comes from outside can be anything: messages, pipeline files, model files, snapshots. Each target takes thousands of
//! damaged inputs; whatever they hold, they are accepted or refused, without a panic and without memory that they do not
//! pay for. `TIDECAST_FUZZ=10` takes ten million in all; each target prints a line of JSON.

mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, LargeListArray, RecordBatch};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Float64Type, Int64Type};
use tidecast::config::{Format, Limits, Pipeline, Place, TimeUnit};
use tidecast_core::forecaster::{Forecaster, Setup};
use tidecast_stream::codec::Codec;
use tidecast_stream::{Partition, Position, Record};
use tidecast_core::model::{ModelManifest, Model};
use tidecast_core::network::StateKind;
use tidecast_core::series::StepConfig;
use tidecast_stream::state::{Found, Lineage, Store};
use tidecast_core::schema::Observations;

use crate::harness::{Case, Row, row};
use mutate::{EDGES, REALS, Random, damaged};

const TARGETS: usize = 5;

/// InputBatch of a target where nobody asks for more: seconds, without optimisation.
const INPUTS: usize = 3_000;

/// No input, of the sizes here, may take longer, even on a busy machine: it would be work out of proportion.
const LONGEST: Duration = Duration::from_secs(20);

/// Calls `input` with the random numbers of each input; it says whether that was accepted.
fn bombard(target: &str, mut input: impl FnMut(&mut Random) -> bool) {
    let millions = std::env::var("TIDECAST_FUZZ").ok().and_then(|text| text.parse::<f64>().ok());
    let inputs = millions.map_or(INPUTS, |millions| (millions * 1e6 / TARGETS as f64) as usize);
    let (mut accepted, mut panicked, mut slowest) = (0, Vec::new(), Duration::ZERO);
    for number in 0..inputs {
        let started = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| input(&mut Random::new(number as u64)))) {
            Ok(was) => accepted += usize::from(was),
            Err(_) => panicked.push(number),
        }
        slowest = slowest.max(started.elapsed());
    }
    let (panics, refused) = (panicked.len(), inputs - accepted - panicked.len());
    println!(
        "{{\"target\":\"{target}\",\"inputs\":{inputs},\"accepted\":{accepted},\"refused\":{refused},\
         \"panics\":{panics},\"slowest_ms\":{},\"peak_mb\":{}}}",
        slowest.as_millis(),
        peak_mb()
    );
    panicked.truncate(10);
    assert!(panics == 0, "{target}: {panics} panics, the first with the inputs {panicked:?}");
    assert!(slowest < LONGEST, "{target}: an input took {slowest:?}");
    assert!(accepted > 0 && refused > 0, "{target}: the inputs are all alike");
}

/// The most memory this process ever held.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok())
        .map_or(0, |kb: u64| kb / 1024)
}

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn messages() {
    let mut case = Case::default();
    case.columns.covariates = vec!["wind".into()];
    case.columns.future_covariates = vec!["plan".into()];
    let codec = Codec::new(Format::Json, &case.columns, TimeUnit::Seconds, &Limits::default());
    let seeds = bytes(&[
        r#"{"sensor":"a","time":1700000000,"value":20.5,"wind":1e-3,"plan":[1,2.5,null]}"#,
        r#"{"sensor":17,"time":"2024-02-29T23:59:60.123456789+05:30","value":null,"plan":null}"#,
        r#" {"x":{"y":[{"z":"\ud83d\ude00\u00e9"}]},"sensor":"é","time":"1969-12-31 00:00:00","value":-1E+308} "#,
    ]);
    let words = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u",
        "\\ud800",
        "null",
        "true",
        "NaN",
        "1e999",
        "-",
        "\0",
        "\u{feff}",
        "sensor",
        "time",
        "9999-12-31T23:59:59Z",
        "-262144-01-01T00:00:00Z",
        "\"value\":",
    ];
    bombard("messages", |random| {
        let record = |offset| Record {
            offset,
            payload: Some(damaged(random, &seeds, &words).into()),
            ..Record::default()
        };
        let records: Vec<Record> = (0..4).map(record).collect();
        let decoded = codec.decode(&records);
        assert_eq!(decoded.rows.num_rows() + decoded.malformed.len(), records.len());
        !Observations::new(&decoded.rows, &case.columns).is_empty()
    });
}

#[test]
fn pipelines() {
    let pattern = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/*.toml");
    let files = glob::glob(pattern).unwrap().map(|path| std::fs::read(path.unwrap()).unwrap());
    let words = [
        "[",
        "]",
        "[[",
        "]]",
        "=",
        "\"",
        "'''",
        "\"\"\"",
        "{",
        "}",
        ",",
        "#",
        "\n",
        ".",
        "${",
        "${A}",
        "${A:-b}",
        "${file:x}",
        "$${",
        "\\u0000",
        "\\U0010ffff",
        "inf",
        "nan",
        "1979-05-27",
        "0x7fffffffffffffff",
        "\"1h\"",
        "\"9999999999d\"",
        "every",
        "client",
        "train",
        "[source.kafka.client]\n",
        "horizon = 9223372036854775807\n",
    ];
    let mut seeds: Vec<Vec<u8>> = files.collect();
    seeds.extend(bytes(&[
        "[columns]\ntime = \"t\"\ntargets = [\"v\"]\n[grid]\nevery = \"1h\"\n[forecast]\nmodel = \"m\"\n\
         [source.kafka]\nbrokers = \"b:1\"\ntopic = \"in\"\nclient = { sasl.mechanism = \"OAUTHBEARER\", \
         \"sasl.oauthbearer.config\" = \"token_file=x, lifetime=5m\" }\n[sink.kafka]\ntopic = \"out\"\n",
    ]));
    bombard("pipelines", |random| {
        let text = String::from_utf8_lossy(&damaged(random, &seeds, &words)).into_owned();
        let loaded = Pipeline::from_text(Path::new("/nowhere/p.toml"), &text, &|_| Some("x".into()));
        loaded.map(|pipeline| pipeline.plan()).map_err(|error| error.to_string()).is_ok()
    });
}

/// Cases whose models and states have all parts between them.
fn cases() -> [Case; 3] {
    let carried = Case { state: StateKind::Carried, memory: true, ..Case::default() };
    let learned =
        Case { memory: true, context: Some(4), learned: vec![0.8], embedding: 2, ..Case::default() };
    [Case::default(), carried, learned]
}

#[test]
fn models() {
    let cases = cases();
    let models = cases.each_ref().map(Case::model);
    let seeds: Vec<Vec<u8>> = models.iter().map(Model::to_bytes).collect();
    let headers: Vec<Vec<u8>> = seeds.iter().map(|seed| seed[8..header(seed)].to_vec()).collect();
    let words = [
        "\"dtype\":\"F64\"",
        "\"shape\":[0]",
        "[4294967296,4294967296]",
        "\"data_offsets\":[0,18446744073709551615]",
        "null",
        "[]",
        "{}",
        "1e308",
        "-1",
        "\\\"horizon\\\":65536",
        "\\\"lookback\\\":1",
        "99999999999999999999",
    ];
    let rows: Vec<Row> = (0..8).map(|i| row("a", 10 * i, 20.0 + i as f64)).collect();
    bombard("models", |random| {
        let file = match random.one_in(3) {
            true => damaged(random, &seeds, &words),
            // Only its manifest, whose length is right again, so that most of the damage has a meaning.
            false => {
                let which = random.below(seeds.len());
                let text = damaged(random, &headers[which..=which], &words);
                let length = (text.len() as u64).to_le_bytes();
                [&length[..], &text, &seeds[which][header(&seeds[which])..]].concat()
            }
        };
        let Ok(model) = Model::from_bytes(&file) else { return false };
        // A pipeline that agrees with what it says of its rows, as the program sees to: then it forecasts.
        if let Some(case) = cases.iter().find(|case| agree(case, &model)) {
            let levels = if model.residuals.is_some() { vec![0.8] } else { vec![] };
            let model = Arc::new(model);
            let mut forecaster = Forecaster::new(Arc::new(Setup { model, levels, ..setup(case) }));
            forecaster.push(&case.batch(0, &rows));
        }
        true
    });
}

fn agree(case: &Case, model: &Model) -> bool {
    let ModelManifest { rules, targets, covariates, future_covariates, .. } = &model.manifest;
    let columns = [&case.columns.targets, &case.columns.covariates, &case.columns.future_covariates];
    columns == [targets, covariates, future_covariates]
        && case.rules == StepConfig { max_gap: case.rules.max_gap, ..rules.clone() }
}

fn setup(case: &Case) -> Setup {
    Arc::into_inner(case.setup()).expect("it is ours alone")
}

/// Where the header of a sound model file ends.
fn header(file: &[u8]) -> usize {
    8 + u64::from_le_bytes(*file.first_chunk().expect("it is sound")) as usize
}

/// States with all there can be in them: open steps, a candidate, gaps, memories.
fn states() -> Vec<(Case, RecordBatch)> {
    let grown = |case: Case| {
        let mut forecaster = case.forecaster();
        let seconds = [0, 10, 20, 30, 31, 60, 70, 80, 85, 99_000];
        let rows: Vec<Row> = ["a", "b", "c"]
            .iter()
            .flat_map(|id| seconds.map(|second| row(id, second, second as f64 / 7.0)))
            .collect();
        forecaster.push(&case.batch(0, &rows));
        let state = forecaster.snapshot();
        (case, state)
    };
    cases().map(grown).into()
}

#[test]
fn states_of_series() {
    let states = states();
    bombard("states", |random| {
        let (case, sound) = &states[random.below(states.len())];
        let mut state = sound.clone();
        for _ in 0..=random.below(3) {
            state = disturbed(random, &state);
        }
        accepts(case, &state)
    });
}

/// Whether a state is taken. If so, it goes on, and can be kept again.
fn accepts(case: &Case, state: &RecordBatch) -> bool {
    let mut forecaster = case.forecaster();
    if forecaster.restore(state).is_err() {
        return false;
    }
    let rows: Vec<Row> = (0..4).map(|i| row("a", 90 + 10 * i, 1.0)).chain([row("b", 99_010, 2.0)]).collect();
    forecaster.push(&case.batch(1000, &rows));
    forecaster.warm();
    forecaster.finish(2).for_each(drop);
    forecaster.snapshot();
    true
}

/// A state with another number in it, or a column of another, or a row twice.
fn disturbed(random: &mut Random, state: &RecordBatch) -> RecordBatch {
    let at = random.below(state.num_columns());
    let column: ArrayRef = match random.below(8) {
        0 if random.one_in(4) => {
            let rows: Int64Array = (0..3).map(|_| random.below(state.num_rows().max(1)) as i64).collect();
            return match state.num_rows() {
                0 => state.clone(),
                _ => take_record_batch(state, &rows).expect("rows that are there"),
            };
        }
        1 if random.one_in(4) => {
            let rest: Vec<usize> = (0..state.num_columns()).filter(|i| *i != at).collect();
            return state.project(&rest).expect("columns that are there");
        }
        2 if random.one_in(4) => {
            return concat_batches(&state.schema(), [state, state]).expect("of one schema");
        }
        _ => changed(random, state.column(at)),
    };
    let mut columns = state.columns().to_vec();
    columns[at] = column;
    RecordBatch::try_new(state.schema(), columns).unwrap_or_else(|_| state.clone())
}

/// A column with one of its numbers, or the length of one of its lists, changed.
fn changed(random: &mut Random, column: &ArrayRef) -> ArrayRef {
    let edge = |random: &mut Random, before: i64| match random.below(3) {
        0 => EDGES[random.below(EDGES.len())],
        1 => before.wrapping_add(random.below(9) as i64 - 4),
        _ => before ^ 1 << random.below(64),
    };
    if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
        let mut numbers: Vec<Option<i64>> = numbers.iter().collect();
        let at = random.below(numbers.len());
        if let Some(number) = numbers.get_mut(at) {
            *number = number.map(|before| edge(random, before));
        }
        return Arc::new(Int64Array::from(numbers));
    }
    let Some(list) = column.as_list_opt::<i64>() else { return column.clone() };
    let (mut whole, mut real) = (Vec::new(), Vec::new());
    if let Some(values) = list.values().as_primitive_opt::<Int64Type>() {
        whole = values.values().to_vec();
        let at = random.below(whole.len());
        if let Some(number) = whole.get_mut(at) {
            *number = edge(random, *number);
        }
    } else if let Some(values) = list.values().as_primitive_opt::<Float64Type>() {
        real = values.values().to_vec();
        let at = random.below(real.len());
        if let Some(number) = real.get_mut(at) {
            *number = REALS[random.below(REALS.len())];
        }
    }
    let mut offsets = list.offsets().to_vec();
    if random.one_in(4) && offsets.len() > 2 {
        let at = 1 + random.below(offsets.len() - 2);
        offsets[at] = (offsets[at] + random.below(3) as i64 - 1).clamp(offsets[at - 1], offsets[at + 1]);
    }
    let values: ArrayRef = match list.values().as_primitive_opt::<Int64Type>() {
        Some(_) => Arc::new(Int64Array::from(whole)),
        None => Arc::new(Float64Array::from(real)),
    };
    let field = match list.data_type() {
        arrow::datatypes::DataType::LargeList(field) => field.clone(),
        _ => unreachable!("it is a list"),
    };
    Arc::new(LargeListArray::new(field, arrow::buffer::OffsetBuffer::new(offsets.into()), values, None))
}

#[test]
fn snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let lineage = || Lineage::new(vec![("key".to_owned(), "value".to_owned())], "model");
    let partition = |number| Partition { topic: "t".into(), number };
    let store = Store::open(&Place::Folder(folder.path().to_owned()), lineage()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let states = states();
    let file = |number: usize| {
        let entries = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut of = entries
            .filter(|path| path.file_name().unwrap().to_string_lossy().contains(&format!("@{number}@")));
        of.next().unwrap()
    };
    let mut seeds = Vec::new();
    for (number, (_, state)) in states.iter().enumerate() {
        let partition = partition(number as i32);
        let saved = store.save(&partition, Position(0), Position(7), [state.clone()]);
        runtime.block_on(saved).unwrap();
        seeds.push(std::fs::read(file(number)).unwrap());
    }
    let files: Vec<_> = (0..states.len()).map(file).collect();
    bombard("snapshots", |random| {
        let which = random.below(states.len());
        std::fs::write(&files[which], damaged(random, &seeds, &[])).unwrap();
        let add = |state: &mut Vec<RecordBatch>, batch: &RecordBatch| {
            state.push(batch.clone());
            Ok(())
        };
        let partition = partition(which as i32);
        let found = store.newest(&partition, None, Position(9), Vec::new, add);
        match runtime.block_on(found) {
            Ok(Found::Snapshot { state, .. }) => state.iter().all(|batch| accepts(&states[which].0, batch)),
            _ => false,
        }
    });
}
