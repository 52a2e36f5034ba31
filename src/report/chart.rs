//! Charts as SVG, drawn by plotters.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, Circle, Color, DrawingAreaErrorKind, IntoDrawingArea, IntoFont,
    PathElement, Polygon, RGBColor, SVGBackend, ShapeStyle,
};

use super::axis::{Axis, Tick};
use super::downsample;

/// Lines and bands over two axes.
#[derive(Clone, Debug)]
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
    pub bands: Vec<Band>,
}

/// Points connected in their order. A point that is not finite breaks the line.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub dashed: bool,
}

/// An interval along the x axis: x, lower and upper bound. It has the colour of the line with its name, if any.
#[derive(Clone, Debug)]
pub struct Band {
    pub name: String,
    pub points: Vec<(f64, f64, f64)>,
}

/// The legend entry of a line or band.
pub(super) struct LegendEntry<'a> {
    pub name: &'a str,
    pub colour: String,
    pub dashed: bool,
    pub band: bool,
}

/// Twice the displayed width and height, since plotters writes integer coordinates.
pub(super) const SIZE: (u32, u32) = (1400, 720);
pub(super) const FONT_SIZE: u32 = 31;
/// Of medium brightness, for a light and a dark background, and distinct for colour-blind readers.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x2F, 0x7F, 0xD6),
    RGBColor(0xE0, 0x7B, 0x12),
    RGBColor(0x1F, 0x9D, 0x74),
    RGBColor(0xCC, 0x4B, 0x8C),
    RGBColor(0x8A, 0x6A, 0xD8),
    RGBColor(0x1E, 0xA0, 0xBF),
    RGBColor(0xB0, 0x75, 0x4D),
    RGBColor(0x7C, 0x86, 0x92),
];
/// Axes and grid lines. The stylesheet of the page replaces this colour by one for its light or dark theme.
const RULE: RGBColor = RGBColor(0x8A, 0x8F, 0x98);

/// Widths of lines. The stylesheet dashes lines by their width: plotters would cut a noisy line into ten thousand pieces.
const SOLID: u32 = 4;
const DASHED: u32 = 5;

type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Scale, Scale>>;
type DrawResult = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// An axis for plotters.
struct Scale {
    range: Range<f64>,
    ticks: Vec<Tick>,
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, position: &f64, (from, to): (i32, i32)) -> i32 {
        let fraction = (position - self.range.start) / (self.range.end - self.range.start);
        from + (fraction * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|tick| tick.position).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, position: &f64) -> String {
        let tick = self.ticks.iter().find(|tick| tick.position == *position);
        tick.map_or(String::new(), |tick| tick.label.clone())
    }
}

