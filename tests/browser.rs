//! The dashboard in a real Chromium, driven by playwright-core: see `browser/drive.mjs`. Needs Chromium, node, and
//! `TIDECAST_NODE_MODULES`, a folder in which `npm ci` was run with the files of `tests/browser`. `TIDECAST_PICTURES` names a
//! folder for screenshots.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tempfile::TempDir;

use crate::broker;
use crate::command_line::program::Running;

/// In order of preference.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

fn is_installed(program: &str) -> bool {
    let outcome = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    outcome.is_ok_and(|status| status.success())
}

struct Tools {
    browser: String,
    /// The folder with `node_modules`.
    modules: String,
}

/// # Errors
/// The missing tool, and how to provide it.
fn find_tools() -> Result<Tools, String> {
    if !is_installed("node") {
        return Err("node is not installed".to_owned());
    }
    let found = std::env::var("TIDECAST_CHROMIUM").ok();
    let browser = found.or_else(|| BROWSERS.into_iter().find(|name| is_installed(name)).map(str::to_owned));
    let browser = browser.ok_or("Chromium is not installed: install it, or set TIDECAST_CHROMIUM")?;
    let which = Command::new("sh").args(["-c", &format!("command -v '{browser}'")]).output();
    let path = which.map_err(|error| error.to_string())?.stdout;
    let modules = std::env::var("TIDECAST_NODE_MODULES").map_err(|_| "TIDECAST_NODE_MODULES is not set")?;
    if !Path::new(&modules).join("node_modules/playwright-core").exists() {
        return Err(format!("{modules} has no node_modules/playwright-core: run `npm ci` there"));
    }
    Ok(Tools { browser: String::from_utf8_lossy(&path).trim().to_owned(), modules })
}

/// The tools; `None` if they are missing and `TIDECAST_REQUIRE_BROWSER` is not set.
fn tools_or_skip(test: &str) -> Option<Tools> {
    match find_tools() {
        Ok(tools) => Some(tools),
        Err(reason) => {
            let required = std::env::var_os("TIDECAST_REQUIRE_BROWSER").is_some();
            assert!(!required, "TIDECAST_REQUIRE_BROWSER is set, but {reason}");
            eprintln!("SKIPPED {test}: {reason}");
            None
        }
    }
}

/// Runs a script of `browser/` to its end and returns its output.
fn run_script(script: &str, modules: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script);
    let mut command = Command::new("node");
    command.arg(script).args(arguments).env("TIDECAST_NODE_MODULES", modules);
    let outcome = command.output().expect("node is installed");
    let (output, errors) =
        (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
    assert!(outcome.status.success() && output.trim_end().ends_with("done"), "{output}\n{errors}");
    output.into_owned()
}

#[test]
fn the_dashboard_works_in_a_real_browser() {
    let Some(Tools { browser, modules }) = tools_or_skip("the dashboard in a browser") else { return };
    let screenshots = std::env::var("TIDECAST_PICTURES").ok();
    let program = env!("CARGO_BIN_EXE_tidecast");
    let arguments: Vec<&str> = [program, &browser].into_iter().chain(screenshots.as_deref()).collect();
    run_script("drive.mjs", &modules, &arguments);
}

/// Hours sent before the page opens: enough for the sample's model to warm up and for forecasts to be due.
const WARMUP_HOURS: i64 = 96;
const HOUR_MS: i64 = 3_600_000;

/// Runs with `TIDECAST_MANY_SERIES=10000`, takes a minute or two, and prints the measurements.
#[test]
fn many_series_do_not_block_the_page() {
    let Ok(count) = std::env::var("TIDECAST_MANY_SERIES") else {
        return eprintln!("SKIPPED many series in a browser: TIDECAST_MANY_SERIES is not set");
    };
    let Some(Tools { browser, modules }) = tools_or_skip("many series in a browser") else { return };
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
    let mut run =
        Running::start_with_timeout(Duration::from_secs(900), folder.path(), "run p.toml", &variables);
    run.wait_for("dashboard: http://");
    let url =
        run.stderr_so_far().split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();

    let ids: Vec<String> = (0..series).map(|id| format!("plant-{}/sensor-{}", id / 100, id % 100)).collect();
    // A daily cycle plus noise.
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
    (0..WARMUP_HOURS).for_each(send);
    let output = std::thread::scope(|scope| {
        let (running, ended) = channel::<()>();
        let (url, browser, count, modules) = (&url, &browser, &count, &modules);
        let script = scope.spawn(move || {
            // Dropped when the script ends.
            let _running = running;
            run_script("many.mjs", modules, &[url, browser, count])
        });
        // One hour of all series per second until the script ends.
        for hour in WARMUP_HOURS.. {
            send(hour);
            if ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        script.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    println!("{output}");
    run.signal("TERM");
    run.finish().succeeds();
}
