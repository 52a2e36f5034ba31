//! The HTTP listener and its routes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use super::dashboard::Dashboard;
use super::{prometheus, sse};

/// Bounds on connections: each holds a file descriptor that the pipeline may need.
#[derive(Clone, Copy)]
pub struct ConnectionLimits {
    /// Open connections. A browser opens six, and at most 64 pages stream.
    connections: usize,
    /// Time to send the header of a request, from the start of the connection or the end of the previous response.
    header_timeout: Duration,
    /// Time without progress while a response is written. Closes streams whose client vanished or stopped reading.
    write_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 400,
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// Accepts connections until the runtime ends.
pub async fn serve(mut listener: TcpListener, app: Router, limits: ConnectionLimits) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    loop {
        // Further clients wait in the backlog of the socket.
        let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, _) = Listener::accept(&mut listener).await;
        let app = app.clone();
        tokio::spawn(async move {
            serve_connection(stream, app, limits).await;
            drop(permit);
        });
    }
}

async fn serve_connection(stream: TcpStream, app: Router, limits: ConnectionLimits) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(app));
    // A client that disconnects or times out needs no report.
    let _ = connection.await;
}

/// Which `Host` headers are accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HostCheck {
    Any,
    /// Guards a loopback listener against DNS rebinding: a foreign page that resolves its own name to 127.0.0.1 would
    /// otherwise count as same-origin.
    LoopbackOnly,
}

pub fn router(dashboard: Arc<Dashboard>, host_check: HostCheck) -> Router {
    Router::new()
        .route("/", get(async || content("text/html; charset=utf-8", include_str!("page/index.html"))))
        .route("/assets/{*name}", get(asset))
        .route("/favicon.ico", get(async || asset(Path("icon.svg".to_owned())).await))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/pipeline", get(pipeline))
        .route("/api/streams/overview", get(sse::overview))
        .route("/api/streams/series", get(sse::series))
        .route("/api/streams/pipeline", get(sse::pipeline))
        .layer(from_fn(add_security_headers))
        .layer(from_fn_with_state(host_check, check_host))
        .with_state(dashboard)
}

/// Allows content of this server only: no foreign scripts, styles, frames or form targets.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SECURITY_HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

async fn add_security_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

async fn check_host(State(check): State<HostCheck>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if check == HostCheck::LoopbackOnly && !is_loopback(host) {
        let message =
            "this server accepts loopback hosts only: request localhost or 127.0.0.1, or set serve.address\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn ready(State(dashboard): State<Arc<Dashboard>>) -> Response {
    match dashboard.not_ready() {
        None => "ready\n".into_response(),
        Some(not_ready) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", not_ready.text)).into_response()
        }
    }
}

async fn metrics(State(dashboard): State<Arc<Dashboard>>) -> Response {
    match prometheus::encode(dashboard) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn pipeline(State(dashboard): State<Arc<Dashboard>>) -> Response {
    match serde_json::to_string(&dashboard.info.page) {
        Ok(text) => content("application/json", text),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn content(content_type: &'static str, body: impl IntoResponse) -> Response {
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")], body).into_response()
}

/// A file of the page, embedded in the program.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset { name: $name, content_type: $content_type, text: include_str!(concat!("page/", $name)) }
    };
}

const ASSETS: &[Asset] = &[
    asset!("app.js", SCRIPT),
    asset!("charts.js", SCRIPT),
    asset!("detail.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("feed.js", SCRIPT),
    asset!("format.js", SCRIPT),
    asset!("overview.js", SCRIPT),
    asset!("pipeline.js", SCRIPT),
    asset!("scores.js", SCRIPT),
    asset!("sparkline.js", SCRIPT),
    asset!("style.css", STYLE),
    asset!("icon.svg", "image/svg+xml"),
    asset!("uplot/uPlot.iife.min.js", SCRIPT),
    asset!("uplot/uPlot.min.css", STYLE),
    asset!("uplot/LICENSE", "text/plain; charset=utf-8"),
];

async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => content(asset.content_type, asset.text),
        None => (StatusCode::NOT_FOUND, "no such file\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    const TEST_TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn only_loopback_hosts_are_loopback() {
        for host in [
            "localhost",
            "localhost:8080",
            "LOCALHOST:1",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "localhost.example.org:8080",
            "10.0.0.1:8080",
            "[::2]:8080",
            "127.0.0.1.example.org",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[tokio::test]
    async fn a_silent_connection_is_closed_and_frees_its_slot() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/healthz", get(async || "ok\n"));
        let header_timeout = Duration::from_millis(50);
        let limits = ConnectionLimits { connections: 1, header_timeout, ..ConnectionLimits::default() };
        tokio::spawn(serve(listener, app, limits));

        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut waiting = TcpStream::connect(address).await.unwrap();
        waiting.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        // Answered once the silent connection is closed, and closed when no second request follows.
        let mut answer = String::new();
        let read = waiting.read_to_string(&mut answer);
        timeout(TEST_TIMEOUT, read).await.expect("the silent connection is closed").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
        assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn a_client_that_stops_reading_is_disconnected() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        // More than the socket buffers hold.
        let app = Router::new().route("/", get(async || "x".repeat(64 << 20)));
        let limits =
            ConnectionLimits { write_timeout: Duration::from_millis(50), ..ConnectionLimits::default() };
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let served = serve_connection(stream, app, limits);
        timeout(TEST_TIMEOUT, served).await.expect("the connection is closed");
    }
}
