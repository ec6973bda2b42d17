//! Putting a token into a URL, and leaving everything else of the URL as it is.

/// `url` with `name=jwt` in its query: any that stood there is replaced; other parameters (blank
/// ones and repeated ones too), their order and spelling, and the fragment stay.
pub fn tokenise(url: &str, name: &str, jwt: &str) -> String {
    let (rest, fragment) = match url.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (url, None),
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_token = |pair: &&str| {
        url::form_urlencoded::parse(pair.as_bytes()).next().is_some_and(|(key, _)| key == name)
    };
    let kept: Vec<&str> =
        query.split('&').filter(|pair| !pair.is_empty() && !is_token(pair)).collect();
    let own = url::form_urlencoded::Serializer::new(String::new()).append_pair(name, jwt).finish();
    let query: Vec<&str> = kept.into_iter().chain([own.as_str()]).collect();
    let fragment = fragment.map_or(String::new(), |fragment| format!("#{fragment}"));
    format!("{path}?{}{fragment}", query.join("&"))
}
