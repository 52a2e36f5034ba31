//! State in a bucket: a run and its continuation, with a minimal S3 server in memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

const RUN: &str = "run p.toml --until-end --to -";

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// The part of S3 that uploads, range reads, lists and deletions need.
fn serve() -> (String, Objects) {
    let objects = Objects::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let shared = objects.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let objects = shared.clone();
            std::thread::spawn(move || while answer(&stream, &objects).is_ok() {});
        }
    });
    (address, objects)
}

fn answer(mut stream: &TcpStream, objects: &Objects) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length, mut range) = (String::new(), 0, None);
    if reader.read_line(&mut first)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "range" => {
                range = value.strip_prefix("bytes=").and_then(|range| range.split_once('-')).map(parse)
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let target = first.split(' ').nth(1).unwrap().replace("%40", "@");
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let key = path.trim_start_matches("/bucket").trim_start_matches('/').to_string();
    let mut objects = objects.lock().unwrap();
    let method = first.split(' ').next().unwrap();
    let (status, extra, body) = match method {
        "PUT" => {
            objects.insert(key, body);
            ("200 OK", String::new(), Vec::new())
        }
        "POST" => {
            let text = String::from_utf8(body).unwrap();
            let keys = text.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap());
            let deleted = keys.filter(|key| objects.remove(*key).is_some());
            let deleted: String = deleted.map(|key| format!("<Deleted><Key>{key}</Key></Deleted>")).collect();
            ("200 OK", String::new(), format!("<DeleteResult>{deleted}</DeleteResult>").into_bytes())
        }
        "GET" if query.contains("list-type=2") => ("200 OK", String::new(), list(&objects)),
        _ => match (objects.get(&key), range) {
            (None, _) => ("404 Not Found", String::new(), Vec::new()),
            (Some(object), None) => ("200 OK", String::new(), object.clone()),
            (Some(object), Some((from, to))) => {
                let extra = format!("Content-Range: bytes {from}-{to}/{}\r\n", object.len());
                ("206 Partial Content", extra, object[from..=to].to_vec())
            }
        },
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"x\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n{extra}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if method != "HEAD" {
        stream.write_all(&body)?;
    }
    Ok(())
}

fn parse((from, to): (&str, &str)) -> (usize, usize) {
    (from.parse().unwrap(), to.parse().unwrap())
}

fn list(objects: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let entry = |(key, object): (&String, &Vec<u8>)| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>x</ETag>\
             <Size>{}</Size></Contents>",
            object.len()
        )
    };
    let entries: String = objects.iter().map(entry).collect();
    format!("<ListBucketResult>{entries}</ListBucketResult>").into_bytes()
}

#[test]
fn a_second_run_restores_its_state_from_a_bucket() {
    let (topics, rows) = (Topics::new(1), readings(&["a", "b", "c"], 0..60));
    let workspace = Workspace::new(&format!("{}\n[state]\nstore = \"s3://bucket/a/b\"\n", between(&topics)));
    let (address, objects) = serve();
    let variables = [
        ("AWS_ENDPOINT", address.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "a-secret"),
        ("AWS_REGION", "eu-central-1"),
    ];
    let mut lines = String::new();
    for part in rows.chunks(50) {
        topics.send(part);
        let outcome = Running::start_with(workspace.folder.path(), RUN, &variables).finish().succeeds();
        assert_eq!(outcome.count("rows"), part.len());
        assert!(!outcome.stderr.contains("secret"), "{outcome:#?}");
        lines += &outcome.stdout;
    }
    assert_eq!(by_series(lines.lines()), expected(&Case::default(), &rows, OnEndOfInput::LeaveOpen));
    // The two newest of four.
    let names: Vec<String> = objects.lock().unwrap().keys().cloned().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("a/b/") && name.ends_with(".arrow")), "{names:?}");
}
