//! Fuzzing of all external input: messages, pipeline files, model files, snapshots.
//!
//! Each target gets thousands of mutated inputs; each is accepted or rejected without a panic and in bounded time and memory.
//! `TIDECAST_FUZZ=10` runs ten million inputs in all; each target prints a line of JSON.

mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, LargeListArray, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Float64Type, Int64Type};
use tidecast::config::Pipeline;
use tidecast_core::forecaster::Forecaster;
use tidecast_core::model::{Model, ModelManifest};
use tidecast_core::network::StateKind;
use tidecast_core::schema::Observations;
use tidecast_core::series::StepConfig;
use tidecast_core::time::TimeUnit;
use tidecast_stream::codec::Codec;
use tidecast_stream::settings::{Limits, MessageFormat, StateLocation};
use tidecast_stream::state::{Lineage, Lookup, SnapshotStore};
use tidecast_stream::{Partition, Position, Record};

use crate::harness::{Case, Row, row};
use mutate::{FLOATS, INTEGERS, Random, mutated};

/// Number of targets, which share the inputs of `TIDECAST_FUZZ`.
const TARGETS: usize = 5;

/// Default number of inputs per target: some seconds without optimisation.
const INPUTS: usize = 3_000;

/// Limit for one input, generous for a busy machine: the inputs are small.
const INPUT_TIME_MAX: Duration = Duration::from_secs(20);

/// Calls `input` with a random generator for each input; it returns whether the input was accepted.
fn fuzz(target: &str, mut input: impl FnMut(&mut Random) -> bool) {
    let millions = std::env::var("TIDECAST_FUZZ").ok().and_then(|text| text.parse::<f64>().ok());
    let inputs = millions.map_or(INPUTS, |millions| (millions * 1e6 / TARGETS as f64) as usize);
    let (mut accepted, mut panicked, mut slowest) = (0, Vec::new(), Duration::ZERO);
    for number in 0..inputs {
        let started = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| input(&mut Random::new(number as u64)))) {
            Ok(is_accepted) => accepted += usize::from(is_accepted),
            Err(_) => panicked.push(number),
        }
        slowest = slowest.max(started.elapsed());
    }
    let (panics, rejected) = (panicked.len(), inputs - accepted - panicked.len());
    println!(
        "{{\"target\":\"{target}\",\"inputs\":{inputs},\"accepted\":{accepted},\"rejected\":{rejected},\
         \"panics\":{panics},\"slowest_ms\":{},\"peak_mb\":{}}}",
        slowest.as_millis(),
        peak_mb()
    );
    panicked.truncate(10);
    assert!(panics == 0, "{target}: {panics} panics, the first at inputs {panicked:?}");
    assert!(slowest < INPUT_TIME_MAX, "{target}: an input took {slowest:?}");
    assert!(accepted > 0 && rejected > 0, "{target}: {accepted} accepted, {rejected} rejected");
}

