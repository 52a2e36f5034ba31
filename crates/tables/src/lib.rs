//! Parquet files: the input of training, backfill and replay, and the file a backfill writes.
//!
//! - `files`   a path (file, folder, glob, hive partitions) becomes a list of files
//! - `decode`  one file: footer, statistics, columns of a row group
//! - `cast`    columns as found become observations
//! - `scan`    all files in order, as batches
//! - `sort`    the same rows in the order of their times, in bounded memory
//! - `source`  [`ParquetInput`], the [`Source`](super::Source) over these
//! - `partial` the unfinished file beside the final name, which one process has to itself
//! - `table`   [`TableWriter`], a file that appears whole or not at all
//! - `sink`    [`ParquetOutput`], the [`Sink`](super::Sink) of forecasts on it
//! - `parts`   [`ParquetParts`], a folder that grows by a file with every commit
//! - `bridge`  polars' Arrow to arrow-rs and back (the only unsafe code here)
//!
//! The codec is polars' (`polars-parquet`), used below its data frames: columns are decoded straight to Arrow, only
//! the bytes of needed columns are read, and no file is mapped into memory (a mapped file that someone cuts short
//! ends the process; a read one is an error). Nothing outside this folder sees a polars type.

mod bridge;
mod cast;
mod decode;
mod describe;
mod files;
mod partial;
mod parts;
mod scan;
mod sink;
mod sort;
mod source;
mod table;

pub use describe::{Description, describe, fields};
pub use parts::ParquetParts;
pub use scan::Range;
pub use sink::ParquetOutput;
pub use source::{Batches, ParquetInput};
pub use table::TableWriter;
