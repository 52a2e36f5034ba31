//! The dashboard of the demo in a real Chromium, driven by Playwright's core package: `browser/drive.mjs` says what it does.
//! Chromium is the system's; where the package is, `TIDECAST_NODE_MODULES` says: a folder in which `npm ci` was run with the
//! files of `tests/browser`. `TIDECAST_PICTURES` names a folder for what the browser saw.

use std::path::Path;
use std::process::{Command, Stdio};

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

#[test]
fn the_dashboard_is_seen_in_a_real_browser() {
    let (browser, modules) = match tools() {
        Ok(tools) => tools,
        Err(why) => {
            let required = std::env::var_os("TIDECAST_REQUIRE_BROWSER").is_some();
            assert!(!required, "TIDECAST_REQUIRE_BROWSER is set, and {why}");
            return eprintln!("SKIPPED the dashboard in a browser: {why}");
        }
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/drive.mjs");
    let outcome = Command::new("node")
        .arg(script)
        .args([env!("CARGO_BIN_EXE_tidecast"), &browser])
        .args(std::env::var_os("TIDECAST_PICTURES"))
        .env("TIDECAST_NODE_MODULES", modules)
        .output()
        .expect("it has just run");
    let (said, failed) = (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
    assert!(outcome.status.success() && said.trim_end().ends_with("done"), "{said}\n{failed}");
}
