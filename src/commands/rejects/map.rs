//! The program that corrects rejects: a line in and a line out for each. It is started anew for some messages at a time and
//! its input is closed, so that one that gathers its output before it writes is of use, too.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Counts, line};
use crate::commands::report::Beside;
use tidecast_kafka::{RejectedMessage, Replay};

/// What is to be sent in place of each reject: its own bytes, or what the program makes of them.
///
/// # Errors
/// If the program fails, or says more or fewer lines than there are messages.
pub fn corrected(
    program: Option<&str>,
    rejected: Vec<RejectedMessage>,
    counts: &mut Counts,
) -> Result<Vec<Replay>> {
    let Some(program) = program.filter(|_| !rejected.is_empty()) else {
        let own = |rejected: RejectedMessage| {
            let value = rejected.value.clone().unwrap_or_default();
            Replay { rejected, value }
        };
        return Ok(rejected.into_iter().map(own).collect());
    };
    let input: String =
        rejected.iter().map(|one| line(one, one.value.as_deref(), usize::MAX) + "\n").collect();
    let output = filtered(program, input)?;
    let mut lines: Vec<&[u8]> = output.split(|byte| *byte == b'\n').collect();
    // The last line ends, too.
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    if lines.len() != rejected.len() {
        bail!(
            "--map: the program was given {} lines and said {}: it has to say one for each, an empty one to leave it out; \
             nothing of them was sent",
            rejected.len(),
            lines.len()
        );
    }
    let mut corrected = Vec::new();
    for (rejected, line) in rejected.into_iter().zip(lines) {
        match line.trim_ascii() {
            [] => counts.left_out += 1,
            value => corrected.push(Replay { rejected, value: value.to_vec() }),
        }
    }
    Ok(corrected)
}

/// What the program writes when it has read `input`.
fn filtered(program: &str, input: String) -> Result<Vec<u8>> {
    let mut child = Command::new("sh")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("--map: cannot start a shell")?;
    let mut stdin = child.stdin.take().context("--map: the program has no input")?;
    // Beside the reading of what it writes: it may write before it has read all.
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let stderr = child.stderr.take().context("--map: the program has no standard error")?;
    let telling = std::thread::spawn(move || pass_on(stderr));
    let output = child.wait_with_output().context("--map: cannot read what the program writes")?;
    let written = writing.join().map_err(|_| anyhow::anyhow!("--map: writing to the program broke off"))?;
    // What it complained of stands above what we say of it.
    let _ = telling.join();
    if !output.status.success() {
        bail!("--map: the program failed ({}); nothing of these messages was sent", output.status);
    }
    match written {
        // It did not want to know more; whether it said enough is seen by its lines.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("--map: writing to the program")
        }
        _ => Ok(output.stdout),
    }
}

/// What the program says to the user, line by line as it comes: past the bar, not through it.
fn pass_on(stderr: impl Read) {
    let (mut lines, mut line) = (BufReader::new(stderr), Vec::new());
    while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // Where nobody can be told, there is nobody to tell that either.
        let _ = Beside.write_all(&line);
        line.clear();
    }
}