impl Chart {
    /// The lines, and then the bands without a line.
    pub(super) fn legend(&self) -> Vec<LegendEntry<'_>> {
        let lines =
            self.lines.iter().enumerate().map(|(i, line)| (line.name.as_str(), i, line.dashed, false));
        let without_line = self.bands.iter().enumerate().filter(|(_, band)| self.line_of(band).is_none());
        let bands = without_line.map(|(i, band)| (band.name.as_str(), self.lines.len() + i, false, true));
        let entry =
            |(name, index, dashed, band)| LegendEntry { name, colour: css(colour(index)), dashed, band };
        lines.chain(bands).map(entry).collect()
    }

    fn line_of(&self, band: &Band) -> Option<usize> {
        self.lines.iter().position(|line| line.name == band.name)
    }

    /// The SVG; `None` if no point has a position on the axes.
    pub(super) fn svg(&self) -> Option<String> {
        let (x, y) = (self.x.kind, self.y.kind);
        let lines: Vec<_> = (self.lines.iter())
            .map(|line| {
                downsample::finite_runs(line.points.iter().map(|p| [x.position(p.0), y.position(p.1)]))
            })
            .collect();
        let bands: Vec<_> = (self.bands.iter())
            .map(|band| {
                downsample::finite_runs(
                    band.points.iter().map(|p| [x.position(p.0), y.position(p.1), y.position(p.2)]),
                )
            })
            .collect();
        let points = || lines.iter().flatten().flatten();
        let bounds = || bands.iter().flatten().flatten();
        let x_range = x.range(points().map(|p| p[0]).chain(bounds().map(|p| p[0])), 0.01)?;
        let y_range = y.range(points().map(|p| p[1]).chain(bounds().flat_map(|p| [p[1], p[2]])), 0.05)?;
        let mut svg = String::new();
        self.draw(&mut svg, (x_range, y_range), lines, bands).expect("writing to a String does not fail");
        Some(with_title(svg, &self.title))
    }

    fn draw(
        &self,
        svg: &mut String,
        (x_range, y_range): (Range<f64>, Range<f64>),
        lines: Vec<Vec<Vec<[f64; 2]>>>,
        bands: Vec<Vec<Vec<[f64; 3]>>>,
    ) -> DrawResult {
        let (x_ticks, y_ticks) = (self.x.kind.ticks(&x_range), self.y.kind.ticks(&y_range));
        let widest = y_ticks.iter().map(|tick| tick.label.chars().count() as u32).max().unwrap_or(0);
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut plane = ChartBuilder::on(&area)
            .margin_top(14)
            .margin_right(40)
            .x_label_area_size(3 * FONT_SIZE)
            .y_label_area_size(widest * FONT_SIZE * 6 / 10 + 2 * FONT_SIZE)
            .build_cartesian_2d(
                Scale { range: x_range, ticks: x_ticks },
                Scale { range: y_range, ticks: y_ticks },
            )?;
        let font = ("sans-serif", FONT_SIZE).into_font().color(&RULE);
        plane
            .configure_mesh()
            .x_desc(visible(&self.x.label))
            .y_desc(visible(&self.y.label))
            .label_style(font.clone())
            .axis_desc_style(font)
            .axis_style(RULE)
            .bold_line_style(RULE.mix(0.6))
            .light_line_style(RULE.mix(0.0))
            .draw()?;
        for (i, runs) in bands.into_iter().enumerate() {
            let index = self.line_of(&self.bands[i]).unwrap_or(self.lines.len() + i);
            runs.into_iter().try_for_each(|run| draw_band(&mut plane, run, colour(index)))?;
        }
        // The first line is drawn last, above the others.
        for (i, runs) in lines.into_iter().enumerate().rev() {
            let style = colour(i).stroke_width(if self.lines[i].dashed { DASHED } else { SOLID });
            runs.into_iter().try_for_each(|run| draw_line(&mut plane, run, style))?;
        }
        area.present()
    }
}

/// Fills the area between the bounds.
fn draw_band(plane: &mut Plane<'_, '_>, run: Vec<[f64; 3]>, colour: RGBColor) -> DrawResult {
    let points = downsample::band(run, downsample::POINTS_MAX);
    let upper = points.iter().map(|p| (p[0], p[2]));
    let lower = points.iter().rev().map(|p| (p[0], p[1]));
    let outline: Vec<_> = upper.chain(lower).collect();
    plane.draw_series([Polygon::new(outline, colour.mix(0.22).filled())]).map(|_| ())
}

