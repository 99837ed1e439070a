//! The files of the page, embedded and compressed; `build.rs` makes the list.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

/// A file of the page.
#[derive(Debug)]
struct Asset {
    name: &'static str,
    /// Another one whenever the content is another.
    etag: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The page itself.
const INDEX: &str = "index.html";

/// The file at a path, or that it is still the one that the browser has.
pub(super) fn response(path: &str, request: &HeaderMap) -> Response {
    let name = match path.trim_start_matches('/') {
        "" => INDEX,
        name => name,
    };
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let has = request.get_all(header::IF_NONE_MATCH).iter();
    let takes_gzip = takes_gzip(request);
    let mut response = if has.into_iter().any(|has| has.as_bytes() == asset.etag.as_bytes()) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(Body::from(if takes_gzip { asset.gzip } else { asset.plain }))
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(name)));
    if takes_gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::ETAG, HeaderValue::from_static(asset.etag));
    response
}

/// Whether a request accepts a compressed response: some proxies take the header away, to change the text on its way.
fn takes_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get_all(header::ACCEPT_ENCODING).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let (name, quality) = coding.split_once(';').unwrap_or((coding, "q=1"));
            let quality = quality
                .trim()
                .strip_prefix("q=")
                .and_then(|text| text.parse().ok());
            name.trim().eq_ignore_ascii_case("gzip") && quality.is_some_and(|quality: f32| quality > 0.0)
        })
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn texts() -> Vec<(&'static str, String)> {
        let text = |asset: &Asset| {
            let mut text = String::new();
            GzDecoder::new(asset.gzip).read_to_string(&mut text).unwrap();
            (asset.name, text)
        };
        ASSETS.iter().map(text).collect()
    }

    #[test]
    fn the_list_of_files_has_no_path_of_the_build() {
        let list = include_str!(concat!(env!("OUT_DIR"), "/assets.rs"));
        assert!(list.contains("include_bytes!") && !list.contains(env!("OUT_DIR")));
    }

    #[test]
    fn a_file_is_compressed_for_whoever_accepts_it() {
        for (text, compressed) in [
            (None, false),
            (Some("gzip, deflate, br"), true),
            (Some("br;q=1.0, GZIP;q=0.5"), true),
            (Some("gzip;q=0"), false),
            (Some("identity"), false),
        ] {
            let accepted = text.map(|text| (header::ACCEPT_ENCODING, HeaderValue::from_static(text)));
            let found = response("/", &accepted.into_iter().collect());
            let encoding = found.headers().get(header::CONTENT_ENCODING);
            assert_eq!(encoding.is_some(), compressed, "{text:?}");
        }
        for (asset, (_, text)) in ASSETS.iter().zip(texts()) {
            assert!(asset.plain == text.as_bytes(), "{}", asset.name);
        }
    }

    /// What a browser loads: all files, but the texts of one language.
    #[test]
    fn the_page_is_small() {
        let languages = ["en.js", "de.js"];
        for language in languages {
            let other = |name: &str| languages.contains(&name) && name != language;
            let loaded = || ASSETS.iter().filter(|asset| !other(asset.name));
            let raw: usize = loaded().map(|asset| asset.plain.len()).sum();
            let gzip: usize = loaded().map(|asset| asset.gzip.len()).sum();
            assert!(
                raw <= 180_000 && gzip <= 60_000,
                "{language}: {raw} bytes, {gzip} compressed"
            );
        }
    }

    #[test]
    fn every_file_that_is_named_exists_and_is_named() {
        let texts = texts();
        let names: Vec<_> = texts.iter().map(|(name, _)| *name).collect();
        let mut used = vec![INDEX];
        for (file, text) in &texts {
            for quoted in text.split('"').skip(1).step_by(2) {
                let name = quoted.strip_prefix("./").unwrap_or(quoted);
                let is_file = [".js", ".css", ".svg"].iter().any(|end| name.ends_with(end));
                if is_file && !name.contains(' ') {
                    assert!(names.contains(&name), "{file} names {name}");
                    used.push(name.to_owned().leak());
                }
            }
        }
        assert_eq!(names.iter().find(|name| !used.contains(name)), None);
    }

    #[test]
    fn nothing_in_them_can_become_markup() {
        for (file, text) in texts() {
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "http://",
                "https://",
            ] {
                let allowed = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!allowed.contains(forbidden), "{file}: {forbidden}");
            }
            assert!(!text.contains(" style=\""), "{file}");
        }
    }

    /// One module asks about outlets with `confirm`, so no other one may send.
    #[test]
    fn one_module_sends_what_the_page_sends() {
        let senders = texts().into_iter().filter(|(file, text)| {
            let imports = text.lines().filter(|line| line.contains("./bus.js"));
            *file != "bus.js"
                && (imports.into_iter().any(|line| line.contains("send")) || text.contains("POST"))
        });
        assert_eq!(senders.map(|(file, _)| file).collect::<Vec<_>>(), ["commands.js"]);
    }

    #[test]
    fn comments_and_indentation_are_left_out() {
        for (file, text) in texts() {
            for line in text.lines() {
                assert_eq!(line, line.trim(), "{file}");
                let is_comment = line.starts_with("//") || line.starts_with("/*") || line.contains(" // ");
                assert!(!is_comment, "{file}: {line}");
                // A text over several lines would lose its indentation.
                assert_eq!(line.matches('`').count() % 2, 0, "{file}: {line}");
            }
        }
    }

    #[test]
    fn a_browser_that_has_a_file_does_not_get_it_again() {
        let first = response("/", &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let etag = first.headers()[header::ETAG].clone();
        let known = [(header::IF_NONE_MATCH, etag)].into_iter().collect();
        assert_eq!(response("/index.html", &known).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(response("/app.js", &known).status(), StatusCode::OK);
        assert_eq!(response("/../build.rs", &known).status(), StatusCode::NOT_FOUND);
    }
}
