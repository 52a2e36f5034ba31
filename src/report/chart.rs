//! Charts as SVG, drawn by plotters.

use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, Circle, Color, DrawingAreaErrorKind, IntoDrawingArea, IntoFont,
    PathElement, Polygon, RGBColor, SVGBackend, ShapeStyle,
};

use super::axis::{Axis, Scale};
use super::downsample::{self, Run, finite_runs};
use super::text::{escape_label, label};

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

/// An area between two bounds. It has the color of the line with its name, if any.
#[derive(Clone, Debug)]
pub struct Band {
    pub name: String,
    pub points: Vec<BandPoint>,
}

/// The bounds of a band at one x. A point that is not finite breaks the band.
#[derive(Clone, Copy, Debug)]
pub struct BandPoint {
    pub x: f64,
    pub lower: f64,
    pub upper: f64,
}

impl BandPoint {
    /// A break between the points before and after it.
    pub const BREAK: Self = Self { x: f64::NAN, lower: f64::NAN, upper: f64::NAN };
}

/// The legend entry of a line or band.
pub(super) struct LegendEntry<'a> {
    pub name: &'a str,
    pub color: String,
    pub swatch: Swatch,
}

/// The appearance of a line or band in the legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swatch {
    Solid,
    Dashed,
    Band,
}

/// Twice the displayed width and height, since plotters writes integer coordinates.
pub(super) const SIZE: (u32, u32) = (1400, 720);
pub(super) const FONT_SIZE: u32 = 31;
/// Colors of medium brightness, for light and dark backgrounds, and distinct for color-blind readers.
const COLORS: [RGBColor; 8] = [
    RGBColor(0x2F, 0x7F, 0xD6),
    RGBColor(0xE0, 0x7B, 0x12),
    RGBColor(0x1F, 0x9D, 0x74),
    RGBColor(0xCC, 0x4B, 0x8C),
    RGBColor(0x8A, 0x6A, 0xD8),
    RGBColor(0x1E, 0xA0, 0xBF),
    RGBColor(0xB0, 0x75, 0x4D),
    RGBColor(0x7C, 0x86, 0x92),
];
/// The color of axes and grid lines. The stylesheet of the page replaces it by one for its light or dark theme.
const GRID_COLOR: RGBColor = RGBColor(0x8A, 0x8F, 0x98);

/// Widths of lines. Stylesheets dash lines by their width: plotters would cut a noisy line into ten thousand pieces.
const SOLID_WIDTH: u32 = 4;
const DASHED_WIDTH: u32 = 5;

type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Scale, Scale>>;
type DrawResult = Result<(), DrawingAreaErrorKind<std::io::Error>>;

