//! Versions: which one this server reports, and which clients it takes.
//!
//! # Contract
//! Clients choose features by the reported version, so it is the version of Temporal's server whose
//! behaviour is offered; the project's own stands where text is free.

use bristlecone_machine::reply::{code, with_detail};
use bristlecone_proto::temporal::api::errordetails::v1::{
    ClientVersionNotSupportedFailure, ServerVersionNotSupportedFailure,
};
use http::HeaderMap;

use super::Result;

/// The server version that clients are told.
pub const SERVER_VERSION: &str = "1.32.0";
const SERVER: Version = [1, 32, 0];

/// Known clients and the first version of each that is not supported.
pub const CLIENTS: [(&str, u64); 8] = [
    ("temporal-go", 2),
    ("temporal-java", 2),
    ("temporal-php", 2),
    ("temporal-typescript", 2),
    ("temporal-cli", 2),
    ("temporal-server", 2),
    ("temporal-ui", 3),
    ("Nexus-go-sdk", 2),
];

/// Major, minor, patch.
type Version = [u64; 3];

/// How versions of a client that are supported are written.
pub fn supported(first_unsupported: u64) -> String {
    format!("<{first_unsupported}.0.0")
}

/// Whether client and server are made for each other. Headers that cannot be read are not held against
/// a client.
pub fn check(headers: &HeaderMap) -> Result<()> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (name, version) = (header("client-name"), header("client-version"));
    let known = CLIENTS.iter().find(|(client, _)| *client == name);
    if let (Some((_, limit)), Some([major, ..])) = (known, parse(version))
        && major >= *limit
    {
        let detail = ClientVersionNotSupportedFailure {
            client_version: version.to_owned(),
            client_name: name.to_owned(),
            supported_versions: supported(*limit),
        };
        let supported = &detail.supported_versions;
        let message =
            format!("Client version {version} is not supported. Server supports {name} versions: {supported}");
        return Err(with_detail(code::FAILED_PRECONDITION, message, &detail));
    }
    let wanted = header("supported-server-versions");
    if !wanted.is_empty() && !in_range(SERVER, wanted) {
        let detail = ServerVersionNotSupportedFailure {
            server_version: SERVER_VERSION.to_owned(),
            client_supported_server_versions: wanted.to_owned(),
        };
        let message =
            format!("Server version {SERVER_VERSION} is not supported. Client supports server versions: {wanted}");
        return Err(with_detail(code::FAILED_PRECONDITION, message, &detail));
    }
    Ok(())
}

/// `1.2.3`, with or without something behind it.
fn parse(text: &str) -> Option<Version> {
    let core = text.split(['-', '+']).next()?;
    let mut parts = core.split('.').map(str::parse::<u64>);
    let version = [parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?];
    parts.next().is_none().then_some(version)
}

/// Alternatives separated by `||`, each a row of bounds of which all hold: `>=1.0.0 <2.0.0`.
fn in_range(version: Version, range: &str) -> bool {
    range.split("||").any(|bounds| bounds.split_whitespace().all(|bound| holds(version, bound)))
}

fn holds(version: Version, bound: &str) -> bool {
    let number = bound.trim_start_matches(['<', '>', '=', '!', 'v']);
    let sign = bound.get(..bound.len() - number.len()).unwrap_or_default().trim_end_matches('v');
    let Some(bound) = parse(number) else { return true };
    match sign {
        ">=" => version >= bound,
        ">" => version > bound,
        "<=" => version <= bound,
        "<" => version < bound,
        "!" | "!=" => version != bound,
        _ => version == bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn check_headers(pairs: &[(&'static str, &'static str)]) -> std::result::Result<(), String> {
        let headers =
            pairs.iter().map(|(name, value)| ((*name).try_into().expect("a name"), HeaderValue::from_static(value)));
        check(&headers.collect()).map_err(|rejection| rejection.message)
    }

    #[test]
    fn clients_of_the_right_age_are_taken() {
        let client = |name, version| check_headers(&[("client-name", name), ("client-version", version)]);
        assert_eq!(client("temporal-go", "1.99.0"), Ok(()));
        assert_eq!(client("temporal-ui", "2.30.1"), Ok(()));
        assert_eq!(client("temporal-python", "9.0.0"), Ok(()));
        assert_eq!(client("temporal-java", "unknown"), Ok(()));
        assert_eq!(client("temporal-go", ""), Ok(()));
        assert_eq!(
            client("temporal-go", "2.0.0-rc.1"),
            Err("Client version 2.0.0-rc.1 is not supported. Server supports temporal-go versions: <2.0.0".into())
        );
    }

    #[test]
    fn clients_choose_their_servers() {
        let range = |range| check_headers(&[("supported-server-versions", range)]);
        for good in [">=1.0.0 <2.0.0", ">=0.31.0 <2.0.0", "1.32.0", "<1.0.0 || >1.31.9", "garbage", ">=v1.0.0"] {
            assert_eq!(range(good), Ok(()), "{good}");
        }
        for bad in [">=2.0.0", "<1.32.0", "!=1.32.0", "=1.31.0", ">1.32.0 || <1.0.0"] {
            let message = format!("Server version 1.32.0 is not supported. Client supports server versions: {bad}");
            assert_eq!(range(bad), Err(message), "{bad}");
        }
    }

    #[test]
    fn the_reported_version_is_one_version() {
        assert_eq!(parse(SERVER_VERSION), Some(SERVER));
    }
}