/// Peak memory of this process.
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
    let codec = Codec::new(MessageFormat::Json, &case.columns, TimeUnit::Seconds, &Limits::default());
    let seeds = bytes(&[
        r#"{"sensor":"a","time":1700000000,"value":20.5,"wind":1e-3,"plan":[1,2.5,null]}"#,
        r#"{"sensor":17,"time":"2024-02-29T23:59:60.123456789+05:30","value":null,"plan":null}"#,
        r#" {"x":{"y":[{"z":"\ud83d\ude00\u00e9"}]},"sensor":"é","time":"1969-12-31 00:00:00","value":-1E+308} "#,
    ]);
    let words: Vec<&str> =
        "{ } [ ] , : \" \\ \\u \\ud800 null true NaN 1e999 - \0 \u{feff} sensor time 9999-12-31T23:59:59Z \
         -262144-01-01T00:00:00Z \"value\":"
            .split(' ')
            .collect();
    fuzz("messages", |random| {
        let record = |offset| Record {
            offset,
            payload: Some(mutated(random, &seeds, &words).into()),
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
    let mut words: Vec<&str> =
        "[ ] [[ ]] = \" ''' \"\"\" { } , # . ${ ${A} ${A:-b} ${file:x} $${ \\u0000 \\U0010ffff inf nan 1979-05-27 \
         0x7fffffffffffffff \"1h\" \"9999999999d\" every client train"
            .split(' ')
            .collect();
    words.extend(["\n", "[source.kafka.client]\n", "horizon = 9223372036854775807\n"]);
    let mut seeds: Vec<Vec<u8>> = files.collect();
    seeds.extend(bytes(&[
        "[columns]\ntime = \"t\"\ntargets = [\"v\"]\n[grid]\nevery = \"1h\"\n[forecast]\nmodel = \"m\"\n\
         [source.kafka]\nbrokers = \"b:1\"\ntopic = \"in\"\nclient = { sasl.mechanism = \"OAUTHBEARER\", \
         \"sasl.oauthbearer.config\" = \"token_file=x, lifetime=5m\" }\n[sink.kafka]\ntopic = \"out\"\n",
    ]));
    fuzz("pipelines", |random| {
        let text = String::from_utf8_lossy(&mutated(random, &seeds, &words)).into_owned();
        let loaded = Pipeline::from_text(Path::new("/nowhere/p.toml"), &text, &|_| Some("x".into()));
        loaded.map(|pipeline| pipeline.plan()).map_err(|error| error.to_string()).is_ok()
    });
}

/// Cases whose models and states together have all parts.
fn cases() -> [Case; 3] {
    let carried = Case { state: StateKind::Carried, recurrence: true, ..Case::default() };
    let quantiles = Case {
        recurrence: true,
        recurrence_window: Some(4),
        quantile_levels: vec![0.8],
        embedding: 2,
        ..Case::default()
    };
    [Case::default(), carried, quantiles]
}

#[test]
fn models() {
    let cases = cases();
    let models = cases.each_ref().map(Case::model);
    let seeds: Vec<Vec<u8>> = models.iter().map(Model::to_bytes).collect();
    let headers: Vec<Vec<u8>> = seeds.iter().map(|seed| seed[8..header_end(seed)].to_vec()).collect();
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
    fuzz("models", |random| {
        let file = match random.one_in(3) {
            true => mutated(random, &seeds, &words),
            // Mutates the JSON header alone and corrects its length, so that most inputs get past the parser.
            false => {
                let which = random.below(seeds.len());
                let text = mutated(random, &headers[which..=which], &words);
                let length = (text.len() as u64).to_le_bytes();
                [&length[..], &text, &seeds[which][header_end(&seeds[which])..]].concat()
            }
        };
        let Ok(model) = Model::from_bytes(&file) else { return false };
        // Forecasts with a pipeline that matches the manifest, as the program requires.
        if let Some(case) = cases.iter().find(|case| matches(case, &model)) {
            let levels = if model.residuals.is_some() { &[0.8][..] } else { &[] };
            let mut forecaster = Forecaster::new(Arc::new(case.setup_with(model, levels)));
            forecaster.push(&case.batch(0, &rows));
        }
        true
    });
}

fn matches(case: &Case, model: &Model) -> bool {
    let ModelManifest { step_config, targets, covariates, future_covariates, .. } = &model.manifest;
    let columns = [&case.columns.targets, &case.columns.covariates, &case.columns.future_covariates];
    columns == [targets, covariates, future_covariates]
        && case.step_config == StepConfig { max_gap: case.step_config.max_gap, ..step_config.clone() }
}

/// End of the header of a valid model file.
fn header_end(file: &[u8]) -> usize {
    8 + u64::from_le_bytes(*file.first_chunk().expect("the file is valid")) as usize
}

/// States with open steps, candidates, gaps and carried states.
fn states() -> Vec<(Case, RecordBatch)> {
    let state = |case: Case| {
        let mut forecaster = case.forecaster();
        let seconds = [0, 10, 20, 30, 31, 60, 70, 80, 85, 99_000];
        let rows: Vec<Row> = ["a", "b", "c"]
            .iter()
            .flat_map(|id| seconds.map(|second| row(id, second, second as f64 / 7.0)))
            .collect();
        forecaster.push(&case.batch(0, &rows));
        let snapshot = forecaster.snapshot();
        (case, snapshot)
    };
    cases().map(state).into()
}

#[test]
fn snapshot_tables() {
    let states = states();
    fuzz("snapshot_tables", |random| {
        let (case, valid) = &states[random.below(states.len())];
        let mut state = valid.clone();
        for _ in 0..=random.below(3) {
            state = mutated_table(random, &state);
        }
        accepts(case, &state)
    });
}

/// True if a state can be restored. If so, it must also take rows and give a snapshot.
fn accepts(case: &Case, state: &RecordBatch) -> bool {
    let mut forecaster = case.forecaster();
    if forecaster.restore(state).is_err() {
        return false;
    }
    let rows: Vec<Row> = (0..4).map(|i| row("a", 90 + 10 * i, 1.0)).chain([row("b", 99_010, 2.0)]).collect();
    forecaster.push(&case.batch(1000, &rows));
    forecaster.warm_series_count();
    forecaster.finish(2).for_each(drop);
    forecaster.snapshot();
    true
}

/// A table with another number, rows repeated, or a column missing.
fn mutated_table(random: &mut Random, state: &RecordBatch) -> RecordBatch {
    let at = random.below(state.num_columns());
    let column: ArrayRef = match random.below(8) {
        0 if random.one_in(4) => {
            let rows: Int64Array = (0..3).map(|_| random.below(state.num_rows().max(1)) as i64).collect();
            return match state.num_rows() {
                0 => state.clone(),
                _ => take_record_batch(state, &rows).expect("the rows exist"),
            };
        }
        1 if random.one_in(4) => {
            let others: Vec<usize> = (0..state.num_columns()).filter(|i| *i != at).collect();
            return state.project(&others).expect("the columns exist");
        }
        2 if random.one_in(4) => {
            return concat_batches(&state.schema(), [state, state]).expect("the schemas are equal");
        }
        _ => mutated_column(random, state.column(at)),
    };
    let mut columns = state.columns().to_vec();
    columns[at] = column;
    RecordBatch::try_new(state.schema(), columns).unwrap_or_else(|_| state.clone())
}

/// A column with another number or another length of a list.
fn mutated_column(random: &mut Random, column: &ArrayRef) -> ArrayRef {
    let mutated = |random: &mut Random, number: i64| match random.below(3) {
        0 => INTEGERS[random.below(INTEGERS.len())],
        1 => number.wrapping_add(random.below(9) as i64 - 4),
        _ => number ^ 1 << random.below(64),
    };
    if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
        let mut numbers: Vec<Option<i64>> = numbers.iter().collect();
        let at = random.below(numbers.len());
        if let Some(number) = numbers.get_mut(at) {
            *number = number.map(|number| mutated(random, number));
        }
        return Arc::new(Int64Array::from(numbers));
    }
    let Some(list) = column.as_list_opt::<i64>() else { return column.clone() };
    let (mut integers, mut floats) = (Vec::new(), Vec::new());
    if let Some(values) = list.values().as_primitive_opt::<Int64Type>() {
        integers = values.values().to_vec();
        let at = random.below(integers.len());
        if let Some(number) = integers.get_mut(at) {
            *number = mutated(random, *number);
        }
    } else if let Some(values) = list.values().as_primitive_opt::<Float64Type>() {
        floats = values.values().to_vec();
        let at = random.below(floats.len());
        if let Some(number) = floats.get_mut(at) {
            *number = FLOATS[random.below(FLOATS.len())];
        }
    }
    let mut offsets = list.offsets().to_vec();
    if random.one_in(4) && offsets.len() > 2 {
        let at = 1 + random.below(offsets.len() - 2);
        offsets[at] = (offsets[at] + random.below(3) as i64 - 1).clamp(offsets[at - 1], offsets[at + 1]);
    }
    let values: ArrayRef = match list.values().as_primitive_opt::<Int64Type>() {
        Some(_) => Arc::new(Int64Array::from(integers)),
        None => Arc::new(Float64Array::from(floats)),
    };
    let field = match list.data_type() {
        arrow::datatypes::DataType::LargeList(field) => field.clone(),
        _ => unreachable!("the column is a list"),
    };
    Arc::new(LargeListArray::new(field, OffsetBuffer::new(offsets.into()), values, None))
}

#[test]
fn snapshot_files() {
    let folder = tempfile::tempdir().unwrap();
    let lineage = Lineage::new(vec![("key".to_owned(), "value".to_owned())], "model");
    let partition = |number: usize| Partition { topic: "t".into(), number: number as i32 };
    let store = SnapshotStore::open(&StateLocation::Folder(folder.path().to_owned()), lineage).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let states = states();
    let file = |number: usize| {
        let mut paths = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let marker = format!("@{number}@");
        paths.find(|path| path.file_name().unwrap().to_string_lossy().contains(&marker)).unwrap()
    };
    let mut seeds = Vec::new();
    for (number, (_, state)) in states.iter().enumerate() {
        let partition = partition(number);
        let saved = store.save(&partition, Position(0), Position(7), [state.clone()]);
        runtime.block_on(saved).unwrap();
        seeds.push(std::fs::read(file(number)).unwrap());
    }
    let files: Vec<_> = (0..states.len()).map(file).collect();
    fuzz("snapshot_files", |random| {
        let which = random.below(states.len());
        std::fs::write(&files[which], mutated(random, &seeds, &[])).unwrap();
        let restore = |batches: &mut Vec<RecordBatch>, batch: &RecordBatch| {
            batches.push(batch.clone());
            Ok(())
        };
        let partition = partition(which);
        let lookup = store.restore_newest(&partition, None, Position(9), Vec::new, restore);
        match runtime.block_on(lookup) {
            Ok(Lookup::Found { state, .. }) => state.iter().all(|batch| accepts(&states[which].0, batch)),
            _ => false,
        }
    });
}
