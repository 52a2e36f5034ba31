//! Self-contained HTML pages of text, tables and charts, for light and dark screens, phones and paper. Equal contents give
//! equal bytes.

use std::fmt::Write;

use super::chart::{Chart, LegendEntry, Swatch};
use super::text::{escape, escape_label};

/// An HTML page under construction. Elements appear in the order in which they are added.
pub struct Page {
    title: String,
    body: String,
}

/// The policy forbids requests and scripts, whatever an id contains.
const HEAD: &str = r#"<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
"#;

const STYLE: &str = include_str!("page.css");

impl Page {
    pub fn new(title: &str) -> Self {
        Self { title: title.to_string(), body: String::new() }
    }

    pub fn heading(&mut self, text: &str) {
        self.add(format_args!("<h2>{}</h2>\n", escape(text)));
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        self.add(format_args!("<p>{}</p>\n", escape(text)));
    }

    /// A table. Columns of numbers are aligned to the right; rows may be shorter than the header.
    pub fn table(&mut self, header: &[&str], rows: &[Vec<String>]) {
        let class = |column: usize| {
            let mut cells =
                rows.iter().filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty()).peekable();
            if cells.peek().is_some() && cells.all(|cell| is_number(cell)) { " class=\"n\"" } else { "" }
        };
        let classes: Vec<&str> = (0..header.len()).map(class).collect();
        self.body.push_str("<div class=\"wide\"><table>\n<thead><tr>");
        for (name, class) in header.iter().zip(&classes) {
            self.add(format_args!("<th{class}>{}</th>", escape_label(name)));
        }
        self.body.push_str("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.body.push_str("<tr>");
            for (cell, class) in row.iter().zip(&classes) {
                self.add(format_args!("<td{class}>{}</td>", escape_label(cell)));
            }
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody>\n</table></div>\n");
    }

    pub fn chart(&mut self, chart: &Chart) {
        let title = escape_label(&chart.title);
        self.add(format_args!("<figure>\n<figcaption>{title}</figcaption>\n"));
        match chart.svg() {
            Some(svg) => {
                self.add(format_args!("<div class=\"wide\">{svg}</div>\n"));
                self.legend(chart);
            }
            None => self.body.push_str("<p class=\"none\">no finite point to draw</p>\n"),
        }
        self.body.push_str("</figure>\n");
    }

    /// The legend is outside the chart: it wraps on a phone and never covers a line.
    fn legend(&mut self, chart: &Chart) {
        self.body.push_str("<ul class=\"legend\">\n");
        for LegendEntry { name, color, swatch } in chart.legend() {
            let class = match swatch {
                Swatch::Solid => "solid",
                Swatch::Dashed => "dashed",
                Swatch::Band => "solid band",
            };
            let name = escape_label(name);
            self.add(format_args!(
                "<li><span class=\"{class}\" style=\"color:{color}\"></span>{name}</li>\n"
            ));
        }
        self.body.push_str("</ul>\n");
    }

    /// The whole page.
    pub fn html(&self) -> String {
        let (title, body) = (escape_label(&self.title), &self.body);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n{HEAD}<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n"
        )
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        self.body.write_fmt(text).expect("writing to a String cannot fail");
    }
}

/// True if a cell is a number, possibly with a sign, a unit or a relation.
fn is_number(cell: &str) -> bool {
    let bare = cell.trim_end_matches([' ', '%', '×', 's']).trim_start_matches(['±', '−', '<', '>', ' ']);
    matches!(bare, "-" | "–" | "—") || bare.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Axis, AxisKind, Line};

    fn line(points: Vec<(f64, f64)>) -> Chart {
        let axis = |label: &str| Axis { label: label.into(), kind: AxisKind::Linear };
        let lines = vec![Line { name: "a <line>".into(), points, dashed: false }];
        Chart { title: "a & b".into(), x: axis("x <of>"), y: axis("y"), lines, bands: vec![] }
    }

    #[test]
    fn markup_in_texts_is_escaped() {
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
    fn a_page_makes_no_requests() {
        let mut page = Page::new("t");
        page.chart(&line(vec![(0.0, 1.0), (1.0, 2.0)]));
        let html = page.html().replace("http://www.w3.org/2000/svg", "");
        assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("url("));
    }

    #[test]
    fn columns_of_numbers_are_right_aligned() {
        let mut page = Page::new("t");
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        page.table(&["id", "error", "share"], &[row(["7a", "-0.5", "90 %"]), row(["8", "1e3", ""])]);
        let html = page.html();
        assert!(html.contains("<th>id</th><th class=\"n\">error</th><th class=\"n\">share</th>"), "{html}");
    }

    #[test]
    fn a_chart_without_points_has_a_note() {
        for points in [vec![], vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)]] {
            let mut page = Page::new("t");
            page.chart(&line(points));
            let html = page.html();
            assert!(html.contains("no finite point to draw") && !html.contains("<svg"), "{html}");
        }
    }
}
