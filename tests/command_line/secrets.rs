//! No secret is ever printed, whichever way it comes in and whatever goes wrong.

use super::*;
use crate::broker::secure::{PASSWORD, secure};

/// A secret that is nowhere but where a test puts it.
const SECRET: &str = "zq7-never-shown-4411";

/// The ways in: what stands in the pipeline file.
const WAYS: [&str; 3] = [SECRET, "${TIDECAST_TEST_SECRET}", "${file:secret}"];

fn workspace(tables: &str) -> Workspace {
    let workspace = Workspace::new(tables);
    fs::write(workspace.path("secret"), format!("{SECRET}\n")).unwrap();
    workspace
}

/// Starts the program at its most talkative.
fn start(workspace: &Workspace, line: &str) -> Running {
    let variables = [("TIDECAST_TEST_SECRET", SECRET), ("TIDECAST_LOG", "trace")];
    Running::start_with(workspace.folder.path(), line, &variables)
}

#[track_caller]
fn hides(workspace: &Workspace, line: &str) -> Outcome {
    looked_through(start(workspace, line).finish())
}

#[track_caller]
fn looked_through(outcome: Outcome) -> Outcome {
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

/// A port at which nobody listens.
const NOBODY: &str = "127.0.0.1:1";

#[test]
fn what_works_shows_no_secret() {
    for way in WAYS {
        let settings = [
            format!(r#""sasl.username" = "u", "sasl.password" = "{way}""#),
            format!(r#""sasl.pasword" = "{way}""#),
            format!(r#"sasl.password = "a{way}b""#),
            format!(r#""ssl.key.pem" = "{way}", "ssl.key.password" = "{way}""#),
        ];
        for client in settings {
            let outcome = hides(&workspace(&tables(NOBODY, &client)), "check p.toml").succeeds();
            assert!(outcome.stdout.contains("\"***\""), "{outcome:#?}");
        }
    }
}

#[test]
fn what_fails_shows_no_secret() {
    for way in WAYS {
        let settings = [
            format!(r#""security.protocol" = "{way}""#),
            format!(r#""sasl.mechanism" = "{way}""#),
            format!(r#""socket.timeout.ms" = "{way}""#),
            format!(r#""debug" = "{way}""#),
            format!(r#""no.such.property" = "{way}""#),
            format!(r#""sasl.oauthbearer.config" = "{way}""#),
            format!(r#""sasl.password" = ["{way}"]"#),
            format!(r#""ssl.key.pem" = "{way}", "security.protocol" = "SSL""#),
            format!(r#""ssl.ca.pem" = "{way}", "security.protocol" = "SSL""#),
            format!(r#""group.id" = "{way}""#),
        ];
        // Side by side: some take their time to find out that nobody is there.
        let running = settings.map(|client| {
            let workspace = workspace(&tables(NOBODY, &client));
            let running = ["check p.toml --connect", "run p.toml"].map(|line| start(&workspace, line));
            (workspace, running)
        });
        for (_place, running) in running {
            for running in running {
                looked_through(running.finish()).exits(1);
            }
        }
    }
}

#[test]
fn a_mistake_in_the_line_of_a_secret_does_not_show_it() {
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
        let workspace = workspace(&tables(NOBODY, &line.replace("SECRET", SECRET)));
        hides(&workspace, "check p.toml").fails(&["p.toml:16"]);
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_shown_as_it_is_written() {
    for way in &WAYS[1..] {
        for (from, to) in [
            ("every = \"10s\"", format!("every = \"{way}\"")),
            ("time_unit = \"s\"", format!("time_unit = \"{way}\"")),
            ("targets = [\"value\"]", format!("targets = [\"{way}\", \"{way}\"]")),
            ("brokers = \"b\"", format!("brokers = \"b c{way}\"")),
            ("topic = \"in\"", format!("topic = \"in {way}\"")),
        ] {
            let workspace = workspace(&tables("b", ""));
            workspace.change(from, &to);
            hides(&workspace, "check p.toml").fails(&[*way]);
        }
    }
}

#[test]
fn a_secret_that_is_not_there_is_named_with_its_line() {
    let client = r#""sasl.password" = "${file:none}""#;
    hides(&workspace(&tables(NOBODY, client)), "check p.toml")
        .fails(&["p.toml:16: \"sasl.password\" in [source.kafka.client]: the file none cannot be read"]);
}

#[test]
fn the_client_s_own_log_shows_no_secret() {
    let Some(secure) = secure() else { return };
    let authority = secure.ca.display();
    let protocol =
        format!(r#""security.protocol" = "SASL_SSL", "ssl.ca.location" = "{authority}", "debug" = "all""#);
    for way in WAYS {
        for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
            let client = format!(
                r#"{protocol}, "sasl.mechanism" = "{mechanism}", "sasl.username" = "tide", "sasl.password" = "{way}""#
            );
            let outcome = hides(&workspace(&tables(&secure.sasl_password, &client)), "run p.toml").exits(1);
            outcome.says(&["tidecast::kafka", "SASL", "rejects this client"]);
        }
    }
}
