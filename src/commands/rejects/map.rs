//! `--map`: an external program that corrects rejects, one line in and one line out for each. It is started once per batch
//! and its input is closed, so a program that buffers its output works, too.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use tidecast_kafka::{RejectedMessage, Replay};

use super::{ReplayCounts, json_text};
use crate::terminal::StderrLines;

/// The messages to send for a batch of rejects: their own values, or those that `program` prints, one line for each.
pub fn map_rejects(
    program: Option<&str>,
    batch: Vec<RejectedMessage>,
    counts: &mut ReplayCounts,
) -> Result<Vec<Replay>> {
    let Some(program) = program.filter(|_| !batch.is_empty()) else {
        let unchanged = |rejected: RejectedMessage| {
            let value = rejected.value.clone().unwrap_or_default();
            Replay { rejected, value }
        };
        return Ok(batch.into_iter().map(unchanged).collect());
    };
    let input: String =
        batch.iter().map(|rejected| json_text(rejected, rejected.value.as_deref()) + "\n").collect();
    let output = run_program(program, input)?;
    let mut lines: Vec<&[u8]> = output.split(|byte| *byte == b'\n').collect();
    // After the last line break.
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    if lines.len() != batch.len() {
        bail!(
            "--map: the program read {} lines and printed {}, but must print one for each (an empty one skips the message); \
             this batch was not sent",
            batch.len(),
            lines.len()
        );
    }
    let mut messages = Vec::new();
    for (rejected, line) in batch.into_iter().zip(lines) {
        match line.trim_ascii() {
            [] => counts.skipped_by_map += 1,
            value => messages.push(Replay { rejected, value: value.to_vec() }),
        }
    }
    Ok(messages)
}

/// The output of the program for `input`.
fn run_program(program: &str, input: String) -> Result<Vec<u8>> {
    let mut child = Command::new("sh")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("--map: cannot start a shell")?;
    let mut stdin = child.stdin.take().context("--map: the program has no standard input")?;
    // In a thread: the program may write before it has read everything.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let stderr = child.stderr.take().context("--map: the program has no standard error")?;
    let forwarder = std::thread::spawn(move || forward_lines(stderr));
    let output = child.wait_with_output().context("--map: cannot read the program's output")?;
    let written = writer.join().map_err(|_| anyhow::anyhow!("--map: writing to the program panicked"))?;
    // Its messages precede ours.
    let _ = forwarder.join();
    if !output.status.success() {
        bail!("--map: the program failed ({}); this batch was not sent", output.status);
    }
    match written {
        // A program may stop reading early; the number of lines shows whether its output is complete.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("--map: cannot write to the program")
        }
        _ => Ok(output.stdout),
    }
}

/// Forwards the program's messages to standard error, above the progress bar.
fn forward_lines(stderr: impl Read) {
    let (mut lines, mut line) = (BufReader::new(stderr), Vec::new());
    while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // A closed standard error is no reason to fail.
        let _ = StderrLines.write_all(&line);
        line.clear();
    }
}
