//! Runs of the program.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Wall time and peak resident memory of a run.
pub struct RunCost {
    pub seconds: f64,
    pub peak_mib: u64,
}

/// Runs the program in a folder, and returns its standard output.
///
/// # Panics
/// If it fails.
pub fn output(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidecast"));
    let command = command.args(arguments).current_dir(folder).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "tidecast {} failed", arguments.join(" "));
    output.stdout
}

/// Runs the program in a folder, and measures its cost.
///
/// # Panics
/// If it fails.
pub fn measure(folder: &Path, arguments: &str) -> RunCost {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidecast"))
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .spawn()
        .expect("the program starts");
    let peak_mib = wait_for_success(&mut child);
    RunCost { seconds: started.elapsed().as_secs_f64(), peak_mib }
}

/// Waits for a process to succeed; returns its peak resident memory in MiB.
fn wait_for_success(child: &mut Child) -> u64 {
    let file = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let status = std::fs::read_to_string(&file).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) / 1024);
        if let Some(status) = child.try_wait().expect("the process is a child of this one") {
            assert!(status.success(), "the program failed: {status}");
            return peak;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
