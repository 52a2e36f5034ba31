//! The program as a process: started, listened to, signalled, and never left behind.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Longer than anything here takes on a busy machine. Then the process is killed and its test fails.
const LONGEST: Duration = Duration::from_secs(300);

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidecast");

/// What came of a process.
#[derive(Debug)]
pub struct Outcome {
    status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    #[track_caller]
    pub fn succeeds(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        self
    }

    /// That it ended with an error that holds all of these texts.
    #[track_caller]
    pub fn fails(self, texts: &[&str]) -> Self {
        let outcome = self.exits(1).says(texts);
        let error = outcome.stderr.lines().find(|line| line.starts_with("error: "));
        assert!(error.is_some(), "{outcome:#?}");
        outcome
    }

    /// That standard error holds all of these texts.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "`{text}` is not in {self:#?}");
        }
        self
    }

    /// The number before `word` in the summary.
    #[track_caller]
    pub fn count(&self, word: &str) -> usize {
        count(&self.stderr, word)
    }
}

/// The last number before `word`: lines of progress may come before the summary.
#[track_caller]
pub fn count(text: &str, word: &str) -> usize {
    let words: Vec<&str> = text.split([' ', ',', '\n']).filter(|word| !word.is_empty()).collect();
    let number = words.windows(2).rev().find_map(|pair| pair[0].parse().ok().filter(|_| pair[1] == word));
    number.unwrap_or_else(|| panic!("no number of {word} in {text}"))
}

/// A process that has not ended yet. Dropped, it is killed.
pub struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stdout_read: String,
    stderr: Receiver<String>,
    stderr_read: String,
    /// Dropped, it tells the watchdog that all is well.
    _watched: Sender<()>,
}

impl Running {
    pub fn start(folder: &Path, line: &str) -> Self {
        Self::start_with(folder, line, &[])
    }

    pub fn start_with(folder: &Path, line: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_for(LONGEST, folder, line, variables)
    }

    /// One that may take so long.
    pub fn start_for(longest: Duration, folder: &Path, line: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(line.split_whitespace());
        Self::begin(command, longest, folder, variables)
    }

    /// One that is kept to a single processor; `None` where the system has nothing to do that.
    pub fn start_on_one(folder: &Path, line: &str) -> Option<Self> {
        let mut command = helper("taskset")?;
        command.args(["-c", &allowed()?, PROGRAM]).args(line.split_whitespace());
        Some(Self::begin(command, LONGEST, folder, &[]))
    }

    /// One that somebody watches: what the terminal shows is its standard output. `None` where there is no terminal to be had.
    pub fn start_watched(folder: &Path, line: &str) -> Option<Self> {
        let mut command = helper("script")?;
        // A shell reads it, which parts at spaces what is not in quotes.
        let program = PROGRAM.replace('\'', r"'\''");
        let inside = format!("stty cols 150; exec '{program}' {line}");
        command.args(["--quiet", "--return", "--flush", "--command", &inside, "/dev/null"]);
        Some(Self::begin(command, LONGEST, folder, &[("TERM", "xterm")]))
    }

    fn begin(mut command: Command, longest: Duration, folder: &Path, variables: &[(&str, &str)]) -> Self {
        let mut child = command
            .env_remove("TIDECAST_LOG")
            .envs(variables.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (said, heard) = channel();
        std::thread::spawn(move || {
            // The test may have ended; then nobody listens.
            stderr.lines().map_while(Result::ok).try_for_each(|line| said.send(line)).ok()
        });
        let (watched, end) = channel();
        let pid = child.id();
        std::thread::spawn(move || {
            if end.recv_timeout(longest) == Err(RecvTimeoutError::Timeout) {
                kill(pid, "KILL");
            }
        });
        let (stdout_read, stderr_read) = (String::new(), String::new());
        Self { child, stdout, stdout_read, stderr: heard, stderr_read, _watched: watched }
    }

    /// Waits until this many lines have come on standard output.
    pub fn read_lines(&mut self, count: usize) {
        let stdout = self.stdout.as_mut().expect("standard output is open");
        for _ in 0..count {
            let read = stdout.read_line(&mut self.stdout_read).expect("lines are text");
            assert!(
                read > 0,
                "it ended after {} lines: {}",
                self.stdout_read.lines().count(),
                self.stderr_read
            );
        }
    }

    /// Waits until it says this on standard error.
    pub fn wait_for(&mut self, text: &str) {
        let mut last = String::new();
        while !last.contains(text) {
            last = self.stderr.recv().unwrap_or_else(|_| panic!("`{text}` never came: {}", self.stderr_read));
            self.stderr_read += &format!("{last}\n");
        }
    }

    /// What it has said on standard error so far.
    pub fn said(&mut self) -> &str {
        for line in self.stderr.try_iter() {
            self.stderr_read += &format!("{line}\n");
        }
        &self.stderr_read
    }

    /// The most memory that it has ever had in use, where the system tells.
    pub fn peak_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_some()
    }

    /// Sends a signal: `TERM`, `INT` or `KILL`.
    pub fn signal(&self, name: &str) {
        kill(self.child.id(), name);
    }

    /// Closes our end of its standard output.
    pub fn stop_reading(&mut self) {
        self.stdout = None;
    }

    /// Reads what is left and waits for its end.
    pub fn finish(mut self) -> Outcome {
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_string(&mut self.stdout_read).expect("what it prints is text");
        }
        for line in self.stderr.iter() {
            self.stderr_read += &format!("{line}\n");
        }
        assert!(!self.stderr_read.contains('\u{1b}'), "colours where nobody sees them: {}", self.stderr_read);
        let status = self.child.wait().expect("a child can be waited for");
        let (stdout, stderr) = (std::mem::take(&mut self.stdout_read), std::mem::take(&mut self.stderr_read));
        Outcome { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of the system's, if it is there and the one that is meant: others of its name know no --version.
fn helper(name: &str) -> Option<Command> {
    let asked = Command::new(name).arg("--version").stdin(Stdio::null()).output();
    if !asked.is_ok_and(|said| said.status.success()) {
        eprintln!("SKIPPED: there is no {name} of util-linux");
        return None;
    }
    Some(Command::new(name))
}

/// The first processor that this process may use, where the system tells.
fn allowed() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(list.trim().split([',', '-']).next()?.to_owned())
}

fn kill(pid: u32, signal: &str) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(sent.is_ok_and(|status| status.success()), "no {signal} to {pid}");
}
