//! Untrusted text, such as series ids and column names, made safe for HTML and SVG.

/// Characters of a label: an id may be a megabyte long.
const LABEL_CHARS_MAX: usize = 200;

/// The start of a text, with a replacement character for each unprintable one.
pub(super) fn label(text: &str) -> String {
    let mut label: String = text.chars().take(LABEL_CHARS_MAX).map(printable).collect();
    if text.chars().nth(LABEL_CHARS_MAX).is_some() {
        label.push('…');
    }
    label
}

/// The text as HTML, with a replacement character for each unprintable one.
pub(super) fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match printable(character) {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

/// The label of a text as HTML.
pub(super) fn escape_label(text: &str) -> String {
    escape(&label(text))
}

/// Replaces control characters, directional overrides and characters that XML forbids.
fn printable(character: char) -> char {
    match character {
        '\n' | '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => {
            char::REPLACEMENT_CHARACTER
        }
        other if other.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_truncated_at_a_character() {
        let name = "ü".repeat(LABEL_CHARS_MAX + 1);
        assert_eq!(label(&name).chars().count(), LABEL_CHARS_MAX + 1);
        assert!(label(&name).ends_with("ü…"));
        assert_eq!(label(&name[..2]), "ü");
    }

    #[test]
    fn unprintable_characters_are_replaced() {
        assert_eq!(label("a\u{202e}b\0c\nd"), "a\u{fffd}b\u{fffd}c d");
        assert_eq!(escape("<\0>"), "&lt;\u{fffd}&gt;");
    }
}
