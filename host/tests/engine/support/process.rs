//! Runs of `wharf` and their results.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Maximum wait; only a failing test reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The result of a run of `wharf`.
#[derive(Debug, Clone)]
pub struct Output {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Output {
    pub fn of(output: std::process::Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().unwrap_or_else(|| 1000 + output.status.signal().unwrap_or(0));
        Self { code, stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in stdout: {}\nstderr: {}", self.text(), self.stderr))
    }

    /// Returns the only `error` object on stderr; log lines, including those of other threads, may appear beside it.
    #[track_caller]
    pub fn error(&self) -> Value {
        let parsed = self.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut errors: Vec<Value> = parsed.filter(|json| json["error"].is_object()).collect();
        assert_eq!(errors.len(), 1, "{}", self.stderr);
        errors[0]["error"].take()
    }
}

/// A running `wharf`, which is killed if the test ends first.
pub struct Running(Option<Child>);

impl Running {
    pub fn new(child: Child) -> Self {
        Self(Some(child))
    }

    pub fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    pub fn pid(&mut self) -> u32 {
        self.child().id()
    }

    pub fn signal(&mut self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    pub fn finish(mut self) -> Output {
        Output::of(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until a condition holds.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
