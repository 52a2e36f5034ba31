//! Pages that a browser reads without a network: text, tables and charts in one HTML file, for light and dark, for a
//! phone and for paper. The same page has the same bytes wherever it is made.

mod axis;
mod chart;
mod picture;
mod thin;

use std::fmt::Write;

pub use axis::{Axis, AxisKind};
pub use chart::{Band, Chart, Line};
pub use picture::Picture;

/// A page in the making: what is added stands below what was added before.
pub struct Page {
    title: String,
    body: String,
}

/// Nothing is fetched and nothing runs, whatever stands in an id: the policy forbids both.
const HEAD: &str = r#"<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
"#;

const STYLE: &str = include_str!("page.css");

/// Characters of a name or a cell that are shown: an id may be a megabyte.
const SHOWN_MAX: usize = 200;

impl Page {
    pub fn new(title: &str) -> Self {
        Self { title: title.to_string(), body: String::new() }
    }

    pub fn heading(&mut self, text: &str) {
        self.add(format_args!("<h2>{}</h2>\n", escaped(text)));
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        self.add(format_args!("<p>{}</p>\n", escaped(text)));
    }

    /// A table; a column of numbers is aligned to the right. A row shorter than the header ends early.
    pub fn table(&mut self, header: &[&str], rows: &[Vec<String>]) {
        let numeric = |column: usize| {
            let mut cells = rows.iter().filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty());
            cells.clone().next().is_some() && cells.all(|cell| is_number(cell))
        };
        let classes: Vec<&str> =
            (0..header.len()).map(|column| if numeric(column) { " class=\"n\"" } else { "" }).collect();
        self.body.push_str("<div class=\"wide\"><table>\n<thead><tr>");
        for (name, class) in header.iter().zip(&classes) {
            self.add(format_args!("<th{class}>{}</th>", escaped(&shown(name))));
        }
        self.body.push_str("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.body.push_str("<tr>");
            for (cell, class) in row.iter().zip(&classes) {
                self.add(format_args!("<td{class}>{}</td>", escaped(&shown(cell))));
            }
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody>\n</table></div>\n");
    }

    pub fn chart(&mut self, chart: &Chart) {
        let Chart { title, .. } = chart;
        self.add(format_args!("<figure>\n<figcaption>{}</figcaption>\n", escaped(&shown(title))));
        match chart.svg() {
            Some(svg) => {
                self.add(format_args!("<div class=\"wide\">{svg}</div>\n"));
                self.legend(chart);
            }
            None => self.body.push_str("<p class=\"none\">nothing to draw: no point has numbers</p>\n"),
        }
        self.body.push_str("</figure>\n");
    }

    /// Beside the picture rather than in it: it wraps on a phone and never covers a line.
    fn legend(&mut self, chart: &Chart) {
        self.body.push_str("<ul class=\"legend\">\n");
        for key in chart.keys() {
            let class = if key.dashed { "dashed" } else { "solid" };
            let band = if key.band { " band" } else { "" };
            self.add(format_args!(
                "<li><span class=\"{class}{band}\" style=\"color:{}\"></span>{}</li>\n",
                key.colour,
                escaped(&shown(key.name))
            ));
        }
        self.body.push_str("</ul>\n");
    }

    /// The whole page.
    pub fn html(&self) -> String {
        let (title, body) = (escaped(&shown(&self.title)), &self.body);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n{HEAD}<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n"
        )
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        self.body.write_fmt(text).expect("a String takes everything");
    }
}

/// A number as tables show it: with a sign, a percent sign or a factor's × around it.
fn is_number(cell: &str) -> bool {
    let bare = cell.trim_end_matches([' ', '%', '×', 's']).trim_start_matches(['±', '−', '<', '>', ' ']);
    matches!(bare, "-" | "–" | "—") || bare.parse::<f64>().is_ok()
}

/// The beginning of a long text.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

/// Text as HTML. What would be obeyed instead of shown, by the browser or by the order of writing, is shown as �.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match visible(character) {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

fn visible(character: char) -> char {
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

    fn line(points: Vec<(f64, f64)>) -> Chart {
        let axis = |label: &str| Axis { label: label.into(), kind: AxisKind::Linear };
        let lines = vec![Line { name: "a <line>".into(), points, dashed: false }];
        Chart { title: "a & b".into(), x: axis("x <of>"), y: axis("y"), lines, bands: vec![] }
    }

    #[test]
    fn what_ids_say_is_shown_and_never_obeyed() {
        let mut page = Page::new("<script>alert(1)</script>");
        page.heading("\"quoted\" & 'so'");
        page.text("a\u{202e}b\0c");
        page.table(&["<b>"], &[vec!["</table>".into()]]);
        page.chart(&line(vec![(0.0, 1.0), (1.0, 2.0)]));
        let html = page.html();
        for wrong in ["<script", "<b>", "</table></td>", "<line>", "<of>", "a & b", "\u{202e}", "\0"] {
            assert!(!html.contains(wrong), "{wrong:?}");
        }
        for right in
            ["&lt;script&gt;alert(1)", "&quot;quoted&quot; &amp; &#39;so&#39;", "a\u{fffd}b\u{fffd}c"]
        {
            assert!(html.contains(right), "{right:?}");
        }
        assert!(html.contains("a &lt;line&gt;") && html.contains("x &lt;of&gt;"));
    }

    #[test]
    fn nothing_is_fetched() {
        let mut page = Page::new("t");
        page.chart(&line(vec![(0.0, 1.0), (1.0, 2.0)]));
        let html = page.html().replace("http://www.w3.org/2000/svg", "");
        assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("url("));
    }

    #[test]
    fn columns_of_numbers_are_aligned() {
        let mut page = Page::new("t");
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        page.table(&["id", "error", "share"], &[row(["7a", "-0.5", "90 %"]), row(["8", "1e3", ""])]);
        let html = page.html();
        assert!(html.contains("<th>id</th><th class=\"n\">error</th><th class=\"n\">share</th>"), "{html}");
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let name = "ü".repeat(SHOWN_MAX + 1);
        assert_eq!(shown(&name).chars().count(), SHOWN_MAX + 1);
        assert!(shown(&name).ends_with("ü…"));
        assert_eq!(shown(&name[..2]), "ü");
    }

    #[test]
    fn an_empty_chart_says_so() {
        for points in [vec![], vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)]] {
            let mut page = Page::new("t");
            page.chart(&line(points));
            let html = page.html();
            assert!(html.contains("nothing to draw") && !html.contains("<svg"), "{html}");
        }
    }
}
