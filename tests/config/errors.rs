//! What each mistake in a pipeline file is answered with, word for word.

use tidecast::config::{Brokers, Pipeline};

use super::{LEAST, env, load, loaded, refused, refused_addition, refused_change};

#[test]
fn an_unknown_key_names_the_one_that_was_meant() {
    refused_change(
        "every = \"1h\"",
        "every = \"1h\"\nlateness_ = \"1s\"",
        &["6: unknown key \"lateness_\" in [grid]; did you mean \"lateness\"?"],
    );
    refused_change(
        "[columns]",
        "nmae = \"x\"\n[columns]",
        &["1: unknown key \"nmae\" at the top of the file; did you mean \"name\"?"],
    );
    refused_change(
        "model",
        "max_gap = \"2h\"\nmodel",
        &["7: unknown key \"max_gap\" in [forecast]; did you mean \"max_gap\" in [grid]?"],
    );
    refused_addition(
        "[sorce.kafka]\n[source.parquet]\npath = \"a\"\nzzz = 1\n[source.kafka]\nbrokers = \"b\"\ntopic = \"t\"\ncommit = { evry = \"1s\" }",
        &[
            "8: unknown key \"sorce\" at the top of the file; did you mean \"source\"?",
            "11: unknown key \"zzz\" in [source.parquet]; known keys are path, order",
            "15: unknown key \"evry\" in [source.kafka.commit]; did you mean \"every\"?",
        ],
    );
}

#[test]
fn scores_that_cannot_be_say_why() {
    refused_addition(
        "[scores]\nhorizons = [0, 3, 3]\nevery = 0",
        &[
            "9: \"horizons[0]\" in [scores] must be in 1..=65536, not 0: 1 is the step after the origin",
            "9: \"horizons[2]\" in [scores] is 3, which is there already",
            "10: \"every\" in [scores] must be in 1..=4294967295, not 0: it counts the steps whose scores are written together",
        ],
    );
    refused_addition(
        "[scores]\nhorizons = []",
        &[
            "9: \"horizons\" in [scores] has 0 steps ahead, not 1 to 8: every series keeps as many forecasts as they add up to",
        ],
    );
    refused_addition(
        "[sink.scores]\ntopic = \"s\"",
        &[
            "9: \"topic\" in [sink.scores] is of no use without [sink.kafka], beside whose topic it is written",
        ],
    );
}

#[test]
fn a_wrong_type_says_what_was_expected() {
    refused_change(
        "every = \"1h\"",
        "every = 5",
        &["5: \"every\" in [grid] must be a text in quotes, not a whole number"],
    );
    refused_change(
        "targets = [\"v\"]",
        "targets = \"v\"",
        &["3: \"targets\" in [columns] must be a list, not a text"],
    );
    refused_change(
        "targets = [\"v\"]",
        "targets = [\n\"v\",\n3]",
        &["5: \"targets[1]\" in [columns] must be a text in quotes, not a whole number"],
    );
    refused_addition(
        "limits = 3\n[train]\nhidden = \"many\"\nepochs = 2.5\nclip = true\n\
         seed = 99999999999999999999999999\nlearning_rate = 1e999\nbatch = 9999999999999999999999999999999999999999999",
        &[
            "8: unknown key \"limits\" in [forecast]; did you mean \"limits\" at the top of the file?",
            "10: \"hidden\" in [train] must be a whole number, not a text",
            "11: \"epochs\" in [train] must be a whole number, not a number with a point",
            "12: \"clip\" in [train] must be a number, not true or false",
            "13: \"seed\" in [train] must be a whole number of at most 64 bits, not 99999999999999999999999999",
            "14: \"learning_rate\" in [train] must be a smaller number, not a number with a point",
            "15: \"batch\" in [train] must be a smaller number, not a whole number",
        ],
    );
    refused_addition(
        "[sink.kafka]\nbrokers = \"b\"\ntopic = \"t\"\nclient = { \"a.b\" = [\"hunter2\"], c = 1979-05-27 }",
        &[
            "11: \"a.b\" in [sink.kafka.client] must be a text, a number, true or false",
            "11: \"c\" in [sink.kafka.client] must be a text, a number, true or false",
        ],
    );
    refused_addition(
        "[sink.kafka]\nbrokers = \"b\"\ntopic = \"t\"\nclient = []\n[[train]]",
        &[
            "11: \"client\" in [sink.kafka] must be a table, not a list",
            "12: \"train\" must be a table, not a list",
        ],
    );
    refused(
        "grid = 3\ncolumns = []",
        &[
            " missing key \"model\" in [forecast]: the model file that `train` writes",
            "1: \"grid\" must be a table, not a whole number",
            "2: \"columns\" must be a table, not a list",
        ],
    );
}

