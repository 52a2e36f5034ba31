//! A file that cannot be read: why, and what to do about it.

use std::io::{Error, ErrorKind};
use std::path::Path;

/// Why `path` cannot be read, with the way out; `otherwise` is what else to do where there is nothing at all.
pub fn unread(path: &Path, error: &Error, otherwise: &str) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("{error}; see to the path{}{otherwise}", looked_for(path)),
        ErrorKind::PermissionDenied => format!("{error}; let the user of this process read it"),
        ErrorKind::IsADirectory => format!("{error}; name the file in it"),
        _ => error.to_string(),
    }
}

/// Where a relative path led to: the folder that it is relative to is not always the one that was meant.
fn looked_for(path: &Path) -> String {
    match std::path::absolute(path) {
        Ok(absolute) if path.is_relative() => format!(", which led to {}", absolute.display()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_way_out() {
        let said = |path: &str, kind: ErrorKind| unread(Path::new(path), &kind.into(), ", or make one");
        let here = std::env::current_dir().unwrap();
        let led = format!("; see to the path, which led to {}, or make one", here.join("a/b").display());
        assert!(said("a/b", ErrorKind::NotFound).ends_with(&led));
        assert!(said("/a/b", ErrorKind::NotFound).ends_with("; see to the path, or make one"));
        assert!(said("b", ErrorKind::PermissionDenied).contains("let the user"));
        assert!(said("b", ErrorKind::IsADirectory).contains("file in it"));
    }
}
