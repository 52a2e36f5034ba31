//! Error messages for files that cannot be read.

use std::io::{Error, ErrorKind};
use std::path::Path;

/// Describes why `path` cannot be read and how to fix it. `not_found_hint` is appended if the file does not exist.
pub fn describe_read_error(path: &Path, error: &Error, not_found_hint: &str) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("{error}; check the path{}{not_found_hint}", resolved(path)),
        ErrorKind::PermissionDenied => format!("{error}; grant this process's user read access"),
        ErrorKind::IsADirectory => format!("{error}; name the file in it"),
        _ => error.to_string(),
    }
}

/// The absolute form of a relative path: its base folder may not be the intended one.
fn resolved(path: &Path) -> String {
    match std::path::absolute(path) {
        Ok(absolute) if path.is_relative() => format!(" (resolved to {})", absolute.display()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_a_fix() {
        let describe = |path: &str, kind: ErrorKind| {
            describe_read_error(Path::new(path), &kind.into(), ", or create it")
        };
        let here = std::env::current_dir().unwrap();
        let resolved = format!("; check the path (resolved to {}), or create it", here.join("a/b").display());
        assert!(describe("a/b", ErrorKind::NotFound).ends_with(&resolved));
        assert!(describe("/a/b", ErrorKind::NotFound).ends_with("; check the path, or create it"));
        assert!(describe("b", ErrorKind::PermissionDenied).contains("read access"));
        assert!(describe("b", ErrorKind::IsADirectory).contains("file in it"));
    }
}
