//! Messages that are no readings.

/// A message damaged in one of the ways that the codec knows.
pub fn damaged(whole: &str, kind: u64) -> String {
    match kind % 11 {
        0 => whole[..whole.len() / 2].to_owned(),
        1 => format!("{whole}{whole}"),
        2 => whole.replace("\"sensor\"", "\"senzor\""),
        3 => whole.replace("\"time\"", "\"tome\""),
        4 => whole.replace("\"value\":", "\"value\":\"x\",\"v\":"),
        5 => whole.replace("\"time\":", "\"time\":\"noon\",\"t\":"),
        6 => format!("[{whole}]"),
        7 => "\u{0}\u{1}\u{2}".to_owned(),
        // One that is held until the next reading tells that it is wrong.
        8 => whole.replacen("\"time\":", "\"time\":40709088", 1),
        9 => format!("{{\"sensor\":\"{}\",\"time\":1,\"value\":1}}", "x".repeat(300)),
        _ => String::new(),
    }
}
