//! The exact errors of invalid pipeline files.

use tidecast::config::Pipeline;
use tidecast_kafka::settings::Brokers;

use super::{MINIMAL, assert_addition_errors, assert_change_errors, assert_errors, env, load, load_with};

#[test]
fn an_unknown_key_suggests_a_known_one() {
    assert_change_errors(
        "every = \"1h\"",
        "every = \"1h\"\nlateness_ = \"1s\"",
        &["6: unknown key \"lateness_\" in [grid]; did you mean \"lateness\"?"],
    );
    assert_change_errors(
        "[columns]",
        "nmae = \"x\"\n[columns]",
        &["1: unknown key \"nmae\" at the top of the file; did you mean \"name\"?"],
    );
    assert_change_errors(
        "model",
        "max_gap = \"2h\"\nmodel",
        &["7: unknown key \"max_gap\" in [forecast]; did you mean \"max_gap\" in [grid]?"],
    );
    assert_addition_errors(
        "[sorce.kafka]\n[source.parquet]\npath = \"a\"\nzzz = 1\n[source.kafka]\nbrokers = \"b\"\ntopic = \"t\"\ncommit = { evry = \"1s\" }",
        &[
            "8: unknown key \"sorce\" at the top of the file; did you mean \"source\"?",
            "11: unknown key \"zzz\" in [source.parquet]; known keys are path, order",
            "15: unknown key \"evry\" in [source.kafka.commit]; did you mean \"every\"?",
        ],
    );
}

#[test]
fn invalid_scores_are_rejected() {
    assert_addition_errors(
        "[scores]\nhorizons = [0, 3, 3]\nevery = 0",
        &[
            "9: \"horizons[0]\" in [scores] must be in 1..=65536, not 0: 1 is the step after the origin",
            "9: \"horizons[2]\" in [scores] repeats 3",
            "10: \"every\" in [scores] must be in 1..=4294967295, not 0: it counts the steps of a scoring period",
        ],
    );
    assert_addition_errors(
        "[scores]\nhorizons = []",
        &[
            "9: \"horizons\" in [scores] has 0 horizons, not 1 to 8: for each, every series queues the forecasts without an actual",
        ],
    );
    assert_addition_errors(
        "[sink.scores]\ntopic = \"s\"",
        &[
            "9: \"topic\" in [sink.scores] needs [sink.kafka], whose cluster and transactions the scores share",
        ],
    );
}

#[test]
fn a_wrong_type_names_the_expected_one() {
    assert_change_errors(
        "every = \"1h\"",
        "every = 5",
        &["5: \"every\" in [grid] must be a string, not an integer"],
    );
    assert_change_errors(
        "targets = [\"v\"]",
        "targets = \"v\"",
        &["3: \"targets\" in [columns] must be a list, not a string"],
    );
    assert_change_errors(
        "targets = [\"v\"]",
        "targets = [\n\"v\",\n3]",
        &["5: \"targets[1]\" in [columns] must be a string, not an integer"],
    );
    assert_addition_errors(
        "limits = 3\n[train]\nhidden = \"many\"\nepochs = 2.5\ngradient_clip = true\n\
         seed = 99999999999999999999999999\nlearning_rate = 1e999\nbatch_size = 9999999999999999999999999999999999999999999",
        &[
            "8: unknown key \"limits\" in [forecast]; did you mean \"limits\" at the top of the file?",
            "10: \"hidden\" in [train] must be an integer, not a string",
            "11: \"epochs\" in [train] must be an integer, not a float",
            "12: \"gradient_clip\" in [train] must be a number, not true or false",
            "13: \"seed\" in [train] must be a 64-bit integer, not 99999999999999999999999999",
            "14: \"learning_rate\" in [train] must be a smaller number, not a float",
            "15: \"batch_size\" in [train] must be a smaller number, not an integer",
        ],
    );
    assert_addition_errors(
        "[sink.kafka]\nbrokers = \"b\"\ntopic = \"t\"\nclient = { \"a.b\" = [\"hunter2\"], c = 1979-05-27 }",
        &[
            "11: \"a.b\" in [sink.kafka.client] must be a string, a number, true or false",
            "11: \"c\" in [sink.kafka.client] must be a string, a number, true or false",
        ],
    );
    assert_addition_errors(
        "[sink.kafka]\nbrokers = \"b\"\ntopic = \"t\"\nclient = []\n[[train]]",
        &[
            "11: \"client\" in [sink.kafka] must be a table, not a list",
            "12: \"train\" must be a table, not a list",
        ],
    );
    assert_errors(
        "grid = 3\ncolumns = []",
        &[
            " missing key \"model\" in [forecast]: the model file that `train` writes",
            "1: \"grid\" must be a table, not an integer",
            "2: \"columns\" must be a table, not a list",
        ],
    );
}