fn draw_line(plane: &mut Plane<'_, '_>, run: Vec<[f64; 2]>, style: ShapeStyle) -> DrawResult {
    let points = downsample::line(run, downsample::POINTS_MAX).into_iter().map(|[x, y]| (x, y));
    let points: Vec<(f64, f64)> = points.collect();
    match points[..] {
        // A path of one point is invisible.
        [point] => plane.draw_series([Circle::new(point, 6, style.filled())]).map(|_| ()),
        _ => plane.draw_series([PathElement::new(points, style)]).map(|_| ()),
    }
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

fn css(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// Without characters that are invalid in XML: plotters escapes only markup.
fn visible(text: &str) -> String {
    super::html::truncated(text).chars().map(super::html::printable).collect()
}

/// Replaces the fixed size by an accessible title, so that the chart fills the width of its container.
fn with_title(svg: String, title: &str) -> String {
    let size = format!("<svg width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1);
    svg.replacen(
        &size,
        &format!("<svg role=\"img\" aria-label=\"{}\"", super::html::escaped(&super::html::truncated(title))),
        1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::AxisKind;

    fn chart(x: AxisKind, y: AxisKind) -> Chart {
        let axis = |kind| Axis { label: "label".into(), kind };
        Chart { title: "title".into(), x: axis(x), y: axis(y), lines: vec![], bands: vec![] }
    }

    fn line(name: &str, points: &[(f64, f64)]) -> Line {
        Line { name: name.into(), points: points.to_vec(), dashed: false }
    }

    fn paths(chart: &Chart) -> usize {
        let svg = chart.svg().unwrap();
        COLOURS.iter().map(|colour| svg.matches(&format!("stroke=\"{}\"", css(*colour))).count()).sum()
    }

    #[test]
    fn a_non_finite_point_splits_a_line() {
        let mut chart = chart(AxisKind::Linear, AxisKind::Linear);
        chart.lines = vec![line("a", &[(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)])];
        assert_eq!(paths(&chart), 1);
        chart.lines[0].points.insert(2, (1.5, f64::NAN));
        assert_eq!(paths(&chart), 2);
        chart.lines[0].points[1].1 = f64::INFINITY;
        let svg = chart.svg().unwrap();
        assert!(paths(&chart) == 1 && svg.contains("<circle"), "a single point is a dot: {svg}");
    }

    #[test]
    fn points_without_a_logarithm_are_omitted() {
        let mut chart = chart(AxisKind::Log, AxisKind::Log);
        chart.lines =
            vec![line("a", &[(1.0, 1.0), (10.0, 0.1), (100.0, 0.0), (-1.0, 5.0), (1e3, 1e-3), (1e4, 1.0)])];
        assert_eq!(paths(&chart), 2);
        chart.lines = vec![line("a", &[(0.0, 1.0), (-1.0, 1.0)])];
        assert!(chart.svg().is_none());
    }

    #[test]
    fn a_band_has_the_colour_of_its_line_or_its_own() {
        let mut chart = chart(AxisKind::Time, AxisKind::Linear);
        let band = |name: &str| Band { name: name.into(), points: vec![(0.0, 1.0, 2.0), (1e9, 1.5, 2.5)] };
        chart.lines = vec![line("a", &[(0.0, 1.0), (1e9, 2.0)]), line("b", &[(0.0, 1.0), (1e9, 2.0)])];
        chart.bands = vec![band("b"), band("c")];
        let legend: Vec<(&str, bool)> = chart.legend().iter().map(|entry| (entry.name, entry.band)).collect();
        assert_eq!(legend, [("a", false), ("b", false), ("c", true)]);
        let svg = chart.svg().unwrap();
        for (index, fills) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
            assert_eq!(svg.matches(&format!("fill=\"{}\"", css(colour(index)))).count(), fills, "{index}");
        }
    }

    #[test]
    fn extreme_numbers_are_drawn_deterministically() {
        let extremes =
            [0.0, -0.0, 1.0, 1e308, -1e308, f64::MAX, 5e-324, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for x in [AxisKind::Linear, AxisKind::Log, AxisKind::Time] {
            for y in [AxisKind::Linear, AxisKind::Log, AxisKind::Time] {
                let mut chart = chart(x, y);
                chart.lines = vec![line("a", &extremes.map(|a| extremes.map(|b| (a, b))).concat())];
                let bounds = extremes.iter().map(|&a| (a, -a, a)).collect();
                chart.bands = vec![Band { name: "b".into(), points: bounds }];
                assert_eq!(chart.svg(), chart.clone().svg());
            }
        }
    }

    #[test]
    fn a_long_line_is_downsampled() {
        let mut chart = chart(AxisKind::Linear, AxisKind::Linear);
        let points: Vec<_> = (0..1_000_000).map(|i| (f64::from(i), f64::from(i % 1000))).collect();
        chart.lines = vec![line("a", &points)];
        assert!(chart.svg().unwrap().len() < 60_000);
    }
}
