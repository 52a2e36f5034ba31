//! Charts, drawn by plotters as SVG that stands in the page.

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

/// Points joined in their order. A point that is not finite breaks the line.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub dashed: bool,
}

/// An interval along the x axis: x, lower and upper bound. It has the colour of the line of its name, if there is one.
#[derive(Clone, Debug)]
pub struct Band {
    pub name: String,
    pub points: Vec<(f64, f64, f64)>,
}

/// What the legend says of one line or band.
pub(super) struct Key<'a> {
    pub name: &'a str,
    pub colour: String,
    pub dashed: bool,
    pub band: bool,
}

/// Twice as many dots as it is meant to be wide: SVG by plotters has whole numbers only.
pub(super) const SIZE: (u32, u32) = (1400, 720);
pub(super) const LETTERS: u32 = 31;
/// Of middle brightness, so that each is seen on white and on black, and told apart by the colour-blind.
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
/// Axes and rules; the page's style knows it by its number and has a tone for light and one for dark.
const RULE: RGBColor = RGBColor(0x8A, 0x8F, 0x98);

/// Widths of lines. Plotters dashes a line by cutting it, which for a noisy one means ten thousand pieces; the page's style
/// knows by the width which lines are dashed.
const SOLID: u32 = 4;
const DASHED: u32 = 5;

type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Scale, Scale>>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// One axis as plotters asks for it.
struct Scale {
    range: Range<f64>,
    ticks: Vec<Tick>,
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (place - self.range.start) / (self.range.end - self.range.start);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|tick| tick.place).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, place: &f64) -> String {
        let found = self.ticks.iter().find(|tick| tick.place == *place);
        found.map_or(String::new(), |tick| tick.label.clone())
    }
}

impl Chart {
    /// Lines first, then the bands that stand for themselves.
    pub(super) fn keys(&self) -> Vec<Key<'_>> {
        let lines =
            self.lines.iter().enumerate().map(|(i, line)| (line.name.as_str(), i, line.dashed, false));
        let alone = self.bands.iter().enumerate().filter(|(_, band)| self.line_of(band).is_none());
        let bands = alone.map(|(i, band)| (band.name.as_str(), self.lines.len() + i, false, true));
        let key = |(name, place, dashed, band)| Key { name, colour: css(colour(place)), dashed, band };
        lines.chain(bands).map(key).collect()
    }

    fn line_of(&self, band: &Band) -> Option<usize> {
        self.lines.iter().position(|line| line.name == band.name)
    }

    /// The picture; `None` if nothing has a place in it.
    pub(super) fn svg(&self) -> Option<String> {
        let (x, y) = (self.x.kind, self.y.kind);
        let lines: Vec<_> = (self.lines.iter())
            .map(|line| downsample::stretches(line.points.iter().map(|p| [x.place(p.0), y.place(p.1)])))
            .collect();
        let bands: Vec<_> = (self.bands.iter())
            .map(|band| {
                downsample::stretches(band.points.iter().map(|p| [x.place(p.0), y.place(p.1), y.place(p.2)]))
            })
            .collect();
        let points = || lines.iter().flatten().flatten();
        let bounds = || bands.iter().flatten().flatten();
        let across = x.range(points().map(|p| p[0]).chain(bounds().map(|p| p[0])), 0.01)?;
        let up = y.range(points().map(|p| p[1]).chain(bounds().flat_map(|p| [p[1], p[2]])), 0.05)?;
        let mut svg = String::new();
        self.draw(&mut svg, (across, up), lines, bands).expect("a String takes every drawing");
        Some(named(svg, &self.title))
    }

    fn draw(
        &self,
        svg: &mut String,
        (across, up): (Range<f64>, Range<f64>),
        lines: Vec<Vec<Vec<[f64; 2]>>>,
        bands: Vec<Vec<Vec<[f64; 3]>>>,
    ) -> Drawn {
        let (below, beside) = (self.x.kind.ticks(&across), self.y.kind.ticks(&up));
        let widest = beside.iter().map(|tick| tick.label.chars().count() as u32).max().unwrap_or(0);
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut plane = ChartBuilder::on(&area)
            .margin_top(14)
            .margin_right(40)
            .x_label_area_size(3 * LETTERS)
            .y_label_area_size(widest * LETTERS * 6 / 10 + 2 * LETTERS)
            .build_cartesian_2d(Scale { range: across, ticks: below }, Scale { range: up, ticks: beside })?;
        let letters = ("sans-serif", LETTERS).into_font().color(&RULE);
        plane
            .configure_mesh()
            .x_desc(visible(&self.x.label))
            .y_desc(visible(&self.y.label))
            .label_style(letters.clone())
            .axis_desc_style(letters)
            .axis_style(RULE)
            .bold_line_style(RULE.mix(0.6))
            .light_line_style(RULE.mix(0.0))
            .draw()?;
        for (i, stretches) in bands.into_iter().enumerate() {
            let place = self.line_of(&self.bands[i]).unwrap_or(self.lines.len() + i);
            stretches.into_iter().try_for_each(|stretch| fill(&mut plane, stretch, colour(place)))?;
        }
        // The first line lies above the others.
        for (i, stretches) in lines.into_iter().enumerate().rev() {
            let style = colour(i).stroke_width(if self.lines[i].dashed { DASHED } else { SOLID });
            stretches.into_iter().try_for_each(|stretch| trace(&mut plane, stretch, style))?;
        }
        area.present()
    }
}