impl Chart {
    /// The lines, and then the bands without a line.
    pub(super) fn legend(&self) -> Vec<LegendEntry<'_>> {
        let lines = self.lines.iter().enumerate().map(|(i, line)| LegendEntry {
            name: &line.name,
            color: css(color(i)),
            swatch: if line.dashed { Swatch::Dashed } else { Swatch::Solid },
        });
        let bands = self.bands.iter().enumerate().filter(|(_, band)| self.line_of(band).is_none());
        let bands = bands.map(|(i, band)| LegendEntry {
            name: &band.name,
            color: css(color(self.lines.len() + i)),
            swatch: Swatch::Band,
        });
        lines.chain(bands).collect()
    }

    fn line_of(&self, band: &Band) -> Option<usize> {
        self.lines.iter().position(|line| line.name == band.name)
    }

    /// The SVG; `None` if no point has a position on the axes.
    pub(super) fn svg(&self) -> Option<String> {
        let (x, y) = (self.x.kind, self.y.kind);
        let line = |line: &Line| finite_runs(line.points.iter().map(|p| [x.position(p.0), y.position(p.1)]));
        let lines: Vec<Vec<Run<2>>> = self.lines.iter().map(line).collect();
        let bounds = |p: &BandPoint| [x.position(p.x), y.position(p.lower), y.position(p.upper)];
        let band = |band: &Band| finite_runs(band.points.iter().map(bounds));
        let bands: Vec<Vec<Run<3>>> = self.bands.iter().map(band).collect();
        let points = || lines.iter().flatten().flatten();
        let bounds = || bands.iter().flatten().flatten();
        let x_scale = x.scale(points().map(|p| p[0]).chain(bounds().map(|p| p[0])), 0.01)?;
        let y_scale = y.scale(points().map(|p| p[1]).chain(bounds().flat_map(|p| [p[1], p[2]])), 0.05)?;
        let mut svg = String::new();
        self.draw(&mut svg, x_scale, y_scale, lines, bands).expect("writing to a String cannot fail");
        // Without the fixed size, the chart fills the width of its container.
        let size = format!("<svg width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1);
        let title = format!("<svg role=\"img\" aria-label=\"{}\"", escape_label(&self.title));
        Some(svg.replacen(&size, &title, 1))
    }

    fn draw(
        &self,
        svg: &mut String,
        x: Scale,
        y: Scale,
        lines: Vec<Vec<Run<2>>>,
        bands: Vec<Vec<Run<3>>>,
    ) -> DrawResult {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut plot = ChartBuilder::on(&area)
            .margin_top(14)
            .margin_right(40)
            .x_label_area_size(3 * FONT_SIZE)
            .y_label_area_size(y.label_chars() as u32 * FONT_SIZE * 6 / 10 + 2 * FONT_SIZE)
            .build_cartesian_2d(x, y)?;
        let font = ("sans-serif", FONT_SIZE).into_font().color(&GRID_COLOR);
        // Plotters escapes markup, but not the characters that XML forbids.
        plot.configure_mesh()
            .x_desc(label(&self.x.label))
            .y_desc(label(&self.y.label))
            .label_style(font.clone())
            .axis_desc_style(font)
            .axis_style(GRID_COLOR)
            .bold_line_style(GRID_COLOR.mix(0.6))
            .light_line_style(GRID_COLOR.mix(0.0))
            .draw()?;
        for (i, runs) in bands.into_iter().enumerate() {
            let color = color(self.line_of(&self.bands[i]).unwrap_or(self.lines.len() + i));
            runs.into_iter().try_for_each(|run| draw_band(&mut plot, run, color))?;
        }
        // The first line is drawn last, above the others.
        for (i, runs) in lines.into_iter().enumerate().rev() {
            let style = color(i).stroke_width(if self.lines[i].dashed { DASHED_WIDTH } else { SOLID_WIDTH });
            runs.into_iter().try_for_each(|run| draw_line(&mut plot, run, style))?;
        }
        area.present()
    }
}

/// Fills the area between the bounds.
fn draw_band(plot: &mut Plot<'_, '_>, run: Run<3>, color: RGBColor) -> DrawResult {
    let points = downsample::band(run);
    let upper = points.iter().map(|&[x, _, upper]| (x, upper));
    let lower = points.iter().rev().map(|&[x, lower, _]| (x, lower));
    let outline: Vec<_> = upper.chain(lower).collect();
    plot.draw_series([Polygon::new(outline, color.mix(0.22).filled())]).map(|_| ())
}

fn draw_line(plot: &mut Plot<'_, '_>, run: Run<2>, style: ShapeStyle) -> DrawResult {
    let points: Vec<(f64, f64)> = downsample::line(run).into_iter().map(<(f64, f64)>::from).collect();
    match points[..] {
        // A path of one point is invisible.
        [point] => plot.draw_series([Circle::new(point, 6, style.filled())]).map(|_| ()),
        _ => plot.draw_series([PathElement::new(points, style)]).map(|_| ()),
    }
}

fn color(index: usize) -> RGBColor {
    COLORS[index % COLORS.len()]
}

fn css(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
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
        COLORS.iter().map(|color| svg.matches(&format!("stroke=\"{}\"", css(*color))).count()).sum()
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
    fn a_band_has_the_color_of_its_line_or_its_own() {
        let mut chart = chart(AxisKind::Time, AxisKind::Linear);
        let bounds = |x| BandPoint { x, lower: 1.0, upper: 2.0 };
        let band = |name: &str| Band { name: name.into(), points: vec![bounds(0.0), bounds(1e9)] };
        chart.lines = vec![line("a", &[(0.0, 1.0), (1e9, 2.0)]), line("b", &[(0.0, 1.0), (1e9, 2.0)])];
        chart.bands = vec![band("b"), band("c")];
        let legend: Vec<_> = chart.legend().iter().map(|entry| (entry.name, entry.swatch)).collect();
        assert_eq!(legend, [("a", Swatch::Solid), ("b", Swatch::Solid), ("c", Swatch::Band)]);
        let svg = chart.svg().unwrap();
        for (index, fills) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
            assert_eq!(svg.matches(&format!("fill=\"{}\"", css(color(index)))).count(), fills, "{index}");
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
                let bounds = extremes.iter().map(|&x| BandPoint { x, lower: -x, upper: x }).collect();
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
