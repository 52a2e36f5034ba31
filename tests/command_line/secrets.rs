//! Secrets are never printed, however they are provided and whatever fails.

use super::*;
use crate::broker::secure::{PASSWORD, secure};

/// Appears only where a test puts it.
const SECRET: &str = "zq7-never-shown-4411";

/// The forms of a secret in the pipeline file.
const FORMS: [&str; 3] = [SECRET, "${TIDECAST_TEST_SECRET}", "${file:secret}"];

fn workspace(tables: &str) -> Workspace {
    let workspace = Workspace::new(tables);
    fs::write(workspace.path("secret"), format!("{SECRET}\n")).unwrap();
    workspace
}

/// Starts the program with the most verbose log.
fn start(workspace: &Workspace, line: &str) -> Running {
    let variables = [("TIDECAST_TEST_SECRET", SECRET), ("TIDECAST_LOG", "trace")];
    Running::start_with(workspace.folder.path(), line, &variables)
}

#[track_caller]
fn run_and_check(workspace: &Workspace, line: &str) -> Outcome {
    assert_no_secret(start(workspace, line).finish())
}

#[track_caller]
fn assert_no_secret(outcome: Outcome) -> Outcome {
    let printed = format!("{}\n{}", outcome.stdout, outcome.stderr);
    assert!(!printed.contains(SECRET) && !printed.contains(PASSWORD), "{printed}");
    outcome
}

fn tables(brokers: &str, client: &str) -> String {
    format!(
        "[source.kafka]\nbrokers = \"{brokers}\"\ntopic = \"in\"\nclient = {{ {client} }}\n\
         [sink.kafka]\ntopic = \"out\"\nclient = {{ {client} }}\n"
    )
}

/// An address without a listener.
const UNUSED: &str = "127.0.0.1:1";

#[test]
fn a_valid_pipeline_shows_no_secret() {
    for form in FORMS {
        let settings = [
            format!(r#""sasl.username" = "u", "sasl.password" = "{form}""#),
            format!(r#""sasl.pasword" = "{form}""#),
            format!(r#"sasl.password = "a{form}b""#),
            format!(r#""ssl.key.pem" = "{form}", "ssl.key.password" = "{form}""#),
        ];
        for client in settings {
            let outcome = run_and_check(&workspace(&tables(UNUSED, &client)), "check p.toml").succeeds();
            assert!(outcome.stdout.contains("\"***\""), "{outcome:#?}");
        }
    }
}

#[test]
fn an_invalid_pipeline_shows_no_secret() {
    for form in FORMS {
        let settings = [
            format!(r#""security.protocol" = "{form}""#),
            format!(r#""sasl.mechanism" = "{form}""#),
            format!(r#""socket.timeout.ms" = "{form}""#),
            format!(r#""debug" = "{form}""#),
            format!(r#""no.such.property" = "{form}""#),
            format!(r#""sasl.oauthbearer.config" = "{form}""#),
            format!(r#""sasl.password" = ["{form}"]"#),
            format!(r#""ssl.key.pem" = "{form}", "security.protocol" = "SSL""#),
            format!(r#""ssl.ca.pem" = "{form}", "security.protocol" = "SSL""#),
            format!(r#""group.id" = "{form}""#),
        ];
        // In parallel: some wait for a timeout.
        let running = settings.map(|client| {
            let workspace = workspace(&tables(UNUSED, &client));
            let running = ["check p.toml --connect", "run p.toml"].map(|line| start(&workspace, line));
            (workspace, running)
        });
        for (_workspace, running) in running {
            for running in running {
                assert_no_secret(running.finish()).exits(1);
            }
        }
    }
}

#[test]
fn a_syntax_error_next_to_a_secret_does_not_show_it() {
    let lines = [
        r#""sasl.password" = "SECRET"#,
        r#""sasl.password" = SECRET"#,
        r#""sasl.password" = "SECRET" "SECRET""#,
        r#""sasl.password" "SECRET""#,
        r#""sasl.password = "SECRET""#,
        r#""sasl.password" = "\xSECRET""#,
        r#""sasl.password" = 'SECRET"#,
        r#""sasl.password" = "SECRET", "sasl.password" = "SECRET""#,
        r#""sasl.password" = "${SECRET""#,
        r#""sasl.password" = "SECRET\u0000""#,
    ];
    for line in lines {
        let workspace = workspace(&tables(UNUSED, &line.replace("SECRET", SECRET)));
        run_and_check(&workspace, "check p.toml").fails(&["p.toml:16"]);
    }
}

#[test]
fn a_misplaced_secret_is_shown_by_its_reference() {
    for form in &FORMS[1..] {
        for (from, to) in [
            ("every = \"10s\"", format!("every = \"{form}\"")),
            ("time_unit = \"s\"", format!("time_unit = \"{form}\"")),
            ("targets = [\"value\"]", format!("targets = [\"{form}\", \"{form}\"]")),
            ("brokers = \"b\"", format!("brokers = \"b c{form}\"")),
            ("topic = \"in\"", format!("topic = \"in {form}\"")),
        ] {
            let workspace = workspace(&tables("b", ""));
            workspace.change(from, &to);
            run_and_check(&workspace, "check p.toml").fails(&[*form]);
        }
    }
}

#[test]
fn a_missing_secret_file_is_reported_with_its_line() {
    let client = r#""sasl.password" = "${file:none}""#;
    run_and_check(&workspace(&tables(UNUSED, client)), "check p.toml")
        .fails(&["p.toml:16: \"sasl.password\" in [source.kafka.client]: file none cannot be read"]);
}

#[test]
fn the_log_of_librdkafka_shows_no_secret() {
    let Some(secure) = secure() else { return };
    let authority = secure.ca.display();
    let protocol =
        format!(r#""security.protocol" = "SASL_SSL", "ssl.ca.location" = "{authority}", "debug" = "all""#);
    for form in FORMS {
        for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
            let client = format!(
                r#"{protocol}, "sasl.mechanism" = "{mechanism}", "sasl.username" = "tide", "sasl.password" = "{form}""#
            );
            let outcome =
                run_and_check(&workspace(&tables(&secure.sasl_password, &client)), "run p.toml").exits(1);
            outcome.logs(&["tidecast::kafka", "SASL", "rejects this client"]);
        }
    }
}