/// Fills between the bounds: along the upper one and back along the lower one.
fn fill(plane: &mut Plane<'_, '_>, stretch: Vec<[f64; 3]>, colour: RGBColor) -> Drawn {
    let points = downsample::band(stretch, downsample::POINTS_MAX);
    let upper = points.iter().map(|p| (p[0], p[2]));
    let lower = points.iter().rev().map(|p| (p[0], p[1]));
    let outline: Vec<_> = upper.chain(lower).collect();
    plane.draw_series([Polygon::new(outline, colour.mix(0.22).filled())]).map(|_| ())
}

fn trace(plane: &mut Plane<'_, '_>, stretch: Vec<[f64; 2]>, style: ShapeStyle) -> Drawn {
    let points = downsample::line(stretch, downsample::POINTS_MAX).into_iter().map(|[x, y]| (x, y));
    let points: Vec<(f64, f64)> = points.collect();
    match points[..] {
        // A path of one point would not be seen.
        [point] => plane.draw_series([Circle::new(point, 6, style.filled())]).map(|_| ()),
        _ => plane.draw_series([PathElement::new(points, style)]).map(|_| ()),
    }
}

fn colour(place: usize) -> RGBColor {
    COLOURS[place % COLOURS.len()]
}

fn css(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// Plotters escapes what a browser would obey, but not what no browser can read.
fn visible(text: &str) -> String {
    super::html::truncated(text).chars().map(super::html::printable).collect()
}

/// The picture with a name for those who cannot see it, as wide as its place.
fn named(svg: String, title: &str) -> String {
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
    fn a_missing_number_parts_a_line() {
        let mut chart = chart(AxisKind::Linear, AxisKind::Linear);
        chart.lines = vec![line("a", &[(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)])];
        assert_eq!(paths(&chart), 1);
        chart.lines[0].points.insert(2, (1.5, f64::NAN));
        assert_eq!(paths(&chart), 2);
        chart.lines[0].points[1].1 = f64::INFINITY;
        let svg = chart.svg().unwrap();
        assert!(paths(&chart) == 1 && svg.contains("<circle"), "a point alone is a dot: {svg}");
    }

    #[test]
    fn what_a_logarithm_has_no_place_for_is_left_out() {
        let mut chart = chart(AxisKind::Log, AxisKind::Log);
        chart.lines =
            vec![line("a", &[(1.0, 1.0), (10.0, 0.1), (100.0, 0.0), (-1.0, 5.0), (1e3, 1e-3), (1e4, 1.0)])];
        assert_eq!(paths(&chart), 2);
        chart.lines = vec![line("a", &[(0.0, 1.0), (-1.0, 1.0)])];
        assert!(chart.svg().is_none());
    }

    #[test]
    fn a_band_has_its_lines_colour_and_else_its_own() {
        let mut chart = chart(AxisKind::Time, AxisKind::Linear);
        let band = |name: &str| Band { name: name.into(), points: vec![(0.0, 1.0, 2.0), (1e9, 1.5, 2.5)] };
        chart.lines = vec![line("a", &[(0.0, 1.0), (1e9, 2.0)]), line("b", &[(0.0, 1.0), (1e9, 2.0)])];
        chart.bands = vec![band("b"), band("c")];
        let keys: Vec<(&str, bool)> = chart.keys().iter().map(|key| (key.name, key.band)).collect();
        assert_eq!(keys, [("a", false), ("b", false), ("c", true)]);
        let svg = chart.svg().unwrap();
        for (place, fills) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
            assert_eq!(svg.matches(&format!("fill=\"{}\"", css(colour(place)))).count(), fills, "{place}");
        }
    }

    #[test]
    fn any_numbers_can_be_drawn_and_the_same_ones_the_same_way() {
        let odd =
            [0.0, -0.0, 1.0, 1e308, -1e308, f64::MAX, 5e-324, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for x in [AxisKind::Linear, AxisKind::Log, AxisKind::Time] {
            for y in [AxisKind::Linear, AxisKind::Log, AxisKind::Time] {
                let mut chart = chart(x, y);
                chart.lines = vec![line("a", &odd.map(|a| odd.map(|b| (a, b))).concat())];
                let bounds = odd.iter().map(|&a| (a, -a, a)).collect();
                chart.bands = vec![Band { name: "b".into(), points: bounds }];
                assert_eq!(chart.svg(), chart.clone().svg());
            }
        }
    }

    #[test]
    fn a_long_line_is_thinned() {
        let mut chart = chart(AxisKind::Linear, AxisKind::Linear);
        let points: Vec<_> = (0..1_000_000).map(|i| (f64::from(i), f64::from(i % 1000))).collect();
        chart.lines = vec![line("a", &points)];
        assert!(chart.svg().unwrap().len() < 60_000);
    }
}
