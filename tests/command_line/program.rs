//! The program as a child process that is always killed at the end of its test.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Time after which a process is killed and its test fails.
const TIMEOUT: Duration = Duration::from_secs(300);

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidecast");

/// The result of a process.
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

    /// Asserts that it failed with an error that contains these texts.
    #[track_caller]
    pub fn fails(self, texts: &[&str]) -> Self {
        let outcome = self.exits(1).logs(texts);
        let error = outcome.stderr.lines().find(|line| line.starts_with("error: "));
        assert!(error.is_some(), "{outcome:#?}");
        outcome
    }

    /// Asserts that standard error contains these texts.
    #[track_caller]
    pub fn logs(self, texts: &[&str]) -> Self {
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

/// The last number before `word`; progress messages precede the summary.
#[track_caller]
pub fn count(text: &str, word: &str) -> usize {
    let words: Vec<&str> = text.split([' ', ',', '\n']).filter(|word| !word.is_empty()).collect();
    let number = words.windows(2).rev().find_map(|pair| pair[0].parse().ok().filter(|_| pair[1] == word));
    number.unwrap_or_else(|| panic!("no number of {word} in {text}"))
}

/// A running process, killed on drop.
pub struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stdout_read: String,
    stderr: Receiver<String>,
    stderr_read: String,
    /// Stops the watchdog on drop.
    _watchdog: Sender<()>,
}

impl Running {
    pub fn start(folder: &Path, line: &str) -> Self {
        Self::start_with(folder, line, &[])
    }

    pub fn start_with(folder: &Path, line: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_with_timeout(TIMEOUT, folder, line, variables)
    }

    pub fn start_with_timeout(
        timeout: Duration,
        folder: &Path,
        line: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(line.split_whitespace());
        Self::spawn(command, timeout, folder, variables)
    }

    /// On a single core; `None` without `taskset`.
    pub fn start_on_one_core(folder: &Path, line: &str) -> Option<Self> {
        let mut command = helper("taskset")?;
        command.args(["-c", &allowed_core()?, PROGRAM]).args(line.split_whitespace());
        Some(Self::spawn(command, TIMEOUT, folder, &[]))
    }

    /// In a pseudo-terminal, whose content is the standard output; `None` without `script`.
    pub fn start_in_terminal(folder: &Path, line: &str) -> Option<Self> {
        let mut command = helper("script")?;
        let program = PROGRAM.replace('\'', r"'\''");
        let inside = format!("stty cols 150; exec '{program}' {line}");
        command.args(["--quiet", "--return", "--flush", "--command", &inside, "/dev/null"]);
        Some(Self::spawn(command, TIMEOUT, folder, &[("TERM", "xterm")]))
    }

    fn spawn(mut command: Command, timeout: Duration, folder: &Path, variables: &[(&str, &str)]) -> Self {
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
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            // Fails once the test has ended.
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok()
        });
        let (watchdog, end) = channel();
        let pid = child.id();
        std::thread::spawn(move || {
            if end.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
                kill(pid, "KILL");
            }
        });
        let (stdout_read, stderr_read) = (String::new(), String::new());
        Self { child, stdout, stdout_read, stderr: receiver, stderr_read, _watchdog: watchdog }
    }

    /// Reads this many lines of standard output.
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

    /// Waits for a line of standard error that contains `text`.
    pub fn wait_for(&mut self, text: &str) {
        let mut last = String::new();
        while !last.contains(text) {
            last = self
                .stderr
                .recv()
                .unwrap_or_else(|_| panic!("`{text}` never appeared: {}", self.stderr_read));
            self.stderr_read += &format!("{last}\n");
        }
    }

    /// Standard error so far.
    pub fn stderr_so_far(&mut self) -> &str {
        for line in self.stderr.try_iter() {
            self.stderr_read += &format!("{line}\n");
        }
        &self.stderr_read
    }

    /// Peak memory, 0 if the system does not report it.
    pub fn peak_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    /// True if the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the state of a child process is known").is_some()
    }

    /// Sends a signal: `TERM`, `INT` or `KILL`.
    pub fn signal(&self, name: &str) {
        kill(self.child.id(), name);
    }

    /// Closes the pipe of its standard output.
    pub fn stop_reading(&mut self) {
        self.stdout = None;
    }

    /// Reads the remaining output and waits for the end.
    pub fn finish(mut self) -> Outcome {
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_string(&mut self.stdout_read).expect("what it prints is text");
        }
        for line in self.stderr.iter() {
            self.stderr_read += &format!("{line}\n");
        }
        assert!(!self.stderr_read.contains('\u{1b}'), "colours without a terminal: {}", self.stderr_read);
        let status = self.child.wait().expect("a child can be waited for");
        let (stdout, stderr) = (std::mem::take(&mut self.stdout_read), std::mem::take(&mut self.stderr_read));
        Outcome { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of util-linux, if it is installed; others of the name have no --version.
fn helper(name: &str) -> Option<Command> {
    let version = Command::new(name).arg("--version").stdin(Stdio::null()).output();
    if !version.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: there is no {name} of util-linux");
        return None;
    }
    Some(Command::new(name))
}

/// The first core that this process may use, if the system reports it.
fn allowed_core() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(list.trim().split([',', '-']).next()?.to_owned())
}

fn kill(pid: u32, signal: &str) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(sent.is_ok_and(|status| status.success()), "no {signal} to {pid}");
}