#[test]
fn a_word_of_a_closed_set_lists_the_others() {
    refused_addition(
        "[train]\ncell = \"lstm-peepole\"\ncalendar = [\"hour-of-day\", \"month\"]",
        &[
            "9: \"cell\" in [train] cannot be \"lstm-peepole\"; it is one of \"none\", \"rnn\", \"lstm\", \"lstm-peephole\", \
             \"lstm-coupled\", \"lstm-peephole-coupled\", \"gru\"; did you mean \"lstm-peephole\"?",
            "10: \"calendar[1]\" in [train] cannot be \"month\"; it is one of \"hour-of-day\", \"day-of-week\"",
        ],
    );
    refused_change(
        "every = \"1h\"",
        "every = \"1h\"\naggregate = { mean = 1 }\ngaps = 1",
        &[
            "6: \"aggregate\" in [grid] must be a text in quotes, not a table",
            "7: \"gaps\" in [grid] must be a text in quotes, not a whole number",
        ],
    );
}

#[test]
fn what_is_not_toml_has_its_line_and_shows_nothing() {
    let error = load("[columns]\ntime = \"t\npassword = hunter2\n").unwrap_err();
    assert!(error.to_string().starts_with("/p/x.toml:2: not valid TOML: "), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    refused("[grid]\nevery = \"1h\"\nevery = \"2h\"", &["3: not valid TOML: duplicate key"]);
}

#[test]
fn everything_that_is_missing_is_said() {
    refused(
        "",
        &[
            " missing key \"every\" in [grid]: the length of a step, such as \"1h\"",
            " missing key \"model\" in [forecast]: the model file that `train` writes",
            " missing key \"targets\" in [columns]: the columns to forecast, such as [\"value\"]",
            " missing key \"time\" in [columns]: the column with the time of a reading",
        ],
    );
    refused_addition(
        "[source.kafka]\n[sink.parquet]\n[state]",
        &[
            "8: missing key \"brokers\" in [source.kafka]: where the cluster is, such as \"localhost:9092\", or \"embedded\" \
             for a broker inside this process",
            "8: missing key \"topic\" in [source.kafka]: the topic with the readings",
            "9: missing key \"path\" in [sink.parquet]: the file or folder for the forecasts",
            "10: missing key \"store\" in [state]: the folder of the snapshots, such as \"file:state/NAME\" or \
             \"s3://BUCKET/NAME\"",
        ],
    );
    refused_addition(
        "[sink.kafka]\ntopic = \"t\"",
        &["8: missing key \"brokers\" in [sink.kafka]: there is no [source.kafka] to take them from"],
    );
}

#[test]
fn durations_have_bounds_with_reasons() {
    let grid = |added: &str, expected: &[&str]| refused_change("every = \"1h\"", added, expected);
    grid(
        "every = \"1 hous\"",
        &["5: \"every\" in [grid] cannot be read: `1 hous` is not a duration; write one such as \
         \"1h\", \"5s\", \"14d\" or \"100ms\""],
    );
    grid(
        "every = \"1M\"",
        &["5: \"every\" in [grid] cannot be read: `1M` is not of one length: `M` is a month or a year; \
         write days (\"30d\")"],
    );
    grid(
        "every = \"0s\"",
        &["5: \"every\" in [grid] must be at least 1ms, not `0s`: Kafka's times are in milliseconds, and a \
         year is the longest season"],
    );
    grid(
        "every = \"400d\"",
        &["5: \"every\" in [grid] must be at most 366d, not `400d`: Kafka's times are in milliseconds, \
         and a year is the longest season"],
    );
    grid(
        "every = \"1h\"\noffset = \"60m\"\nmax_gap = \"30m\"\nlateness = \"-1s\"",
        &[
            "6: \"offset\" in [grid] must be at most 59m 59s 999ms 999us, not `60m`: it is the start of a step of 1h after the \
         epoch",
            "7: \"max_gap\" in [grid] must be at least 1h, not `30m`: a gap is filled in steps of 1h, up to 100000 of them",
            "8: \"lateness\" in [grid] cannot be read: `-1s` is not a duration; write one such as \"1h\", \"5s\", \"14d\" or \
         \"100ms\"",
        ],
    );
    grid(
        "every = \"1s\"\nmax_gap = \"30d\"\nlateness = \"1d\"\ncomplete_after = 0",
        &[
            "6: \"max_gap\" in [grid] must be at most 1d 3h 46m 40s, not `30d`: a gap is filled in steps of 1s, up to 100000 of \
         them",
            "7: \"lateness\" in [grid] must be at most 2h 46m 40s, not `1d`: up to 10000 steps of 1s of a series can be open",
            "8: \"complete_after\" in [grid] must be in 1..=4294967295, not 0: it counts the rows of a step; leave it out to wait \
         for the next step",
        ],
    );
    refused_addition(
        "[source.kafka]\nbrokers = \"b\"\ntopic = \"t\"\ncommit = { every = \"10s\", rows = 0 }",
        &[
            "11: \"every\" in [source.kafka.commit] must be at most 5s, not `10s`: what is not committed is read again after a crash",
            "11: \"rows\" in [source.kafka.commit] must be in 1..=1000000, not 0: the output of these rows is kept until it is \
         committed",
        ],
    );
}

#[test]
fn a_column_is_used_once() {
    refused_change(
        "targets = [\"v\"]",
        "targets = [\"v\", \"t\", \"v\", \"\"]\nseries = \"s\"\ncovariates = [\"s\"]",
        &[
            "3: \"targets[1]\" in [columns] is `t`, which is used already, in \"time\"",
            "3: \"targets[2]\" in [columns] is `v`, which is used already, in \"targets\"",
            "3: \"targets[3]\" in [columns] is empty",
            "5: \"covariates[0]\" in [columns] is `s`, which is used already, in \"series\"",
        ],
    );
    refused_change(
        "targets = [\"v\"]",
        "targets = []",
        &["3: \"targets\" in [columns] is empty: name at least one column to forecast"],
    );
    refused_change("time = \"t\"", "time = \" \"", &["2: \"time\" in [columns] is empty"]);
}

#[test]
fn levels_are_between_0_and_1_and_have_columns_of_their_own() {
    refused_addition(
        "levels = [0.8, 1.0, 80, 0.80, 0.9999, nan, 1e-10, 0.9999999999]\nevery = 0",
        &[
            "8: \"levels[1]\" in [forecast] must be between 0 and 1, not 1: 0.8 is the 80 % interval",
            "8: \"levels[2]\" in [forecast] must be between 0 and 1, not 80: 0.8 is the 80 % interval",
            "8: \"levels[3]\" in [forecast] is 0.8, which is there already",
            "8: \"levels[4]\" in [forecast] must have at most three decimals, not 0.9999",
            "8: \"levels[5]\" in [forecast] must be between 0 and 1, not NaN: 0.8 is the 80 % interval",
            "8: \"levels[6]\" in [forecast] must have at most three decimals, not 0.0000000001",
            "8: \"levels[7]\" in [forecast] must have at most three decimals, not 0.9999999999",
            "9: \"every\" in [forecast] must be in 1..=4294967295, not 0: it counts steps from one forecast to the next",
        ],
    );
    assert_eq!(loaded("levels = [0.975, 0.5]").forecast.levels, [0.5, 0.975]);
    assert_eq!(loaded("levels = []").forecast.levels, [0.0; 0]);
}

#[test]
fn names_topics_and_brokers_are_such() {
    refused_change(
        "[columns]",
        "name = \"my pipeline\"\n[columns]",
        &[
            "1: \"name\" is `my pipeline`: a pipeline's name has 1 to 100 letters, digits, dots, underscores or hyphens (left \
         out, it is the file's name)",
        ],
    );
    refused_addition(
        "[source.kafka]\nbrokers = \"a:9092,b:x\"\ntopic = \"in\"\ngroup = \"\"\n[sink.kafka]\ntopic = \"out/x\"\nrejects = \"in\"",
        &[
            "9: \"brokers\" in [source.kafka] holds `b:x`, which is not `host:port`",
            "11: \"group\" in [source.kafka] is empty",
            "13: \"topic\" in [sink.kafka] is `out/x`: a topic has 1 to 249 letters, digits, dots, underscores or hyphens",
            "14: \"rejects\" in [sink.kafka] is `in`, the topic of the source: the pipeline would read its own output",
        ],
    );
    refused_addition(
        "[sink.kafka]\nbrokers = \"b\"\ntopic = \"x\"\nrejects = \"x\"",
        &["11: \"rejects\" in [sink.kafka] is `x`, as the topic of the forecasts is"],
    );
    let brokers = |text: &str| {
        loaded(&format!("[source.kafka]\nbrokers = \"{text}\"\ntopic = \"in\"")).kafka_source.unwrap().brokers
    };
    assert_eq!(brokers("embedded"), Brokers::Embedded);
    assert_eq!(brokers("a, SSL://b:1,[::1]:9"), Brokers::At("a,SSL://b:1,[::1]:9".to_string()));
}

#[test]
fn a_recipe_has_bounds_and_a_network_that_fits() {
    refused_addition(
        "[train]\nhidden = 0\nlookback = 20000\nlearning_rate = 0\nclip = inf\ntrain_part = 0.8\nvalidation_part = 0.3\n\
         calendar = [\"hour-of-day\", \"hour-of-day\"]\nseed = -1",
        &[
            "9: \"hidden\" in [train] must be in 1..=4096, not 0: weights grow with its square",
            "10: \"lookback\" in [train] must be in 1..=10000, not 20000: training keeps every step of it",
            "11: \"learning_rate\" in [train] must be above 0 and at most 1, not 0",
            "12: \"clip\" in [train] must be above 0 (1e9 clips nothing), not inf",
            "14: \"validation_part\" in [train] is 0.3, which with \"train_part\" 0.8 is more than the whole history",
            "15: \"calendar[1]\" in [train] repeats an input",
            "16: \"seed\" in [train] must be in 0..=9223372036854775807, not -1: a seed is no less",
        ],
    );
    refused_addition(
        "[train]\nwarmup = 0.6\naverage = 1\ndropout = 1",
        &[
            "9: \"warmup\" in [train] must be in 0..=0.5, so that the rate falls again, not 0.6",
            "10: \"average\" in [train] must be in 0..=0.9999 (0 is without), not 1",
            "11: \"dropout\" in [train] must be in 0..=0.9 (0 is without), not 1",
        ],
    );
    let segment = |more: &str, why: &str| {
        refused_addition(
            &format!("[train]\nlookback = 30\n{more}"),
            &[&format!("10: \"segment\" in [train] {why}")],
        );
    };
    segment("segment = 0", "must be in 1..=30, not 0: the lookback has no more steps");
    segment("segment = 7", "is 7: a lookback of 30 steps is not a multiple of it");
    segment(
        "segment = 3\ndecoder = \"recursive\"",
        "is 3: the recursive decoder reads the one step it has just said, so it must be 1",
    );
    segment(
        "segment = 3\nstate = \"carried\"",
        "is 3: a carried state takes one step at a time, so it must be 1",
    );
    refused_addition(
        "[train]\nstate = \"carried\"\ndecoder = \"recursive\"\nscaling = \"window-last\"",
        &[
            "10: \"decoder\" in [train] is \"recursive\": a carried state is read by \"direct\"",
            "11: \"scaling\" in [train] is by window: a carried state reads none, so it must be \"fixed\" or \"running\"",
        ],
    );
    let quantiles = |more: &str, why: &str| {
        let why = format!("9: \"quantiles\" in [train] is true, but {why}");
        refused_addition(&format!("[train]\nquantiles = true\n{more}"), &[&why]);
    };
    quantiles(
        "cell = \"none\"",
        "the cells say the quantiles and \"cell\" is \"none\": leave one of them out",
    );
    quantiles("decoder = \"recursive\"", "the recursive decoder says one value a step: use \"direct\"");
    refused_addition(
        "levels = []\n[train]\nquantiles = true",
        &[
            "10: \"quantiles\" in [train] is true, but \"levels\" in [forecast] is empty: there is no quantile to learn",
        ],
    );
    refused_addition(
        "[train]\nembedding = 65",
        &[
            "9: \"embedding\" in [train] must be in 0..=64, not 65: each number is read at every step (0 is without)",
        ],
    );
    refused_addition(
        "[train]\nembedding = 2\ncell = \"none\"",
        &[
            "9: \"embedding\" in [train] is 2, but the cells read it and \"cell\" is \"none\": leave one of them out",
        ],
    );
    let error = load(&format!("{LEAST}[train]\nhidden = 4096\nlayers = 16\n")).unwrap_err().to_string();
    assert!(error.starts_with("/p/x.toml:8: no network fits [train]: "), "{error}");
    assert_eq!(loaded("[train]\ntrain_part = 0.9\nvalidation_part = 0.1").train.train_part, 0.9);
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str| Pipeline::load(&folder.path().join(name), &env).unwrap_err().to_string();
    assert!(load("none.toml").contains("none.toml: cannot be read: "), "{}", load("none.toml"));
    std::fs::write(folder.path().join("rows.parquet"), [0xff, 0xfe]).unwrap();
    assert!(load("rows.parquet").ends_with("rows.parquet: is not UTF-8 text: not a pipeline file"));
    std::fs::write(folder.path().join("large.toml"), "#".repeat((1 << 20) + 1)).unwrap();
    assert!(load("large.toml").ends_with("has more than 1048576 bytes: not a pipeline file"));
}

#[test]
fn an_error_is_one_line_and_cannot_steer_a_terminal() {
    refused_addition(
        "\"a\\nb\\u001b[2J\" = 1",
        &["8: unknown key \"a\\nb\\u{1b}[2J\" in [forecast]; known keys are model, every, levels"],
    );
}
