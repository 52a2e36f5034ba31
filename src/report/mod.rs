//! Reports: HTML pages, SVG charts, and descriptions of models, snapshots and evaluations as text and JSON.
//!
//! - `html`, `svg`: pages and figures, each one self-contained file
//! - `chart`, `axis`, `downsample`, `text`: the charts in them, and the escaping of text
//! - `model`, `snapshot`: the content of a file
//! - `training_page`, `evaluation_text`, `evaluation_page`: the results of `train` and `evaluate`

mod axis;
mod chart;
mod downsample;
pub(crate) mod evaluation_page;
pub(crate) mod evaluation_text;
mod html;
pub(crate) mod model;
pub(crate) mod snapshot;
mod svg;
mod text;
pub(crate) mod training_page;

pub use axis::{Axis, AxisKind};
pub use chart::{Band, BandPoint, Chart, Line};
pub use html::Page;
pub use svg::Figure;
