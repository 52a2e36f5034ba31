//! Several charts in one self-contained SVG file.

use std::fmt::Write;

use super::chart::{Chart, FONT_SIZE, LegendEntry, SIZE, Swatch};
use super::text::{escape_label, label};

/// Charts in a grid, each with its title and legend.
pub struct Figure {
    title: String,
    charts: Vec<Chart>,
}

/// Charts per row. With two, text is still legible at the width of a text column.
const COLUMNS: u32 = 2;
/// Height of a line of text.
const LINE: u32 = 50;
/// Space around a chart.
const MARGIN: u32 = 24;
/// Estimated width of a character in percent of its height; on the high side, so that legends do not overflow.
const CHARACTER_WIDTH: u32 = 56;
/// Width of the swatch before a name in the legend, with its margins.
const SWATCH_WIDTH: u32 = 90;

/// Text in a medium grey, which is legible on a light and a dark background: an image does not know its background.
const STYLE: &str = "text { fill: #7A828C; font-family: system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; } \
     .title { font-weight: 600; } polyline { stroke-linejoin: round; stroke-linecap: round; } \
     polyline[stroke-width=\"5\"], .dashed { stroke-dasharray: 14 12; stroke-linecap: butt; }";

impl Figure {
    pub fn new(title: &str) -> Self {
        Self { title: title.to_string(), charts: Vec::new() }
    }

    pub fn chart(&mut self, chart: Chart) {
        self.charts.push(chart);
    }

    /// The content of the file.
    pub fn svg(&self) -> String {
        let mut body = String::new();
        let mut top = 0;
        for row in self.charts.chunks(COLUMNS as usize) {
            let mut row_height = 0;
            for (column, chart) in (0..).zip(row) {
                row_height = row_height.max(draw_chart(&mut body, chart, column * (SIZE.0 + MARGIN), top));
            }
            top += row_height;
        }
        let width = COLUMNS * SIZE.0 + (COLUMNS - 1) * MARGIN;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {top}\" role=\"img\" aria-label=\"{}\">\n\
             <style>{STYLE}</style>\n{body}</svg>\n",
            escape_label(&self.title)
        )
    }
}

/// Draws a chart with its title and legend; returns the height.
fn draw_chart(body: &mut String, chart: &Chart, left: u32, top: u32) -> u32 {
    let mut add =
        |text: std::fmt::Arguments<'_>| body.write_fmt(text).expect("writing to a String cannot fail");
    let title = escape_label(&chart.title);
    let (x, mut y) = (left + MARGIN, top + LINE);
    add(format_args!("<text class=\"title\" x=\"{x}\" y=\"{y}\" font-size=\"{FONT_SIZE}\">{title}</text>\n"));
    y += MARGIN;
    let Some(svg) = chart.svg() else {
        add(format_args!(
            "<text x=\"{x}\" y=\"{}\" font-size=\"{FONT_SIZE}\">nothing to draw</text>\n",
            y + LINE
        ));
        return y + 2 * LINE - top;
    };
    let (width, height) = SIZE;
    add(format_args!("<svg x=\"{left}\" y=\"{y}\" width=\"{width}\" height=\"{height}\">{svg}</svg>\n"));
    y += height + LINE;
    let mut x = x;
    for LegendEntry { name, color, swatch } in chart.legend() {
        let name_width = label(name).chars().count() as u32 * FONT_SIZE * CHARACTER_WIDTH / 100;
        let entry_width = SWATCH_WIDTH + name_width + MARGIN;
        if x > left + MARGIN && x + entry_width > left + width {
            (x, y) = (left + MARGIN, y + LINE);
        }
        let (class, thickness, opacity) = match swatch {
            Swatch::Solid => ("", 5, ""),
            Swatch::Dashed => (" class=\"dashed\"", 5, ""),
            Swatch::Band => ("", 24, " stroke-opacity=\"0.3\""),
        };
        let (end, middle) = (x + SWATCH_WIDTH - MARGIN, y - FONT_SIZE / 3);
        add(format_args!(
            "<path{class} d=\"M{x} {middle}H{end}\" stroke=\"{color}\" stroke-width=\"{thickness}\"{opacity}/>\
             <text x=\"{}\" y=\"{y}\" font-size=\"{FONT_SIZE}\">{}</text>\n",
            end + MARGIN / 2,
            escape_label(name)
        ));
        x += entry_width;
    }
    y + MARGIN - top
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Axis, AxisKind, Band, BandPoint, Line};

    fn chart(title: &str, names: &[&str]) -> Chart {
        let axis = || Axis { label: "<axis>".into(), kind: AxisKind::Linear };
        let line =
            |name: &&str| Line { name: (*name).into(), points: vec![(0.0, 1.0), (1.0, 2.0)], dashed: false };
        let points = [0.0, 1.0].map(|x| BandPoint { x, lower: x + 0.5, upper: x + 1.5 }).to_vec();
        let bands = vec![Band { name: "around".into(), points }];
        Chart { title: title.into(), x: axis(), y: axis(), lines: names.iter().map(line).collect(), bands }
    }

    #[test]
    fn the_figure_contains_all_charts_with_titles_and_legends() {
        let mut figure = Figure::new("a & b");
        for title in ["<one>", "two", "three"] {
            figure.chart(chart(title, &["a \"line\"", "another"]));
        }
        figure.chart(chart("nothing", &[]));
        figure.charts[3].bands.clear();
        let svg = figure.svg();
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        assert_eq!(svg.matches("<svg").count(), 1 + 2 * 3, "each chart in its own element");
        assert_eq!(svg.matches("a &quot;line&quot;</text>").count(), 3);
        assert_eq!(svg.matches(">around</text>").count(), 3);
        assert!(svg.contains(">&lt;one&gt;</text>") && svg.contains(">nothing to draw</text>"));
        assert!(!svg.contains("url(") && !svg.contains("<script"));
        assert_eq!(svg, figure.svg());
    }

    #[test]
    fn a_long_legend_is_broken_into_lines() {
        let height = |names: &[&str]| draw_chart(&mut String::new(), &chart("t", names), 0, 0);
        let name = "a name of thirty-two characters.";
        assert_eq!(height(&["a"]), height(&["a", "b"]));
        assert_eq!(height(&[name; 6]), height(&["a"]) + 3 * LINE);
    }
}
