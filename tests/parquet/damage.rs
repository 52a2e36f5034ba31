//! Files that are not what they were.

use super::*;

#[test]
fn a_file_cut_short_is_one_clear_error() {
    let folder = TempDir::new().unwrap();
    let bytes = fs::read(forty(&folder)).unwrap();
    let path = folder.path().join("cut.parquet");
    for length in (0..bytes.len()).step_by(7).chain([1, 4, 8, 12, bytes.len() - 1]) {
        fs::write(&path, &bytes[..length]).unwrap();
        says(&at(&path).error(), &["cut.parquet", &format!("({length} bytes) is not a whole Parquet file")]);
    }
    fs::write(&path, "sensor,time,value\na,1,2\n".repeat(50)).unwrap();
    says(&at(&path).error(), &["cut.parquet", "not a whole Parquet file"]);
}

#[test]
fn a_hole_in_a_file_is_an_error() {
    let folder = TempDir::new().unwrap();
    let bytes = fs::read(forty(&folder)).unwrap();
    let path = folder.path().join("hole.parquet");
    // A block that the disk never got reads as zeros: in the data, then in the footer.
    for hole in [4..200, bytes.len() - 300..bytes.len() - 100] {
        let mut damaged = bytes.clone();
        damaged[hole].fill(0);
        fs::write(&path, &damaged).unwrap();
        says(&at(&path).error(), &["hole.parquet"]);
    }
}

#[test]
fn a_file_that_changes_is_noticed() {
    let folder = TempDir::new().unwrap();
    for name in ["1", "2"] {
        write_row(&folder.path().join(format!("{name}.parquet")), name, 1);
    }
    let mut batches = at(folder.path()).open().unwrap().batches();
    batches.next().unwrap().unwrap();
    let named = [("sensor", ids(&["a", "b"])), ("time", times(&[1, 2])), ("value", values(&[1.0, 2.0]))];
    write(&folder.path().join("2.parquet"), 2, &named);
    says(&format!("{:#}", batches.next().unwrap().unwrap_err()), &["2.parquet changed"]);
    assert!(batches.next().is_none());
}
