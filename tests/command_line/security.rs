//! TLS, passwords and tokens: access to secured clusters, and the errors without it.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;

use crate::broker::secure::{PASSWORD, SecureBroker, expired_token, secure, token_expiring_in, valid_token};

/// A pipeline between two topics of a secured cluster; the sink inherits the security of the source.
struct SecuredPipeline {
    workspace: Workspace,
    readings: String,
    forecasts: String,
}

impl SecuredPipeline {
    fn new(secure: &SecureBroker, brokers: &str, client: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let topic = |name| runtime.block_on(secure.topic(name));
        let (readings, forecasts) = (topic("readings"), topic("forecasts"));
        let group = broker::unique("group");
        let workspace = Workspace::new(&format!(
            r#"
            [source.kafka]
            brokers = "{brokers}"
            topic = "{readings}"
            group = "{group}"
            client = {{ {client} }}
            [sink.kafka]
            topic = "{forecasts}"
            "#
        ));
        fs::write(workspace.path("password"), format!("{PASSWORD}\n")).unwrap();
        fs::write(workspace.path("wrong"), "not-the-password").unwrap();
        fs::write(workspace.path("token"), valid_token()).unwrap();
        fs::write(workspace.path("old"), expired_token()).unwrap();
        Self { workspace, readings, forecasts }
    }
}

