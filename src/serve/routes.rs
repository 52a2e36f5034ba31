//! What can be asked for, and the headers that every answer has.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::observer::Shared;
use super::{files, metrics, streams};

/// Nothing but what this program serves itself: no script of others, no style, no frame, no place to send anything to.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 5] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

type Known = State<Arc<Shared>>;

pub fn routes(shared: Arc<Shared>, is_loopback: bool) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/assets/{*name}", get(file))
        .route("/favicon.ico", get(icon))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/pipeline", get(pipeline))
        .route("/api/streams/overview", get(streams::overview))
        .route("/api/streams/series", get(streams::series))
        .route("/api/streams/pipeline", get(streams::pipeline))
        .layer(from_fn(headers))
        .layer(from_fn_with_state(is_loopback, own_name))
        .with_state(shared)
}

async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// What is served to this machine alone is asked for by this machine's names: a page elsewhere can have its own name point
/// here, and would then count as the same origin.
async fn own_name(State(is_loopback): State<bool>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_loopback && !is_own(host) {
        let why =
            "this is served to its own machine only: ask for localhost or 127.0.0.1, or set serve.address\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

fn is_own(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn index() -> Response {
    let headers = [(CONTENT_TYPE, "text/html; charset=utf-8"), (CACHE_CONTROL, "no-cache")];
    (headers, files::INDEX).into_response()
}

async fn file(Path(name): Path<String>) -> Response {
    match files::FILES.iter().find(|file| file.name == name) {
        Some(file) => ([(CONTENT_TYPE, file.kind), (CACHE_CONTROL, "no-cache")], file.text).into_response(),
        None => (StatusCode::NOT_FOUND, "there is no such file\n").into_response(),
    }
}

async fn icon() -> Response {
    file(Path("icon.svg".to_owned())).await
}

async fn ready(State(shared): Known) -> Response {
    match shared.unready() {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn metrics(State(shared): Known) -> Response {
    match metrics::text(shared) {
        Ok(text) => ([(CONTENT_TYPE, metrics::KIND)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn pipeline(State(shared): Known) -> Response {
    match serde_json::to_string(&shared.facts.page) {
        Ok(text) => ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for own in [
            "localhost",
            "localhost:8080",
            "LOCALHOST:1",
            "127.0.0.1:8080",
            "127.1.2.3",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(is_own(own), "{own}");
        }
        for other in [
            "",
            "example.org",
            "localhost.example.org:8080",
            "10.0.0.1:8080",
            "[::2]:8080",
            "127.0.0.1.example.org",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }
}
