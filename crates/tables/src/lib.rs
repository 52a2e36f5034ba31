//! Parquet files as batches of observations and forecasts: the input of training, backfill and replay, and the output
//! of a backfill or a stream.
//!
//! From top to bottom; a module uses only those below it:
//!
//! - `source`       [`ParquetSource`], a [`Source`](tidecast_stream::Source) of observations
//! - `sort`         the rows of a scan in the order of their times, in bounded memory
//! - `scan`         all files of an input in order, as batches; [`InputSummary`]
//! - `parquet_file` one file: footer, statistics, columns of a row group
//! - `columns`      columns of any usable type become observations
//! - `files`        a path (file, folder, glob, hive partitions) becomes a list of files
//! - `sink`         [`ParquetSink`], one file; [`RollingParquetSink`], a folder that grows with the stream
//! - `writer`       [`TableWriter`], a file that appears whole or not at all
//! - `ffi`          polars' Arrow arrays to arrow-rs and back; the only unsafe code here
//!
//! The decoder is `polars-parquet`, used below its data frames: columns are decoded straight to Arrow, only the bytes
//! of needed columns are read, and no file is mapped into memory. (Truncating a mapped file kills the process;
//! truncating a file that is read is an error.) No polars type leaves this crate.

mod columns;
mod ffi;
mod files;
mod parquet_file;
mod scan;
pub mod settings;
mod sink;
mod sort;
mod source;
mod writer;

pub use columns::{RowFilter, TimeRange};
pub use scan::{InputSummary, RowGroupCounts, fields, summarize};
pub use sink::{ParquetSink, RollingParquetSink};
pub use source::{Batches, ParquetSource, ReadOptions};
pub use writer::TableWriter;
