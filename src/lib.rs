pub mod config;
pub mod io;
pub mod network;
pub mod series;
pub mod table;
