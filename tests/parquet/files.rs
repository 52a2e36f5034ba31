//! Which files an input is.

use super::*;

#[test]
fn a_file_a_folder_a_pattern() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    for (id, name) in [("c", "b/2.parquet"), ("a", "a/1.parquet"), ("d", "b.parquet"), ("b", "a/x/9.parquet")]
    {
        write_row(&root.join(name), id, 1);
    }
    for name in [".hidden.parquet", "_temporary/1.parquet", "a/1.parquet.partial", "readme.txt"] {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), "not for us").unwrap();
    }
    let found = |path: &str| at(&root.join(path)).rows().into_iter().map(|row| row.1).collect::<String>();
    // Byte order of the whole path: `b.parquet` before `b/2.parquet`.
    assert_eq!(found(""), "abdc");
    assert_eq!(found("a"), "ab");
    assert_eq!(found("b.parquet"), "d");
    assert_eq!(found("*.parquet"), "d");
    assert_eq!(found("[ab]/?.parquet"), "ac");
    assert_eq!(found("**/*.parquet"), "abdc");
    // Folders, and folders in them.
    assert_eq!(found("**"), "abc");
    assert_eq!(at(root).rows().into_iter().map(|row| row.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let input = at(root).open().unwrap();
    assert_eq!(input.partition(), &Partition { topic: root.to_str().unwrap().into(), number: 0 });
    assert_eq!(input.total_rows(), 4);
}

#[test]
fn nothing_there_is_an_error() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    says(&at(&root.join("absent.parquet")).error(), &["absent.parquet", "cannot read"]);
    says(&at(&root.join("*.parquet")).error(), &["no file matches", "*.parquet", "; correct the pattern"]);
    says(
        &at(root).error(),
        &["no *.parquet file in the folder", root.to_str().unwrap(), "; name the one that they are in"],
    );
}

#[test]
fn folders_name_the_series() {
    let folder = TempDir::new().unwrap();
    for (id, time) in [("a%2Fb", 2), ("c", 1), ("__HIVE_DEFAULT_PARTITION__", 3)] {
        let path = folder.path().join(format!("sensor={id}/part.parquet"));
        write(&path, 1, &[("time", times(&[time])), ("value", values(&[0.5]))]);
    }
    let open = at(folder.path());
    assert_eq!(open.rows(), [(1, "a/b".into(), 2, Some(0.5)), (2, "c".into(), 1, Some(0.5))]);
    assert_eq!(malformed(&open), [(0, "no series id".to_string())]);
    let only = Open { series: Some(&["c"]), ..at(folder.path()) };
    assert_eq!(only.rows(), [(2, "c".into(), 1, Some(0.5))]);
    assert_eq!(only.open().unwrap().row_groups(), (3, 1));
    let mut columns = columns();
    columns.targets = vec!["sensor".into()];
    columns.series = None;
    says(
        &Open { columns, ..at(folder.path()) }.error(),
        &["folder gives `sensor` as text", "a number is needed"],
    );
}
