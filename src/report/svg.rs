//! Charts as one picture that stands alone: an SVG file for where a page cannot stand.

use std::fmt::Write;

use super::chart::{Chart, LETTERS, SIZE};
use super::html::{escaped, truncated};

/// Charts beside and below each other, each with its title and its legend.
pub struct Picture {
    title: String,
    charts: Vec<Chart>,
}

/// Charts of a row: with two of them the letters are still read where a column of text is the whole width.
const COLUMNS: u32 = 2;
/// A line of a title or a legend.
const LINE: u32 = 50;
/// Around a chart.
const MARGIN: u32 = 24;
/// Of a letter, in hundredths of its height: a picture cannot measure, and a legend that is parted early is still read.
const LETTER_WIDTH: u32 = 56;
/// Of the sample of a line in front of its name, with the space around it.
const SAMPLE: u32 = 90;

/// A grey in the middle is read on white and on black: whoever shows a picture by itself does not tell it which it is.
const STYLE: &str = "text { fill: #7A828C; font-family: system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; } \
     .title { font-weight: 600; } polyline { stroke-linejoin: round; stroke-linecap: round; } \
     polyline[stroke-width=\"5\"], .dashed { stroke-dasharray: 14 12; stroke-linecap: butt; }";

impl Picture {
    pub fn new(title: &str) -> Self {
        Self { title: title.to_string(), charts: Vec::new() }
    }

    pub fn chart(&mut self, chart: Chart) {
        self.charts.push(chart);
    }

    /// The whole file.
    pub fn svg(&self) -> String {
        let mut body = String::new();
        let mut top = 0;
        for row in self.charts.chunks(COLUMNS as usize) {
            let mut highest = 0;
            for (column, chart) in (0..).zip(row) {
                highest = highest.max(place(&mut body, chart, column * (SIZE.0 + MARGIN), top));
            }
            top += highest;
        }
        let width = COLUMNS * SIZE.0 + (COLUMNS - 1) * MARGIN;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" role=\"img\" aria-label=\"{}\">\n\
             <style>{STYLE}</style>\n{body}</svg>\n",
            escaped(&truncated(&self.title))
        )
    }
}

/// Draws a chart with what belongs to it; returns its height.
fn place(body: &mut String, chart: &Chart, left: u32, top: u32) -> u32 {
    let mut add = |text: std::fmt::Arguments<'_>| body.write_fmt(text).expect("a String takes everything");
    let written = |name: &str| escaped(&truncated(name));
    let title = written(&chart.title);
    let (x, mut y) = (left + MARGIN, top + LINE);
    add(format_args!("<text class=\"title\" x=\"{x}\" y=\"{y}\" font-size=\"{LETTERS}\">{title}</text>\n"));
    y += MARGIN;
    let Some(svg) = chart.svg() else {
        add(format_args!(
            "<text x=\"{x}\" y=\"{}\" font-size=\"{LETTERS}\">nothing to draw</text>\n",
            y + LINE
        ));
        return y + 2 * LINE - top;
    };
    let (width, height) = SIZE;
    add(format_args!("<svg x=\"{left}\" y=\"{y}\" width=\"{width}\" height=\"{height}\">{svg}</svg>\n"));
    y += height + LINE;
    let mut x = x;
    for key in chart.keys() {
        let wide = SAMPLE + truncated(key.name).chars().count() as u32 * LETTERS * LETTER_WIDTH / 100 + MARGIN;
        if x > left + MARGIN && x + wide > left + width {
            (x, y) = (left + MARGIN, y + LINE);
        }
        let (class, thick) =
            if key.dashed { (" class=\"dashed\"", 5) } else { ("", if key.band { 24 } else { 5 }) };
        let faint = if key.band { " stroke-opacity=\"0.3\"" } else { "" };
        let (end, middle) = (x + SAMPLE - MARGIN, y - LETTERS / 3);
        add(format_args!(
            "<path{class} d=\"M{x} {middle}H{end}\" stroke=\"{}\" stroke-width=\"{thick}\"{faint}/>\
             <text x=\"{}\" y=\"{y}\" font-size=\"{LETTERS}\">{}</text>\n",
            key.colour,
            x + SAMPLE - MARGIN / 2,
            written(key.name)
        ));
        x += wide;
    }
    y + MARGIN - top
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Axis, AxisKind, Band, Line};

    fn chart(title: &str, names: &[&str]) -> Chart {
        let axis = || Axis { label: "of <it>".into(), kind: AxisKind::Linear };
        let line =
            |name: &&str| Line { name: (*name).into(), points: vec![(0.0, 1.0), (1.0, 2.0)], dashed: false };
        let bands = vec![Band { name: "around".into(), points: vec![(0.0, 0.5, 1.5), (1.0, 1.5, 2.5)] }];
        Chart { title: title.into(), x: axis(), y: axis(), lines: names.iter().map(line).collect(), bands }
    }

    #[test]
    fn every_chart_stands_in_it_with_its_names() {
        let mut picture = Picture::new("a & b");
        for title in ["<one>", "two", "three"] {
            picture.chart(chart(title, &["a \"line\"", "another"]));
        }
        picture.chart(chart("nothing", &[]));
        picture.charts[3].bands.clear();
        let svg = picture.svg();
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        assert_eq!(svg.matches("<svg").count(), 1 + 2 * 3, "each chart in its frame");
        assert_eq!(svg.matches("a &quot;line&quot;</text>").count(), 3);
        assert_eq!(svg.matches(">around</text>").count(), 3);
        assert!(svg.contains(">&lt;one&gt;</text>") && svg.contains(">nothing to draw</text>"));
        assert!(!svg.contains("url(") && !svg.contains("<script"));
        assert_eq!(svg, picture.svg());
    }

    #[test]
    fn a_long_legend_is_parted_into_lines() {
        let height = |names: &[&str]| place(&mut String::new(), &chart("t", names), 0, 0);
        let name = "a name of thirty-two letters, so";
        assert_eq!(height(&["a"]), height(&["a", "b"]));
        assert_eq!(height(&[name; 6]), height(&["a"]) + 3 * LINE);
    }
}