/// Client properties for a TLS listener.
fn tls(secure: &SecureBroker, more: &str) -> String {
    let authority = secure.ca.display();
    format!(r#""security.protocol" = "SASL_SSL", "ssl.ca.location" = "{authority}", {more}"#)
}

fn login(mechanism: &str, user: &str, password: &str) -> String {
    format!(r#""sasl.mechanism" = "{mechanism}", "sasl.username" = "{user}", "sasl.password" = "{password}""#)
}

const TOKEN: &str = r#""sasl.mechanism" = "OAUTHBEARER", "sasl.oauthbearer.config" = "token_file=token""#;

#[test]
fn valid_passwords_and_tokens_are_accepted() {
    let Some(secure) = secure() else { return };
    let file = "${file:password}";
    let settings = [
        (&secure.sasl_password, tls(secure, &login("SCRAM-SHA-512", "tide", file))),
        (&secure.sasl_password, tls(secure, &login("SCRAM-SHA-256", "tide", file))),
        (&secure.sasl_password, tls(secure, &login("PLAIN", "tide", file))),
        (&secure.sasl_token, tls(secure, TOKEN)),
    ];
    let running: Vec<(SecuredPipeline, Running)> = settings
        .into_iter()
        .map(|(brokers, client)| {
            // The most verbose log, to search for the password.
            let pipeline = SecuredPipeline::new(secure, brokers, &format!("{client}, \"debug\" = \"all\""));
            let messages: Vec<String> = readings(&["a"], 0..6).iter().map(message).collect();
            let messages = messages.iter().map(|message| ("a", message.as_str()));
            broker::produce_at(&secure.plaintext, &pipeline.readings, None, messages);
            let line = "run p.toml --until-end";
            let running =
                Running::start_with(pipeline.workspace.folder.path(), line, &[("TIDECAST_LOG", "trace")]);
            (pipeline, running)
        })
        .collect();
    for (pipeline, running) in running {
        let outcome = running.finish().succeeds().logs(&["tidecast::kafka", "SASL"]);
        assert!(!outcome.stderr.contains(PASSWORD) && !outcome.stderr.contains(&valid_token()[..40]));
        let stored = broker::read_all_at(&secure.plaintext, &pipeline.forecasts);
        assert_eq!(stored.len(), 3, "{stored:#?}");
    }
}

/// Asserts that `check --connect` and `run` fail with these texts within ten seconds, without showing the password.
#[track_caller]
fn assert_access_denied(secure: &SecureBroker, brokers: &str, client: &str, texts: &[&str]) {
    let pipeline = SecuredPipeline::new(secure, brokers, client);
    let started = Instant::now();
    let running = ["check p.toml --connect", "run p.toml"].map(|line| pipeline.workspace.start(line));
    for outcome in running.map(Running::finish) {
        let outcome = outcome.fails(texts);
        assert!(!format!("{outcome:?}").contains(PASSWORD), "{outcome:#?}");
        let errors =
            outcome.stderr.lines().filter(|line| line.contains("WARN") || line.starts_with("error: "));
        assert_eq!(errors.count(), 1, "{outcome:#?}");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_wrong_password_or_user_is_reported() {
    let Some(secure) = secure() else { return };
    for (user, password) in [("tide", "${file:wrong}"), ("nobody", "${file:password}")] {
        for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
            let client = tls(secure, &login(mechanism, user, password));
            assert_access_denied(
                secure,
                &secure.sasl_password,
                &client,
                &["rejects this client", "\"sasl.password\""],
            );
        }
    }
    let client = tls(secure, &login("SCRAM-SHA-512", "tide", "${file:password}"));
    assert_access_denied(
        secure,
        &secure.sasl_token,
        &client,
        &["rejects this client", "check \"sasl.mechanism\""],
    );
}

#[test]
fn an_unknown_certificate_authority_is_reported() {
    let Some(secure) = secure() else { return };
    let other = secure.other_ca.display();
    let login = login("PLAIN", "tide", "${file:password}");
    let (protocol, words) =
        (r#""security.protocol" = "SASL_SSL""#, ["rejects this client", "\"ssl.ca.location\""]);
    let client = format!(r#"{protocol}, "ssl.ca.location" = "{other}", {login}"#);
    assert_access_denied(secure, &secure.sasl_password, &client, &words);
    assert_access_denied(secure, &secure.sasl_password, &format!("{protocol}, {login}"), &words);
    let client = format!(r#"{protocol}, "ssl.ca.location" = "/nowhere.pem", {login}"#);
    assert_access_denied(
        secure,
        &secure.sasl_password,
        &client,
        &["\"ssl.ca.location\" in `client` must be a file"],
    );
}

#[test]
fn a_wrong_protocol_is_reported() {
    let Some(secure) = secure() else { return };
    let words = ["check \"security.protocol\" in `client`"];
    assert_access_denied(secure, &secure.tls, "", &words);
    assert_access_denied(secure, &secure.sasl_password, r#""security.protocol" = "SSL""#, &["client"]);
    assert_access_denied(secure, &secure.plaintext, r#""security.protocol" = "SSL""#, &words);
    let plain = login("PLAIN", "tide", "${file:password}");
    assert_access_denied(
        secure,
        &secure.plaintext,
        &format!(r#""security.protocol" = "SASL_PLAINTEXT", {plain}"#),
        &["client"],
    );
}

#[test]
fn a_missing_or_expired_token_is_reported() {
    let Some(secure) = secure() else { return };
    let with = |config: &str| {
        let mechanism = r#""sasl.mechanism" = "OAUTHBEARER""#;
        tls(secure, &format!(r#"{mechanism}, "sasl.oauthbearer.config" = "{config}""#))
    };
    let denied =
        |config: &str, words: &[&str]| assert_access_denied(secure, &secure.sasl_token, &with(config), words);
    denied("token_file=none", &["token file none cannot be read", "`sasl.oauthbearer.config`"]);
    denied("token_file=old", &["token file old expired 36", "renew"]);
    denied("token_env=TIDECAST_NO_TOKEN", &["`TIDECAST_NO_TOKEN` is not set"]);
    denied("token_file=wrong, lifetime=5m", &["rejects this client", "\"sasl.oauthbearer.config\""]);
}

/// The cluster requires a valid token every three seconds.
#[test]
fn tokens_are_renewed_during_a_run() {
    let Some(secure) = secure() else { return };
    let pipeline = SecuredPipeline::new(secure, &secure.sasl_token, &tls(secure, TOKEN));
    let (file, next) = (pipeline.workspace.path("token"), pipeline.workspace.path("next"));
    let renew =
        move || fs::write(&next, token_expiring_in(5)).and_then(|()| fs::rename(&next, &file)).unwrap();
    renew();
    let (stop, stopped) = mpsc::channel::<()>();
    let renewing = std::thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_millis(300)) == Err(mpsc::RecvTimeoutError::Timeout) {
            renew();
        }
    });
    let log = "warn,tidecast_kafka=debug,tidecast_stream::driver=info";
    let mut running =
        Running::start_with(pipeline.workspace.folder.path(), "run p.toml", &[("TIDECAST_LOG", log)]);
    running.wait_for("partition assigned");
    let tokens = |running: &mut Running| running.stderr_so_far().matches("token refreshed").count();
    let first = tokens(&mut running);
    // Source and sink have a token each, renewed after four fifths of its lifetime.
    let deadline = Instant::now() + Duration::from_secs(60);
    while tokens(&mut running) < first + 4 {
        assert!(Instant::now() < deadline, "{}", running.stderr_so_far());
        std::thread::sleep(Duration::from_millis(50));
    }
    let messages: Vec<String> = readings(&["a"], 0..6).iter().map(message).collect();
    let messages = messages.iter().map(|message| ("a", message.as_str()));
    broker::produce_at(&secure.plaintext, &pipeline.readings, None, messages);
    running.wait_for("messages=3");
    running.signal("TERM");
    running.finish().succeeds();
    assert_eq!(broker::read_all_at(&secure.plaintext, &pipeline.forecasts).len(), 3);
    drop(stop);
    renewing.join().unwrap();
}

#[test]
fn missing_permissions_are_reported() {
    let Some(secure) = secure() else { return };
    let client = tls(secure, &login("SCRAM-SHA-512", "stranger", "${file:password}"));
    assert_access_denied(
        secure,
        &secure.sasl_password,
        &client,
        &["topic `readings", "this user is not authorized"],
    );
}

#[test]
fn the_system_certificate_authorities_are_found() {
    let Some(secure) = secure() else { return };
    if !Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        return eprintln!("SKIPPED: there is no /etc/ssl/certs/ca-certificates.crt");
    }
    let login = login("PLAIN", "tide", "${file:password}");
    let client = format!(r#""security.protocol" = "SASL_SSL", "debug" = "security", {login}"#);
    let pipeline = SecuredPipeline::new(secure, &secure.sasl_password, &client);
    let outcome = pipeline.workspace.run("check p.toml --connect -vv");
    outcome.fails(&["/etc/ssl/certs/ca-certificates.crt"]);
}
