//! The page's files, inside the program: it needs no network, and is as old as the program is.

/// A file with its content type.
pub struct File {
    pub name: &'static str,
    pub kind: &'static str,
    pub text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! file {
    ($name:literal, $kind:expr) => {
        File { name: $name, kind: $kind, text: include_str!(concat!("page/", $name)) }
    };
}

pub const INDEX: &str = include_str!("page/index.html");

pub const FILES: &[File] = &[
    file!("app.js", SCRIPT),
    file!("charts.js", SCRIPT),
    file!("detail.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("feed.js", SCRIPT),
    file!("format.js", SCRIPT),
    file!("overview.js", SCRIPT),
    file!("pipeline.js", SCRIPT),
    file!("scores.js", SCRIPT),
    file!("sparkline.js", SCRIPT),
    file!("style.css", STYLE),
    file!("icon.svg", "image/svg+xml"),
    file!("uplot/uPlot.iife.min.js", SCRIPT),
    file!("uplot/uPlot.min.css", STYLE),
    file!("uplot/LICENSE", "text/plain; charset=utf-8"),
];