#[test]
fn an_invalid_choice_lists_the_valid_ones() {
    assert_addition_errors(
        "[train]\ncell = \"lstm-peepole\"\ncalendar = [\"hour-of-day\", \"month\"]",
        &[
            "9: \"cell\" in [train] must be one of \"none\", \"rnn\", \"lstm\", \"lstm-peephole\", \
             \"lstm-coupled\", \"lstm-peephole-coupled\", \"gru\", not \"lstm-peepole\"; did you mean \"lstm-peephole\"?",
            "10: \"calendar[1]\" in [train] must be one of \"hour-of-day\", \"day-of-week\", not \"month\"",
        ],
    );
    assert_change_errors(
        "every = \"1h\"",
        "every = \"1h\"\naggregate = { mean = 1 }\ngap_fill = 1",
        &[
            "6: \"aggregate\" in [grid] must be a string, not a table",
            "7: \"gap_fill\" in [grid] must be a string, not an integer",
        ],
    );
}

#[test]
fn invalid_toml_is_reported_with_its_line_but_not_its_text() {
    let error = load("[columns]\ntime = \"t\npassword = hunter2\n").unwrap_err();
    assert!(error.to_string().starts_with("/p/x.toml:2: invalid TOML: "), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    assert_errors("[grid]\nevery = \"1h\"\nevery = \"2h\"", &["3: invalid TOML: duplicate key"]);
}

#[test]
fn all_missing_keys_are_reported() {
    assert_errors(
        "",
        &[
            " missing key \"every\" in [grid]: the length of a step, such as \"1h\"",
            " missing key \"model\" in [forecast]: the model file that `train` writes",
            " missing key \"targets\" in [columns]: the columns to forecast, such as [\"value\"]",
            " missing key \"time\" in [columns]: the column with the time of an observation",
        ],
    );
    assert_addition_errors(
        "[source.kafka]\n[sink.parquet]\n[state]",
        &[
            "8: missing key \"brokers\" in [source.kafka]: the brokers, such as \"localhost:9092\", or \"embedded\" for \
             a broker inside this process",
            "8: missing key \"topic\" in [source.kafka]: the topic of the observations",
            "9: missing key \"path\" in [sink.parquet]: the file or folder for the forecasts",
            "10: missing key \"store\" in [state]: the folder of the snapshots, such as \"file:state/NAME\" or \
             \"s3://BUCKET/NAME\"",
        ],
    );
    assert_addition_errors(
        "[sink.kafka]\ntopic = \"t\"",
        &["8: missing key \"brokers\" in [sink.kafka]: there is no [source.kafka] to take them from"],
    );
}

#[test]
fn durations_out_of_bounds_are_rejected_with_a_reason() {
    let grid = |added: &str, expected: &[&str]| assert_change_errors("every = \"1h\"", added, expected);
    grid(
        "every = \"1 hous\"",
        &["5: \"every\" in [grid] is invalid: `1 hous` is not a duration; write one such as \
         \"1h\", \"5s\", \"14d\" or \"100ms\""],
    );
    grid(
        "every = \"1M\"",
        &["5: \"every\" in [grid] is invalid: `1M` has no fixed length: `M` is a month or a year; \
         write days (\"30d\")"],
    );
    grid(
        "every = \"0s\"",
        &[
            "5: \"every\" in [grid] must be at least 1ms, not `0s`: Kafka's timestamps are in milliseconds, and \
         a year is the longest season",
        ],
    );
    grid(
        "every = \"400d\"",
        &["5: \"every\" in [grid] must be at most 366d, not `400d`: Kafka's timestamps are in \
         milliseconds, and a year is the longest season"],
    );
    grid(
        "every = \"1h\"\noffset = \"60m\"\nmax_gap = \"30m\"\nlateness = \"-1s\"",
        &[
            "6: \"offset\" in [grid] must be at most 59m 59s 999ms 999us, not `60m`: it shifts the start of the 1h steps",
            "7: \"max_gap\" in [grid] must be at least 1h, not `30m`: a gap is filled with steps of 1h, at most 100000",
            "8: \"lateness\" in [grid] is invalid: `-1s` is not a duration; write one such as \"1h\", \"5s\", \"14d\" or \
         \"100ms\"",
        ],
    );
    grid(
        "every = \"1s\"\nmax_gap = \"30d\"\nlateness = \"1d\"\ncomplete_after = 0",
        &[
            "6: \"max_gap\" in [grid] must be at most 1d 3h 46m 40s, not `30d`: a gap is filled with steps of 1s, at most \
         100000",
            "7: \"lateness\" in [grid] must be at most 2h 46m 40s, not `1d`: a series can have 10000 open steps of 1s",
            "8: \"complete_after\" in [grid] must be in 1..=4294967295, not 0: it counts the rows of a step; without it, \
         a step waits for a row of a later step",
        ],
    );
    assert_addition_errors(
        "[source.kafka]\nbrokers = \"b\"\ntopic = \"t\"\ncommit = { every = \"10s\", rows = 0 }",
        &[
            "11: \"every\" in [source.kafka.commit] must be at most 5s, not `10s`: uncommitted input is read again after a crash",
            "11: \"rows\" in [source.kafka.commit] must be in 1..=1000000, not 0: the output of these rows is buffered \
         until the commit",
        ],
    );
}

#[test]
fn a_column_has_one_role() {
    assert_change_errors(
        "targets = [\"v\"]",
        "targets = [\"v\", \"t\", \"v\", \"\"]\nseries = \"s\"\ncovariates = [\"s\"]",
        &[
            "3: \"targets[1]\" in [columns] is `t`, which \"time\" names already",
            "3: \"targets[2]\" in [columns] is `v`, which \"targets\" names already",
            "3: \"targets[3]\" in [columns] is empty",
            "5: \"covariates[0]\" in [columns] is `s`, which \"series\" names already",
        ],
    );
    assert_change_errors(
        "targets = [\"v\"]",
        "targets = []",
        &["3: \"targets\" in [columns] is empty: name at least one column to forecast"],
    );
    assert_change_errors("time = \"t\"", "time = \" \"", &["2: \"time\" in [columns] is empty"]);
}

#[test]
fn levels_are_between_0_and_1_and_distinct_to_three_decimals() {
    assert_addition_errors(
        "levels = [0.8, 1.0, 80, 0.80, 0.9999, nan, 1e-10, 0.9999999999]\nevery = 0",
        &[
            "8: \"levels[1]\" in [forecast] must be between 0 and 1, not 1: 0.8 is the 80 % interval",
            "8: \"levels[2]\" in [forecast] must be between 0 and 1, not 80: 0.8 is the 80 % interval",
            "8: \"levels[3]\" in [forecast] repeats 0.8",
            "8: \"levels[4]\" in [forecast] must have at most three decimals, not 0.9999",
            "8: \"levels[5]\" in [forecast] must be between 0 and 1, not NaN: 0.8 is the 80 % interval",
            "8: \"levels[6]\" in [forecast] must have at most three decimals, not 0.0000000001",
            "8: \"levels[7]\" in [forecast] must have at most three decimals, not 0.9999999999",
            "9: \"every\" in [forecast] must be in 1..=4294967295, not 0: it counts the steps from one forecast to the next",
        ],
    );
    assert_eq!(load_with("levels = [0.975, 0.5]").forecast.levels, [0.5, 0.975]);
    assert_eq!(load_with("levels = []").forecast.levels, [0.0; 0]);
}

#[test]
fn invalid_names_topics_and_brokers_are_rejected() {
    assert_change_errors(
        "[columns]",
        "name = \"my pipeline\"\n[columns]",
        &[
            "1: \"name\" is `my pipeline`: a pipeline name has 1 to 100 letters, digits, dots, underscores or hyphens (the \
         default is the file name)",
        ],
    );
    assert_addition_errors(
        "[source.kafka]\nbrokers = \"a:9092,b:x\"\ntopic = \"in\"\ngroup = \"\"\n[sink.kafka]\ntopic = \"out/x\"\nrejects_topic = \"in\"",
        &[
            "9: \"brokers\" in [source.kafka] contains `b:x`, which is not `host:port`",
            "11: \"group\" in [source.kafka] is empty",
            "13: \"topic\" in [sink.kafka] is `out/x`: a topic name has 1 to 249 letters, digits, dots, underscores or hyphens",
            "14: \"rejects_topic\" in [sink.kafka] is `in`, the topic of the source: the pipeline would read its own output",
        ],
    );
    assert_addition_errors(
        "[sink.kafka]\nbrokers = \"b\"\ntopic = \"x\"\nrejects_topic = \"x\"",
        &["11: \"rejects_topic\" in [sink.kafka] is `x`, the topic of the forecasts"],
    );
    let brokers = |text: &str| {
        load_with(&format!("[source.kafka]\nbrokers = \"{text}\"\ntopic = \"in\""))
            .kafka_source
            .unwrap()
            .brokers
    };
    assert_eq!(brokers("embedded"), Brokers::Embedded);
    assert_eq!(brokers("a, SSL://b:1,[::1]:9"), Brokers::Addresses("a,SSL://b:1,[::1]:9".to_string()));
}

#[test]
fn an_invalid_recipe_is_rejected() {
    assert_addition_errors(
        "[train]\nhidden = 0\nlookback = 20000\nlearning_rate = 0\ngradient_clip = inf\ntrain_fraction = 0.8\nvalidation_fraction = 0.3\n\
         calendar = [\"hour-of-day\", \"hour-of-day\"]\nseed = -1",
        &[
            "9: \"hidden\" in [train] must be in 1..=4096, not 0: weights grow with its square",
            "10: \"lookback\" in [train] must be in 1..=10000, not 20000: training saves every step",
            "11: \"learning_rate\" in [train] must be above 0 and at most 1, not 0",
            "12: \"gradient_clip\" in [train] must be above 0 (1e9 disables clipping), not inf",
            "14: \"validation_fraction\" in [train] is 0.3: the sum with \"train_fraction\" 0.8 exceeds 1",
            "15: \"calendar[1]\" in [train] repeats an input",
            "16: \"seed\" in [train] must be in 0..=9223372036854775807, not -1: a seed is not negative",
        ],
    );
    assert_addition_errors(
        "[train]\nwarmup = 0.6\nweight_ema = 1\ndropout = 1",
        &[
            "9: \"warmup\" in [train] must be in 0..=0.5, so that the rate decays afterwards, not 0.6",
            "10: \"weight_ema\" in [train] must be in 0..=0.9999 (0 disables averaging), not 1",
            "11: \"dropout\" in [train] must be in 0..=0.9 (0 disables dropout), not 1",
        ],
    );
}

#[test]
fn an_invalid_segment_is_rejected() {
    let segment = |more: &str, why: &str| {
        assert_addition_errors(
            &format!("[train]\nlookback = 30\n{more}"),
            &[&format!("10: \"segment\" in [train] {why}")],
        );
    };
    segment("segment = 0", "must be in 1..=30, not 0: a segment is a part of the lookback");
    segment("segment = 7", "is 7: the lookback of 30 steps is not a multiple");
    segment(
        "segment = 3\ndecoder = \"recursive\"",
        "is 3: the recursive decoder reads its last output, one step, so it must be 1",
    );
    segment(
        "segment = 3\nstate = \"carried\"",
        "is 3: a carried state advances step by step, so it must be 1",
    );
    assert_addition_errors(
        "[train]\nstate = \"carried\"\ndecoder = \"recursive\"\nscaling = \"window-last\"",
        &[
            "10: \"decoder\" in [train] is \"recursive\": a carried state needs \"direct\"",
            "11: \"scaling\" in [train] is per window: a carried state has no window, so it must be \"fixed\" or \"running\"",
        ],
    );
    let quantiles = |more: &str, why: &str| {
        let why = format!("9: \"quantiles\" in [train] is true, but {why}");
        assert_addition_errors(&format!("[train]\nquantiles = true\n{more}"), &[&why]);
    };
    quantiles("cell = \"none\"", "\"cell\" is \"none\": only cells learn quantiles");
    quantiles("decoder = \"recursive\"", "the recursive decoder has a single output: use \"direct\"");
    assert_addition_errors(
        "levels = []\n[train]\nquantiles = true",
        &[
            "10: \"quantiles\" in [train] is true, but \"levels\" in [forecast] is empty: there is no quantile to learn",
        ],
    );
    assert_addition_errors(
        "[train]\nembedding = 65",
        &[
            "9: \"embedding\" in [train] must be in 0..=64, not 65: every step reads as many numbers; 0 disables the embedding",
        ],
    );
    assert_addition_errors(
        "[train]\nembedding = 2\ncell = \"none\"",
        &["9: \"embedding\" in [train] is 2, but \"cell\" is \"none\": only cells have an embedding"],
    );
    let error = load(&format!("{MINIMAL}[train]\nhidden = 4096\nlayers = 16\n")).unwrap_err().to_string();
    assert!(error.starts_with("/p/x.toml:8: no network has the size of [train]: "), "{error}");
    assert_eq!(
        load_with("[train]\ntrain_fraction = 0.9\nvalidation_fraction = 0.1").train.train_fraction,
        0.9
    );
}

#[test]
fn an_unreadable_file_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str| Pipeline::load(&folder.path().join(name), &env).unwrap_err().to_string();
    assert!(load("none.toml").contains("none.toml: cannot be read: "), "{}", load("none.toml"));
    std::fs::write(folder.path().join("rows.parquet"), [0xff, 0xfe]).unwrap();
    assert!(load("rows.parquet").ends_with("rows.parquet: is not a pipeline file: it is not UTF-8 text"));
    std::fs::write(folder.path().join("large.toml"), "#".repeat((1 << 20) + 1)).unwrap();
    assert!(load("large.toml").ends_with("is not a pipeline file: it has more than 1048576 bytes"));
}

#[test]
fn control_characters_in_errors_are_escaped() {
    assert_addition_errors(
        "\"a\\nb\\u001b[2J\" = 1",
        &["8: unknown key \"a\\nb\\u{1b}[2J\" in [forecast]; known keys are model, every, levels"],
    );
}
