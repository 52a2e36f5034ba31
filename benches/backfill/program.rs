//! The program itself, watched.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs the program to its end: seconds, and its peak resident memory, MiB.
pub fn tidecast(folder: &Path, line: &str) -> (f64, u64) {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidecast"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .spawn()
        .expect("the program starts");
    let (succeeded, peak) = watch(&mut child);
    assert!(succeeded, "tidecast {line} succeeds");
    (started.elapsed().as_secs_f64(), peak)
}

/// Whether the child succeeded, and its peak memory.
fn watch(child: &mut Child) -> (bool, u64) {
    let file = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let status = std::fs::read_to_string(&file).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) / 1024);
        if let Some(status) = child.try_wait().expect("the child is ours") {
            return (status.success(), peak);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
