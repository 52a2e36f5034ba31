//! The dashboard of the demo in a real Chromium, driven by Playwright's core package: `browser/drive.mjs` says what it does.
//! Chromium is the system's; where the package is, `TIDECAST_NODE_MODULES` says: a folder in which `npm ci` was run with the
//! files of `tests/browser`. `TIDECAST_PICTURES` names a folder for what the browser saw.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tempfile::TempDir;

use crate::broker;
use crate::command_line::program::Running;

/// The first of these that there is.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

fn runs(program: &str) -> bool {
    let tried = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// What the test runs on: the browser and the folder of the package.
fn tools() -> Result<(String, String), String> {
    if !runs("node") {
        return Err("there is no node".to_owned());
    }
    let found = std::env::var("TIDECAST_CHROMIUM").ok();
    let browser = found.or_else(|| BROWSERS.into_iter().find(|name| runs(name)).map(str::to_owned));
    let browser = browser.ok_or("there is no Chromium: set TIDECAST_CHROMIUM, or install it")?;
    let which = Command::new("sh").args(["-c", &format!("command -v '{browser}'")]).output();
    let path = which.map_err(|error| error.to_string())?.stdout;
    let modules = std::env::var("TIDECAST_NODE_MODULES").map_err(|_| "TIDECAST_NODE_MODULES is not set")?;
    if !Path::new(&modules).join("node_modules/playwright-core").exists() {
        return Err(format!("{modules} has no node_modules/playwright-core: run `npm ci` there"));
    }
    Ok((String::from_utf8_lossy(&path).trim().to_owned(), modules))
}

/// The tools, or none where they are not there and need not be.
fn tools_or_skip(what: &str) -> Option<(String, String)> {
    match tools() {
        Ok(tools) => Some(tools),
        Err(why) => {
            let required = std::env::var_os("TIDECAST_REQUIRE_BROWSER").is_some();
            assert!(!required, "TIDECAST_REQUIRE_BROWSER is set, and {why}");
            eprintln!("SKIPPED {what}: {why}");
            None
        }
    }
}

/// Runs a script of `browser/` to its end, and gives back what it says.
fn node(script: &str, modules: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script);
    let mut command = Command::new("node");
    command.arg(script).args(arguments).env("TIDECAST_NODE_MODULES", modules);
    let outcome = command.output().expect("it has just run");
    let (said, failed) = (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
    assert!(outcome.status.success() && said.trim_end().ends_with("done"), "{said}\n{failed}");
    said.into_owned()
}

#[test]
fn the_dashboard_is_seen_in_a_real_browser() {
    let Some((browser, modules)) = tools_or_skip("the dashboard in a browser") else { return };
    let pictures = std::env::var("TIDECAST_PICTURES").ok();
    let program = env!("CARGO_BIN_EXE_tidecast");
    let arguments: Vec<&str> = [program, &browser].into_iter().chain(pictures.as_deref()).collect();
    node("drive.mjs", &modules, &arguments);
}

/// Hours of each series before somebody looks: the sample's model is warm by then, and its forecasts have come due.
const BEFORE: i64 = 96;
const HOUR_MS: i64 = 3_600_000;

/// Takes a minute or two, and says how busy the page was: with `TIDECAST_MANY_SERIES=10000`.
#[test]
fn many_series_stream_without_lag() {
    let Ok(count) = std::env::var("TIDECAST_MANY_SERIES") else {
        return eprintln!("SKIPPED many series in a browser: TIDECAST_MANY_SERIES is not set");
    };
    let Some((browser, modules)) = tools_or_skip("many series in a browser") else { return };
    let series: usize = count.parse().expect("TIDECAST_MANY_SERIES is a number of series");
    let folder = TempDir::new().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    fs::create_dir(folder.path().join("sensors")).unwrap();
    fs::copy(samples.join("sensors/model.safetensors"), folder.path().join("sensors/model.safetensors"))
        .unwrap();
    let text = fs::read_to_string(samples.join("sensors.toml")).unwrap();
    let readings = tokio::runtime::Runtime::new().unwrap().block_on(broker::topic("readings", 4));
    let text =
        text.replace("sensor-readings\"", &format!("{readings}\"\ngroup = \"{}\"", broker::unique("group")));
    let text = text.replace("\"sensor-", &format!("\"{readings}-"));
    fs::write(folder.path().join("p.toml"), text).unwrap();
    let variables = [("TIDECAST_BROKERS", &*broker::any()), ("TIDECAST_SERVE", "127.0.0.1:0")];
    let mut run = Running::start_for(Duration::from_secs(900), folder.path(), "run p.toml", &variables);
    run.wait_for("dashboard: http://");
    let url = run.said().split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();

    let ids: Vec<String> = (0..series).map(|id| format!("plant-{}/sensor-{}", id / 100, id % 100)).collect();
    // A day that repeats, and something on top that does not.
    let value = |id: usize, hour: i64| {
        20.0 + (hour % 24) as f64 + (hour * hour * (id as i64 + 7919) % 10_007) as f64 / 5000.0
    };
    let send = |hour: i64| {
        let message = |(i, id): (usize, &String)| {
            format!(r#"{{"sensor":"{id}","time":{},"value":{}}}"#, hour * HOUR_MS, value(i, hour))
        };
        let messages: Vec<String> = ids.iter().enumerate().map(message).collect();
        broker::produce(&readings, None, ids.iter().zip(&messages).map(|(id, message)| (&**id, &**message)));
    };
    (0..BEFORE).for_each(send);
    let said = std::thread::scope(|scope| {
        let (over, is_over) = channel::<()>();
        let (url, browser, count, modules) = (&url, &browser, &count, &modules);
        let looks = scope.spawn(move || {
            let _over = over;
            node("many.mjs", modules, &[url, browser, count])
        });
        // An hour of all series a second, until nobody looks any more.
        for hour in BEFORE.. {
            send(hour);
            if is_over.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        looks.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    println!("{said}");
    run.signal("TERM");
    run.finish().succeeds();
}
