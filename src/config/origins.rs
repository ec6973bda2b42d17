//! Web origins, as browsers name them.

/// Whose pages may call the API from a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Nobody's but our own.
    #[default]
    None,
    /// Those of these origins, each `scheme://host[:port]` as a browser sends it.
    Some(Vec<String>),
    /// Everybody's.
    Any,
}

impl std::str::FromStr for Origins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> =
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        match names.as_slice() {
            [] => Ok(Origins::None),
            ["*"] => Ok(Origins::Any),
            names => {
                names.iter().map(|name| origin(name)).collect::<Result<_, _>>().map(Origins::Some)
            }
        }
    }
}

/// An origin that a browser could send: anything else would never match, and nobody would know why.
fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Err("* stands alone, without other origins".into());
    }
    if text.contains('*') {
        return Err(format!("{text}: names of origins are whole; * stands alone, for all of them"));
    }
    let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let sent = url.map(|url| url.origin().ascii_serialization());
    match sent {
        Some(sent) if sent == text => Ok(sent),
        Some(sent) => Err(format!("{text}: browsers send this origin as {sent}")),
        None => Err(format!("{text}: is no origin; write it like https://app.example.com")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        let parse = |text: &str| text.parse::<Origins>();
        assert_eq!(parse(" , "), Ok(Origins::None));
        assert_eq!(parse("*"), Ok(Origins::Any));
        let two = ["https://app.example.com".to_owned(), "http://localhost:5173".to_owned()];
        assert_eq!(
            parse("https://app.example.com, http://localhost:5173"),
            Ok(Origins::Some(two.into()))
        );
        for wrong in [
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com:443",
            "https://APP.example.com",
            "https://app.example.com/path",
            "ftp://example.com",
            "null",
            "*,https://app.example.com",
            "https://*.example.com",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
